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

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


class Intake:
    async def execute(self, ctx):
        me = f"{ctx.snapshot.metadata['run']}/intake"
        await asyncio.sleep(0.1)

        async def release_session():
            seen.append((time.monotonic() - began, me, "release.begin", "session"))
            await asyncio.sleep(0.1)
            seen.append((time.monotonic() - began, me, "release.end", "session"))

        graph.register_cleanup(release_session, name="session")
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


async def start(graph, run, seconds):
    await asyncio.sleep(seconds)
    ctx = PipelineContext.create(pipeline_run_id=uuid.uuid4(), metadata={"run": run})
    try:
        await graph.run(ctx)
    finally:
        seen.append((time.monotonic() - began, f"{run}/", "run.end", None))


async def main():
    global graph
    graph = Pipeline().with_stage("intake", Intake, StageKind.TRANSFORM).build()
    runs = [("r2", 0.05), ("r6", 0.25), ("r8", 0.0)]
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
