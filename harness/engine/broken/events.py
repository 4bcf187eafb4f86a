"""Engines that break the EVENT clauses: queues before a sink, each with one thing wrong."""

from __future__ import annotations

import asyncio
from typing import Any

from harness.engine.broken.defect import Defect, defect
from harness.engine.context import Context
from harness.engine.intake import QueueIntake
from harness.engine.pipeline import Pipeline
from harness.engine.result import Event, Failure
from harness.engine.run import Run
from harness.engine.sink import EventQueue, _Entry

__all__ = ["EVENTS"]

LONG_S = 1e9


class DropCountedTwice(EventQueue):
    def _refuse(self, entry: _Entry, reason: str) -> bool:
        """Count an event that finds the queue full where it is refused, and again."""
        if reason == "full":
            dropped = entry.intake.ledger._dropped
            dropped[reason] = dropped.get(reason, 0) + 1
        return super()._refuse(entry, reason)


class DeliveredEarly(EventQueue):
    async def _hand_over(self, event: Event) -> str:
        """Count an event as delivered when it is handed to the sink."""
        entry, self._in_hand = self._in_hand, None
        if entry is not None:
            self._settle(entry, "")
        await super()._hand_over(event)
        return ""


class FailedIsDelivered(EventQueue):
    async def _hand_over(self, event: Event) -> str:
        await super()._hand_over(event)
        return ""


class TriesLastOneAgain(EventQueue):
    """When the sink fails over an event, it is given the one before once more, to make sure."""

    _before: Event | None = None

    async def _hand_over(self, event: Event) -> str:
        reason = await super()._hand_over(event)
        if reason and self._before is not None:
            await super()._hand_over(self._before)
        self._before = event
        return reason


class DroppedSilently(EventQueue):
    def _refuse(self, entry: _Entry, reason: str) -> bool:
        if reason != "full":
            return super()._refuse(entry, reason)
        return True


class PushedOutIsDelivered(EventQueue):
    def _settle(self, entry: _Entry, reason: str) -> None:
        super()._settle(entry, "" if reason == "pushed_out" else reason)


class NeverFull(EventQueue):
    def _full(self) -> bool:
        return False


class OneTooMany(EventQueue):
    def _full(self) -> bool:
        return super()._full() and len(self._waiting) > self.queue_max


class SpillsWithoutBound(EventQueue):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.spill_max = 1_000_000


class LetsAllIn(EventQueue):
    def _let_in(self) -> None:
        """When there is room for one, let in all that wait for it."""
        capacity = self.queue_max
        if len(self._waiting) < capacity:
            self.queue_max = capacity + len(self._waiters)
        super()._let_in()
        self.queue_max = capacity


class NewestFirst(EventQueue):
    def _take(self, loop: asyncio.AbstractEventLoop) -> _Entry:
        self._waiting.reverse()
        entry = super()._take(loop)
        self._waiting.reverse()
        return entry


class PassesTheSpilled(EventQueue):
    def _full(self) -> bool:
        """Look at memory only: what comes now may enter it before what is on disk."""
        return len(self._waiting) >= self.queue_max

    def _let_in(self) -> None:
        if not self._waiting:
            super()._let_in()


class NotDrained(QueueIntake):
    def close(self) -> bool:
        super().close()
        return True


class LeavesPending(EventQueue):
    def abandon(self, intake: QueueIntake, grace_s: float) -> None:
        """Forget what is left at the end, instead of dropping it."""
        for entry in [one for one in self._waiting if one.intake is intake]:
            self._waiting.remove(entry)
        if intake._settled is not None:
            intake._settled.set_result(None)


class DrainsForEver(QueueIntake):
    def _expire(self, grace_s: float, turns: int) -> None:
        """Go on waiting."""


class DrainsAnew(QueueIntake):
    """The time for the drain starts again with each event that is delivered."""

    _timer: asyncio.TimerHandle | None = None
    _grace_s = 0.0

    async def drain(self, grace_s: float) -> None:
        self._grace_s = grace_s
        await super().drain(grace_s)

    def settle(self, reason: str) -> None:
        super().settle(reason)
        if self._settled is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if not self._settled.done():
            again = super()._expire
            self._timer = asyncio.get_running_loop().call_later(
                self.queue.drain_s, again, self._grace_s, 0
            )

    def _expire(self, grace_s: float, turns: int) -> None:
        if self._timer is None:
            super()._expire(grace_s, turns)


class RaisesLater(EventQueue):
    """What the sink raises is raised by the next emission."""

    _raised: Exception | None = None

    async def _hand_over(self, event: Event) -> str:
        deliver = self.deliver

        async def watched(one: Event) -> None:
            try:
                taken = deliver(one)
                if taken is not None:
                    await taken
            except Exception as exc:
                self._raised = exc
                raise

        self.deliver = watched
        try:
            return await super()._hand_over(event)
        finally:
            self.deliver = deliver

    def offer(self, intake: QueueIntake, event: Event) -> bool:
        raised, self._raised = self._raised, None
        if raised is not None:
            raise raised
        return super().offer(intake, event)


class WaitsForRoomForEver(EventQueue):
    def _patience_s(self, loop: asyncio.AbstractEventLoop) -> float:
        return LONG_S


class WaitsForSink(Context):
    def emit(self, type: str, data: Any = None) -> Any:
        return self._delivered(type, data)

    async def _delivered(self, type: str, data: Any) -> bool:
        """Return when the sink has taken the event."""
        taken = super().emit(type, data)
        while (account := self.events) is not None and account.pending:
            await asyncio.sleep(0.001)
        return taken


class SinkFailsRun(Run):
    async def _settle_events(self) -> None:
        await super()._settle_events()
        account = self.event_account()
        if account is not None and account.dropped.get("sink_failed"):
            self._failures.append(Failure(None, RuntimeError("the event sink failed")))


def queued(queue: type[EventQueue], intake: type[QueueIntake] = QueueIntake) -> type[Pipeline]:
    """Return the engine with that queue, or with that way into it."""
    if intake is not QueueIntake:
        queue = type("BrokenQueue", (queue,), {"intake_type": intake})
    return type("QueuedPipeline", (Pipeline,), {"queue_type": queue})


EVENTS: tuple[Defect, ...] = (
    defect(
        "event-drop-counted-twice",
        "EVENT-1",
        "An event that finds the queue full is counted as dropped twice.",
        pipeline=queued(DropCountedTwice),
    ),
    defect(
        "event-delivered-early",
        "EVENT-1 EVENT-5",
        "An event counts as delivered as soon as the sink is called.",
        pipeline=queued(DeliveredEarly),
    ),
    defect(
        "event-failure-is-delivery",
        "EVENT-2 EVENT-1",
        "An event over which the sink raises counts as delivered.",
        pipeline=queued(FailedIsDelivered),
    ),
    defect(
        "event-delivered-again",
        "EVENT-1",
        "After an error of the sink, the event before is delivered once more.",
        pipeline=queued(TriesLastOneAgain),
    ),
    defect(
        "event-dropped-silently",
        "EVENT-2 EVENT-1",
        "A full queue drops events and tells nobody.",
        pipeline=queued(DroppedSilently),
    ),
    defect(
        "event-pushed-out-is-delivery",
        "EVENT-2 EVENT-1",
        "An event that is pushed out of a full queue counts as delivered.",
        pipeline=queued(PushedOutIsDelivered),
    ),
    defect(
        "event-queue-unbounded",
        "EVENT-3",
        "The queue is never full.",
        pipeline=queued(NeverFull),
    ),
    defect(
        "event-queue-one-too-many",
        "EVENT-3",
        "The queue takes one event more than its capacity.",
        pipeline=queued(OneTooMany),
    ),
    defect(
        "event-spill-unbounded",
        "EVENT-3",
        "There is no bound to the events on disk.",
        pipeline=queued(SpillsWithoutBound),
    ),
    defect(
        "event-waiters-let-in",
        "EVENT-3",
        "When there is room for one event, all producers that wait for it are let in.",
        pipeline=queued(LetsAllIn),
    ),
    defect(
        "event-newest-first",
        "EVENT-4",
        "The newest event is delivered first.",
        pipeline=queued(NewestFirst),
    ),
    defect(
        "event-spill-overtaken",
        "EVENT-4",
        "New events enter the queue before older ones that are on disk.",
        pipeline=queued(PassesTheSpilled),
    ),
    defect(
        "event-not-drained",
        "EVENT-5",
        "The run is over while its events are still on their way.",
        pipeline=queued(EventQueue, NotDrained),
    ),
    defect(
        "event-rest-forgotten",
        "EVENT-5",
        "What is left when the time for the drain is over is forgotten, not dropped.",
        pipeline=queued(LeavesPending),
    ),
    defect(
        "event-drain-unlimited",
        "EVENT-5 EVENT-6",
        "The run waits for its events without a limit.",
        pipeline=queued(EventQueue, DrainsForEver),
    ),
    defect(
        "event-drain-restarted",
        "EVENT-5",
        "The limit of the drain starts anew with each event that is delivered.",
        pipeline=queued(EventQueue, DrainsAnew),
    ),
    defect(
        "event-error-raised-later",
        "EVENT-6",
        "What the sink raises comes out of the next emission.",
        pipeline=queued(RaisesLater),
    ),
    defect(
        "event-block-unlimited",
        "EVENT-6",
        "Producers wait for room at a hung sink for ever.",
        pipeline=queued(WaitsForRoomForEver),
    ),
    defect(
        "event-emission-waits",
        "EVENT-6",
        "An emission waits until the sink has taken the event.",
        context=WaitsForSink,
    ),
    defect(
        "event-error-fails-run",
        "EVENT-6",
        "A run fails because its event sink raised.",
        run=SinkFailsRun,
    ),
)
