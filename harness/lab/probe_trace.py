"""The journal of the user's frames in one run: lines, cancels that arrived, how frames ended.

Python's own trace hook is the only witness that needs no change to the user's code and
sees every frame, in whatever task it runs. Only the user's frames are followed. A frame
is known by the order in which it first ran, so that two runs that were alike up to some
moment name their frames alike; nothing here keeps a frame alive, which would hide leaks.
"""

from __future__ import annotations

import asyncio
import dis
import sys
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from harness.lab.probe_sources import Sources

__all__ = ["CANCELLED", "LINE", "RAISED", "RETURNED", "UNWOUND", "Event", "FrameLog", "Tracer"]

LINE, CANCELLED, RAISED, RETURNED, UNWOUND = range(5)
EVENTS_MAX = 200_000
SUSPENDED = frozenset({"YIELD_VALUE", "RESUME"})
# How Python's own coroutines hand over values; no error of anybody's.
HAND_OVER = (StopIteration, StopAsyncIteration, GeneratorExit)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened in a frame: its number in the run, what, at which line."""

    number: int
    kind: int
    line: int
    name: str = ""


@dataclass(slots=True)
class FrameLog:
    """What one frame did.

    Attributes:
        parent: the user's frame that called or awaited it first, if there is one.
        parent_line: the line at which that stood.
        task: name of the task in which it first ran.
        in_cleanup: it was called, or its task was made, by code that cleans up.
    """

    ordinal: int
    code: CodeType
    task: int
    parent: FrameLog | None
    parent_line: int
    in_cleanup: bool
    events: list[Event] = field(default_factory=list)

    def lines(self) -> list[int]:
        return [e.line for e in self.events if e.kind == LINE]


class Tracer:
    """Follows the user's frames of this thread between `start` and `stop`.

    Attributes:
        running: the run that is judged is not over yet; whoever judges it says when it is.
        cleanup_tasks: tasks that were made by code that cleans up.
    """

    def __init__(self, sources: Sources, loop: asyncio.AbstractEventLoop) -> None:
        self.frames: list[FrameLog] = []
        self.number = 0
        self.cleanup_tasks: set[int] = set()
        self.running = True
        self._sources = sources
        self._loop = loop
        self._live: dict[int, FrameLog] = {}

    @property
    def full(self) -> bool:
        return self.number >= EVENTS_MAX

    def start(self) -> None:
        sys.settrace(self._enter)

    def stop(self) -> None:
        sys.settrace(None)

    def log_of(self, frame: FrameType) -> FrameLog | None:
        """Return what is known of a frame that has not ended."""
        known = self._live.get(id(frame))
        return known if known is not None and known.code is frame.f_code else None

    def in_cleanup(self, frame: FrameType | None) -> bool:
        """Say whether the innermost frame of the user's among these is cleaning up."""
        found = self._caller(frame)
        return found is not None and self._cleans(found, self.log_of(found))

    def _cleans(self, frame: FrameType, log: FrameLog | None) -> bool:
        if log is not None and log.in_cleanup:
            return True
        function = self._sources.function(frame.f_code)
        return function is not None and function.cleanup_at(frame.f_lineno) is not None

    def _caller(self, frame: FrameType | None) -> FrameType | None:
        while frame is not None and not self._sources.is_users(frame.f_code.co_filename):
            frame = frame.f_back
        return frame

    def _enter(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event != "call" or not self._sources.is_users(frame.f_code.co_filename):
            return None
        if self.log_of(frame) is None:
            self._begin(frame)
        return self._follow

    def _begin(self, frame: FrameType) -> None:
        task = asyncio.current_task(self._loop)
        number = hash(task) if task is not None else -1
        caller = self._caller(frame.f_back)
        parent = None if caller is None else self.log_of(caller)
        cleaning = _exits(frame.f_back, caller)
        if caller is not None:
            cleaning = cleaning or self._cleans(caller, parent)
        else:
            cleaning = cleaning or number in self.cleanup_tasks
        log = FrameLog(
            ordinal=len(self.frames),
            code=frame.f_code,
            task=number,
            parent=parent,
            parent_line=0 if caller is None else caller.f_lineno,
            in_cleanup=cleaning,
        )
        self.frames.append(log)
        self._live[id(frame)] = log

    def _follow(self, frame: FrameType, event: str, arg: Any) -> Any:
        log = self.log_of(frame)
        if log is None:
            return None
        if event == "line":
            self._add(log, LINE, frame.f_lineno)
        elif event == "exception":
            if issubclass(arg[0], asyncio.CancelledError):
                self._add(log, CANCELLED, frame.f_lineno)
            elif not issubclass(arg[0], HAND_OVER):
                self._add(log, RAISED, frame.f_lineno, arg[0].__name__)
        elif event == "return":
            opcode = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if opcode not in SUSPENDED:
                returned = opcode.startswith("RETURN_")
                self._add(log, RETURNED if returned else UNWOUND, frame.f_lineno)
                del self._live[id(frame)]
        return self._follow

    def _add(self, log: FrameLog, kind: int, line: int, name: str = "") -> None:
        self.number += 1
        if self.number < EVENTS_MAX:
            log.events.append(Event(self.number, kind, line, name))


def _exits(frame: FrameType | None, caller: FrameType | None) -> bool:
    """Say whether a library's `__aexit__` called this on behalf of `caller` (an exit stack's)."""
    while frame is not None and frame is not caller:
        if frame.f_code.co_name in ("__aexit__", "__exit__"):
            return True
        frame = frame.f_back
    return False
