"""TIME-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage infer with a timeout of 0 ends at once, or is refused at build
Actual: it ran for 0.1 s as if it had no timeout
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


class Infer:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((time.monotonic() - began, "infer", "stage.end", "ok"))
        return StageOutput.ok(value=None)


def violation():
    ran = [at for at, _, kind, how in seen if kind == "stage.end" and how == "ok"]
    if ran and ran[-1] > 0.02:
        return f"the stage ran to its end, {ran[-1]:.2f} s, with a timeout of zero"


async def main():
    graph = Pipeline().with_stage("infer", Infer, StageKind.TRANSFORM).build()
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"_timeout_ms": 0})
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(ctx)
    found = violation()
    print(f"VIOLATION TIME-5: {found}" if found else "HOLDS TIME-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
