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
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.helpers.streaming import RealtimeStageBus  # noqa: E402
from stageflow.stages.ports import create_core_ports  # noqa: E402

seen = []  # (seconds since the start, stage, what happened)
began = time.monotonic()


async def consume(bus, stage="answer"):
    async with contextlib.aclosing(bus.subscribe(stage)) as chunks:
        taken = 0
        async for _ in chunks:
            taken += 1
            if taken == 3:
                break
        seen.append((time.monotonic() - began, stage, "consume.stop"))
    await bus.close_channel(stage)  # this is how a producer is told


class Answer:
    async def execute(self, ctx):
        try:
            for n in range(3):
                seen.append((time.monotonic() - began, "answer", "chunk"))
                if not await ctx.ports.realtime_bus.publish("answer", f"token {n}"):
                    return StageOutput.ok(value=None)
            await asyncio.sleep(20.0)
            return StageOutput.ok(value=None)
        finally:
            seen.append((time.monotonic() - began, "answer", "stage.end"))


async def start():
    graph = StageGraph([StageSpec(name="answer", runner=Answer)])
    bus = RealtimeStageBus(default_max_size=16)
    ports = create_core_ports(realtime_bus=bus)
    consumer = asyncio.create_task(consume(bus))
    try:
        return await graph.run(PipelineContext.create(pipeline_run_id=uuid.uuid4(), ports=ports))
    finally:
        await bus.close_all()
        await asyncio.wait([consumer])
        seen.append((time.monotonic() - began, "", "run.end"))


async def main():
    run = asyncio.create_task(start())
    await asyncio.wait([run], timeout=14)
    took = time.monotonic() - began
    mine = [(at, kind) for at, stage, kind in seen if stage in ('answer', '')]
    before, stop, after = " ".join(kind for _, kind in mine).partition("consume.stop")
    if not stop or "stage.end" in before:
        return None
    if after.count("chunk") > 1:
        return f"{after.count('chunk')} more chunks came after the consumer had stopped"
    if "run.end" in after and "stage.end" not in after.partition("run.end")[0]:
        return "its consumer had stopped; it was still running when the run was over"
    at = {kind: at for at, kind in mine}
    ran = at.get("stage.end", took) - at["consume.stop"]
    if ran > 10.25 and "chunk" not in after:
        return f"it ran on for {ran:.1f} s after its consumer had stopped"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION STREAM-4: {found}" if found else "HOLDS STREAM-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
