"""CANCEL-6 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage rank of the subpipeline has ended when its parent run is
Actual: it was still running
"""

import asyncio
import contextlib
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec, get_subpipeline_spawner  # noqa: E402


class ChildRank:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


class Delegate:
    async def execute(self, ctx):
        child = StageGraph([StageSpec(name="rank", runner=ChildRank)])
        ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": "delegate"}
        spawn = get_subpipeline_spawner().spawn
        result = await spawn(pipeline_name="child", ctx=ctx, runner=child.run, **ids)
        if not result.success:
            raise RuntimeError("subpipeline child failed")
        return StageOutput.ok(value=None)


async def main():
    graph = StageGraph([StageSpec(name="delegate", runner=Delegate)])
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext.create(pipeline_run_id=uuid.uuid4()))
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
