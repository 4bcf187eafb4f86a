"""GRAPH-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: a pipeline with this fault is refused at build: duplicate fetch
Actual: it was built; 1 stages started; and it was run
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


class Fetch:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "fetch", "stage.start", None))
        return StageOutput.ok(value=None)


class Fetch2:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "fetch", "stage.start", None))
        return StageOutput.ok(value=None)


def violation(error):
    # The pipeline has this fault: duplicate fetch
    if any(kind == "run.begin" for _, _, kind, _ in seen):
        ran = [stage for _, stage, kind, _ in seen if kind == "stage.start"]
        return f"the pipeline was built; stages that ran: {ran}; then: {error!r}"


async def main():
    error = None
    try:
        pipeline = Pipeline().with_stage("fetch", Fetch2, StageKind.TRANSFORM)
        pipeline = pipeline.with_stage("fetch", Fetch2, StageKind.TRANSFORM)
        graph = pipeline.build()
        seen.append((time.monotonic(), "", "run.begin", None))
        await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error)
    print(f"VIOLATION GRAPH-1: {found}" if found else "HOLDS GRAPH-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
