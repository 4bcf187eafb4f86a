"""The order tier: runs whose ready queue is out of order, and what they show, as notes.

A violation in such a run is no bug, since asyncio never runs callbacks in that order. It may
point at one: so for each kind of violation the same program and plan are run on, legally, with
more seeds. What shows it then is a run like any other, its witness goes the way of all
witnesses, and the note says so; what does not is left as a note.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from harness.contract.clause import Clause, Violation
from harness.contract.reading import Reading
from harness.contract.shape import ProgramShape
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.order import ORDER_MODES, Order
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord

__all__ = ["TIERS", "order_notes", "run_ordered"]

TIERS = ("legal", "order")
# More legal runs for one kind of violation, and for all of a scenario together.
TRIES_MAX = 300
TRIES_TOGETHER_MAX = 900
NOTES_MAX = 50
PROGRESS_EVERY = 20

Key = tuple[str, str, str]


class Unit(Protocol):
    """What of a unit the tier uses: it runs it on, and asks what has been found."""

    lab: Laboratory
    shape: ProgramShape
    clauses: list[Clause]
    clean_points: int
    witnesses: Any
    scenario: Any

    def _one(self, seed: int, point: int | None) -> None: ...


@dataclass(slots=True)
class _Hit:
    """One kind of violation in one mode: the first run that showed it, and how many did."""

    mode: str
    clause: Clause
    violation: Violation
    record: RunRecord
    runs: int = 0


def run_ordered(
    lab: Laboratory,
    program: Program,
    plan: Plan,
    *,
    seed: int,
    mode: str,
    clean_points: int = 0,
) -> RunRecord:
    """Run a case once with its ready queue out of order; the same seed gives the same run.

    Raises:
        InputError: if there is no such mode.
    """
    steps = lab.run(program, plan, clean_points=clean_points).points
    order = Order(mode, max(1, steps))
    return lab.run(program, plan, seed=seed, clean_points=clean_points, order=order)


def order_notes(
    unit: Unit,
    key_of: Callable[[Clause, Violation], Key],
    *,
    runs: int,
    seed: int,
    progress: Callable[[int], None] | None,
) -> dict[str, Any]:
    """Run a unit's case out of order, `runs` times in each mode; returns what that showed.

    The unit must have made its legal runs; more of them are made here.

    Returns:
        runs: of each mode. crashed: how many checks of ours crashed. notes: one a mode and kind
        of violation; `legal` says whether a legal run shows the same clause violated in the
        same way (then it is a bug as well), `legal_tries` how many more were made for it.
    """
    lab, scenario = unit.lab, unit.scenario
    program, plan, points = scenario.program, scenario.plan, unit.clean_points
    steps = max(1, lab.run(program, plan, clean_points=points).points)
    hits: dict[tuple[str, Key], _Hit] = {}
    crashed = 0
    for mode in ORDER_MODES:
        order = Order(mode, steps)
        for number, one in enumerate(_seeds(f"order {mode} {scenario.id} {seed}", runs), 1):
            record = lab.run(program, plan, seed=one, clean_points=points, order=order)
            reading = Reading(program, plan, record, lab.info, unit.shape)
            for clause in unit.clauses:
                try:
                    violations = clause.check(reading).violations
                except Exception:
                    crashed += 1  # of such a run it says nothing
                    continue
                for key, violation in {key_of(clause, v): v for v in violations}.items():
                    hit = hits.setdefault((mode, key), _Hit(mode, clause, violation, record))
                    hit.runs += 1
            _tell(progress, number)
    tries = _try_legally(unit, {key for _, key in hits}, seed, progress)
    return {
        "runs": dict.fromkeys(ORDER_MODES, runs),
        "crashed": crashed,
        "notes": [
            _note(unit, hit, key, tries[key], runs)
            for (_, key), hit in list(hits.items())[:NOTES_MAX]
        ],
        "left_out": max(0, len(hits) - NOTES_MAX),
    }


def _tell(progress: Callable[[int], None] | None, runs: int) -> None:
    if progress is not None and runs % PROGRESS_EVERY == 0:
        progress(runs)


def _seeds(name: str, count: int) -> Iterator[int]:
    rng = random.Random(name)
    for _ in range(count):
        yield 1 + rng.getrandbits(47)


def _try_legally(
    unit: Unit, keys: set[Key], seed: int, progress: Callable[[int], None] | None
) -> dict[Key, int]:
    """Run the unit on, legally, until each kind is shown or the tries are spent."""
    tries = dict.fromkeys(sorted(keys), 0)
    together = 0
    for key in tries:
        for one in _seeds(f"legal {unit.scenario.id} {seed} {key}", TRIES_MAX):
            if _shown(unit, key) or together >= TRIES_TOGETHER_MAX:
                break
            unit._one(one, None)
            tries[key] += 1
            together += 1
            _tell(progress, together)
    return tries


def _shown(unit: Unit, key: Key) -> bool:
    """Say whether a legal run violates the clause in the same way, wherever in the engine."""
    return any(found[:2] == key[:2] for found in unit.witnesses)


def _note(unit: Unit, hit: _Hit, key: Key, tries: int, runs: int) -> dict[str, Any]:
    lab, scenario, record = unit.lab, unit.scenario, hit.record
    again = run_ordered(
        lab,
        scenario.program,
        scenario.plan,
        seed=record.seed,
        mode=hit.mode,
        clean_points=unit.clean_points,
    )
    violation = hit.violation
    return {
        "clause": hit.clause.id,
        "shape": violation.shape,
        "key": list(key),
        "mode": hit.mode,
        "seed": record.seed,
        "hits": hit.runs,
        "runs": runs,
        "stage": violation.stage,
        "expected": violation.expected,
        "actual": violation.actual,
        "location": violation.location,
        "digest": digest(record),
        "nondeterministic": digest(again) != digest(record),
        "legal": _shown(unit, key),
        "legal_tries": tries,
    }
