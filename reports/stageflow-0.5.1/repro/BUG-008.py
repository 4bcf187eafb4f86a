"""GRAPH-2 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage reply starts after load has completed
Actual: it started when load had ended raise:MemoryError
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


class Load:
    async def execute(self, ctx):
        raise MemoryError("10000 MB are not to be had")


class Reply:
    async def execute(self, ctx):
        seen.append(("reply", "stage.start", None))
        return StageOutput.ok(value=None)


async def main():
    specs = [
        StageSpec(name="load", runner=Load),
        StageSpec(name="reply", runner=Reply, dependencies=("load",)),
    ]
    graph = StageGraph(specs)
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    await asyncio.gather(graph.run(ctx), return_exceptions=True)
    begun, done = ("reply", "stage.start", None), ("load", "stage.end", "ok")
    if begun in seen and done not in seen[: seen.index(begun)]:
        return "stage reply started before stage load had completed"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-2: {found}" if found else "HOLDS GRAPH-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
