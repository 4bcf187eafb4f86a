"""CANCEL-6 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage search of the subpipeline has ended when its parent run is
Actual: it was still running
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput, get_subpipeline_spawner  # noqa: E402


class ChildSearch:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


class Delegate:
    async def execute(self, ctx):
        child = Pipeline().with_stage("search", ChildSearch, StageKind.TRANSFORM).build()
        ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": "delegate"}
        spawn = get_subpipeline_spawner().spawn
        result = await spawn(
            pipeline_name="child", ctx=ctx.as_pipeline_context(), runner=child.run, **ids
        )
        if not result.success:
            raise RuntimeError("subpipeline child failed")
        return StageOutput.ok(value=None)


async def main():
    graph = Pipeline().with_stage("delegate", Delegate, StageKind.TRANSFORM).build()
    ctx = PipelineContext.create(pipeline_run_id=uuid.uuid4(), data={"_timeout_ms": 100})
    await asyncio.gather(graph.run(ctx), return_exceptions=True)
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    left = [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]
    if left:
        return f"still running when the run was over: {left}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CANCEL-6: {found}" if found else "HOLDS CANCEL-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
