"""CLEAN-6 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r8 goes on when another run ends
Actual: its stage delegate was interrupted
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
run_names = {}  # pipeline_run_id -> name of the run


def note(stage, kind, detail=None):
    seen.append((time.monotonic() - began, stage, kind, detail))


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
        results = await graph.run(enter(
            ContextSnapshot(run_id=RunIdentity(pipeline_run_id=child.pipeline_run_id, request_id=child.request_id, org_id=child.org_id)),
            event_sink=child.event_sink,
        ))
        return {stage: output.data for stage, output in results.items()}

    ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": stage}
    spawn = get_subpipeline_spawner().spawn
    result = await spawn(pipeline_name=name, ctx=ctx.as_pipeline_context(), runner=runner, **ids)
    return "ok" if result.success else "failed"


def ending(output):
    kinds = {"ok": "ok", "fail": "fail", "skip": "skip", "cancel": "cancel_run"}
    return kinds[output.status.value]


def recorded(stage):
    """Note when a stage starts and how it ends."""

    def around(execute):
        async def run(*args):
            ctx = args[-1]
            me = f"{run_names[ctx.pipeline_run_id]}/{stage}"
            note(me, "stage.start")
            try:
                output = await execute(*args)
            except asyncio.CancelledError:
                note(me, "stage.end", "cancelled")
                raise
            except BaseException as exc:
                note(me, "stage.end", f"raise:{type(exc).__name__}")
                raise
            note(me, "stage.end", ending(output))
            return output

        return run

    return around


class LookupSearch:
    @recorded("lookup/search")
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


class LookupRank:
    @recorded("lookup/rank")
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


def build_lookup():
    pipeline = Pipeline().with_stage("search", LookupSearch, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("rank", LookupRank, StageKind.TRANSFORM, dependencies=("search",))
    return pipeline.build()


class Search:
    @recorded("search")
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/search"
        async def release_index():
            note(me, "release.begin", "index")
            await asyncio.sleep(0.1)

        note(me, "register", "index")
        graph.register_cleanup(release_index, name="index")
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


class Delegate:
    @recorded("delegate")
    async def execute(self, ctx):
        child = build_lookup()
        how = await run_child(ctx, "delegate", "lookup", child)
        if how != "ok":
            raise RuntimeError(f"subpipeline lookup ended {how}")
        return StageOutput.ok(value=None)


class Answer:
    @recorded("answer")
    async def execute(self, ctx):
        raise ValueError("raised")


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    note(f"{run}/", "run.begin")
    try:
        return await graph.run(ctx)
    finally:
        note(f"{run}/", "run.end")


def violation():
    cancelled = []  # the run of each cancel
    ending, begun, registered, running, found = set(), [], {}, {}, {}
    for _, stage, kind, detail in seen:
        run = stage.split("/")[0]
        if kind == "cancel.sent":
            ending.add(cancelled[detail[0]])
        if kind == "run.begin":
            begun.append(run)
        if kind == "stage.start":
            running.setdefault(run, set()).add(stage)
        if kind == "stage.end":
            running[run].discard(stage)
            if detail not in ("ok", "skip"):  # "cancelled" as well
                ending.add(run)
        if kind == "register":
            registered[stage, detail] = run
        if kind == "release.begin" and (stage, detail) in registered:
            if running.get(run) and run not in ending:
                found["early"] = f"cleanup {detail} of {stage} ran while its run went on"
            del registered[stage, detail]
        if kind == "run.end":
            lost = [one for one, of in registered.items() if of == run]
            if lost and len(begun) > 1:
                others = sorted(set(begun) - {run})[:3]
                found["lost"] = f"not run when {run} was over: {lost}; other runs: {others}"
    return "; ".join(found.values()) or None


async def main():
    global graph
    pipeline = Pipeline().with_stage("search", Search, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("delegate", Delegate, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("answer", Answer, StageKind.TRANSFORM, dependencies=("delegate",))
    graph = pipeline.build()
    tasks = [
        asyncio.create_task(start(graph, "r7", "t0", 0.2)),
        asyncio.create_task(start(graph, "r8", "t0", 0.24)),
    ]
    await asyncio.wait(tasks, timeout=10)
    found = violation()
    print(f"VIOLATION CLEAN-6: {found}" if found else "HOLDS CLEAN-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
