"""GRAPH-5 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: after 5 failures in a row stage pay is cut off for 30 s
Actual: it ran again 0.1 s later
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


class Pay:
    async def execute(self, ctx):
        me = f"{ctx.data['run']}/pay"
        seen.append((me, "stage.start"))
        seen.append((me, "stage.end"))
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
    seen.append((f"{run}/", "run.begin"))
    try:
        await graph.run(ctx)
    finally:
        seen.append((f"{run}/", "run.end"))


async def main():
    graph = StageGraph([StageSpec(name="pay", runner=Pay)])
    tasks = [
        asyncio.create_task(start(graph, run, "t0", 0.0)) for run in ["r1", "r2", "r3", "r4", "r5"]
    ]
    tasks += [asyncio.create_task(start(graph, run, "t0", 0.1)) for run in ["r6", "r7"]]
    await asyncio.wait(tasks, timeout=10)
    failed, over, before = set(), 0, {}
    for stage, kind in seen:
        run = stage.split("/")[0]
        if kind == "stage.end":
            failed.add(run)
        if kind == "run.end" and run in failed:
            over += 1
        if kind == "run.begin":
            before[run] = over
        if kind == "stage.start" and before[run] >= 5:
            return f"{stage} ran within 30 s of {before[run]} failures in a row"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
