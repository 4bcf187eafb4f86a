"""The way of events from stages to a sink: straight to a function, or through a bounded queue.

    async def deliver(event):
        await client.post(event)

    queue = EventQueue(deliver, queue_max=100, policy="drop_oldest")
    result = await pipeline.run(sink=queue)
    result.events.lost

A function (`sink=events.append`) is called inside `Context.emit`: for what is never slow. All
that is slow belongs behind a queue, which any number of runs may share.

The rules:
- events are delivered one at a time, in the order in which they were accepted. There is a task
  for it only while there is something to deliver.
- nothing that the sink does reaches a stage. What it refuses by raising is dropped.
- a full queue does what its policy says: "drop_newest" refuses the event at hand, "drop_oldest"
  pushes out the one that has waited longest, "spill" writes to disk, `spill_max` events at
  most, and "block" lets `Context.send` wait for as long as the sink goes on: when it has
  taken nothing for `block_s`, nobody waits any longer until it does. `Context.emit` never waits.
- at a run's end the queue has `drain_s` to deliver the run's events; what is left is dropped,
  and a delivery at work on one of them is cancelled. Other runs' events stay where they are.
- every event is in the account (see `account`) of its run and of the queue, and each drop has
  one of these reasons, which `on_drop` is told as well:
  full, pushed_out, spill_full, spill_failed: the policy's; no_copy: its data cannot be copied;
  cancelled: its stage was ended while it waited for room; sink_failed: the sink raised;
  shutdown: left at the end; closed: offered after the run's end; stuck: the sink did not
  let itself be cancelled, and gets no more.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

from harness.engine.account import EventAccount, Ledger
from harness.engine.errors import EngineError, PipelineError
from harness.engine.graph import isolated, seconds
from harness.engine.intake import Intake, QueueIntake
from harness.engine.job import Job, Stop
from harness.engine.layer import whole_number
from harness.engine.result import Event
from harness.engine.spill import SpillFile

__all__ = ["EventQueue", "Sink", "intake_of"]

POLICIES = ("block", "drop_newest", "drop_oldest", "spill")

Deliver = Callable[[Event], "Awaitable[object] | None"]
OnDrop = Callable[[Event, str], object]


class _Entry(NamedTuple):
    intake: QueueIntake
    event: Event


@dataclass(slots=True, eq=False)
class _Waiter:
    """A producer that waits for room; what is decided is the reason of a refusal, or ""."""

    entry: _Entry
    decided: asyncio.Future[str]
    patience: asyncio.TimerHandle | None = None

    def decide(self, reason: str) -> None:
        if self.patience is not None:
            self.patience.cancel()
        self.decided.set_result(reason)


class EventQueue:
    """A bounded queue before a slow sink; see the rules above.

    Args:
        deliver: the sink, called with each event; what it returns is awaited if it can be.
        queue_max: how many events wait in memory; one more may be in the sink's hands.
        policy: what happens when they are that many.
        drain_s: how long a run waits at its end for its own events.
        block_s: how long the sink may take nothing until producers wait for it no longer.
        spill_max: how many events wait on disk, beside those in memory.
        on_drop: called with each event that is dropped, and the reason; it should not raise.

    Attributes:
        total: the account over all runs.
        stuck: the sink has not let itself be cancelled: it gets no more events.
        callbacks_failed: how often `on_drop` raised.

    Raises:
        PipelineError: if a setting cannot be used.
    """

    intake_type: ClassVar[type[QueueIntake]] = QueueIntake

    def __init__(
        self,
        deliver: Deliver,
        *,
        queue_max: int = 1_000,
        policy: str = "drop_newest",
        drain_s: float = 1.0,
        block_s: float = 1.0,
        spill_max: int = 100_000,
        on_drop: OnDrop | None = None,
    ) -> None:
        if policy not in POLICIES:
            raise PipelineError(
                f"event queue: policy: expected one of {', '.join(POLICIES)}, got {policy!r}"
            )
        self.deliver = deliver
        self.queue_max = whole_number(queue_max, "event queue: queue_max")
        self.policy = policy
        self.drain_s = seconds(drain_s, "event queue: drain_s")
        self.block_s = seconds(block_s, "event queue: block_s")
        self.spill_max = whole_number(spill_max, "event queue: spill_max")
        self.total = Ledger()
        self.stuck = False
        self.callbacks_failed = 0
        self._on_drop = on_drop
        self._waiting: deque[_Entry] = deque()
        self._waiters: deque[_Waiter] = deque()
        self._spilled: SpillFile[QueueIntake] = SpillFile()
        self._in_hand: _Entry | None = None
        self._worker: Job | None = None
        self._moved_s = 0.0
        # Whoever emits the first event of a burst must not lend its context to all of them.
        self._context = contextvars.copy_context()

    def account(self) -> EventAccount:
        """Return the account of all runs' events."""
        return self.total.account(self.queue_max)

    # Coming in.

    def offer(self, intake: QueueIntake, event: Event) -> bool:
        """Accept an event if the policy has a place for it; never wait."""
        loop = self._loop()
        entry = self._copied(intake, event)
        if entry is None:
            return False
        if not self._full():
            self._accept(entry, loop)
            return True
        if self.policy == "drop_oldest":
            self._settle(self._waiting.popleft(), "pushed_out")
            self._accept(entry, loop)
            return True
        reason = self._spill(entry) if self.policy == "spill" else "full"
        if reason:
            return self._refuse(entry, reason)
        intake.ledger.accept()
        return True

    async def send(self, intake: QueueIntake, event: Event) -> bool:
        """Accept an event as `offer` does; but if the policy is to block, wait for room."""
        loop = self._loop()
        if self.policy != "block" or not self._full() or not self._patience_s(loop):
            return self.offer(intake, event)
        entry = self._copied(intake, event)
        if entry is None:
            return False
        waiter = _Waiter(entry, loop.create_future())
        self._waiters.append(waiter)
        self._lose_patience(waiter, loop)
        try:
            return not await waiter.decided
        except asyncio.CancelledError:
            if waiter.decided.cancelled():  # else it was decided in this very tick
                if waiter.patience is not None:
                    waiter.patience.cancel()
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
                self._refuse(entry, "cancelled")
            raise

    def _loop(self) -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            raise EngineError(
                "an event queue takes events in its event loop's thread only; from another one "
                "use loop.call_soon_threadsafe(context.emit, type, data)"
            ) from None

    def _copied(self, intake: QueueIntake, event: Event) -> _Entry | None:
        """Return an event as it is now; it is delivered later. None if it is refused."""
        entry = _Entry(intake, event)
        if intake.closed or self.stuck:
            self._refuse(entry, "closed" if intake.closed else "stuck")
            return None
        try:
            return _Entry(intake, replace(event, data=isolated(event.data, "an event")))
        except EngineError:
            self._refuse(entry, "no_copy")
            return None

    def _full(self) -> bool:
        # Who waits for room, in whichever way, comes before who comes now.
        return bool(
            len(self._waiting) >= self.queue_max or len(self._spilled) or len(self._waiters)
        )

    def _accept(self, entry: _Entry, loop: asyncio.AbstractEventLoop) -> None:
        entry.intake.ledger.accept()
        self._waiting.append(entry)
        if len(self._waiting) >= self.queue_max:
            self._moved_s = loop.time()
        self._wake(loop)

    def _refuse(self, entry: _Entry, reason: str) -> bool:
        entry.intake.ledger.refuse(reason)
        self._tell(entry, reason)
        return False

    def _spill(self, entry: _Entry) -> str:
        """Write an event to disk; return why it cannot be."""
        if len(self._spilled) >= self.spill_max:
            return "spill_full"
        try:
            self._spilled.put(entry.intake, entry.event)
        except Exception:  # a full disk, or data that is not to be made into bytes
            return "spill_failed"
        return ""

    def _patience_s(self, loop: asyncio.AbstractEventLoop) -> float:
        """Return how long a producer may wait from now on if the sink takes nothing."""
        return max(0.0, self._moved_s + self.block_s - loop.time())

    def _lose_patience(self, waiter: _Waiter, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse a producer that waits when the sink has taken nothing for too long."""
        if waiter.decided.done():
            return
        left_s = self._patience_s(loop)
        if left_s:
            waiter.patience = loop.call_later(left_s, self._lose_patience, waiter, loop)
            return
        self._waiters.remove(waiter)
        self._refuse(waiter.entry, "full")
        waiter.decide("full")

    # Going out.

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._worker is None and self._waiting and not self.stuck:
            self._worker = job = Job("event sink", loop)
            self._context.run(job.start, self._work(job), self._work_over)

    async def _work(self, job: Job) -> None:
        while self._waiting and job.stopped is None:
            entry = self._in_hand = self._take(asyncio.get_running_loop())
            reason = "shutdown"
            try:
                reason = await self._hand_over(entry.event)
            finally:
                if self._in_hand is entry:  # else it was given up, and is in the account
                    self._in_hand = None
                    self._settle(entry, reason)

    async def _hand_over(self, event: Event) -> str:
        """Have the sink take an event; return why it did not."""
        try:
            taken = self.deliver(event)
            if taken is not None and hasattr(taken, "__await__"):
                await taken
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return "sink_failed"  # nobody has cancelled it: the sink's own
        except Exception:
            return "sink_failed"
        return ""

    def _take(self, loop: asyncio.AbstractEventLoop) -> _Entry:
        """Take the next event out of the queue, and let into it who waits for that."""
        entry = self._waiting.popleft()
        self._moved_s = loop.time()
        self._let_in()
        return entry

    def _let_in(self) -> None:
        while len(self._waiting) < self.queue_max and len(self._spilled):
            intake, event = self._spilled.take()
            if event is None:
                intake.settle("spill_failed")
            else:
                self._waiting.append(_Entry(intake, event))
        while len(self._waiting) < self.queue_max and self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.decided.done():  # else its producer was cancelled
                waiter.entry.intake.ledger.accept()
                self._waiting.append(waiter.entry)
                waiter.decide("")

    def _settle(self, entry: _Entry, reason: str) -> None:
        entry.intake.settle(reason)
        if reason:
            self._tell(entry, reason)

    def _tell(self, entry: _Entry, reason: str) -> None:
        if self._on_drop is None:
            return
        try:
            self._on_drop(entry.event, reason)
        except Exception:
            self.callbacks_failed += 1

    def _work_over(self, job: Job) -> None:
        self._worker = None
        entry, self._in_hand = self._in_hand, None
        if job.given_up:
            self.stuck = True
            if entry is not None:
                self._settle(entry, "stuck")
            self._drop_all("stuck")
        elif job.stopped is None and not job.returned():
            self._drop_all("shutdown")  # someone else has cancelled it, as a loop does at its end
        elif self._waiting:
            self._wake(asyncio.get_running_loop())

    # The end of a run.

    def abandon(self, intake: QueueIntake, grace_s: float) -> None:
        """Drop all that is pending of a run, but what the sink has in its hands: that is told
        to stop, and counts as what it then comes to."""
        self._drop_all("shutdown", intake)
        mine = self._in_hand is not None and self._in_hand.intake is intake
        if mine and self._worker is not None:
            self._worker.stop(Stop("cancelled", "the run has ended"), grace_s)

    def _drop_all(self, reason: str, intake: QueueIntake | None = None) -> None:
        """Drop all that waits, or what waits of one run."""
        for waiter in [w for w in self._waiters if intake in (None, w.entry.intake)]:
            if not waiter.decided.done():
                self._waiters.remove(waiter)
                self._refuse(waiter.entry, reason)
                waiter.decide(reason)
        waiting = list(self._waiting)
        self._waiting.clear()
        for entry in waiting:
            if intake in (None, entry.intake):
                self._settle(entry, reason)
            else:
                self._waiting.append(entry)
        for _ in range(len(self._spilled)):
            owner, event = self._spilled.take()
            if event is None:
                owner.settle("spill_failed")
            elif intake in (None, owner):
                self._settle(_Entry(owner, event), reason)
            elif failed := self._spill(_Entry(owner, event)):
                self._settle(_Entry(owner, event), failed)
        self._let_in()


Sink = Callable[[Event], object] | EventQueue | Intake


def intake_of(sink: Sink | None) -> Intake | None:
    """Return where a run's events go in; a subpipeline is given that of its parent.

    Raises:
        PipelineError: if the sink is an async function without a queue before it.
    """
    if sink is None or isinstance(sink, Intake):
        return sink
    if isinstance(sink, EventQueue):
        return sink.intake_type(sink)
    if inspect.iscoroutinefunction(sink):
        raise PipelineError("sink: an async function needs a queue before it: EventQueue(sink)")
    return Intake(sink)
