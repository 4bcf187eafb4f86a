"""TENANT-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r9, in which nothing went wrong, runs all its stages and ends ok
Actual: 1 executions of 3 stages; the run ended failed
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.auth.tenant import TenantContext  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.observability.tracing import get_correlation_id, set_correlation_id  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

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


def settled(run):
    if run.cancelled() or not run.done():
        return None, asyncio.CancelledError() if run.cancelled() else TimeoutError("no end")
    return (None, run.exception()) if run.exception() else (run.result(), None)


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
        id_names[child.pipeline_run_id] = f"{told(ctx)['run']}/{name}"
        results = await graph.run(enter(
            ContextSnapshot(run_id=RunIdentity(pipeline_run_id=child.pipeline_run_id, request_id=child.request_id, org_id=child.org_id), metadata=ctx.snapshot.metadata),
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
        me = f"{run_names[ctx.pipeline_run_id]}/lookup/search"
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        note(me, "input", ("marker", given["marker"]))
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
        me = f"{run_names[ctx.pipeline_run_id]}/intake"
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        note(me, "input", ("marker", given["marker"]))
        log(ctx, filled("intake of $marker", given))
        ctx.try_emit_event(type="received", data=filled({"data": "$marker"}, given))
        await asyncio.sleep(0.1)
        return StageOutput.ok(value="read")


class Search:
    @recorded("search")
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/search"
        async def release_index():
            await asyncio.sleep(0.1)

        graph.register_cleanup(release_index, name="index")
        async def worker():
            await asyncio.sleep(0.1)

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
        note(me, "input", ("marker", given["marker"]))
        def in_thread(stage, seconds):
            block_thread(stage, seconds)

        await asyncio.to_thread(in_thread, me, 0.1)
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
        me = f"{run_names[ctx.pipeline_run_id]}/answer"
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        note(me, "input", ("marker", given["marker"]))
        await asyncio.sleep(0.0)
        ctx.try_emit_event(type="answered", data=filled({"data": "$marker"}, given))
        log(ctx, filled("answered $marker", given))
        raise RuntimeError("no answer")


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    correlation = {"r0": "corr-000-00000", "r1": "corr-001-04659", "r2": "corr-002-09318", "r3": "corr-003-03970", "r4": "corr-004-08629", "r5": "corr-005-03281", "r6": "corr-006-07940", "r7": "corr-007-02592", "r8": "corr-008-07251", "r9": "corr-009-01903"}[run]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        request_id=request,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    ctx = enter(ContextSnapshot(run_id=ids, metadata=INPUTS[run]))
    run_names[ctx.pipeline_run_id] = run
    id_names[ctx.pipeline_run_id], id_names[ctx.snapshot.org_id] = run, tenant
    id_names[request] = correlation
    note(f"{run}/", "run.begin")
    try:
        results = await graph.run(ctx)
        note(f"{run}/", "run.end", "returned")
        return results
    except BaseException as exc:
        note(f"{run}/", "run.end", type(exc).__name__)
        raise


def reachable(results, error):
    """What a user can get at: the results, or what the exception carries of them."""
    found = {}
    for name, one in (results or getattr(error, "results", {})).items():
        how = one.status.value
        found[name] = one.data.get("value") if how == "ok" else f"{how}: {one.error}"
    return found


def violation(outputs, took):
    tenants = {'r0': 'tenant-0', 'r1': 'tenant-1', 'r2': 'tenant-2', 'r3': 'tenant-3', 'r4': 'tenant-4', 'r5': 'tenant-0', 'r6': 'tenant-1', 'r7': 'tenant-2', 'r8': 'tenant-3', 'r9': 'tenant-4'}
    given = {'r0': ['request-000-000'], 'r1': ['request-001-947'], 'r2': ['request-002-894'], 'r3': ['request-003-841'], 'r4': ['request-004-788'], 'r5': ['request-005-735'], 'r6': ['request-006-682'], 'r7': ['request-007-629'], 'r8': ['request-008-576'], 'r9': ['request-009-523']}
    produced = [(stage, kind, detail) for _, stage, kind, detail in seen]
    produced += [(stage, "output", value) for stage, value in outputs.items()]
    for stage, kind, detail in produced:
        run = stage.split("/")[0]
        for other, texts in given.items():
            if run in tenants and run != other and tenants[run] == tenants[other]:
                for text in texts:
                    if text in repr(detail):
                        return f"{text}, an input of {other}, is in the {kind} of {stage}"
    inputs = {'r0': {'marker': 'request-000-000'}, 'r1': {'marker': 'request-001-947'}, 'r2': {'marker': 'request-002-894'}, 'r3': {'marker': 'request-003-841'}, 'r4': {'marker': 'request-004-788'}, 'r5': {'marker': 'request-005-735'}, 'r6': {'marker': 'request-006-682'}, 'r7': {'marker': 'request-007-629'}, 'r8': {'marker': 'request-008-576'}, 'r9': {'marker': 'request-009-523'}}
    for _, stage, kind, detail in seen:
        own = inputs.get(stage.split("/")[0], {})
        if kind == "input" and detail[0] in own and detail[1] != own[detail[0]]:
            for run, theirs in inputs.items():
                if theirs.get(detail[0]) == detail[1]:
                    return f"{stage} was handed the {detail[0]} of {run}: {detail[1]!r}"
    stages = ['answer', 'delegate', 'intake', 'score', 'search']
    troubled = set([])  # runs that are cancelled, fail or are refused something
    begun, over, ran, spoilt = {}, {}, {}, {}
    for at, who, kind, how in seen:
        run, _, name = who.partition("/")
        if kind == "run.begin":
            begun[run] = at
        if kind == "run.end":
            over[run] = at
            if how != "returned":
                spoilt.setdefault(run, []).append(f"its caller got {how}")
        if kind == "stage.start":
            ran.setdefault(run, set()).add(name)
        if kind == "stage.end" and how == "cancelled":
            spoilt.setdefault(run, []).append(f"its stage {name} was cancelled")
        own = kind == "stage.end" and how not in ("ok", "cancelled")
        if own or kind in ("layer.raise", "layer.deny", "self_cancel"):
            troubled.add(run)
    for run in over:
        missing = [name for name in stages if name not in ran.get(run, set())]
        if missing:
            spoilt.setdefault(run, []).append(f"its stages {missing} did not run")
    found = {}
    for run, what in spoilt.items():
        if run in troubled or run not in over:
            continue
        for other in begun:
            beside = begun[other] < over[run] and begun[run] < over.get(other, took)
            if other != run and beside and (other in troubled or other not in spoilt):
                text = " and ".join(what)
                found[text] = f"nothing went wrong in {run}, but {text}; beside it: {other}"
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
    tasks = {
        "r0": asyncio.create_task(start(graph, "r0", "tenant-0", 0.0)),
        "r1": asyncio.create_task(start(graph, "r1", "tenant-1", 0.03)),
        "r2": asyncio.create_task(start(graph, "r2", "tenant-2", 0.06)),
        "r3": asyncio.create_task(start(graph, "r3", "tenant-3", 0.09)),
        "r4": asyncio.create_task(start(graph, "r4", "tenant-4", 0.12)),
        "r5": asyncio.create_task(start(graph, "r5", "tenant-0", 0.15)),
        "r6": asyncio.create_task(start(graph, "r6", "tenant-1", 0.18)),
        "r7": asyncio.create_task(start(graph, "r7", "tenant-2", 0.21)),
        "r8": asyncio.create_task(start(graph, "r8", "tenant-3", 0.24)),
        "r9": asyncio.create_task(start(graph, "r9", "tenant-4", 0.27)),
    }
    await asyncio.wait(tasks.values(), timeout=10)
    outcomes = {run: settled(task) for run, task in tasks.items()}
    outputs = {
        f"{run}/{stage}": value
        for run, outcome in outcomes.items()
        for stage, value in reachable(*outcome).items()
    }
    took = time.monotonic() - began
    found = violation(outputs, took)
    print(f"VIOLATION TENANT-4: {found}" if found else "HOLDS TENANT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
