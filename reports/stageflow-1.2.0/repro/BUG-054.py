"""PART-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the outputs of 1 completed stages can be reached
Actual: those of 0 can
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened, detail)


class Parse:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        seen.append(("parse", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Fetch:
    async def execute(self, ctx):
        seen.append(("fetch", "stage.end", "ok"))
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("parse", Parse, StageKind.TRANSFORM)
    graph = pipeline.with_stage("fetch", Fetch, StageKind.TRANSFORM).build()
    results, error = {}, None
    try:
        results = await graph.run(PipelineContext.create(data={"_timeout_ms": 100}))
    except (Exception, asyncio.CancelledError) as exc:
        results, error = getattr(exc, "results", {}), exc
    outputs = [name for name, one in results.items() if one.status.value == "ok"]
    done = [stage for stage, kind, how in seen if kind == "stage.end" and how == "ok"]
    lost = [stage for stage in done if stage not in outputs]
    if lost:
        return f"completed, and lost to the caller: {lost}; what it got: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION PART-1: {found}" if found else "HOLDS PART-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
