"""EVENT-2 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: all 1 events that were taken and lost are in a counter, or were told of
Actual: 0 are; the sink raised over 1 of them
"""

import asyncio
import contextlib
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.events import BackpressureAwareEventSink  # noqa: E402

seen = []  # (what happened, detail)


class UserSink:
    async def emit(self, *, type, data):
        number = (data.get("producer", ""), data.get("n", -1))
        seen.append(("deliver.fail", number))
        raise OSError("the sink failed")


sink = BackpressureAwareEventSink(UserSink())


class Work:
    async def execute(self, ctx):
        await asyncio.sleep(0)
        ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": 0})
        return StageOutput.ok(value=None)


async def main():
    graph = StageGraph([StageSpec(name="work", runner=Work)])
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
        event_sink=sink,
    )
    await sink.start()
    await asyncio.gather(graph.run(ctx), return_exceptions=True)
    with contextlib.suppress(Exception):  # the drain lets out what the user's sink raises
        await sink.stop(drain=True, timeout=1.0)
    dropped = sink.metrics.dropped
    pending = sink.queue_size
    lost = [n for kind, n in seen if kind == "deliver.fail" and n[0]]
    if len(lost) > dropped + pending:
        return f"the sink raised over {len(lost)} events; the account has {dropped} dropped, {pending} pending"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION EVENT-2: {found}" if found else "HOLDS EVENT-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
