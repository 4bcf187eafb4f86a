"""Events and streams of a plan, as the reference engine has them: see `reference`.

All runs of a pipeline share the plan's sink behind one queue of the engine's; where the plan
names none, each run has a list of its own that takes everything at once.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from harness.kernel.adapter import Bodies
from harness.kernel.outcome import SinkReport
from harness.kernel.plan import Plan
from harness.kernel.port import StagePort

if TYPE_CHECKING:
    from harness.engine import Context, Event, EventAccount, Pipeline, RunResult
    from harness.engine.run import Run
    from harness.engine.sink import Sink
    from harness.engine.stream import Stream

__all__ = ["EVENT_CAPABILITIES", "Surroundings", "event_port", "sink_report"]

EVENT_CAPABILITIES = frozenset(
    {"events", "streaming", "event_queue", "delivery_count", "stream_consumer"}
)

# A field of the plan's sink -> the queue's own name for it; what is not asked for is its default.
SETTINGS = {
    "queue_max": "queue_max",
    "policy": "policy",
    "drain_s": "drain_s",
    "block_s": "block_s",
    "spill_max": "spill_max",
}


class Surroundings:
    """What stands around the runs of one pipeline: the sink, and who consumes a stream."""

    def __init__(self, engine: type[Pipeline], plan: Plan, bodies: Bodies) -> None:
        self._plan = plan
        self._bodies = bodies
        self._events: dict[str, list[Event]] = {}
        self._queue: Sink | None = None
        if plan.sink is not None:
            told = {own: getattr(plan.sink, field) for field, own in SETTINGS.items()}
            settings: dict[str, Any] = {k: v for k, v in told.items() if v not in (None, "")}
            self._mock = bodies.sink()
            self._queue = engine.queue_type(self._deliver, **settings)

    async def _deliver(self, event: Event) -> None:
        await self._mock.deliver(event.type, event.data)
        self.events(event.run_id.split("/", 1)[0]).append(event)

    def events(self, run: str) -> list[Event]:
        """Return the events of a run that have reached the sink, in order."""
        return self._events.setdefault(run, [])

    def forget(self, run: str) -> None:
        self._events.pop(run, None)

    def sink(self, run: str) -> Sink:
        """Return what a run is to be given as its sink."""
        return self.events(run).append if self._queue is None else self._queue

    async def execute(self, run: Run) -> RunResult:
        """Execute a run, and let the plan's consumer consume beside it until both are over."""
        spec = self._plan.consumer
        if spec is None:
            return await run.execute()
        stream = run.stream(spec.stage, buffer_max=spec.buffer_max)
        consumer = asyncio.create_task(self._consume(run.run_id, stream))
        try:
            try:
                result = await run.execute()
            finally:
                self._bodies.over(run.run_id)
        except BaseException:
            if not stream.ended or asyncio.current_task().cancelling():  # type: ignore[union-attr]
                consumer.cancel()
            await asyncio.wait([consumer])
            raise
        await consumer
        return result

    async def _consume(self, run: str, stream: Stream) -> None:
        async with stream:
            await self._bodies.consume(run, stream)


def event_port(port: StagePort, context: Context, plan: Plan) -> None:
    """Fill in what a stage may ask of the engine about events."""
    blocks = plan.sink is not None and plan.sink.policy == "block"
    port.emit = context.send if blocks else context.emit
    port.account = lambda: sink_report(context.events)
    port.chunk = context.chunk


def sink_report(account: EventAccount | None) -> SinkReport | None:
    """Return the engine's account of events in dagstorm's terms."""
    if account is None:
        return None
    return SinkReport(
        account.offered, account.delivered, account.lost, account.pending, account.queue_max
    )
