"""CLEAN-6 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup cursor of run r0 runs when run r0 ends
Actual: it never ran: another run's end cleared it
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

seen = []  # (stage, what happened)
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

        async def release_cursor():
            seen.append((me, "release.begin"))
            await asyncio.sleep(0)

        seen.append((me, "register"))
        graph.register_cleanup(release_cursor, name="cursor")
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant))
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    try:
        await graph.run(ctx)
    finally:
        seen.append((f"{run}/", "run.end"))


async def main():
    global graph
    graph = Pipeline().with_stage("load", Load, StageKind.TRANSFORM).build()
    runs = [("r0", "t0", 0.0), ("r1", "t0", 0.1)]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    for run in ["r0", "r1"]:
        order = [kind for stage, kind in seen if stage.split("/")[0] == run]
        if order[:2] == ["register", "run.end"]:  # "release.begin" is missing between them
            return f"run {run} was over, and its cleanup had not run: {order}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-6: {found}" if found else "HOLDS CLEAN-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
