"""TENANT-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship of tenant t2 runs: no run of this tenant has run it
Actual: it is given an output without having run; tenant t0 ran it
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened)
outputs = {}  # of stages that completed


class Ship:
    async def execute(self, ctx):
        seen.append((f"{ctx.snapshot.metadata['run']}/ship", "stage.start"))
        return StageOutput.ok(value=None)


async def start(graph, run, tenant):
    ids = {"pipeline_run_id": uuid.uuid4(), "org_id": uuid.uuid5(uuid.NAMESPACE_DNS, tenant)}
    ctx = PipelineContext.create(**ids, metadata={"run": run}, data={"idempotency_key": "key"})
    results = await graph.run(ctx)
    for name, one in results.items():
        if one.status.value == "ok":
            outputs[f"{run}/{name}"] = one.data


async def main():
    graph = Pipeline().with_stage("ship", Ship, StageKind.TRANSFORM).build()
    tasks = [asyncio.create_task(start(graph, *one)) for one in [("r2", "t0"), ("r3", "t2")]]
    await asyncio.wait(tasks, timeout=10)
    tenants = {"r2": "t0", "r3": "t2"}
    rows = [stage.split("/") for stage, kind in seen if kind == "stage.start"]
    ran = [(tenants[run], name) for run, name in rows]
    for stage, value in outputs.items():
        run, name = stage.split("/")
        if (tenants[run], name) not in ran:
            return f"{stage} is told as completed, {value!r}; {tenants[run]} never ran it"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TENANT-2: {found}" if found else "HOLDS TENANT-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
