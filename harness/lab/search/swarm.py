"""Seeded exploration: programs and plans that nobody wrote, run, judged by every clause.

Each program is run a few times: undisturbed, then with schedules drawn from seeds of their
own. That is the safety phase. Then everything heals: a plain program without a fault is run
on the same adapter object, and must end well. Situations seen least are what the next
programs aim at. All of it follows from the seed alone, unless a budget of time cuts it short.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from harness.contract.reading import Reading
from harness.kernel.errors import NotOffered
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.lab.search.coverage import SITUATIONS
from harness.lab.search.features import draw_swarm, offered
from harness.lab.search.finder import Finder
from harness.lab.search.generate import generate
from harness.lab.search.oracles import compare, decided, relate, steady
from harness.lab.search.rows import unit_row

__all__ = ["explore", "swarm_unit"]

RUNS_EACH = 4
# Relations take a dozen runs each.
ORACLES_EVERY = 16
NOTES_MAX = 20
AIMED_SHARE = 0.4
PROGRESS_EVERY_S = 1.0
# A program that costs so many callbacks in its first run is run no second time.
CALLBACKS_MAX = 5_000


def explore(
    finder: Finder,
    rng: random.Random,
    runs: int,
    *,
    deadline: float | None = None,
    progress: Callable[[int], None] | None = None,
    until: Callable[[], bool] = lambda: False,
    reference: Laboratory | None = None,
) -> None:
    """Run generated programs until so many runs are made, the time is up, or `until` says so.

    Args:
        reference: the reference engine, to be asked the same, or None.
    """
    capabilities = finder.lab.info.capabilities
    possible = offered(capabilities)
    reachable = [name for name, needs in SITUATIONS.items() if possible.issuperset(needs)]
    told_s = time.monotonic()
    while finder.runs < runs and not until():
        now = time.monotonic()
        if deadline is not None and now > deadline:
            return
        if progress is not None and now - told_s > PROGRESS_EVERY_S:
            told_s = now
            progress(finder.runs)
        aim: frozenset[str] = frozenset()
        if reachable and rng.random() < AIMED_SHARE:
            aim = _aim(rng, finder.seen, reachable)
        program, plan = generate(rng, capabilities, draw_swarm(rng, possible, aim))
        try:
            record = _few_runs(finder, rng, program, plan, runs)
        except NotOffered:
            # The engine cannot be told what this plan asks of it.
            finder.refused += 1
            continue
        if record.build_error is None:
            finder.heal(program, plan, record)
        if finder.programs % ORACLES_EVERY == 0 and record.points < CALLBACKS_MAX:
            finder.notes += _related(finder, reference, program.with_durations({}), plan)
            del finder.notes[NOTES_MAX:]


def _related(
    finder: Finder, reference: Laboratory | None, program: Program, plan: Plan
) -> list[dict[str, Any]]:
    """Ask what must not change an outcome, where the program alone decides it."""
    lab = finder.lab
    base = lab.run(program, plan)
    reading = Reading(program, plan, base, lab.info)
    if not decided(reading) or not steady(lab, program, plan, base):
        return []
    finder.related += 1
    found = relate(lab, program, plan, base)
    return found if reference is None else found + compare(lab, reference, reading, base)


def _aim(rng: random.Random, seen: Counter[str], reachable: list[str]) -> frozenset[str]:
    """Return the features of a situation, of a few drawn the one seen least."""
    drawn = [reachable[int(rng.random() * len(reachable))] for _ in range(4)]
    return frozenset(SITUATIONS[min(drawn, key=lambda name: seen[name])])


def _few_runs(
    finder: Finder, rng: random.Random, program: Program, plan: Plan, runs: int
) -> RunRecord:
    points = 0
    if any(c.at_point is not None for c in plan.cancels):
        clean = dataclasses.replace(plan, cancels=())
        points = finder.run(program, clean).points
    record = finder.run(program, plan, clean_points=points)
    if record.points > CALLBACKS_MAX or record.build_error is not None:
        return record
    for _ in range(min(RUNS_EACH, runs - finder.runs + 1) - 1):
        record = finder.run(program, plan, seed=1 + rng.getrandbits(47), clean_points=points)
    return record


def swarm_unit(
    lab: Laboratory,
    *,
    seed: int | str,
    runs: int,
    budget_s: float | None = None,
    progress: Callable[[int], None] | None = None,
    reference: Laboratory | None = None,
) -> dict[str, Any]:
    """Search an engine; returns the unit's result as plain data, in the shape of a scenario's.

    Args:
        seed: what every choice follows from.
        runs: how many runs are made, unless the time is up before.
        progress: called each second or so with the number of runs done: a sign of life.
        reference: the reference engine in this process, to be asked the same, or None.
    """
    finder = Finder(lab)
    deadline = None if budget_s is None else time.monotonic() + budget_s
    explore(
        finder,
        random.Random(f"swarm {seed}"),
        runs,
        deadline=deadline,
        progress=progress,
        reference=reference,
    )
    return unit_row(finder)
