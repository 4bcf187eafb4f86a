"""CANCEL-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the run ends (stage stubborn swallows its cancellation)
Actual: it never ended: deadlock; _Trial._root waits in tasks.py
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


class Stubborn:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "stubborn", "stage.start", None))
        try:
            for swallowed in range(1, 3):
                try:
                    await asyncio.sleep(86400)
                    break
                except asyncio.CancelledError:
                    if swallowed > 1:
                        raise
                    seen.append((time.monotonic() - began, "stubborn", "swallowed", swallowed))
            return StageOutput.ok(value=None)
        finally:
            seen.append((time.monotonic() - began, "stubborn", "stage.end", None))


async def start():
    graph = StageGraph([StageSpec(name="stubborn", runner=Stubborn)])
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"_timeout_ms": 100})
    return await graph.run(ctx)


def violation(error, outputs, took):
    asked = [at for at, _, kind, _ in seen if kind == "swallowed"]
    if asked and took > asked[0] + 10.25:
        return f"the run ended {took - asked[0]:.2f} s after it was told to: {error!r}"
    ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]
    running = [one for _, one, kind, _ in seen if kind == "stage.start"
               and one not in ended]
    text = f"{error!r} {getattr(error, '__dict__', None)} {outputs}"
    if asked and any(stage not in text for stage in running):
        return f"still running: {running}; the caller was told: {error!r}"


async def main():
    run = asyncio.create_task(start())
    results = error = None
    try:
        results = await asyncio.wait_for(asyncio.shield(run), 10)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    took = time.monotonic() - began
    found = violation(error, results or {}, took)
    print(f"VIOLATION CANCEL-4: {found}" if found else "HOLDS CANCEL-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
