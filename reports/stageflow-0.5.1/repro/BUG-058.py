"""TIME-5 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage infer with a timeout of 0 ends at once, or is refused at build
Actual: it ran for 0.1 s as if it had no timeout
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds since the start, what happened, detail)
began = time.monotonic()


class Infer:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((time.monotonic() - began, "stage.end", "ok"))
        return StageOutput.ok(value=None)


async def main():
    graph = StageGraph([StageSpec(name="infer", runner=Infer)])
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
        data={"_timeout_ms": 0},
    )
    await asyncio.gather(graph.run(ctx), return_exceptions=True)
    ran = [at for at, kind, how in seen if kind == "stage.end" and how == "ok"]
    if ran and ran[-1] > 0.02:
        return f"the stage ran to its end, {ran[-1]:.2f} s, with a timeout of zero"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TIME-5: {found}" if found else "HOLDS TIME-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
