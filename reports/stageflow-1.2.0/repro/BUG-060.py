"""RETRY-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage load is tried 3 times while it goes on failing
Actual: it was tried 1 times
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput, get_default_interceptors  # noqa: E402
from stageflow.pipeline.retry import JitterStrategy, RetryInterceptor  # noqa: E402

seen = []  # what happened


class Load:
    async def execute(self, ctx):
        seen.append("stage.end")
        return StageOutput.fail(error="failed")


async def main():
    retry = RetryInterceptor(
        base_delay_ms=100,
        jitter_strategy=JitterStrategy.NONE,
        retryable_errors=(Exception,),
        retry_on_status=("failed",),
    )
    pipeline = Pipeline().with_stage("load", Load, StageKind.TRANSFORM)
    graph = pipeline.build(interceptors=[*get_default_interceptors(), retry])
    await asyncio.gather(graph.run(PipelineContext.create()), return_exceptions=True)
    tries = [kind for kind in seen].count("stage.end")
    if tries < 3:
        return f"stage load failed and was tried {tries} of 3 times"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION RETRY-1: {found}" if found else "HOLDS RETRY-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
