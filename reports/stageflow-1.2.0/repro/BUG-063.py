"""TENANT-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage pay of tenant t1 runs, as if no other tenant were there
Actual: it was not let run (Circuit breaker open for pay), though its own runs gave no cause: ...
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
        seen.append((f"{ctx.data['run']}/pay", "stage.start"))
        raise ValueError("raised")


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ids = {"pipeline_run_id": uuid.uuid4(), "org_id": uuid.uuid5(uuid.NAMESPACE_DNS, tenant)}
    await graph.run(PipelineContext.create(**ids, data={"run": run}))


async def main():
    graph = StageGraph([StageSpec(name="pay", runner=Pay)])
    runs = [("r4", "t0", 0.0), ("r5", "t0", 0.0), ("r6", "t0", 0.0), ("r7", "t1", 0.1)]
    tasks = [asyncio.create_task(start(graph, *one)) for one in runs]
    await asyncio.wait(tasks, timeout=10)
    tenants = {"r4": "t0", "r5": "t0", "r6": "t0", "r7": "t1"}
    ran = [stage.split("/")[0] for stage, kind in seen if kind == "stage.start"]
    for run, tenant in tenants.items():
        tries = [one for one in ran if tenants[one] == tenant]
        if run not in ran and len(ran) > len(tries) and len(tries) < 1:
            return f"{run} of {tenant} was not let run; it had {len(tries)} tries"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TENANT-2: {found}" if found else "HOLDS TENANT-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
