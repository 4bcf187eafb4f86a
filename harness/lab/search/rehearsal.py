"""A script's rehearsal: its `main`, run in virtual time beside the engine, in a millisecond.

What the laboratory sees of a run, its user may not: a clause looks at all that happened, the
check in a script only at what a program can find out by itself, where a real clock leaves no
doubt. A smaller run is of use to a maintainer only if its script shows it too. Shrinking asks
this of every step that it takes, and cannot wait each time for a process and its sleeps. A
rehearsal confirms nothing: that takes the stock loop, a real clock and no dagstorm.
"""

from __future__ import annotations

import asyncio
import builtins
import functools
import itertools
import random
import sys
import types
from collections.abc import Callable
from typing import Any

from harness.kernel.laboratory import Laboratory, tear_down
from harness.kernel.loop import SimLoop, ThreadJob
from harness.kernel.plan import Plan
from harness.kernel.script_tries import with_tries, without_process
from harness.kernel.substitutes import stand_in_of
from harness.kernel.tape import Tape

__all__ = ["REHEARSALS", "is_race", "rehearse"]

STEPS_MAX = 200_000
# Undisturbed, then with other orders of sets of tasks, by the factor and the summand of what their
# members hash by: a script has but one, by the addresses of its tasks.
ORDERS = ((1, 0), (-1, 0), (3, 0), (-3, 2))
# Then with timers that are late, and on processors that take so many seconds for a turn.
LATE = {"late": [0, 1, 2, 3, 3, 2, 1, 0, 2] * 12}
TURNS_S = (0.0, 0.0, 0.00005, 0.0003)
REHEARSALS = 2 * len(ORDERS)
# Of a script that tries many times: on a real clock it has as many of all but short runs.
TRIES = 24
# After so many seconds a script gives up.
PATIENCE_S = 28.0
_numbers = itertools.count(1)


class _Loop(SimLoop):
    """A loop on which a turn takes some time, as on any processor."""

    turn_s = 0.0

    def __init__(self, tape: Tape) -> None:
        super().__init__(tape, horizon_s=PATIENCE_S, steps_max=STEPS_MAX)

    def _run_once(self) -> None:
        super()._run_once()
        self.now_s += self.turn_s


def rehearse(
    lab: Laboratory,
    script: str,
    wanted: int = 0,
    spend: Callable[[int], None] = lambda _points: None,
) -> int:
    """Count the runs in virtual time in which a script shows what it is about, of `REHEARSALS`.

    None does where a rehearsal cannot tell: logs are silent in this process, and a script may be
    of another frame.

    Args:
        lab: of the script's engine.
        script: as an adapter writes it.
        wanted: so many are needed: there are no further runs where there cannot be as many.
        spend: told how many callbacks each run took.
    """
    code = _code(without_process(script))
    shown = 0
    for number in range(REHEARSALS):
        if code is None or shown + REHEARSALS - number < wanted:
            break
        loop = _Loop(Tape(0, LATE if number >= len(ORDERS) else {"points": []}))
        loop.hash_factor, loop.hash_salt = ORDERS[number % len(ORDERS)]
        loop.turn_s = TURNS_S[number % len(TURNS_S)] if number >= len(ORDERS) else 0.0
        shown += _shows(lab, code, loop)
        spend(loop.points)
    return shown


def is_race(
    lab: Laboratory, script: str, spend: Callable[[int], None] = lambda _points: None
) -> bool:
    """Say whether a script shows what it is about in one of some tries in virtual time, as one
    that tries many times makes them. Takes `spend` as `rehearse` does."""
    often = with_tries(script, "")
    code = None if often is None else _code(without_process(often))
    for seed in range(1, TRIES + 1) if code is not None else ():
        assert code is not None  # or there are no tries
        random.seed(seed)
        loop = _Loop(Tape(0))
        shows = _shows(lab, code, loop, seed)
        spend(loop.points)
        if shows:
            return True
    return False


def _code(text: str | None) -> types.CodeType | None:
    if text is None or "import logging" in text:
        return None
    try:
        return compile(text, f"<rehearsal {next(_numbers)}>", "exec")
    except SyntaxError:
        return None


def _shows(lab: Laboratory, code: types.CodeType, loop: SimLoop, seed: int = 0) -> bool:
    lab.begin(loop, seed, Plan())
    loop.set_exception_handler(lambda _loop, _context: None)
    variables: dict[str, Any] = {"__name__": "script", "__file__": code.co_filename}
    variables["__builtins__"] = {**vars(builtins), "__import__": _imported}
    try:
        exec(code, variables)
        # What it has imported of the engine has clocks as well.
        lab.clocks.follow(loop.time, seed)
        run = loop.create_task(variables["main"]())
        run.add_done_callback(lambda _task: loop.stop())
        loop.run_forever()
        ended = run.done() and not run.cancelled() and run.exception() is None
        return ended and bool(run.result())
    except MemoryError:
        raise  # the process can do no more
    except Exception:
        return False  # as a script that could not run
    finally:
        tear_down(loop)


def _imported(name: str, *rest: Any) -> Any:
    """Import as a script does, but for its clock and its threads."""
    module = __import__(name, *rest)
    if name == "asyncio":
        return _asyncio()
    return _time() if name == "time" else module


@functools.cache
def _asyncio() -> types.ModuleType:
    return _like(asyncio, to_thread=_to_thread)


@functools.cache
def _time() -> types.ModuleType:
    # Its thread is told how long it takes by `_to_thread`.
    return _like(stand_in_of(sys.modules["time"]), sleep=lambda _seconds: None)


def _like(module: types.ModuleType, **names: Any) -> types.ModuleType:
    one = types.ModuleType(module.__name__)
    vars(one).update({**vars(module), **names})
    return one


async def _to_thread(function: Callable[..., Any], *given: Any) -> Any:
    """Run a script's job for a thread, whose last argument says how many seconds it sleeps."""
    return await asyncio.to_thread(ThreadJob(float(given[-1]), functools.partial(function, *given)))
