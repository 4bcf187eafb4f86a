"""GRAPH-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: a pipeline with this fault is refused at build: duplicate fetch
Actual: it was built; 1 stages started; and it was run
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened)


class Fetch:
    async def execute(self, ctx):
        seen.append(("fetch", "stage.start"))
        return StageOutput.ok(value=None)


class Fetch2:
    async def execute(self, ctx):
        seen.append(("fetch", "stage.start"))
        return StageOutput.ok(value=None)


async def main():
    error = None
    try:
        specs = [StageSpec(name="fetch", runner=Fetch2), StageSpec(name="fetch", runner=Fetch2)]
        graph = StageGraph(specs)
        seen.append(("", "run.begin"))
        await graph.run(PipelineContext.create())
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    # The pipeline has this fault: duplicate fetch
    if any(kind == "run.begin" for _, kind in seen):
        ran = [stage for stage, kind in seen if kind == "stage.start"]
        return f"the pipeline was built; stages that ran: {ran}; then: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-1: {found}" if found else "HOLDS GRAPH-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
