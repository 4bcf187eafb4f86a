"""RETRY-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage a is not tried again after stage b ended the run
Actual: it was, 0.1 s later
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

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()


async def pause(seconds):
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):  # a few turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(seconds and seconds + random.choice((0, 0, 0.0002, 0.0009)))
    for _ in range(random.choice((0, 0, 1, 2, 3, 5)) if seconds else 0):  # timers fire together
        await asyncio.sleep(0)


class StageA:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "a", "stage.start", None))
        await pause(0.1)
        seen.append((time.monotonic() - began, "a", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


class StageB:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "b", "stage.start", None))
        await pause(0.1)
        seen.append((time.monotonic() - began, "b", "stage.end", "cancel_run"))
        return StageOutput.cancel(reason="cancelled")


class StageC:
    async def execute(self, ctx):
        seen.append((time.monotonic() - began, "c", "stage.start", None))
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
    seen.append((time.monotonic() - began, "", "run.end", None))
    final = [
        at
        for at, stage, kind, how in seen
        if kind == "run.end"
        or (kind == "stage.end" and how == "cancel_run")
        or (kind == "stage.end" and how.split(":")[0] in ("fail", "raise") and stage in ["b"])
    ]
    tried = set()
    for at, stage, kind, _ in seen:
        if kind == "stage.start" and stage in tried and final and at > final[0] + 0.02:
            return f"stage {stage} was tried again {at - final[0]:.2f} s after the end"
        if kind == "stage.start":
            tried.add(stage)


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
    said = f"VIOLATION RETRY-1: {first}" if shown else "HOLDS RETRY-1"
    print(f"{said}: {rate}", flush=True)
    os._exit(1 if shown else 0)
