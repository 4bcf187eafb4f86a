"""A job: one task that a run owns, and the only place where the engine cancels a task.

The rules that make cancellation come out right are here. A job is told to stop at most
once, so nothing interrupts its cleanup a second time. Why it was told is kept beside
the task and decides what became of it: whatever the task then raises or returns, nobody
has to guess from the type of an exception who cancelled. And a job that does not end
within its grace is given up: the run goes on, and the job is reported.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context as Variables
from dataclasses import dataclass
from typing import Any

__all__ = ["TURNS", "Job", "Stop"]

# What takes no time may still take the loop a few turns: a job is not given up, nor a
# cleanup cut, at a deadline before it has had these.
TURNS = 12


@dataclass(frozen=True, slots=True)
class Stop:
    """Why the engine ended a job: the status that this gives its stage, and the reason."""

    status: str
    reason: str
    error: BaseException | None = None


class Job:
    """One task, its timers, and what became of it.

    Attributes:
        stopped: why the engine told it to stop, or None.
        given_up_at_s: when a stopped job's grace is over, on the loop's clock.
        given_up: it was told to stop and did not; its task is left to itself.
        closed: it has ended or was given up.
        beat_s: when it last gave a heartbeat.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.stopped: Stop | None = None
        self.given_up = False
        self.given_up_at_s: float | None = None
        self.started_s: float | None = None
        self.ended_s: float | None = None
        self.beat_s = 0.0
        self.closed = False
        self._loop = loop
        self._timers: dict[str, asyncio.Handle] = {}
        self._on_closed: Callable[[Job], None] | None = None
        self.task: asyncio.Task[Any] | None = None

    def start(
        self,
        main: Coroutine[Any, Any, Any],
        on_closed: Callable[[Job], None],
        variables: Variables | None = None,
    ) -> None:
        """Run `main` as a task; `on_closed` is called once, when it has ended or was given up.

        The task runs in the context variables given, or else in a copy of the caller's.
        """
        self._on_closed = on_closed
        self.task = self._loop.create_task(main, name=self.name, context=variables)
        self.task.add_done_callback(self._done)

    def after(self, timer: str, delay_s: float, call: Callable[..., object], *args: Any) -> None:
        """Set a timer, replacing the one of that name; none outlives the job's stop or end."""
        previous = self._timers.get(timer)
        if previous is not None:
            previous.cancel()
        if delay_s > 0:
            self._timers[timer] = self._loop.call_later(delay_s, call, *args)
        else:
            # A timer would fire only after what is ready now: a timeout of zero comes first.
            self._timers[timer] = self._loop.call_soon(call, *args)

    def stop(self, why: Stop, grace_s: float) -> bool:
        """Cancel the task, once; say whether this was the time.

        False if it was told before or has ended: then `why` has no effect.
        """
        task = self.task
        if self.stopped is not None or self.closed or task is None or task.done():
            return False
        self.stopped = why
        self._disarm()
        task.cancel()
        self.given_up_at_s = self._loop.time() + grace_s
        self.after("grace", grace_s, self._give_up, TURNS)
        return True

    def hurry(self, grace_s: float) -> None:
        """Leave a job that was told to stop no more time than this, from now on, to end in."""
        end_s = self._loop.time() + grace_s
        if self.closed or self.given_up_at_s is None or end_s >= self.given_up_at_s:
            return
        self.given_up_at_s = end_s
        self.after("grace", grace_s, self._give_up, TURNS)

    def error(self) -> BaseException | None:
        """Return what the task raised, if it has ended that way."""
        task = self.task
        if task is None or not task.done() or task.cancelled():
            return None
        return task.exception()

    def returned(self) -> bool:
        """Say whether the task has ended by returning."""
        task = self.task
        return task is not None and task.done() and not task.cancelled() and not task.exception()

    def _give_up(self, turns: int) -> None:
        if self.task is None or self.task.done():
            return  # its done callback is on the way
        if turns:
            self.after("grace", 0, self._give_up, turns - 1)
            return
        self.given_up = True
        self._close()

    def _done(self, task: asyncio.Task[Any]) -> None:
        # Fetched even if nobody looks at it again: an exception never retrieved is a leak.
        if not task.cancelled():
            task.exception()
        if not self.closed:
            self.ended_s = self._loop.time()
            self._close()

    def _close(self) -> None:
        self.closed = True
        self._disarm()
        if self._on_closed is not None:
            self._on_closed(self)

    def _disarm(self) -> None:
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
