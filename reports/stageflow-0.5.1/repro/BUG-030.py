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

from stageflow import Pipeline, PipelineTimer, StageContext, StageInputs, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
run_names = {}  # pipeline_run_id -> name of the run


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Search:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/search"

        async def release_index():
            seen.append((time.monotonic() - began, me, "release.begin", "index"))
            await asyncio.sleep(0.1)
            seen.append((time.monotonic() - began, me, "release.end", "index"))

        graph.register_cleanup(release_index, name="index")
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant))
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    try:
        await graph.run(ctx)
    finally:
        seen.append((time.monotonic() - began, f"{run}/", "run.end", None))


async def main():
    global graph
    graph = Pipeline().with_stage("search", Search, StageKind.TRANSFORM).build()
    runs = [("r39", "t0", 0.06), ("r42", "t0", 0.15), ("r48", "t0", 0.0)]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    open_, since = {}, {}  # what is begun -> its run; run -> when the first of it was
    for at, stage, kind, name in seen:
        run = stage.split("/")[0]
        if kind == "release.begin":
            open_[stage, name] = run
            since.setdefault(run, at)
        if kind == "release.end":
            open_.pop((stage, name), None)
        if kind == "run.end" and run in open_.values() and at < since[run] + 9.98:
            return f"{run}: begun, and not finished when the run was over: {list(open_)}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-2: {found}" if found else "HOLDS CLEAN-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
