"""CANCEL-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage load has ended when the run is over (the caller cancelled it)
Actual: the run was over while it was still running
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402


class Load:
    async def execute(self, ctx):
        graph.register_cleanup(lambda: asyncio.sleep(0), name="cursor")
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


async def main():
    global graph
    graph = Pipeline().with_stage("load", Load, StageKind.TRANSFORM).build()
    run = asyncio.create_task(graph.run(PipelineContext.create()))
    await asyncio.wait([run], timeout=0.1)
    run.cancel()
    await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait([run], timeout=10)
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    left = [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]
    if left:
        return f"still running when the run was over: {left}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CANCEL-5: {found}" if found else "HOLDS CANCEL-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
