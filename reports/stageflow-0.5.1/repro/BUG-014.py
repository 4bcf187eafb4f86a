"""TENANT-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r5, in which nothing went wrong, runs all its stages and ends ok
Actual: 1 executions of 2 stages; the run ended ok
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


class First:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


class Second:
    async def execute(self, ctx):
        seen.append((f"{ctx.data['run']}/second", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
        data={"run": run},
    )
    try:
        await graph.run(ctx)
    finally:
        seen.append((f"{run}/", "run.end", None))


async def main():
    specs = [StageSpec(name="first", runner=First), StageSpec(name="second", runner=Second)]
    graph = StageGraph(specs)
    runs = [("r1", "t0", 0.0), ("r2", "t0", 0.0), ("r3", "t0", 0.0), ("r5", "t0", 0.05)]
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
