"""TENANT-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: no value of tenant t0 is in what run south1 of tenant south produced
Actual: 'marker-north-01', an input of run north1, is in its stages
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

INPUTS = {"north1": {"marker": "marker-north-01"}, "south1": {"marker": "marker-south-01"}}
outputs = {}  # of stages that completed


class Ship:
    async def execute(self, ctx):
        marker = ctx.snapshot.metadata["marker"]
        return StageOutput.ok(value=f"shipped to {marker}")


async def start(graph, run, tenant):
    ids = {"pipeline_run_id": uuid.uuid4(), "org_id": uuid.uuid5(uuid.NAMESPACE_DNS, tenant)}
    ctx = PipelineContext.create(
        **ids, metadata={"run": run, **INPUTS[run]}, data={"idempotency_key": "key"}
    )
    results = await graph.run(ctx)
    for name, one in results.items():
        if one.status.value == "ok":
            outputs[f"{run}/{name}"] = one.data


async def main():
    graph = Pipeline().with_stage("ship", Ship, StageKind.TRANSFORM).build()
    runs = [("north1", "t0"), ("south1", "south")]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    given = {
        "marker-north-01": "north1",
        "marker-south-01": "south1",
    }  # inputs, and the run that each was given to
    for stage, value in outputs.items():
        for text, run in given.items():
            if text in repr(value) and not stage.startswith(f"{run}/"):
                return f"{text}, an input of {run}, is in the output of {stage}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TENANT-1: {found}" if found else "HOLDS TENANT-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
