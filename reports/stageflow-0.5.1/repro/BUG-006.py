"""CLEAN-6 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r8 goes on when another run ends
Actual: its stage delegate was interrupted
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
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402

seen = []  # (stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run


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
        run_names[child.pipeline_run_id] = run_names[ctx.pipeline_run_id]
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


class LookupSearch:
    async def execute(self, ctx):
        try:
            await asyncio.sleep(0.1)
            await asyncio.sleep(0.0)
            return StageOutput.ok(value=None)
        except asyncio.CancelledError:
            seen.append(
                (f"{run_names[ctx.pipeline_run_id]}/lookup/search", "stage.end", "cancelled")
            )
            raise


class Search:
    async def execute(self, ctx):
        try:
            graph.register_cleanup(lambda: asyncio.sleep(0.1), name="index")
            await asyncio.sleep(0.1)
            return StageOutput.ok(value=None)
        except asyncio.CancelledError:
            seen.append((f"{run_names[ctx.pipeline_run_id]}/search", "stage.end", "cancelled"))
            raise


class Delegate:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/delegate"
        try:
            child = Pipeline().with_stage("search", LookupSearch, StageKind.TRANSFORM).build()
            how = await run_child(ctx, "delegate", "lookup", child)
            if how != "ok":
                raise RuntimeError(f"subpipeline lookup ended {how}")
            raise ValueError("raised")
        except asyncio.CancelledError:
            seen.append((me, "stage.end", "cancelled"))
            raise
        except Exception as exc:
            seen.append((me, "stage.end", f"raise:{type(exc).__name__}"))
            raise


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant))
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    await graph.run(ctx)


async def main():
    global graph
    pipeline = Pipeline().with_stage("search", Search, StageKind.TRANSFORM)
    graph = pipeline.with_stage("delegate", Delegate, StageKind.TRANSFORM).build()
    runs = [("r7", "t0", 0.0), ("r8", "t0", 0.03)]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    ends = [(stage.split("/")[0], how) for stage, kind, how in seen if kind == "stage.end"]
    failed = {run for run, how in ends if how.startswith(("fail", "raise:", "cancel_run"))}
    cut = [run for run, how in ends if how == "cancelled" and run not in failed]
    if cut:
        return f"a stage was cancelled, though nothing had ended its run: {cut}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-6: {found}" if found else "HOLDS CLEAN-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
