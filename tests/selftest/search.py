"""What the search achieves by itself: how many broken engines it catches, after how many runs,
whether it ever accuses the reference engine, and what memory it takes.

    python tests/selftest/search.py                      swarm on every broken engine
    python tests/selftest/search.py --points             exhaustive injection on those that break
                                                         a CANCEL or CLEAN clause
    python tests/selftest/search.py --reference 1000000  swarm on the reference engine
    python tests/selftest/search.py --memory 300         one process searching for 300 s

The hand-written packs have no part in it. An engine counts as caught only by a clause that its
defect is known to break, in a run that replays alike. Exits 1 on a miss too many, or on any
accusation of the reference engine. With `--write`, what a swarm on all broken engines and what
exhaustive injection caught is kept in `search.json`, from which the fast tests are made.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from harness.adapters.reference import Adapter  # noqa: E402
from harness.engine.broken import CATALOGUE  # noqa: E402
from harness.kernel.laboratory import Laboratory  # noqa: E402
from harness.lab.search.finder import Finder  # noqa: E402
from harness.lab.search.points import inject_all  # noqa: E402
from harness.lab.search.rows import witness_row  # noqa: E402
from harness.lab.search.swarm import explore  # noqa: E402
from harness.lab.search.units import SHARD_RUNS, swarm_units  # noqa: E402
from mocks.tools import simulated_tool  # noqa: E402
from tests.selftest.cut_into import CASES  # noqa: E402

RECORD = Path(__file__).with_name("search.json")
SEED = 7
RUNS_MAX = 20_000
SHARE_CAUGHT = 0.9
MEMORY_EVERY_S = 10.0
CUT_INTO = ("CANCEL-", "CLEAN-")


@dataclass(frozen=True, slots=True)
class Hunt:
    """How a search for one defect went.

    Attributes:
        clause: that caught it, "" if none did.
        runs: until then, or in all.
        where: the shard of the swarm, or the program cut into and the injection.
        rss_mib: memory of the searching process afterwards.
    """

    engine: str
    clause: str
    runs: int
    seconds: float
    where: str = ""
    rss_mib: float = 0.0


@dataclass(slots=True)
class Shard:
    """What a shard of a swarm said of the reference engine."""

    id: str
    runs: int
    accusations: list[dict[str, Any]] = field(default_factory=list)
    crashed: dict[str, str] = field(default_factory=dict)
    relations: list[dict[str, Any]] = field(default_factory=list)
    related: int = 0
    rss_mib: float = 0.0


def rss_mib() -> float:
    return round(psutil.Process().memory_info().rss / (1 << 20), 1)


def laboratory(subject: str) -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def shard_random(shard: str, seed: int) -> random.Random:
    """Return what a campaign of that seed draws that shard from."""
    return random.Random(f"swarm {shard} {seed}")


def swarm(engine: str, runs: int, seed: int) -> Hunt:
    """Search a broken engine, shard by shard as a campaign does, until a clause catches it."""
    breaks = CATALOGUE[engine].breaks
    began, done = time.monotonic(), 0
    lab = laboratory(f"broken:{engine}")
    for unit in swarm_units(runs):
        finder = Finder(lab, kept_to=breaks)
        explore(
            finder,
            shard_random(unit.id, seed),
            min(SHARD_RUNS, runs - done),
            until=lambda finder=finder: _caught(finder, breaks) != "",  # type: ignore[misc]
        )
        done += finder.runs
        if clause := _confirmed(finder, breaks):
            took_s = round(time.monotonic() - began, 2)
            return Hunt(engine, clause, done, took_s, unit.id, rss_mib())
    return Hunt(engine, "", done, round(time.monotonic() - began, 2), "", rss_mib())


def points(engine: str) -> Hunt:
    """Inject everywhere into each program of the set, until a CANCEL or CLEAN clause catches."""
    breaks = cut_clauses(engine)
    began, done = time.monotonic(), 0
    lab = laboratory(f"broken:{engine}")
    for program, plan in CASES:
        finder = Finder(lab, kept_to=breaks)
        inject_all(finder, program, plan, until=lambda f=finder: _caught(f, breaks) != "")  # type: ignore[misc]
        done += finder.runs
        if clause := _confirmed(finder, breaks):
            label = next(f.label for k, f in finder.found.items() if k[0] == clause)
            where = f"{program.name}: {label or 'undisturbed'}"
            return Hunt(engine, clause, done, round(time.monotonic() - began, 2), where, rss_mib())
    return Hunt(engine, "", done, round(time.monotonic() - began, 2), "", rss_mib())


def cut_clauses(engine: str) -> tuple[str, ...]:
    """Return the CANCEL and CLEAN clauses that a defect breaks."""
    return tuple(c for c in CATALOGUE[engine].breaks if c.startswith(CUT_INTO))


def _caught(finder: Finder, breaks: Sequence[str]) -> str:
    return next((key[0] for key in finder.found if key[0] in breaks), "")


def _confirmed(finder: Finder, breaks: Sequence[str]) -> str:
    """Return a clause that catches in a run that goes the same way again, or ""."""
    finder.confirm_replays()
    return next(
        (k[0] for k, f in finder.found.items() if k[0] in breaks and not f.nondeterministic), ""
    )


def reference_shard(shard: str, runs: int, seed: int) -> Shard:
    """Search the reference engine, judged by every clause, and asked for every relation."""
    finder = Finder(laboratory("reference"))
    explore(finder, shard_random(shard, seed), runs, reference=laboratory("reference"))
    finder.confirm_replays()
    accusations = [witness_row(one, 0, finder.lab) for one in finder.found.values()]
    crashed = {c: t.crashed for c, t in finder.tallies.items() if t.crashed}
    return Shard(shard, finder.runs, accusations, crashed, finder.notes, finder.related, rss_mib())


def reference_points(number: int) -> Shard:
    """Inject everywhere into one program of the set on the reference engine."""
    program, plan = CASES[number]
    finder = Finder(laboratory("reference"))
    inject_all(finder, program, plan)
    accusations = [witness_row(one, 0, finder.lab) for one in finder.found.values()]
    crashed = {c: t.crashed for c, t in finder.tallies.items() if t.crashed}
    return Shard(program.name, finder.runs, accusations, crashed, rss_mib=rss_mib())


# Several processes.


def _settle() -> None:
    laboratory("reference").settle_process()


def spread(
    work: Callable[..., Any], argued: Iterable[tuple[Any, ...]], workers: int, seconds: float
) -> Iterator[Any]:
    """Yield what comes of each piece of work, as it comes; none is begun after that time."""
    deadline = time.monotonic() + seconds
    waiting = iter(argued)
    os.environ["PYTHONHASHSEED"] = "0"
    context = get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=_settle) as pool:
        going = {pool.submit(work, *one) for _, one in zip(range(workers), waiting, strict=False)}
        while going:
            done = next(as_completed(going))
            going.discard(done)
            if time.monotonic() < deadline and (one := next(waiting, None)) is not None:
                going.add(pool.submit(work, *one))
            yield done.result()


# What is told.


def told_of(title: str, hunts: Sequence[Hunt]) -> None:
    caught = [h for h in hunts if h.clause]
    runs = sorted(h.runs for h in caught)
    share = 100 * len(caught) / max(1, len(hunts))
    print(f"{title}: {len(caught)} of {len(hunts)} broken engines caught ({share:.1f} %)")
    if runs:
        print(
            f"  runs until caught: median {statistics.median(runs):g}, "
            f"90 % within {runs[int(0.9 * (len(runs) - 1))]}, at most {runs[-1]}"
        )
    for h in sorted(hunts, key=lambda h: h.engine):
        if not h.clause:
            by = ", ".join(CATALOGUE[h.engine].breaks)
            print(f"  missed: broken:{h.engine} by {by} in {h.runs} runs, {h.seconds:g} s")
    print(f"  memory of a searching process: {max(h.rss_mib for h in hunts):g} MiB at most")


def hunted(options: argparse.Namespace) -> list[Hunt]:
    names = options.engine or list(CATALOGUE)
    work, argued = swarm, [(name, options.runs, options.seed) for name in names]
    if options.points:
        names = [name for name in names if cut_clauses(name)]
        work, argued = points, [(name,) for name in names]  # type: ignore[assignment, list-item]
    hunts = []
    for one in spread(work, argued, options.workers, options.seconds):
        hunts.append(one)
        if options.verbose or not one.clause:
            print(
                f"  {one.engine}: {one.clause or 'missed'} after {one.runs} runs, "
                f"{one.seconds:g} s, {one.rss_mib:g} MiB {one.where}",
                flush=True,
            )
    if left := len(names) - len(hunts):
        print(f"  no time for {left} engines")
    return hunts


def on_reference(options: argparse.Namespace) -> int:
    """Search the reference engine; returns how often it was accused."""
    if options.points:
        work, argued = reference_points, [(i,) for i in range(len(CASES))]
    else:
        units = swarm_units(options.reference)
        work = reference_shard  # type: ignore[assignment]
        argued = [(u.id, min(SHARD_RUNS, options.reference), options.seed) for u in units]  # type: ignore[misc]
    began = told_s = time.monotonic()
    made = related = accused = 0
    for shard in spread(work, argued, options.workers, options.seconds):
        made += shard.runs
        related += shard.related
        for row in shard.accusations:
            accused += 1
            print(
                f"  ACCUSED in {shard.id}: {row['clause']} {row['shape']}: {row['actual']} "
                f"({row['violations']} runs, {row['label']})"
            )
            if options.keep:
                with open(options.keep, "a", encoding="utf-8") as file:
                    file.write(json.dumps(row, default=repr) + "\n")
        for clause, what in shard.crashed.items():
            accused += 1
            print(f"  CRASHED in {shard.id}: {clause}: {what}")
        for note in shard.relations:
            accused += 1
            print(f"  RELATION in {shard.id}: {json.dumps(note, default=repr)[:3_000]}")
        if time.monotonic() - told_s > MEMORY_EVERY_S:
            told_s = time.monotonic()
            print(f"  {told_s - began:.0f} s: {made} runs, {shard.rss_mib:g} MiB", flush=True)
    print(
        f"reference: {accused} accusations in {made} runs "
        f"({related} cases asked for relations), --seed {options.seed}"
    )
    return accused


def memory(seconds: float, seed: int) -> None:
    """Search with one finder for so long, and print its memory every ten seconds."""
    _settle()
    finder = Finder(laboratory("reference"))
    began = told_s = time.monotonic()

    def tell() -> bool:
        nonlocal told_s
        now = time.monotonic()
        if now - told_s > MEMORY_EVERY_S:
            told_s = now
            print(
                f"  {now - began:4.0f} s: {finder.runs} runs, {rss_mib():g} MiB, "
                f"{len(gc.get_objects())} objects",
                flush=True,
            )
        return False

    rng = random.Random(f"memory {seed}")
    explore(finder, rng, sys.maxsize, deadline=began + seconds, until=tell)


def kept(record: dict[str, Any]) -> None:
    data = json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}
    partial = RECORD.with_suffix(".part")
    partial.write_text(json.dumps(data | record, indent=1, sort_keys=True) + "\n", "utf-8")
    partial.replace(RECORD)


def evidence(hunts: Sequence[Hunt]) -> dict[str, Any]:
    """Return what the fast tests hold a search to: nothing that hangs on the machine."""
    rows = {h.engine: asdict(h) for h in sorted(hunts, key=lambda h: h.engine)}
    return {name: {k: row[k] for k in ("clause", "runs", "where")} for name, row in rows.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", action="store_true", help="exhaustive injection, no swarm")
    parser.add_argument("--reference", type=int, metavar="N", help="runs on the reference engine")
    parser.add_argument("--memory", type=float, metavar="S", help="seconds of one long search")
    parser.add_argument("--engine", action="append", choices=sorted(CATALOGUE), metavar="NAME")
    parser.add_argument("--runs", type=int, default=RUNS_MAX, help="on each broken engine")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=1e9, help="nothing is begun after them")
    parser.add_argument("--keep", metavar="FILE", help="append accusations to it, as JSON lines")
    parser.add_argument(
        "--write", action="store_true", help=f"keep what was caught in {RECORD.name}"
    )
    parser.add_argument("--verbose", action="store_true", help="a line for each engine")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, options.seed)
        return 0
    if options.reference is not None:
        return 1 if on_reference(options) else 0
    hunts = hunted(options)
    if not hunts:
        return 1
    title = "exhaustive injection" if options.points else f"swarm of {options.runs} runs each"
    told_of(f"{title}, --seed {options.seed}", hunts)
    if options.write:
        kept({"points" if options.points else "swarm": evidence(hunts)})
    caught = sum(1 for h in hunts if h.clause)
    due = len(hunts) if options.points else SHARE_CAUGHT * len(hunts)
    return 1 if caught < due else 0


if __name__ == "__main__":
    sys.exit(main())
