"""The caller's deadline: what ends an engine's run from around it, in asyncio's own ways.

A user seldom calls `Task.cancel`. The run is ended because an `asyncio.timeout` expires around
it, an `asyncio.wait_for` gives up, or another task of its `TaskGroup` fails. What comes out of
the engine is then noted as always; what the caller itself finds is noted as well, because an
engine that meddles with its caller's count of cancels spoils the caller's own timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from harness.kernel.loop import SimLoop, SimTask
from harness.kernel.outcome import ErrorReport, Outcome
from harness.kernel.plan import Cancel

__all__ = ["Caller"]

# Within the loop's resolution: the note is made in the turn in which the deadline's timer fires.
JUST_AFTER_S = 5e-10

Run = Callable[[], Coroutine[Any, Any, Outcome]]


class _Beside(Exception):
    """What the other task of a group raises."""


def _watched(
    loop: asyncio.AbstractEventLoop,
    run: Coroutine[Any, Any, Outcome],
    cancelled: Callable[[], None],
) -> asyncio.Task[Outcome]:
    """Begin a task that says when it is cancelled."""
    base: type[asyncio.Task[Any]] = SimTask if isinstance(loop, SimLoop) else asyncio.Task

    class Watched(base):  # type: ignore[misc, valid-type]
        def cancel(self, msg: Any = None) -> bool:
            sent: bool = super().cancel(msg)
            if sent:
                cancelled()
            return sent

    return Watched(run, loop=loop)


class Caller:
    """The caller of one run, who has a deadline for it.

    Args:
        cancel: what the plan says of the deadline; `number` is its place in the plan.
        add: notes into the journal.

    Attributes:
        timers: of the laboratory's own, which are no leak.
        inner: the tasks, if any, in which the engine's run is awaited in the caller's stead.
    """

    def __init__(self, cancel: Cancel, number: int, add: Callable[..., None]) -> None:
        self.cancel = cancel
        self.number = number
        self.add = add
        self.timers: list[asyncio.Handle] = []
        self.inner: list[asyncio.Task[Outcome]] = []

    async def call(self, run: Run) -> Outcome:
        """Await a run; where the deadline ended it, what is returned says that it was cancelled."""
        loop = asyncio.get_running_loop()
        way = {"timeout": self._timeout, "wait_for": self._wait_for, "group": self._group}
        told = "returned"
        try:
            return await way[self.cancel.by](run)
        except (TimeoutError, _Beside) as exc:
            told = type(exc).__name__.lstrip("_")
        except BaseException as exc:
            told = type(exc).__name__
            raise
        finally:
            for timer in self.timers:
                timer.cancel()
            self.add(loop.time(), self.cancel.run, "", "caller.end", (self.cancel.by, told))
        return Outcome(self.cancel.run, "cancelled", raised=ErrorReport("CancelledError"))

    @property
    def at_s(self) -> float:
        assert self.cancel.at_s is not None  # the plan's check: a deadline has a time
        return self.cancel.at_s

    def _sent(self) -> None:
        now_s = asyncio.get_running_loop().time()
        self.add(now_s, self.cancel.run, "", "cancel.sent", (self.number, True))

    async def _timeout(self, run: Run) -> Outcome:
        loop = asyncio.get_running_loop()

        def look(*, again: bool) -> None:
            if scope.expired():
                self._sent()
            elif again:
                # Timers of one instant have no order among each other.
                self.timers.append(loop.call_soon(lambda: look(again=False)))

        async with asyncio.timeout_at(self.at_s) as scope:
            self.timers.append(loop.call_at(self.at_s + JUST_AFTER_S, lambda: look(again=True)))
            return await run()

    async def _wait_for(self, run: Run) -> Outcome:
        loop, caller = asyncio.get_running_loop(), asyncio.current_task()
        assert caller is not None  # a coroutine runs in a task

        def cancelled() -> None:
            # Some versions of Python cancel what is waited for from the caller's own step, others
            # by way of the caller; whatever else cancels it is the engine.
            if asyncio.current_task() is caller or caller.cancelling():
                self._sent()

        task = _watched(loop, run(), cancelled)
        self.inner.append(task)
        return await asyncio.wait_for(task, max(0.0, self.at_s - loop.time()))

    async def _group(self, run: Run) -> Outcome:
        loop = asyncio.get_running_loop()

        async def fails() -> None:
            await asyncio.sleep(max(0.0, self.at_s - loop.time()))
            raise _Beside

        def failed(other: asyncio.Task[None]) -> None:
            # The group's own callback came before this one, and has cancelled the run.
            if not other.cancelled() and not task.done():
                self._sent()

        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(run())
                self.inner.append(task)
                other = group.create_task(fails())
                other.add_done_callback(failed)
                task.add_done_callback(lambda _task: other.cancel())
        except BaseExceptionGroup:
            if task.cancelled():
                raise _Beside from None
            error = task.exception()
            if error is not None:
                raise error from None
        return task.result()
