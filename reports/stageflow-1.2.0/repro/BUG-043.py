"""CLEAN-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: every exception has been fetched when the run is over
Actual: left: StageFault
"""

import asyncio
import gc
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

unretrieved = []  # exceptions that nobody fetched


class Load:
    async def execute(self, ctx):
        try:
            await asyncio.sleep(0.1)
        finally:
            await asyncio.sleep(0)
            raise RuntimeError("cleanup of connection failed")
        return StageOutput.ok(value=None)


class Parse:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    asyncio.get_running_loop().set_exception_handler(
        lambda _, said: unretrieved.append(f"{said['message']}: {said.get('exception')!r}")
    )
    pipeline = Pipeline().with_stage("load", Load, StageKind.TRANSFORM)
    graph = pipeline.with_stage("parse", Parse, StageKind.TRANSFORM).build()
    await asyncio.gather(graph.run(PipelineContext.create()), return_exceptions=True)
    await asyncio.sleep(0.01)  # for whatever only needs a turn or two
    gc.collect()
    lost = [one for one in unretrieved if "never retrieved" in one]
    if lost:
        return f"exceptions that nobody fetched: {lost}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-5: {found}" if found else "HOLDS CLEAN-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
