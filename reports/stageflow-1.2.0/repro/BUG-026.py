"""CANCEL-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: no stage starts after b asked to end the run
Actual: stage a started 0.1 s later
"""

import asyncio
import os
import random
import runpy
import sys
import threading
import time

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput, get_default_interceptors  # noqa: E402
from stageflow.pipeline.retry import JitterStrategy, RetryInterceptor  # noqa: E402

seen = []  # (seconds since the start, stage, what happened)
began = time.monotonic()


async def pause(seconds):
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):  # a few turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(seconds and seconds + random.choice((0, 0, 0.0002, 0.0009)))
    for _ in range(random.choice((0, 0, 1, 2, 3, 5)) if seconds else 0):  # timers fire together
        await asyncio.sleep(0)


class StageA:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "a", "stage.start"))
        await pause(0.1)
        raise ValueError("raised")


class StageB:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "b", "stage.start"))
        await pause(0.1)
        seen.append((time.monotonic() - began, "b", "stage.end"))
        return StageOutput.cancel(reason="cancelled")


class StageC:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "c", "stage.start"))
        await pause(0.0)
        return StageOutput.ok(value=None)


async def main():
    retry = RetryInterceptor(
        base_delay_ms=100, jitter_strategy=JitterStrategy.NONE, retryable_errors=(Exception,)
    )
    pipeline = Pipeline().with_stage("a", StageA, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("b", StageB, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("c", StageC, StageKind.TRANSFORM)
    graph = pipeline.build(interceptors=[*get_default_interceptors(), retry])
    await asyncio.gather(graph.run(PipelineContext.create()), return_exceptions=True)
    # Ends that are noted are by "cancel_run".
    asked = min([at for at, _, kind in seen if kind == "stage.end"], default=1e9)
    late = [stage for at, stage, kind in seen if kind == "stage.start" and at > asked + 0.05]
    if late:
        return f"started after a stage had asked to end the run: {late}"


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    began, tries, shown, first = time.monotonic(), 0, 0, ""
    while tries < 400 and time.monotonic() < began + 14:
        tries += 1
        random.seed(tries)
        loop = asyncio.new_event_loop()  # and variables of its own: nothing is left of other tries
        main = loop.create_task(runpy.run_path(__file__)["main"]())
        limit = loop.call_later(13, main.cancel)
        try:
            found = loop.run_until_complete(main)
        except asyncio.CancelledError:
            found = ""  # the cancel came when it judged: that tells nothing
        if loop.time() >= limit.when():
            found = ""  # nor does one that hangs
        loop.close()
        shown, first = shown + bool(found), first or found
    rate = f"in {shown or 'none'} of {tries} tries"
    said = f"VIOLATION CANCEL-1: {first}" if shown else "HOLDS CANCEL-1"
    print(f"{said}: {rate}", flush=True)
    os._exit(1 if shown else 0)
