"""What a run changed: which findings are new, came back, stayed, or are gone.

One rule for the registry, for a baseline and for two runs side by side. It reads and
decides; `life.py` writes what was decided into the registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any

from harness.findings.absence import gone
from harness.findings.campaign import Row
from harness.findings.known import Known, Life, counts
from harness.findings.order import by_severity, by_version

__all__ = ["SCHEMA_VERSION", "Changes", "Measured", "changes_of", "changes_page"]

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Measured:
    """A run's findings, rows of results.jsonl and engines, as its files hold them."""

    findings: Sequence[Row]
    rows: Sequence[Row]
    engines: Sequence[Row]

    @cached_property
    def by_version(self) -> dict[tuple[str, str], dict[str, Row]]:
        """Return (engine, version) -> scenario -> row, of the simulated and live laboratory."""
        out: dict[tuple[str, str], dict[str, Row]] = {}
        for row in self.rows:
            mine = out.setdefault((row["engine"], row["engine_version"]), {})
            name = row["scenario"]
            # What was run in both laboratories passed only if it did in both.
            if name not in mine or mine[name]["verdict"] == "pass":
                mine[name] = row
        return out

    def described(self, name: str, version: str) -> Row:
        for engine in self.engines:
            if (engine["name"], engine["version"]) == (name, version):
                return engine
        return {}


@dataclass(slots=True)
class Changes:
    """What became of each finding; the lists are of defects and gaps, not of strengths.

    Attributes:
        marks: fingerprint -> new, regressed or unchanged, for what this run saw.
        moves: (fingerprint, version) -> the state that this run gives it.
        resolved: those that no version shows any more that showed it before, or fewer do.
        expired: ids of findings seen again of which a waiver has run out since.
    """

    new: list[str] = field(default_factory=list)
    regressed: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    resolved: list[dict[str, Any]] = field(default_factory=list)
    waived: list[dict[str, str]] = field(default_factory=list)
    expired: list[str] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    moves: dict[tuple[str, str], str] = field(default_factory=dict)


def changes_of(known: Mapping[str, Known], measured: Measured, *, run: str, today: date) -> Changes:
    """Hold what a run measured against what was known before it.

    Args:
        known: fingerprint -> finding.
        run: id of the run, named as what shows that something is gone.
    """
    out = Changes()
    seen: set[tuple[str, str]] = set()
    for entry in _gravest_first(measured.findings):
        mark, before = entry["fingerprint"], known.get(entry["fingerprint"])
        seen |= {(mark, version) for version in entry["engine_versions"]}
        for version in entry["engine_versions"]:
            out.moves[mark, version] = _state(before, version)
        if entry["kind"] == "strength":
            continue
        change = "new"
        if before is not None and before.reported:
            moves = {out.moves[mark, v] for v in entry["engine_versions"] if _moved(before, v)}
            change = "regressed" if "regressed" in moves else "unchanged"
        out.marks[mark] = change
        getattr(out, change).append(entry["id"])
        decision = before.decision if before else None
        if decision is not None and decision.holds(today):
            out.waived.append(
                {"id": entry["id"], "reason": decision.reason, "until": decision.until}
            )
        elif decision is not None and not decision.told and counts(entry["kind"], entry["clause"]):
            out.expired.append(entry["id"])
    for before in known.values():
        if before.kind == "strength":
            _lost(out, before, measured, seen)
        elif before.reported:
            _missed(out, before, measured, seen, run)
    grave = {one.id: by_severity(one.severity) for one in known.values()}
    out.resolved.sort(key=lambda one: (grave[one["id"]], one["id"]))
    return out


def changes_page(changes: Changes, against: str | None) -> dict[str, Any]:
    """Return changes.json as plain data."""
    return {
        "schema_version": SCHEMA_VERSION,
        "against": against,
        "new": changes.new,
        "regressed": changes.regressed,
        "unchanged": changes.unchanged,
        "resolved": changes.resolved,
        "waived": changes.waived,
    }


def _gravest_first(findings: Iterable[Row]) -> list[Row]:
    kinds = ("bug", "dx", "improvement", "strength")
    return sorted(
        findings, key=lambda f: (kinds.index(f["kind"]), by_severity(f["severity"]), f["id"])
    )


def _moved(before: Known, version: str) -> bool:
    """Say whether seeing it on a version is more than what the last run said of that version."""
    life = before.versions.get(version)
    return life is None or not life.shows


def _state(before: Known | None, version: str) -> str:
    """Return the state of a finding on a version that shows it now."""
    if before is None:
        return "open"
    life = before.versions.get(version)
    if life is not None:
        return life.state if life.shows else "regressed"
    older = [v for v in before.versions if by_version(v) < by_version(version)]
    if older and not before.versions[max(older, key=by_version)].shows:
        return "regressed"
    lives = before.versions.values()
    return "regressed" if lives and not any(life.shows for life in lives) else "open"


def _missed(
    out: Changes,
    before: Known,
    measured: Measured,
    seen: set[tuple[str, str]],
    run: str,
) -> None:
    """Note on which versions a known finding is gone, or was shown never to have been."""
    over = []
    for (name, version), mine in measured.by_version.items():
        if name != before.engine or (before.fingerprint, version) in seen:
            continue
        life = before.versions.get(version)
        if life is not None and not life.shows:
            continue
        going_by = life or _everywhere(before)
        if not gone(before, going_by, mine, measured.described(name, version)):
            continue
        out.moves[before.fingerprint, version] = "clean" if life is None else "resolved"
        if life is not None:
            over.append(version)
    if over:
        out.resolved.append(
            {
                "id": before.id,
                "title": before.title,
                "clause": before.clause,
                "engine": before.engine,
                "versions": sorted(over, key=by_version),
                "by_run": run,
            }
        )


def _lost(out: Changes, before: Known, measured: Measured, seen: set[tuple[str, str]]) -> None:
    """Note on which versions a clause that held is violated: the strength is over there."""
    for (name, version), mine in measured.by_version.items():
        life = before.versions.get(version)
        if name != before.engine or life is None or (before.fingerprint, version) in seen:
            continue
        judged = (row["clauses"].get(before.clause) for row in mine.values())
        if life.shows and any(row["violations"] for row in judged if row):
            out.moves[before.fingerprint, version] = "resolved"


def _everywhere(before: Known) -> Life:
    """Return the scenarios that showed it on any version."""
    sights = {k: s for life in before.versions.values() for k, s in life.sights.items()}
    return Life("open", sights=sights)
