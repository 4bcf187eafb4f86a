"""CLEAN-5 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: no task is left when the run is over
Actual: left: UnifiedStageGraph._execute_node (stage fetch)
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
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("parse", Parse, StageKind.TRANSFORM)
    graph = pipeline.with_stage("fetch", Fetch, StageKind.TRANSFORM).build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    await asyncio.gather(graph.run(ctx), return_exceptions=True)
    await asyncio.sleep(0.01)  # for whatever only needs a turn or two
    strays = [
        task.get_coro().__qualname__ for task in asyncio.all_tasks() - {asyncio.current_task()}
    ]
    if strays:
        return f"still there when the run was over: {strays}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-5: {found}" if found else "HOLDS CLEAN-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
