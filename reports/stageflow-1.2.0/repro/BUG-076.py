"""TIME-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: a timeout of nan is refused
Actual: the pipeline was built and run with it
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened)


class Infer:
    async def execute(self, ctx):
        seen.append(("infer", "stage.start"))
        return StageOutput.ok(value=None)


async def main():
    error = None
    try:
        graph = StageGraph([StageSpec(name="infer", runner=Infer)])
        seen.append(("", "run.begin"))
        await graph.run(PipelineContext.create(data={"_timeout_ms": float("nan")}))
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    if any(kind == "run.begin" for _, kind in seen):
        ran = [stage for stage, kind in seen if kind == "stage.start"]
        return f"run with a timeout of nan s: stages {ran}, then: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TIME-5: {found}" if found else "HOLDS TIME-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
