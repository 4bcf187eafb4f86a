"""CLEAN-1 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: third is released once
Actual: its cleanup ran 2 times
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

seen = []  # (stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Work:
    async def execute(self, ctx):
        async def release_third():
            seen.append((f"{run_names[ctx.pipeline_run_id]}/work", "release.begin", "third"))
            await asyncio.sleep(0)

        graph.register_cleanup(release_third, name="third")
        return StageOutput.ok(value=None)


async def start(graph, run, tenant):
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant))
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    await graph.run(ctx)


async def main():
    global graph
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    tasks = [asyncio.create_task(start(graph, run, "t0")) for run in ["r4", "r5"]]
    await asyncio.wait(tasks, timeout=10)
    begun = [(stage, name) for stage, kind, name in seen if kind == "release.begin"]
    twice = [one for one in begun if begun.count(one) > 1]
    if twice:
        return f"released more than once: {twice[0]}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-1: {found}" if found else "HOLDS CLEAN-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
