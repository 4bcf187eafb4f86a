"""CLEAN-6 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup cursor of run r0 runs when run r0 ends
Actual: it never ran: another run's end cleared it
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

seen = []  # (seconds, stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Load:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/load"
        seen.append((time.monotonic(), me, "stage.start", None))
        try:
            async def release_cursor():
                seen.append((time.monotonic(), me, "release.begin", "cursor"))
                await asyncio.sleep(0)

            seen.append((time.monotonic(), me, "register", "cursor"))
            graph.register_cleanup(release_cursor, name="cursor")
            await asyncio.sleep(0.1)
            return StageOutput.ok(value=None)
        finally:
            seen.append((time.monotonic(), me, "stage.end", None))


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
        seen.append((time.monotonic(), f"{run}/", "run.end", None))


def violation():
    registered, running = [], []
    for _, stage, kind, name in seen:
        run = stage.split("/")[0]
        if kind == "stage.start":
            running.append(run)
        if kind == "stage.end":
            running.remove(run)
        if kind == "register":
            registered.append((stage, name))
        if kind == "release.begin" and (stage, name) in registered:
            registered.remove((stage, name))
            if run in running:
                return f"cleanup {name} of {stage} ran while its run went on"
        lost = [one for one in registered if kind == "run.end" and one[0].startswith(stage)]
        if lost:
            return f"not run when {run} was over: {lost}"


async def main():
    global graph
    graph = Pipeline().with_stage("load", Load, StageKind.TRANSFORM).build()
    tasks = [
        asyncio.create_task(start(graph, "r0", "t0", 0.0)),
        asyncio.create_task(start(graph, "r1", "t0", 0.1)),
    ]
    await asyncio.wait(tasks, timeout=10)
    found = violation()
    print(f"VIOLATION CLEAN-6: {found}" if found else "HOLDS CLEAN-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
