"""Where a run's events go: a list of its own, or the plan's sink behind the engine's queue.

The queue is Stageflow's `BackpressureAwareEventSink`. Its metrics count what was put
into it (`emitted`) and what found it full (`dropped`), and it says how many wait in it. It
counts nothing that happens later, so it tells nobody how many events were delivered: the
adapter does not claim `delivery_count`, and EVENT-1 is not put to the test. What stands as
delivered below is what left the queue, save the one that the user's own sink has in hand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from harness.kernel.around import SinkMock
from harness.kernel.errors import NotOffered
from harness.kernel.outcome import SinkReport
from harness.kernel.plan import Sink

__all__ = ["OwnSink", "QueuedSink"]

STOP_GRACE_S = 1.0


class OwnSink:
    """An event sink of one run's own, that keeps what reaches it."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data))

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data))


class _Behind:
    """The user's sink behind the queue: the plan's, and a list of what it took."""

    __slots__ = ("events", "in_hand", "mock")

    def __init__(self, mock: SinkMock) -> None:
        self.mock = mock
        self.events: list[tuple[str, Any]] = []
        self.in_hand = 0

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.in_hand += 1
        try:
            await self.mock.deliver(type, data)
        finally:
            self.in_hand -= 1
        self.events.append((type, data))

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.mock.deliver_now(type, data)
        self.events.append((type, data))


class QueuedSink:
    """The engine's bounded queue before the plan's sink, shared by all runs of a pipeline.

    Attributes:
        queue: what stages emit into.
        blocks: stages await the queue's `emit`, which waits while it is full.

    Raises:
        NotOffered: if the plan asks the queue for what it cannot be told.
    """

    __slots__ = ("_behind", "_queue_max", "_runs", "_spec", "_told", "_turn", "blocks", "queue")

    def __init__(self, factory: Any, default_max: int, spec: Sink, mock: SinkMock) -> None:
        if spec.policy not in ("", "drop_newest", "block"):
            raise NotOffered(
                "stageflow: a full queue drops the newest event (try_emit) or lets its producer "
                f"wait (emit); it cannot be told {spec.policy!r}"
            )
        if spec.policy == "block" and spec.block_s is not None:
            raise NotOffered("stageflow: emit waits for room in the queue without a limit")
        self._spec = spec
        self._behind = _Behind(mock)
        self._runs = 0
        self._turn = asyncio.Lock()
        self._told: list[Callable[[], None]] = []
        self.blocks = spec.policy == "block"
        options = {} if spec.queue_max is None else {"max_queue_size": spec.queue_max}
        self._queue_max = options.get("max_queue_size", default_max)
        self.queue = factory(self._behind, **options)

    @property
    def events(self) -> list[tuple[str, Any]]:
        return self._behind.events

    async def open(self) -> None:
        """Start the queue with the first run; not while the last one before is stopping it, which
        is a user's care."""
        self._runs += 1
        async with self._turn:
            await self.queue.start()

    async def close(self) -> None:
        """Stop the queue with the last run that is under way, as its user would."""
        self._runs -= 1
        if self._runs:
            return
        try:
            async with self._turn:
                if not self._runs:
                    await self._stop()
        finally:
            for tell in self._told:
                tell()

    async def _stop(self) -> None:
        """Stop the queue, and take what it lets out of the user's sink for no end of a run.

        That the wait is bounded is a user's care: the queue's own limit is for its drain only.
        """
        task = asyncio.current_task()
        assert task is not None  # a run is a task's
        try:
            async with asyncio.timeout(self._spec.drain_s + STOP_GRACE_S):
                await self.queue.stop(drain=True, timeout=self._spec.drain_s)
        except asyncio.CancelledError:
            if task.cancelling():
                raise
        except Exception:
            return

    def tell(self, function: Callable[[], None]) -> None:
        """Call `function` now, and again whenever the queue has been stopped.

        A run may be over while events of it are still in the queue of all runs: what reached
        the sink is known when the last run has stopped it.
        """
        self._told.append(function)
        function()

    def account(self) -> SinkReport:
        """Return the engine's account of events at this moment."""
        metrics, waiting = self.queue.metrics, self.queue.queue_size
        pending = waiting + self._behind.in_hand
        return SinkReport(
            offered=metrics.emitted + metrics.dropped,
            delivered=metrics.emitted - pending,
            dropped=metrics.dropped,
            pending=pending,
            queue_max=self._queue_max,
        )
