"""CLEAN-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the cleanup of cursor may take up to 10 s
Actual: it was cancelled after 0.1 s
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


class Load:
    async def execute(self, ctx):
        async def release_cursor():
            seen.append((time.monotonic() - began, "load", "release.begin", "cursor"))
            await asyncio.sleep(0.2)
            seen.append((time.monotonic() - began, "load", "release.end", "cursor"))

        graph.register_cleanup(release_cursor, name="cursor")
        return StageOutput.ok(value=None)


def violation():
    begun = {}
    for at, stage, kind, name in seen:
        if kind == "release.begin":
            begun[stage, name] = at
        if kind == "release.end":
            begun.pop((stage, name), None)
        if kind == "run.end" and begun and at < min(begun.values()) + 9.98:
            return f"begun, and not finished when the run was over: {list(begun)}"


async def main():
    global graph
    graph = Pipeline().with_stage("load", Load, StageKind.TRANSFORM).build()
    asyncio.get_running_loop().call_later(0.1, asyncio.current_task().cancel)
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    seen.append((time.monotonic() - began, "", "run.end", None))
    found = violation()
    print(f"VIOLATION CLEAN-2: {found}" if found else "HOLDS CLEAN-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
