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

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
run_names = {}  # pipeline_run_id -> name of the run


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


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Intake:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/intake"
        await sleep(me, 0.1)
        return StageOutput.ok(value=None)


class Search:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/search"
        async def release_index():
            await release(me, "index", 0.1, registered=True)

        note(me, "register", "index")
        graph.register_cleanup(release_index, name="index")
        return StageOutput.ok(value=None)


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    try:
        return await graph.run(ctx)
    finally:
        note(f"{run}/", "run.end")


def violation():
    over = {one[1].split("/")[0]: i for i, one in enumerate(seen) if one[2] == "run.end"}
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


async def main():
    global graph
    pipeline = Pipeline().with_stage("intake", Intake, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("search", Search, StageKind.TRANSFORM, dependencies=("intake",))
    graph = pipeline.build()
    tasks = [
        asyncio.create_task(start(graph, "r47", "t0", 0.09)),
        asyncio.create_task(start(graph, "r48", "t0", 0.0)),
    ]
    await asyncio.wait(tasks, timeout=10)
    found = violation()
    print(f"VIOLATION CLEAN-2: {found}" if found else "HOLDS CLEAN-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
