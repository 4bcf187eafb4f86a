"""CLEAN-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: 1 resources are released by the time the run is over (caller cancel)
Actual: 0 were
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class Fetch:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "fetch", "acquire", "socket"))
        try:
            await asyncio.sleep(0.2)
        finally:
            seen.append((time.monotonic(), "fetch", "release.begin", "socket"))
            await asyncio.sleep(0)
        return StageOutput.ok(value=None)


def violation():
    over = [kind for _, _, kind, _ in seen].index("run.end")
    taken = [name for _, _, kind, name in seen[:over] if kind == "acquire"]
    in_time = [name for _, _, kind, name in seen[:over] if kind == "release.begin"]
    held = [name for name in taken if name not in in_time]
    if held:
        return f"not released when the run was over: {held}"
    begun = [name for _, _, kind, name in seen if kind == "release.begin"]
    twice = [name for name in taken if begun.count(name) > 1]
    if twice:
        return f"released more than once: {twice}"


async def main():
    graph = StageGraph([StageSpec(name="fetch", runner=Fetch)])
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    seen.append((time.monotonic(), "", "run.end", None))
    found = violation()
    print(f"VIOLATION CLEAN-1: {found}" if found else "HOLDS CLEAN-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
