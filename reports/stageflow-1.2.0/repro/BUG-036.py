"""CLEAN-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: 1 resources are released by the time the run is over (caller cancel)
Actual: 0 were
"""

import asyncio
import contextlib
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (what happened, detail)


class Fetch:
    async def execute(self, ctx):
        seen.append(("acquire", "socket"))
        try:
            await asyncio.sleep(0.2)
        finally:
            seen.append(("release.begin", "socket"))
            await asyncio.sleep(0)
        return StageOutput.ok(value=None)


async def main():
    graph = Pipeline().with_stage("fetch", Fetch, StageKind.TRANSFORM).build()
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext.create())
    begun = [name for kind, name in seen if kind == "release.begin"]
    held = [name for kind, name in seen if kind == "acquire" and name not in begun]
    if held:
        return f"not released when the run was over: {held}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-1: {found}" if found else "HOLDS CLEAN-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
