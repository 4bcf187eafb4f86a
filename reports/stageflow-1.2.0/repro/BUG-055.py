"""PART-3 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: 1 stages that completed in the tick of the cancellation count as completed
Actual: 0 do
"""

import asyncio
import os
import random
import runpy
import sys
import threading
import time

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


async def pause(seconds):
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):  # a few turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(seconds and seconds + random.choice((0, 0, 0.0002, 0.0009)))
    for _ in range(random.choice((0, 0, 1, 2, 3, 5)) if seconds else 0):  # timers fire together
        await asyncio.sleep(0)


class StageA:
    async def execute(self, ctx):
        await pause(0.0)
        seen.append(("a", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class StageB:
    async def execute(self, ctx):
        await pause(0.1)
        ctx.mark_canceled("cancelled")
        return StageOutput.cancel(reason="cancelled")


class C0:
    async def execute(self, ctx):
        await pause(0.0)
        seen.append(("c0", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class C1:
    async def execute(self, ctx):
        await pause(0.0)
        seen.append(("c1", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class C2:
    async def execute(self, ctx):
        await pause(0.1)
        seen.append(("c2", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class C3:
    async def execute(self, ctx):
        await pause(0.0)
        seen.append(("c3", "stage.end", "ok"))
        return StageOutput.ok(value=None)


async def main():
    specs = [
        StageSpec(name="a", runner=StageA),
        StageSpec(name="b", runner=StageB),
        StageSpec(name="c0", runner=C0),
        StageSpec(name="c1", runner=C1),
        StageSpec(name="c2", runner=C2),
        StageSpec(name="c3", runner=C3),
    ]
    graph = StageGraph(specs)
    results, error = {}, None
    try:
        results = await graph.run(PipelineContext.create())
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    outputs = [name for name, one in results.items() if one.status == "completed"]
    done = [stage for stage, kind, how in seen if kind == "stage.end" and how == "ok"]
    lost = [stage for stage in done if stage not in outputs]
    if lost:
        return f"completed, and lost to the caller: {lost}; what it got: {error!r}"


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
    said = f"VIOLATION PART-3: {first}" if shown else "HOLDS PART-3"
    print(f"{said}: {rate}", flush=True)
    os._exit(1 if shown else 0)
