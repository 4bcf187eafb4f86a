"""CLEAN-6 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r9 goes on when another run ends
Actual: its stage score was interrupted
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402
from stageflow.auth.tenant import TenantContext  # noqa: E402
from stageflow.observability.tracing import get_correlation_id, set_correlation_id  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
run_names = {}  # pipeline_run_id -> name of the run
id_names = {}  # id -> what it stands for
INPUTS = {"r0": {"marker": "request-000-000"}, "r1": {"marker": "request-001-947"}, "r2": {"marker": "request-002-894"}, "r3": {"marker": "request-003-841"}, "r4": {"marker": "request-004-788"}, "r5": {"marker": "request-005-735"}, "r6": {"marker": "request-006-682"}, "r7": {"marker": "request-007-629"}, "r8": {"marker": "request-008-576"}, "r9": {"marker": "request-009-523"}}


def note(stage, kind, detail=None):
    seen.append((time.monotonic() - began, stage, kind, detail))


async def join_all(stage, tasks, until=asyncio.ALL_COMPLETED):
    """Await tasks of the stage's own; a cancel, or a failure among them, ends them all."""
    pending, cancelled = set(tasks), None
    while pending:
        try:
            _, pending = await asyncio.wait(pending, return_when=until)
        except asyncio.CancelledError as exc:
            cancelled = exc
        until = asyncio.ALL_COMPLETED
        for task in tasks:
            if task in pending:
                task.cancel()
    if cancelled is not None:
        raise cancelled


def filled(value, given):
    if isinstance(value, dict):
        return {k: filled(v, given) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, given) for v in value]
    if isinstance(value, str) and "marker" in given:
        return value.replace("$marker", given["marker"])
    return value


def block_thread(stage, seconds):
    time.sleep(seconds)


def told(ctx):
    """For whom the code works, by what it is given and by the correlation id that was set."""
    ids = {
        "run": ctx.pipeline_run_id,
        "tenant": ctx.snapshot.org_id,
        "correlation": get_correlation_id() or ctx.request_id,
    }
    return {what: id_names.get(one, str(one)) for what, one in ids.items()}


def log(ctx, message):
    tenant = TenantContext(org_id=ctx.snapshot.org_id, user_id=None, session_id=None)
    tenant.get_logger("script").info(message)


async def run_child(ctx, stage, name, graph):
    async def runner(child):
        run_names[child.pipeline_run_id] = run_names[ctx.pipeline_run_id]
        id_names[child.pipeline_run_id] = f"{told(ctx)['run']}/{name}"
        results = await graph.run(child)
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
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        await asyncio.sleep(0.1)
        log(ctx, filled("searched for $marker", given))
        ctx.try_emit_event(type="searched", data=filled({"data": "$marker"}, given))
        return StageOutput.ok(value="hits")


class LookupRank:
    @recorded("lookup/rank")
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/lookup/rank"
        async def worker():
            await asyncio.sleep(0.0)

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
    pipeline = pipeline.with_stage("rank", LookupRank, StageKind.TRANSFORM, dependencies=("search",))
    return pipeline.build()


class Intake:
    @recorded("intake")
    async def execute(self, ctx):
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        log(ctx, filled("intake of $marker", given))
        ctx.try_emit_event(type="received", data=filled({"data": "$marker"}, given))
        await asyncio.sleep(0.1)
        return StageOutput.ok(value="read")


class Search:
    @recorded("search")
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/search"
        async def release_index():
            note(me, "release.begin", "index")
            await asyncio.sleep(0.1)

        note(me, "register", "index")
        graph.register_cleanup(release_index, name="index")
        async def worker():
            await asyncio.sleep(0.0)

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
    @recorded("score")
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/score"
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        def in_thread(stage, seconds):
            block_thread(stage, seconds)

        await asyncio.to_thread(in_thread, me, 0.0)
        log(ctx, filled("scored $marker", given))
        return StageOutput.ok(value="scored")


class Delegate:
    @recorded("delegate")
    async def execute(self, ctx):
        child = build_lookup()
        how = await run_child(ctx, "delegate", "lookup", child)
        if how != "ok":
            raise RuntimeError(f"subpipeline lookup ended {how}")
        return StageOutput.ok(value="done")


class Answer:
    @recorded("answer")
    async def execute(self, ctx):
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        await asyncio.sleep(0.1)
        ctx.try_emit_event(type="answered", data=filled({"data": "$marker"}, given))
        log(ctx, filled("answered $marker", given))
        raise RuntimeError("no answer")


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    correlation = {"r0": "corr-000-00000", "r1": "corr-001-04659", "r2": "corr-002-09318", "r3": "corr-003-03970", "r4": "corr-004-08629", "r5": "corr-005-03281", "r6": "corr-006-07940", "r7": "corr-007-02592", "r8": "corr-008-07251", "r9": "corr-009-01903"}[run]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=request,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
        metadata=INPUTS[run],
    )
    run_names[ctx.pipeline_run_id] = run
    id_names[ctx.pipeline_run_id], id_names[ctx.org_id] = run, tenant
    id_names[request] = correlation
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
    graph = (
        Pipeline()
        .with_stage("intake", Intake, StageKind.TRANSFORM)
        .with_stage("search", Search, StageKind.TRANSFORM, dependencies=("intake",))
        .with_stage("score", Score, StageKind.TRANSFORM, dependencies=("intake",))
        .with_stage("delegate", Delegate, StageKind.TRANSFORM, dependencies=("intake",))
        .with_stage("answer", Answer, StageKind.TRANSFORM, dependencies=("search", "score", "delegate"))
        .build()
    )
    tasks = [
        asyncio.create_task(start(graph, "r0", "tenant-0", 0.0)),
        asyncio.create_task(start(graph, "r1", "tenant-1", 0.03)),
        asyncio.create_task(start(graph, "r2", "tenant-2", 0.06)),
        asyncio.create_task(start(graph, "r3", "tenant-3", 0.09)),
        asyncio.create_task(start(graph, "r4", "tenant-4", 0.12)),
        asyncio.create_task(start(graph, "r5", "tenant-0", 0.15)),
        asyncio.create_task(start(graph, "r6", "tenant-1", 0.18)),
        asyncio.create_task(start(graph, "r7", "tenant-2", 0.21)),
        asyncio.create_task(start(graph, "r8", "tenant-3", 0.24)),
        asyncio.create_task(start(graph, "r9", "tenant-4", 0.27)),
    ]
    await asyncio.wait(tasks, timeout=10)
    found = violation()
    print(f"VIOLATION CLEAN-6: {found}" if found else "HOLDS CLEAN-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
