"""CLEAN-2 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup of index has finished when the run is over
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

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.auth.tenant import TenantContext  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.observability.tracing import set_correlation_id  # noqa: E402
from stageflow.pipeline.subpipeline import get_subpipeline_spawner  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

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
    "r10": {"marker": "request-010-470"},
    "r11": {"marker": "request-011-417"},
    "r12": {"marker": "request-012-364"},
    "r13": {"marker": "request-013-311"},
    "r14": {"marker": "request-014-258"},
    "r15": {"marker": "request-015-205"},
    "r16": {"marker": "request-016-152"},
    "r17": {"marker": "request-017-099"},
    "r18": {"marker": "request-018-046"},
    "r19": {"marker": "request-019-993"},
    "r20": {"marker": "request-020-940"},
    "r21": {"marker": "request-021-887"},
    "r22": {"marker": "request-022-834"},
    "r23": {"marker": "request-023-781"},
    "r24": {"marker": "request-024-728"},
    "r25": {"marker": "request-025-675"},
    "r26": {"marker": "request-026-622"},
    "r27": {"marker": "request-027-569"},
    "r28": {"marker": "request-028-516"},
    "r29": {"marker": "request-029-463"},
    "r30": {"marker": "request-030-410"},
    "r31": {"marker": "request-031-357"},
    "r32": {"marker": "request-032-304"},
    "r33": {"marker": "request-033-251"},
    "r34": {"marker": "request-034-198"},
    "r35": {"marker": "request-035-145"},
    "r36": {"marker": "request-036-092"},
    "r37": {"marker": "request-037-039"},
    "r38": {"marker": "request-038-986"},
    "r39": {"marker": "request-039-933"},
    "r40": {"marker": "request-040-880"},
    "r41": {"marker": "request-041-827"},
    "r42": {"marker": "request-042-774"},
    "r43": {"marker": "request-043-721"},
    "r44": {"marker": "request-044-668"},
    "r45": {"marker": "request-045-615"},
    "r46": {"marker": "request-046-562"},
    "r47": {"marker": "request-047-509"},
    "r48": {"marker": "request-048-456"},
    "r49": {"marker": "request-049-403"},
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
                metadata=ctx.snapshot.metadata,
            ),
            event_sink=child.event_sink,
        ))

    ids = {"correlation_id": uuid.uuid4(), "parent_stage_id": stage}
    spawn = get_subpipeline_spawner().spawn
    result = await spawn(pipeline_name=name, ctx=ctx.as_pipeline_context(), runner=runner, **ids)
    return "ok" if result.success else "failed"


class LookupSearch:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/lookup/search"
        marker = ctx.snapshot.metadata["marker"]
        await sleep(me, 0.1)
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
        return StageOutput.ok(value="answered")


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
        "r10": "corr-010-06562",
        "r11": "corr-011-01214",
        "r12": "corr-012-05873",
        "r13": "corr-013-00525",
        "r14": "corr-014-05184",
        "r15": "corr-015-09843",
        "r16": "corr-016-04495",
        "r17": "corr-017-09154",
        "r18": "corr-018-03806",
        "r19": "corr-019-08465",
        "r20": "corr-020-03117",
        "r21": "corr-021-07776",
        "r22": "corr-022-02428",
        "r23": "corr-023-07087",
        "r24": "corr-024-01739",
        "r25": "corr-025-06398",
        "r26": "corr-026-01050",
        "r27": "corr-027-05709",
        "r28": "corr-028-00361",
        "r29": "corr-029-05020",
        "r30": "corr-030-09679",
        "r31": "corr-031-04331",
        "r32": "corr-032-08990",
        "r33": "corr-033-03642",
        "r34": "corr-034-08301",
        "r35": "corr-035-02953",
        "r36": "corr-036-07612",
        "r37": "corr-037-02264",
        "r38": "corr-038-06923",
        "r39": "corr-039-01575",
        "r40": "corr-040-06234",
        "r41": "corr-041-00886",
        "r42": "corr-042-05545",
        "r43": "corr-043-00197",
        "r44": "corr-044-04856",
        "r45": "corr-045-09515",
        "r46": "corr-046-04167",
        "r47": "corr-047-08826",
        "r48": "corr-048-03478",
        "r49": "corr-049-08137",
    }[run]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        request_id=request,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    ctx = enter(ContextSnapshot(run_id=ids, metadata=INPUTS[run]))
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
    tasks.append(asyncio.create_task(start(graph, "r10", "tenant-0", 0.3)))
    tasks.append(asyncio.create_task(start(graph, "r11", "tenant-1", 0.0)))
    tasks.append(asyncio.create_task(start(graph, "r12", "tenant-2", 0.03)))
    tasks.append(asyncio.create_task(start(graph, "r13", "tenant-3", 0.06)))
    tasks.append(asyncio.create_task(start(graph, "r14", "tenant-4", 0.09)))
    tasks.append(asyncio.create_task(start(graph, "r15", "tenant-0", 0.12)))
    tasks.append(asyncio.create_task(start(graph, "r16", "tenant-1", 0.15)))
    tasks.append(asyncio.create_task(start(graph, "r17", "tenant-2", 0.18)))
    tasks.append(asyncio.create_task(start(graph, "r18", "tenant-3", 0.21)))
    tasks.append(asyncio.create_task(start(graph, "r19", "tenant-4", 0.24)))
    tasks.append(asyncio.create_task(start(graph, "r20", "tenant-0", 0.27)))
    tasks.append(asyncio.create_task(start(graph, "r21", "tenant-1", 0.3)))
    tasks.append(asyncio.create_task(start(graph, "r22", "tenant-2", 0.0)))
    tasks.append(asyncio.create_task(start(graph, "r23", "tenant-3", 0.03)))
    tasks.append(asyncio.create_task(start(graph, "r24", "tenant-4", 0.06)))
    tasks.append(asyncio.create_task(start(graph, "r25", "tenant-0", 0.09)))
    tasks.append(asyncio.create_task(start(graph, "r26", "tenant-1", 0.12)))
    tasks.append(asyncio.create_task(start(graph, "r27", "tenant-2", 0.15)))
    tasks.append(asyncio.create_task(start(graph, "r28", "tenant-3", 0.18)))
    tasks.append(asyncio.create_task(start(graph, "r29", "tenant-4", 0.21)))
    tasks.append(asyncio.create_task(start(graph, "r30", "tenant-0", 0.24)))
    tasks.append(asyncio.create_task(start(graph, "r31", "tenant-1", 0.27)))
    tasks.append(asyncio.create_task(start(graph, "r32", "tenant-2", 0.3)))
    tasks.append(asyncio.create_task(start(graph, "r33", "tenant-3", 0.0)))
    tasks.append(asyncio.create_task(start(graph, "r34", "tenant-4", 0.03)))
    tasks.append(asyncio.create_task(start(graph, "r35", "tenant-0", 0.06)))
    tasks.append(asyncio.create_task(start(graph, "r36", "tenant-1", 0.09)))
    tasks.append(asyncio.create_task(start(graph, "r37", "tenant-2", 0.12)))
    tasks.append(asyncio.create_task(start(graph, "r38", "tenant-3", 0.15)))
    tasks.append(asyncio.create_task(start(graph, "r39", "tenant-4", 0.18)))
    tasks.append(asyncio.create_task(start(graph, "r40", "tenant-0", 0.21)))
    tasks.append(asyncio.create_task(start(graph, "r41", "tenant-1", 0.24)))
    tasks.append(asyncio.create_task(start(graph, "r42", "tenant-2", 0.27)))
    tasks.append(asyncio.create_task(start(graph, "r43", "tenant-3", 0.3)))
    tasks.append(asyncio.create_task(start(graph, "r44", "tenant-4", 0.0)))
    tasks.append(asyncio.create_task(start(graph, "r45", "tenant-0", 0.03)))
    tasks.append(asyncio.create_task(start(graph, "r46", "tenant-1", 0.06)))
    tasks.append(asyncio.create_task(start(graph, "r47", "tenant-2", 0.09)))
    tasks.append(asyncio.create_task(start(graph, "r48", "tenant-3", 0.12)))
    tasks.append(asyncio.create_task(start(graph, "r49", "tenant-4", 0.15)))
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
