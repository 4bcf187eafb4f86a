"""The books of a run: what was known before it, what it changes, what is kept of it.

The registry gives ids and follows findings; a baseline, if one is named, is what the run is
held against in its place. Both may be missing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.commands.settings import today
from harness.commands.words import RUNS_FOLDER
from harness.findings.changes import Changes, Measured, changes_of, changes_page
from harness.findings.known import Known, Seed, counts
from harness.findings.order import SEVERITIES, by_version
from harness.findings.registry import HISTORY_MAX, REPEAT, Registry, RegistryError
from harness.findings.results import result_row
from harness.findings.sides import read_baseline
from harness.findings.standing import standing_of
from harness.kernel.errors import InputError
from harness.lab.again import Again, replayable
from harness.lab.campaign import Campaign
from harness.lab.conclude import write_json
from harness.lab.engines import EngineRef
from harness.lab.profiles import PLANS

__all__ = [
    "Books",
    "add_books",
    "add_registry",
    "as_input",
    "left_of",
    "registry_of",
    "summary_of",
    "work_of",
]

REGISTRY = RUNS_FOLDER.parent / "registry.sqlite3"
# Names another file, or "none", for whoever cannot add options to a command.
VARIABLE = "DAGSTORM_REGISTRY"
AGAIN_MAX = 2_000
LEFT_OUT_MAX = 20_000

Row = Mapping[str, Any]


def add_registry(parser: Any) -> None:
    """Add the option that names the registry."""
    parser.add_argument("--registry", metavar="FILE", help=f"default: {REGISTRY}")


def add_books(parser: Any) -> None:
    """Add the options of a command that keeps books: registry, baseline."""
    parser.add_argument("--baseline", metavar="FILE", help="hold against this, not the registry")
    add_registry(parser)
    parser.add_argument("--no-registry", action="store_true")


def registry_of(options: argparse.Namespace) -> Registry:
    """Return the registry that the options or the environment name."""
    named = options.registry or os.environ.get(VARIABLE) or ""
    return Registry(Path(named) if named and named != "none" else REGISTRY)


@contextmanager
def as_input() -> Iterator[None]:
    """What is wrong with a registry or a baseline is for the user to put right."""
    try:
        yield
    except RegistryError as exc:
        raise InputError(str(exc)) from exc


class Books:
    """Registry and baseline of one run; every method works without a registry, too."""

    def __init__(self, options: argparse.Namespace) -> None:
        none = options.no_registry or (not options.registry and os.environ.get(VARIABLE) == "none")
        if none and options.registry:
            raise InputError("--registry and --no-registry: give one of them")
        self.registry = None if none else registry_of(options)
        self.baseline: dict[str, Known] | None = None
        self.against = None if none else "registry"
        self.run = ""
        if options.baseline:
            with as_input():
                self.baseline = read_baseline(Path(options.baseline))
            self.against = options.baseline

    def begin(self, run: str, started_at: str, *, resumed: bool = False) -> str:
        """Note the run in the registry; returns its id, made unique."""
        self.run = run
        if self.registry is not None:
            with as_input():
                self.run = self.registry.begin(run, started_at, resumed=resumed)
        return self.run

    def failed_before(self, refs: Sequence[EngineRef], replays: str) -> list[Again]:
        """Return the runs that are to be replayed first, the shortest of them first.

        Args:
            replays: "" for none, "findings" for one of each, "ledger" for all that fail still.
        """
        if self.registry is None or not replays:
            return []
        with as_input():
            known = self.registry.known()
        found = []
        for one in known.values():
            if counts(one.kind, one.clause):
                for ref in refs:
                    if ref.name == one.engine:
                        found += _runs_of(one, ref, replays)
        return sorted(found, key=lambda a: (a.size, a.id))[:AGAIN_MAX]

    def not_again(self, metadata: Row) -> frozenset[tuple[str, ...]]:
        """Return the units that an earlier nightly of the same work left out.

        A nightly of one date is a repetition: what is red in it is no work of a faster machine.
        """
        if self.registry is None or not PLANS[metadata["profile"]].dated:
            return frozenset()
        with as_input():
            left_out = self.registry.left_out(metadata["work"])
        return frozenset(tuple(unit) for unit in left_out or ())

    def take(self, entries: Sequence[Row], at: str) -> dict[str, str]:
        """Return fingerprint -> id; the registry's, if there is one."""
        if self.registry is None:
            return {e["fingerprint"]: e["id"] for e in entries}
        with as_input():
            return self.registry.take(entries, self.run, at)

    def judge(
        self,
        entries: Sequence[Row],
        ids: Mapping[str, str],
        units: Sequence[Row],
        engines: Sequence[Row],
    ) -> tuple[dict[str, dict[str, Any]], Changes]:
        """Hold the run against what was known; returns how its findings stand, and the changes.

        Args:
            engines: the engines' descriptions.
        """
        told = [{**e, "id": ids[e["fingerprint"]]} for e in entries]
        measured = _measured(told, units, engines)
        known: dict[str, Known] = {}
        if self.registry is not None:
            with as_input():
                known = self.registry.known()
        before = known if self.baseline is None else self.baseline
        changes = changes_of(before, measured, run=self.run, today=today())
        standing = standing_of(entries, known, changes, ids, run=self.run, today=today())
        return standing, changes

    def write(self, folder: Path, changes: Changes, summary: Row) -> None:
        """Write changes.json and history.json."""
        write_json(folder / "changes.json", changes_page(changes, self.against))
        runs: list[dict[str, Any]] = []
        if self.registry is not None:
            with as_input():
                runs = [r for r in self.registry.history() if r["run_id"] != self.run]
        shown = {k: v for k, v in summary.items() if k != REPEAT}
        page = {"schema_version": 1, "runs": [*runs, shown][-HISTORY_MAX:]}
        write_json(folder / "history.json", page)

    def end(
        self,
        found: Sequence[Row],
        units: Sequence[Row],
        engines: Sequence[Row],
        profile: str,
        summary: Row,
    ) -> None:
        """Write the run into the registry: its findings have been told."""
        if self.registry is not None:
            with as_input():
                self.registry.end(
                    _measured(found, units, engines),
                    run=self.run,
                    at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    profile=profile,
                    today=today(),
                    summary=summary,
                )


def _measured(entries: Sequence[Row], units: Sequence[Row], engines: Sequence[Row]) -> Measured:
    return Measured(entries, [result_row(unit) for unit in units], engines)


def _runs_of(one: Known, ref: EngineRef, replays: str) -> list[Again]:
    """Return a finding's kept runs for one version: its own, else those of the newest that has."""
    life = one.versions.get(ref.version)
    if replays == "ledger" and life is not None and not life.shows:
        return []
    seeds = life.seeds if life is not None else []
    if not seeds:
        having = [v for v, x in one.versions.items() if x.seeds]
        seeds = one.versions[max(having, key=by_version)].seeds if having else _first(one)
    seeds = [seed for seed in seeds if replayable(seed.token)]
    if replays == "findings":
        seeds = seeds[:1]
    return [
        Again(
            id=f"replay/{one.id}.{n}",
            engine=ref.name,
            version=ref.version,
            token=seed.token,
            clause=one.clause,
            shape=str(one.entry.get("shape", "")),
            location=str(one.entry.get("location", "")),
            title=one.title,
            size=seed.size,
        )
        for n, seed in enumerate(seeds, 1)
    ]


def _first(one: Known) -> list[Seed]:
    """Return the run of a finding that nobody was told of: its campaign was killed."""
    token = (one.entry.get("reproduction") or {}).get("token") or ""
    return [Seed(token, len(token), "", 0, one.first_seen)] if token else []


def work_of(metadata: Row, budget_s: float | None) -> str:
    """Return what names the work of a run: the same name, the same work."""
    request = metadata["request"]
    named = [metadata["profile"], metadata["seed"], budget_s]
    named += [request[k] for k in ("engines", "scenarios", "runs", "swarm_runs", "tier")]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]


def left_of(campaign: Campaign) -> list[list[str]]:
    """Return the units of a campaign that nobody came to: engine, version, scenario."""
    units = (*campaign.units, *campaign.skipped)
    done = {(u["engine"], u["engine_version"], u["scenario"]) for u in units}
    return [
        [*engine.key, scenario.id]
        for engine in campaign.engines
        for scenario in campaign.scenarios
        if (*engine.key, scenario.id) not in done
    ][:LEFT_OUT_MAX]


def summary_of(  # noqa: PLR0917 (all that a run comes to)
    metadata: Row,
    units: Sequence[Row],
    engines: Sequence[Row],
    found: Sequence[Row],
    changes: Changes,
    repeat: Row,
) -> dict[str, Any]:
    """Return a run's entry of history.json.

    Args:
        repeat: what repeats its work: `work` and `left_out`.
    """
    defects = {f["id"] for f in found if counts(f["kind"], f["clause"])}
    bugs = Counter(f["severity"] for f in found if f["kind"] == "bug")
    return {
        "run_id": metadata["run_id"],
        "started_at": metadata["started_at"],
        "profile": metadata["profile"],
        "seed": metadata["seed"],
        "engines": [
            {
                "name": one["name"],
                "version": one["version"],
                "verdicts": _verdicts(units, (one["name"], one["version"])),
            }
            for one in engines
        ],
        "bugs": {severity: bugs[severity] for severity in SEVERITIES},
        "new": len(defects & set(changes.new)),
        "resolved": len([r for r in changes.resolved if r["id"].startswith(("BUG-", "DX-"))]),
        "regressed": len(defects & set(changes.regressed)),
        REPEAT: repeat,
    }


def _verdicts(units: Iterable[Row], key: tuple[str, str]) -> dict[str, int]:
    mine = (u["verdict"] for u in units if (u["engine"], u["engine_version"]) == key)
    return dict(sorted(Counter(mine).items()))
