"""TIME-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ask failed by a TimeoutError of its own code, after 0 s
Actual: the engine says: Stage timed out after 30000ms
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


class Ask:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "ask", "stage.end", "raise:TimeoutError"))
        raise TimeoutError("raised")


def violation(error, outputs):
    own = [at for at, _, kind, how in seen if kind == "stage.end"
           and how == "raise:TimeoutError"]
    text = f"{error} {outputs}"
    if own and "timed out after" in text:
        return f"a TimeoutError raised by the stage after {own[0]:.2f} s is told as: {text}"


async def main():
    graph = StageGraph([StageSpec(name="ask", runner=Ask)])
    results = error = None
    try:
        results = await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, results or {})
    print(f"VIOLATION TIME-4: {found}" if found else "HOLDS TIME-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
