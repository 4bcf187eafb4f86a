"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is reported as completed only if it ran, or had completed under its key
Actual: in run r1 it did not run; nor before
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import BaseInterceptor, PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.pipeline.interceptors import InterceptorResult, get_default_interceptors  # noqa: E402

seen = []  # (stage, what happened)
outputs = []  # stages that completed


class GuardLayer(BaseInterceptor):
    name, priority = "guard", 100

    async def before(self, stage_name, ctx):
        seen.append((f"{ctx.data['run']}/{stage_name}", "layer.deny"))
        return InterceptorResult(stage_ran=False, error="denied by guard")

    async def after(self, stage_name, result, ctx):
        pass


class Ship:
    async def execute(self, ctx):
        seen.append((f"{ctx.data['run']}/ship", "stage.start"))
        return StageOutput.ok(value=None)


async def start(graph, run):
    ids = {"pipeline_run_id": uuid.uuid4()}
    ctx = PipelineContext.create(**ids, data={"idempotency_key": "key", "run": run})
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError):
        results = {}
    outputs.extend(f"{run}/{name}" for name, one in results.items() if one.status == "completed")


async def main():
    interceptors = [*get_default_interceptors(), GuardLayer()]
    graph = StageGraph([StageSpec(name="ship", runner=Ship)], interceptors=interceptors)
    tasks = [asyncio.create_task(start(graph, run)) for run in ["r0", "r1"]]
    await asyncio.wait(tasks, timeout=10)
    ran = [stage.split("/")[1] for stage, kind in seen if kind == "stage.start"]
    denied = [stage for stage, kind in seen if kind == "layer.deny"]
    lost = [stage for stage in outputs if stage.split("/")[1] not in ran and stage not in denied]
    if lost:
        return f"told as completed, though they did not run, nor had they before: {lost}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
