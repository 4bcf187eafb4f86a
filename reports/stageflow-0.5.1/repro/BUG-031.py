"""CLEAN-2 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup of socket has finished when the run is over
Actual: the run was over while it was still at it
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


class Parse:
    async def execute(self, ctx):
        raise asyncio.CancelledError("raised")


class Fetch:
    async def execute(self, ctx):
        seen.append(("release.begin", "socket"))
        try:
            await asyncio.sleep(0.1)
        finally:
            seen.append(("release.over", "socket"))
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("parse", Parse, StageKind.TRANSFORM)
    graph = pipeline.with_stage("fetch", Fetch, StageKind.TRANSFORM).build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    await asyncio.gather(graph.run(ctx), return_exceptions=True)
    done = [name for kind, name in seen if kind == "release.over"]
    begun = [name for kind, name in seen if kind == "release.begin" and name not in done]
    if begun:
        return f"begun, and not finished when the run was over: {begun}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-2: {found}" if found else "HOLDS CLEAN-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
