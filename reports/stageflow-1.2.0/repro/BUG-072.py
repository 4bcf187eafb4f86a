"""PART-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: all 2 failures are reported
Actual: 1 of 2 are
"""

import asyncio
import os
import sys
import threading
import traceback

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened, detail)


class Work:
    async def execute(self, ctx):
        seen.append((ctx.stage_name, "stage.end", "raise:ValueError"))
        raise ValueError("raised")


async def main():
    pipeline = Pipeline().with_stage("c", Work, StageKind.TRANSFORM)
    graph = pipeline.with_stage("d", Work, StageKind.TRANSFORM).build()
    results, error = {}, None
    try:
        results = await graph.run(PipelineContext.create())
    except (Exception, asyncio.CancelledError) as exc:
        results, error = getattr(exc, "results", {}), exc
    ends = {stage: how for stage, kind, how in seen if kind == "stage.end"}
    failed = [stage for stage, how in ends.items() if how.startswith(("fail", "raise"))]
    text = f"{results} {error} {getattr(error, '__dict__', None)}"
    text += "".join(traceback.format_exception(error, limit=0))
    lost = [stage for stage in failed if repr(stage) not in text]
    if lost and not isinstance(error, asyncio.CancelledError):
        return f"stages that failed: {failed}; not reported: {lost}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION PART-4: {found}" if found else "HOLDS PART-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
