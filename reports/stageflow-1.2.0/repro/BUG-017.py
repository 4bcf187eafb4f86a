"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage report does not run when a layer around it fails or denies
Actual: it ran after layer crash had failed
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import BaseInterceptor, PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.pipeline.interceptors import get_default_interceptors  # noqa: E402

seen = []  # (stage, what happened)


class CrashLayer(BaseInterceptor):
    name, priority = "crash", 100

    async def before(self, stage_name, ctx):
        seen.append((stage_name, "layer.raise"))
        raise RuntimeError("layer crash failed")

    async def after(self, stage_name, result, ctx):
        pass


class Report:
    async def execute(self, ctx):
        seen.append(("report", "stage.start"))
        return StageOutput.ok(value=None)


async def main():
    interceptors = [*get_default_interceptors(), CrashLayer()]
    graph = StageGraph([StageSpec(name="report", runner=Report)], interceptors=interceptors)
    await asyncio.gather(graph.run(PipelineContext.create()), return_exceptions=True)
    did = []
    for stage, kind in seen:
        if kind == "layer.raise":
            did.append(stage)
        if kind == "stage.start" and stage in did:
            return f"stage {stage} ran after a layer around it had failed"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
