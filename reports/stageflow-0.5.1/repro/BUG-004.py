"""CANCEL-3 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the caller sees CancelledError
Actual: the run returned as if it had not been cancelled (ok)
"""

import asyncio
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
        await asyncio.sleep(0.01)


sink = BackpressureAwareEventSink(UserSink(), max_queue_size=1)


class Work:
    async def execute(self, ctx):
        try:
            for n in range(8):
                await asyncio.sleep(0.005)
                ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        finally:
            await asyncio.sleep(0.05)
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
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    loop.call_later(0.1, lambda: seen.append(("cancel.sent", (0, caller.cancel()))))
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    await sink.stop(drain=True, timeout=1.0)
    sent = [done for kind, done in seen if kind == "cancel.sent"]
    if any(done for _, done in sent) and not isinstance(error, asyncio.CancelledError):
        return f"cancel() was accepted, but what the caller then saw was: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CANCEL-3: {found}" if found else "HOLDS CANCEL-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
