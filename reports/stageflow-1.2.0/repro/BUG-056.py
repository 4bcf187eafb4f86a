"""PART-3 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: 1 stages that completed in the tick of the failure count as completed
Actual: 0 do
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened, detail)


class Open:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append(("open", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Load:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    pipeline = Pipeline().with_stage("open", Open, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("load", Load, StageKind.TRANSFORM, dependencies=("open",))
    graph = pipeline.build()
    results, error = {}, None
    try:
        results = await graph.run(PipelineContext.create())
    except (Exception, asyncio.CancelledError) as exc:
        results, error = getattr(exc, "results", {}), exc
    outputs = [name for name, one in results.items() if one.status.value == "ok"]
    done = [stage for stage, kind, how in seen if kind == "stage.end" and how == "ok"]
    lost = [stage for stage in done if stage not in outputs]
    if lost:
        return f"completed, and lost to the caller: {lost}; what it got: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION PART-3: {found}" if found else "HOLDS PART-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
