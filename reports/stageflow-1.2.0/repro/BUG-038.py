"""CLEAN-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup of session has finished when the run is over
Actual: the run was over while it was still at it
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402
from stageflow.auth.tenant import TenantContext  # noqa: E402
from stageflow.observability.tracing import set_correlation_id  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
run_names = {}  # pipeline_run_id -> name of the run
INPUTS = {
    "r0": {"marker": "request-000-000"},
    "r1": {"marker": "request-001-947"},
    "r2": {"marker": "request-002-894"},
    "r3": {"marker": "request-003-841"},
    "r4": {"marker": "request-004-788"},
    "r5": {"marker": "request-005-735"},
    "r6": {"marker": "request-006-682"},
    "r7": {"marker": "request-007-629"},
    "r8": {"marker": "request-008-576"},
    "r9": {"marker": "request-009-523"},
}


def note(stage, kind, detail=None):
    seen.append((time.monotonic() - began, stage, kind, detail))


def note_interrupt(stage):
    if not asyncio.current_task().get_name().startswith("own "):  # those the stage itself ends
        note(stage, "interrupt")


async def sleep(stage, seconds):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note_interrupt(stage)
        raise


async def join_all(stage, tasks, until=asyncio.ALL_COMPLETED):
    """Await tasks of the stage's own; a cancel, or a failure among them, ends them all."""
    pending, cancelled = set(tasks), None
    while pending:
        try:
            _, pending = await asyncio.wait(pending, return_when=until)
        except asyncio.CancelledError as exc:
            note_interrupt(stage)
            cancelled = exc
        until = asyncio.ALL_COMPLETED
        for task in tasks:
            if task in pending:
                task.cancel()
    if cancelled is not None:
        raise cancelled


async def release(stage, name, seconds, fails=False, registered=False):
    """A cleanup that awaits, as closing a connection does."""
    note(stage, "release.begin", name)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        if not registered:
            note_interrupt(stage)
        note(stage, "release.cut", name)
        raise
    if fails:
        note(stage, "release.fail", name)
        raise RuntimeError(f"cleanup of {name} failed")
    note(stage, "release.end", name)


def block_thread(stage, seconds):
    time.sleep(seconds)


def log(ctx, message):
    tenant = TenantContext(org_id=ctx.snapshot.org_id, user_id=None, session_id=None)
    tenant.get_logger("script").info(message)


async def run_child(ctx, stage, name, graph):
    async def runner(child):
        run_names[child.pipeline_run_id] = run_names[ctx.pipeline_run_id]
        return await graph.run(child)

    ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": stage}
    spawn = get_subpipeline_spawner().spawn
    result = await spawn(pipeline_name=name, ctx=ctx.as_pipeline_context(), runner=runner, **ids)
    return "ok" if result.success else "failed"


class LookupSearch:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/lookup/search"
        marker = ctx.snapshot.metadata["marker"]
        await sleep(me, 0.0)
        log(ctx, f"searched for {marker}")
        ctx.try_emit_event(type="searched", data={"data": marker})
        return StageOutput.ok(value="hits")


class LookupRank:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/lookup/rank"

        async def worker():
            await sleep(me, 0.0)

        worker_task = asyncio.create_task(worker(), name="own worker")
        try:
            pass
        except BaseException:
            worker_task.cancel()
            await join_all(me, [worker_task])
            raise
        await join_all(me, [worker_task])
        worker_task.result()
        return StageOutput.ok(value="ranked")


def build_lookup():
    pipeline = Pipeline().with_stage("search", LookupSearch, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage(
        "rank", LookupRank, StageKind.TRANSFORM, dependencies=("search",)
    )
    return pipeline.build()


class Intake:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/intake"
        marker = ctx.snapshot.metadata["marker"]
        log(ctx, f"intake of {marker}")
        ctx.try_emit_event(type="received", data={"data": marker})
        await sleep(me, 0.1)
        return StageOutput.ok(value="read")


class Search:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/search"

        async def release_index():
            await release(me, "index", 0.1, registered=True)

        note(me, "register", "index")
        graph.register_cleanup(release_index, name="index")

        async def worker():
            await sleep(me, 0.1)

        worker_task = asyncio.create_task(worker(), name="own worker")
        try:
            pass
        except BaseException:
            worker_task.cancel()
            await join_all(me, [worker_task])
            raise
        await join_all(me, [worker_task])
        worker_task.result()
        return StageOutput.ok(value="found")


class Score:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/score"
        marker = ctx.snapshot.metadata["marker"]

        def in_thread(stage, seconds):
            block_thread(stage, seconds)

        try:
            await asyncio.to_thread(in_thread, me, 0.1)
        except asyncio.CancelledError:
            note_interrupt(me)
            raise
        log(ctx, f"scored {marker}")
        return StageOutput.ok(value="scored")


class Delegate:
    async def execute(self, ctx):
        child = build_lookup()
        how = await run_child(ctx, "delegate", "lookup", child)
        if how != "ok":
            raise RuntimeError(f"subpipeline lookup ended {how}")
        return StageOutput.ok(value="done")


class Answer:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/answer"
        marker = ctx.snapshot.metadata["marker"]
        await sleep(me, 0.0)
        ctx.try_emit_event(type="answered", data={"data": marker})
        log(ctx, f"answered {marker}")
        raise RuntimeError("no answer")


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    correlation = {
        "r0": "corr-000-00000",
        "r1": "corr-001-04659",
        "r2": "corr-002-09318",
        "r3": "corr-003-03970",
        "r4": "corr-004-08629",
        "r5": "corr-005-03281",
        "r6": "corr-006-07940",
        "r7": "corr-007-02592",
        "r8": "corr-008-07251",
        "r9": "corr-009-01903",
    }[run]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ctx = PipelineContext.create(
        pipeline_run_id=uuid.uuid4(),
        request_id=request,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
        metadata=INPUTS[run],
    )
    run_names[ctx.pipeline_run_id] = run
    try:
        await graph.run(ctx)
    finally:
        note(f"{run}/", "run.end")


async def main():
    global graph
    graph = (
        Pipeline()
        .with_stage("intake", Intake, StageKind.TRANSFORM)
        .with_stage("search", Search, StageKind.TRANSFORM, dependencies=("intake",))
        .with_stage("score", Score, StageKind.TRANSFORM, dependencies=("intake",))
        .with_stage("delegate", Delegate, StageKind.TRANSFORM, dependencies=("intake",))
        .with_stage(
            "answer", Answer, StageKind.TRANSFORM, dependencies=("search", "score", "delegate")
        )
        .build()
    )
    tasks = [asyncio.create_task(start(graph, "r0", "tenant-0", 0.0))]
    tasks.append(asyncio.create_task(start(graph, "r1", "tenant-1", 0.03)))
    tasks.append(asyncio.create_task(start(graph, "r2", "tenant-2", 0.06)))
    tasks.append(asyncio.create_task(start(graph, "r3", "tenant-3", 0.09)))
    tasks.append(asyncio.create_task(start(graph, "r4", "tenant-4", 0.12)))
    tasks.append(asyncio.create_task(start(graph, "r5", "tenant-0", 0.15)))
    tasks.append(asyncio.create_task(start(graph, "r6", "tenant-1", 0.18)))
    tasks.append(asyncio.create_task(start(graph, "r7", "tenant-2", 0.21)))
    tasks.append(asyncio.create_task(start(graph, "r8", "tenant-3", 0.24)))
    tasks.append(asyncio.create_task(start(graph, "r9", "tenant-4", 0.27)))
    await asyncio.wait(tasks, timeout=10)
    over = {}  # run -> the place at which it was over
    for i, (_, stage, kind, _) in enumerate(seen):
        if kind == "run.end":
            over[stage.split("/")[0]] = i
    grace = 10.0  # seconds, for all cleanups of a run
    since, registered, interrupted, told, open_, cut = {}, set(), set(), set(), {}, []
    for i, (at, stage, kind, name) in enumerate(seen):
        run, last = stage.split("/")[0], over.get(stage.split("/")[0], len(seen))
        if kind == "register":
            registered.add((stage, name))
        if kind == "interrupt":
            interrupted.add(stage)
        if kind in ("interrupt", "release.begin"):
            since.setdefault(run, at)
        if kind == "release.begin" and i < last:
            open_[stage, name] = run, last
            told.discard((stage, name))
            if stage in interrupted:
                told.add((stage, name))
        if kind in ("release.end", "release.fail", "release.cut") and i < last:
            open_.pop((stage, name), None)
        if kind == "release.cut" and i < last and at - since[run] < grace - 0.05:
            # That a stage was at its own cleanup nobody could know: it does not count.
            if (stage, name) in registered or (stage, name) in told:
                cut.append((stage, name))
    for one, (run, last) in open_.items():
        if last < len(seen) and seen[last][0] - since[run] < grace - 0.05:
            return f"the cleanup of {one} was begun, and not finished when the run was over"
    if cut:
        return f"cleanups that were cancelled before they had finished: {cut}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-2: {found}" if found else "HOLDS CLEAN-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
