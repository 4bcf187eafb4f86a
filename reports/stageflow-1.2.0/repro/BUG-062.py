"""STREAM-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage answer is stopped when its consumer has stopped
Actual: it ran on for 20 s, to its own end
"""

import asyncio
import contextlib
import os
import sys
import threading
import time

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec, create_core_ports  # noqa: E402
from stageflow.helpers.streaming import RealtimeStageBus  # noqa: E402

seen = []  # (seconds since the start, what happened)
began = time.monotonic()


async def consume(bus, stage="answer"):
    async with contextlib.aclosing(bus.subscribe(stage)) as chunks:
        await anext(chunks)
        seen.append((time.monotonic() - began, "consume.stop"))
    await bus.close_channel(stage)  # this is how a producer is told


class Answer:
    async def execute(self, ctx):
        try:
            seen.append((time.monotonic() - began, "chunk"))
            if not await ctx.ports.realtime_bus.publish("answer", "token 2"):
                return StageOutput.ok(value=None)
            await asyncio.sleep(20.0)
            return StageOutput.ok(value=None)
        finally:
            seen.append((time.monotonic() - began, "stage.end"))


async def main():
    graph = StageGraph([StageSpec(name="answer", runner=Answer)])
    bus = RealtimeStageBus(default_max_size=16)
    ports = create_core_ports(realtime_bus=bus)
    consumer = asyncio.create_task(consume(bus))
    run = asyncio.create_task(graph.run(PipelineContext.create(ports=ports)))
    await asyncio.wait([run], timeout=14)
    at = {kind: at for at, kind in seen}
    ran = at.get("stage.end", time.monotonic() - began) - at.get("consume.stop", 1e9)
    if ran > 10.25 and at["chunk"] <= at["consume.stop"]:
        return f"it ran on for {ran:.1f} s after its consumer had stopped"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION STREAM-4: {found}" if found else "HOLDS STREAM-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
