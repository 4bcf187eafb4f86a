"""GRAPH-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage parse starts after fetch has completed
Actual: it started when fetch had ended raise:ValueError
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


class Fetch:
    async def execute(self, ctx):
        raise ValueError("raised")


class Parse:
    async def execute(self, ctx):
        seen.append(("parse", "stage.start", None))
        return StageOutput.ok(value=None)


async def main():
    specs = [
        StageSpec(name="fetch", runner=Fetch),
        StageSpec(name="parse", runner=Parse, dependencies=("fetch",)),
    ]
    graph = StageGraph(specs)
    await asyncio.gather(graph.run(PipelineContext.create()), return_exceptions=True)
    begun, done = ("parse", "stage.start", None), ("fetch", "stage.end", "ok")
    if begun in seen and done not in seen[: seen.index(begun)]:
        return "stage parse started before stage fetch had completed"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-2: {found}" if found else "HOLDS GRAPH-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
