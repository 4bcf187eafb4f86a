"""EVENT-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the sink gets the events of r0/work/telemetry in the order of their emission
Actual: it got number 14 before number 13
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.events import BackpressureAwareEventSink  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class UserSink:
    """The user's own sink, behind the queue."""

    count = in_hand = 0

    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        seen.append((time.monotonic(), "", "deliver.begin", number))
        self.count += 1
        mine = self.count
        self.in_hand += 1
        try:
            await asyncio.sleep(0.01)
        finally:
            self.in_hand -= 1

    def try_emit(self, *, type, data):
        raise AssertionError("the queue awaits emit()")


user_sink = UserSink()
sink = BackpressureAwareEventSink(user_sink)
using_sink = set()  # runs under way


def account():
    """Offered, delivered, dropped, pending, most that may be pending, by the queue's metrics."""
    metrics, pending = sink.metrics, sink.queue_size + user_sink.in_hand
    emitted, dropped = metrics.emitted, metrics.dropped
    return (emitted + dropped, emitted - pending, dropped, pending, 1000)


async def open_sink(run):
    using_sink.add(run)
    await sink.start()


async def close_sink(run):
    using_sink.discard(run)
    if not using_sink:
        with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
            await sink.stop(drain=True, timeout=1.0)


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Work:
    async def execute(self, ctx):
        for n in range(60):
            await asyncio.sleep(0.001)
            ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        return StageOutput.ok(value=None)


class More:
    async def execute(self, ctx):
        for n in range(30):
            await asyncio.sleep(0.003)
            ctx.try_emit_event(type="flood", data={"producer": "more/telemetry", "n": n})
        return StageOutput.ok(value=None)


def violation():
    last = {}  # producer -> number of its event that the sink was given last
    for _, _, kind, detail in seen:
        if kind == "deliver.begin" and detail[0] and detail not in last.values():
            producer, number = detail
            if producer in last and number < last[producer][1]:
                return f"of {producer} the sink got {last[producer][1]} before {number}"
            last[producer] = detail


async def main():
    pipeline = Pipeline().with_stage("work", Work, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("more", More, StageKind.TRANSFORM)
    graph = pipeline.build()
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    ctx = enter(ContextSnapshot(run_id=ids), event_sink=sink)
    await open_sink("r0")
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(ctx)
    await close_sink("r0")
    found = violation()
    print(f"VIOLATION EVENT-4: {found}" if found else "HOLDS EVENT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
