"""TENANT-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r9, in which nothing went wrong, runs all its stages and ends ok
Actual: 3 executions of 3 stages; the run ended failed
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


class Intake:
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


class Check:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((f"{run_names[ctx.pipeline_run_id]}/check", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


class Enrich:
    async def execute(self, ctx):
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
        seen.append((f"{run}/", "run.end", None))


async def main():
    pipeline = Pipeline().with_stage("intake", Intake, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("check", Check, StageKind.TRANSFORM)
    graph = pipeline.with_stage("enrich", Enrich, StageKind.TRANSFORM).build()
    runs = [("r4", "t0", 0.2), ("r5", "t0", 0.0), ("r8", "t0", 0.05), ("r9", "t0", 0.1)]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    ends = [(stage.split("/")[0], how) for stage, kind, how in seen if kind == "stage.end"]
    failed = {run for run, how in ends if how.startswith(("fail", "raise:", "cancel_run"))}
    over = [stage[:-1] for stage, kind, _ in seen if kind == "run.end"]
    spoilt = [run for run in over if run not in failed]  # one of the stages always fails
    if spoilt and len(spoilt) < len(over):
        return f"nothing went wrong in {spoilt[0]}, and it did not run all its stages"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TENANT-4: {found}" if found else "HOLDS TENANT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
