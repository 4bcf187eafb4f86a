"""CANCEL-6 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

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

from stageflow import Pipeline, PipelineTimer, StageContext, StageInputs, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


async def run_child(ctx, stage, name, graph):
    async def runner(child):
        return await graph.run(enter(
            ContextSnapshot(
                run_id=RunIdentity(
                    pipeline_run_id=child.pipeline_run_id,
                    request_id=child.request_id,
                    org_id=child.org_id,
                ),
            ),
            event_sink=child.event_sink,
        ))

    ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": stage}
    spawn = get_subpipeline_spawner().spawn
    result = await spawn(pipeline_name=name, ctx=ctx.as_pipeline_context(), runner=runner, **ids)
    return "ok" if result.success else "failed"


class ChildRank:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


class Delegate:
    async def execute(self, ctx):
        child = Pipeline().with_stage("rank", ChildRank, StageKind.TRANSFORM).build()
        how = await run_child(ctx, "delegate", "child", child)
        if how != "ok":
            raise RuntimeError(f"subpipeline child ended {how}")
        return StageOutput.ok(value=None)


async def main():
    graph = Pipeline().with_stage("delegate", Delegate, StageKind.TRANSFORM).build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(ctx)
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
