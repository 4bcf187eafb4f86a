"""EVENT-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the sink gets the events of r0/work/telemetry in the order of their emission
Actual: it got number 3 before number 2
"""

import asyncio
import contextlib
import os
import random
import runpy
import sys
import threading
import time

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import BackpressureAwareEventSink, Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (what happened, detail)


async def pause(seconds):
    for _ in range(random.choice((0, 0, 1, 2, 3, 5))):  # a few turns of the event loop
        await asyncio.sleep(0)
    await asyncio.sleep(seconds and seconds + random.choice((0, 0, 0.0002, 0.0009)))
    for _ in range(random.choice((0, 0, 1, 2, 3, 5)) if seconds else 0):  # timers fire together
        await asyncio.sleep(0)


class UserSink:
    async def emit(self, *, type, data):
        seen.append(("deliver.begin", (data.get("producer", ""), data.get("n", -1))))
        await pause(0.01)


sink = BackpressureAwareEventSink(UserSink())


class Work:
    async def execute(self, ctx):
        for n in range(5):
            await pause(0.005)
            ctx.try_emit_event(type="flood", data={"producer": "work/telemetry", "n": n})
        return StageOutput.ok(value=None)


async def main():
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    await sink.start()
    asyncio.get_running_loop().call_later(
        0.025 + random.choice((0, 0, 0.0004, 0.0009)), asyncio.current_task().cancel
    )
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext.create(event_sink=sink))
    await sink.stop(drain=True, timeout=1.0)
    got = list(dict.fromkeys(n[1] for kind, n in seen if kind == "deliver.begin" and n[0]))
    if got != sorted(got):
        return f"the sink got the events in this order: {got}"


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
    said = f"VIOLATION EVENT-4: {first}" if shown else "HOLDS EVENT-4"
    print(f"{said}: {rate}", flush=True)
    os._exit(1 if shown else 0)
