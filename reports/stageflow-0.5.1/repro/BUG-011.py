"""GRAPH-5 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage pay is reported as completed only if it ran, or had completed under its key
Actual: in run r7 it did not run
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened)
outputs = []  # stages that completed


class Pay:
    async def execute(self, ctx):
        seen.append((f"{ctx.data['run']}/pay", "stage.start"))
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
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError):
        results = {}
    outputs.extend(f"{run}/{name}" for name, one in results.items() if one.status == "completed")


async def main():
    graph = StageGraph([StageSpec(name="pay", runner=Pay)])
    runs = [("r4", "t0", 0.0), ("r5", "t0", 0.0), ("r6", "t0", 0.0), ("r7", "t0", 0.1)]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    ran = [stage for stage, kind in seen if kind == "stage.start"]
    lost = [stage for stage in outputs if stage not in ran]
    if lost:
        return f"told as completed, though they did not run, nor had they before: {lost}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
