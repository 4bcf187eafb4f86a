"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is reported as completed only if it ran, or had completed under its key
Actual: in run r2 its output is None
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
outputs = {}  # of stages that completed


class Ship:
    async def execute(self, ctx):
        seen.append((f"{ctx.data['run']}/ship", "stage.start"))
        return StageOutput.ok(value="shipped")


async def start(graph, run):
    ids = {"pipeline_run_id": uuid.uuid4()}
    ctx = PipelineContext.create(**ids, data={"idempotency_key": "key", "run": run})
    results = await graph.run(ctx)
    for name, one in results.items():
        if one.status == "completed":
            outputs[f"{run}/{name}"] = one.data


async def main():
    graph = StageGraph([StageSpec(name="ship", runner=Ship)])
    tasks = [asyncio.create_task(start(graph, run)) for run in ["r1", "r2"]]
    await asyncio.wait(tasks, timeout=10)
    ran = [stage for stage, kind in seen if kind == "stage.start"]
    for stage in [one for one in outputs if one not in ran]:
        name = stage.split("/")[1]
        had = [outputs[one] for one in ran if one.split("/")[1] == name and one in outputs]
        if outputs[stage] not in had:
            return f"{stage} did not run; its output is {outputs[stage]!r}, it was {had}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
