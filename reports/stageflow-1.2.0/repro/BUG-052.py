"""PART-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the outputs of 1 completed stages can be reached
Actual: those of 0 can
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


def block_thread(stage, seconds):
    time.sleep(seconds)


class Parse:
    async def execute(self, ctx):
        await asyncio.to_thread(block_thread, "parse", 1.0)
        seen.append((time.monotonic(), "parse", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Fetch:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "fetch", "stage.end", "ok"))
        return StageOutput.ok(value=None)


def violation(error, outputs):
    done = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]
    lost = [stage for stage in done if stage not in outputs]
    if lost:
        return f"completed, and lost to the caller: {lost}; what it got: {error!r}"


async def main():
    pipeline = Pipeline().with_stage("parse", Parse, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("fetch", Fetch, StageKind.TRANSFORM)
    graph = pipeline.build()
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"_timeout_ms": 100})
    results = error = None
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, results or getattr(error, "results", {}))
    print(f"VIOLATION PART-1: {found}" if found else "HOLDS PART-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
