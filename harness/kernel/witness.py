"""Where a task stands: the frames of its coroutine chain, and which of them are the engine's.

A run is given up by the task that drives it. What a stage's own task was doing when its
exception came up is a circumstance: the same defect would be seen at the place where the
engine calls a stage, at the one where it wraps an error, and so on. So an exception is placed
by the frames of the task that it ended the run in, not by those of the tasks it came from.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections.abc import Collection, Iterator
from types import CodeType
from typing import Any

__all__ = ["await_chain", "engine_location", "traceback_location", "where_text"]

CHAIN_MAX = 200


def await_chain(coro: Any) -> Iterator[tuple[CodeType, int]]:
    """Yield (code, line) of a suspended coroutine and of what it awaits, outermost first."""
    for _ in range(CHAIN_MAX):
        if coro is None:
            return
        frame = (
            getattr(coro, "cr_frame", None)
            or getattr(coro, "gi_frame", None)
            or getattr(coro, "ag_frame", None)
        )
        if frame is None:
            return
        yield frame.f_code, frame.f_lineno
        coro = (
            getattr(coro, "cr_await", None)
            or getattr(coro, "gi_yieldfrom", None)
            or getattr(coro, "ag_await", None)
        )


def _short(code: CodeType, line: int, root: str) -> str:
    above = os.path.dirname(root.rstrip(os.sep))
    name = os.path.relpath(code.co_filename, above).replace(os.sep, "/")
    return f"{name}:{line} {code.co_qualname}"


def engine_location(coro: Any, root: str) -> str:
    """Return `file:line function` of the outermost frame inside the package folder `root`.

    That is what the engine made a task of. How deep in its own code it called what the task
    waits for is a circumstance.
    """
    for code, line in await_chain(coro):
        if code.co_filename.startswith(root):
            return _short(code, line, root)
    return ""


def traceback_location(exc: BaseException, root: str) -> str:
    """Return where in the engine an exception ended what the running task does, or "".

    That is `file:line function` of a frame inside the package folder `root`, as far as the
    traceback goes without coming to another task (which only the simulation's loop can tell).
    It is the innermost of those whose function has begun tasks, for what waits for them is
    where a run is given up, whichever of its own functions it was waiting in; else the innermost
    of all. If only another task's frames are the engine's, it is among those.
    """
    loop = _simulation()
    begun: Collection[CodeType] = getattr(loop, "begun_as_tasks", ())
    drivers: Collection[CodeType] = getattr(loop, "begun_by", ())
    innermost, driver, before = "", "", None
    for frame, line in traceback.walk_tb(exc.__traceback__):
        code = frame.f_code
        # Some versions of Python run in a task of its own what is waited for with a timeout.
        if innermost and code in begun and before is not _WAIT_FOR:
            break
        if code.co_filename.startswith(root):
            innermost = _short(code, line, root)
            if code in drivers:
                driver = innermost
        before = code
    return driver or innermost


_WAIT_FOR = asyncio.wait_for.__code__


def _simulation() -> Any:
    """Return the running loop, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def where_text(coro: Any) -> tuple[str, ...]:
    """Return `file:line function` for each frame of the chain, folders left out."""
    return tuple(
        f"{os.path.basename(code.co_filename)}:{line} {code.co_qualname}"
        for code, line in await_chain(coro)
    )
