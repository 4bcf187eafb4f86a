"""CANCEL-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the run ends (stage stubborn swallows its cancellation)
Actual: it never ended: deadlock; _Trial._root waits in tasks.py
"""

import asyncio
import os
import sys
import threading
import time

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (seconds since the start, what happened)
began = time.monotonic()


class Stubborn:
    async def execute(self, ctx):
        try:
            await asyncio.sleep(86400)
        except asyncio.CancelledError:
            seen.append((time.monotonic() - began, "swallowed"))
            await asyncio.sleep(86400)
        return StageOutput.ok(value=None)


async def main():
    graph = Pipeline().with_stage("stubborn", Stubborn, StageKind.TRANSFORM).build()
    run = asyncio.create_task(graph.run(PipelineContext.create(data={"_timeout_ms": 100})))
    await asyncio.wait([run], timeout=14)
    took = time.monotonic() - began
    asked = [at for at, kind in seen if kind == "swallowed"]
    if asked and took > asked[0] + 10.25:
        return f"the run ended {took - asked[0]:.2f} s after it was told to"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CANCEL-4: {found}" if found else "HOLDS CANCEL-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
