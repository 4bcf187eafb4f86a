"""CANCEL-6 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage search of the subpipeline has ended when its parent run is
Actual: it was still running
"""

import asyncio
import contextlib
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402


def stages_left():
    """Return the functions of this file in which tasks still are."""
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    return [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]


async def run_child(ctx, stage, name, graph):
    async def runner(child):
        results = await graph.run(child)
        for one in results.values():
            if one.status == "failed":
                raise RuntimeError(f"stage {one.name} of the child failed: {one.error}")
        return {stage: output.data for stage, output in results.items()}

    ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": stage}
    spawn = get_subpipeline_spawner().spawn
    result = await spawn(pipeline_name=name, ctx=ctx, runner=runner, **ids)
    return "ok" if result.success else "failed"


class ChildSearch:
    async def execute(self, ctx):
        await asyncio.sleep(1.0)
        return StageOutput.ok(value=None)


class Delegate:
    async def execute(self, ctx):
        child = StageGraph([StageSpec(name="search", runner=ChildSearch)])
        how = await run_child(ctx, "delegate", "child", child)
        if how != "ok":
            raise RuntimeError(f"subpipeline child ended {how}")
        return StageOutput.ok(value=None)


def violation(left):
    if left:
        return f"still running when the run was over: {left}"


async def main():
    graph = StageGraph([StageSpec(name="delegate", runner=Delegate)])
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"_timeout_ms": 100})
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(ctx)
    found = violation(stages_left())
    print(f"VIOLATION CANCEL-6: {found}" if found else "HOLDS CANCEL-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
