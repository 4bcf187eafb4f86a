"""GRAPH-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage parse starts after fetch has completed
Actual: it started when fetch had ended raise:ValueError
"""

import asyncio
import contextlib
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


class Fetch:
    async def execute(self, ctx):
        seen.append(("fetch", "stage.start", None))
        raise ValueError("raised")


class Parse:
    async def execute(self, ctx):
        seen.append(("parse", "stage.start", None))
        seen.append(("parse", "stage.end", "ok"))
        return StageOutput.ok(value=None)


async def main():
    specs = [
        StageSpec(name="fetch", runner=Fetch),
        StageSpec(name="parse", runner=Parse, dependencies=("fetch",)),
    ]
    graph = StageGraph(specs)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext.create())
    needs = {"parse": ["fetch"]}
    done = set()
    for stage, kind, how in seen:
        if kind == "stage.start":
            due = needs.get(stage, ())
            missing = [need for need in due if need not in done]
            if missing:
                return f"stage {stage} started; not completed before it: {missing}"
        if kind == "stage.end" and how == "ok":
            done.add(stage)


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-2: {found}" if found else "HOLDS GRAPH-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
