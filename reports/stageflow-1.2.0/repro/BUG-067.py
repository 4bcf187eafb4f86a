"""TIME-3 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage labs, running when stage imaging timed out, has ended when the run is over
Actual: the run was over while it was still running
"""

import asyncio
import contextlib
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402


class Vitals:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


class Imaging:
    async def execute(self, ctx):
        await asyncio.sleep(0.5)
        return StageOutput.ok(value=None)


class Labs:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("vitals", Vitals, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("imaging", Imaging, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("labs", Labs, StageKind.TRANSFORM, dependencies=("vitals",))
    graph = pipeline.build()
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext.create(data={"_timeout_ms": 200}))
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    left = [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]
    if left:
        return f"still running when the run was over: {left}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TIME-3: {found}" if found else "HOLDS TIME-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
