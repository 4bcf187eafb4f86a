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

from stageflow import Pipeline, PipelineTimer, StageContext, StageInputs, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402

seen = []  # (what happened, detail)


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Open:
    async def execute(self, ctx):
        graph.register_cleanup(lambda: asyncio.sleep(0.1), name="cursor")
        return StageOutput.ok(value=None)


async def main():
    global graph
    graph = Pipeline().with_stage("open", Open, StageKind.TRANSFORM).build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    loop.call_later(0.03, lambda: seen.append(("cancel.sent", (0, caller.cancel()))))
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    sent = [done for kind, done in seen if kind == "cancel.sent"]
    if any(done for _, done in sent) and not isinstance(error, asyncio.CancelledError):
        return f"cancel() was accepted, but what the caller then saw was: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CANCEL-3: {found}" if found else "HOLDS CANCEL-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
