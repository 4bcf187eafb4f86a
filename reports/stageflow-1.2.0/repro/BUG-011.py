"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is reported as completed only if it ran, or had completed under its key
Actual: its output in run r0 is another stage's
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened)


class Work:
    async def execute(self, ctx):
        seen.append((ctx.stage_name, "stage.start"))
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("pay", Work, StageKind.TRANSFORM)
    graph = pipeline.with_stage("ship", Work, StageKind.TRANSFORM).build()
    try:
        results = await graph.run(PipelineContext.create(data={"idempotency_key": "key"}))
    except (Exception, asyncio.CancelledError) as error:
        results = getattr(error, "results", {})
    outputs = [name for name, one in results.items() if one.status.value == "ok"]
    noted = [stage for stage, kind in seen if kind == "stage.start"]
    lost = [stage for stage in outputs if stage not in noted]
    if lost:
        return f"told as completed, though they did not run, nor had they before: {lost}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
