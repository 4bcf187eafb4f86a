"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is not reported as completed: layer late failed after it
Actual: it is reported as completed
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import BaseInterceptor, Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402
from stageflow.pipeline.interceptors import get_default_interceptors  # noqa: E402

seen = []  # (stage, what happened)


class LateLayer(BaseInterceptor):
    name, priority = "late", 100

    async def before(self, stage_name, ctx):
        pass

    async def after(self, stage_name, result, ctx):
        seen.append((stage_name, "layer.raise"))
        raise RuntimeError("layer late failed")


class Ship:
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("ship", Ship, StageKind.TRANSFORM)
    graph = pipeline.build(interceptors=[*get_default_interceptors(), LateLayer()])
    try:
        results = await graph.run(PipelineContext.create())
    except (Exception, asyncio.CancelledError) as error:
        results = getattr(error, "results", {})
    outputs = [name for name, one in results.items() if one.status.value == "ok"]
    told = [stage for stage, kind in seen if kind == "layer.raise" and stage in outputs]
    if told:
        return f"told as completed, although a layer failed after them: {told}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
