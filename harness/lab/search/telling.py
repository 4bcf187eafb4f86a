"""What the stand-alone script of a case tells of it, and a case of which one tells more.

Asked of each step of shrinking, so by rehearsal: the words of a script are one thing, what it
shows another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from harness.contract.clauses import CLAUSES
from harness.kernel.errors import DagstormError
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.search.rehearsal import REHEARSALS, is_race, rehearse
from harness.lab.search.shrink import Key, RunAndJudge, Shrunk, is_shown
from harness.lab.search.simpler import DURATIONS, Path, edited, in_less_time, numbers_in
from harness.lab.standalone import script_of

__all__ = [
    "NOW_AND_THEN",
    "RACE",
    "SCRIPTED",
    "SHOWN",
    "UNTOLD",
    "told_by_script",
    "with_longer_times",
]

# What a script tells of a case: there is none; no rehearsal shows it, not if it tries many times,
# only if it does, some do, all do.
UNTOLD, SCRIPTED, RACE, NOW_AND_THEN, SHOWN = range(5)
# So many times as long, or so many seconds longer, things take where a script cannot tell.
LONGER_TIMES, LONGER_BY_S = (3.0, 8.0), (0.5, 2.0)


def told_by_script(
    lab: Laboratory,
    key: Key,
    program: Program,
    plan: Plan,
    wanted: int = UNTOLD,
    *,
    spend: Callable[[int], None] = lambda _points: None,
) -> int:
    """Say what a script tells of a case, exact from `wanted` on: `UNTOLD` if there is none, else
    how often its rehearsals show it.

    Args:
        spend: told how many callbacks of the loop each rehearsal took.
    """
    text, _ = script_of(lab.adapter, CLAUSES[key[0]], program, plan, key[1])
    if text is None:
        return UNTOLD
    shown = rehearse(lab, text, REHEARSALS if wanted == SHOWN else 0, spend)
    if shown:
        return SHOWN if shown == REHEARSALS else NOW_AND_THEN
    return RACE if wanted <= RACE and is_race(lab, text, spend) else SCRIPTED


def with_longer_times(
    lab: Laboratory, key: Key, small: Shrunk, told: int, run_and_judge: RunAndJudge
) -> tuple[Program, Plan, int] | None:
    """Return a case in which something takes longer, if its script then tells more, and what it
    tells; None if there is none.

    The laboratory sees what goes on for a millisecond too long, a check on a real clock does not.
    """
    found = None
    if getattr(lab.adapter, "render", None) is None:
        return None
    for program, plan in _longer_times(small.program.to_json(), small.plan.to_json()):
        try:
            case = Program.from_json(program), Plan.from_json(plan)
            shows = is_shown(key, run_and_judge(*case, small.tape).keys)
        except DagstormError:
            continue
        tells = told_by_script(lab, key, *case, NOW_AND_THEN) if shows else told
        if tells >= NOW_AND_THEN and tells > told:
            found, told = (*case, tells), tells
        if told == SHOWN:
            break
    return found


def _longer_times(program: Any, plan: Any) -> Iterator[tuple[Any, Any]]:
    """Yield a case with all its times longer, then with each of them."""
    for times in LONGER_TIMES:
        yield in_less_time(program, times), in_less_time(plan, times)
    for by_s in LONGER_BY_S:
        for path in _durations_in(program):
            yield edited(program, path, _by(by_s)), plan
        for path in _durations_in(plan):
            yield program, edited(plan, path, _by(by_s))


def _durations_in(data: Any) -> list[Path]:
    return [path for path in numbers_in(data) if path[-1] in DURATIONS]


def _by(seconds: float) -> Callable[[float], float]:
    return lambda value: round(value + seconds, 6)
