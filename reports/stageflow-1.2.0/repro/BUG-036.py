"""CLEAN-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup of socket has finished when the run is over
Actual: the run was over while it was still at it
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

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


class Parse:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        raise asyncio.CancelledError("raised")


class Fetch:
    async def execute(self, ctx):
        try:
            await asyncio.sleep(0.2)
        finally:
            seen.append((time.monotonic() - began, "fetch", "release.begin", "socket"))
            try:
                await asyncio.sleep(0.1)
            finally:
                seen.append((time.monotonic() - began, "fetch", "release.over", "socket"))
        return StageOutput.ok(value=None)


def violation():
    begun = {}
    for at, stage, kind, name in seen:
        if kind == "release.begin":
            begun[stage, name] = at
        if kind == "release.over":
            begun.pop((stage, name), None)
        if kind == "run.end" and begun and at < min(begun.values()) + 9.98:
            return f"begun, and not finished when the run was over: {list(begun)}"


async def main():
    graph = StageGraph(
        [
            StageSpec(name="parse", runner=Parse),
            StageSpec(name="fetch", runner=Fetch),
        ]
    )
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    seen.append((time.monotonic() - began, "", "run.end", None))
    found = violation()
    print(f"VIOLATION CLEAN-2: {found}" if found else "HOLDS CLEAN-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
