"""TIME-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: a timeout of nan is refused
Actual: the pipeline was built and run with it
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class Infer:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "infer", "stage.start", None))
        return StageOutput.ok(value=None)


def violation(error):
    if any(kind == "run.begin" for _, _, kind, _ in seen):
        ran = [stage for _, stage, kind, _ in seen if kind == "stage.start"]
        return f"run with a timeout of nan s: stages {ran}, then: {error!r}"


async def main():
    error = None
    try:
        graph = StageGraph([StageSpec(name="infer", runner=Infer)])
        ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"_timeout_ms": float("nan")})
        seen.append((time.monotonic(), "", "run.begin", None))
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error)
    print(f"VIOLATION TIME-5: {found}" if found else "HOLDS TIME-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
