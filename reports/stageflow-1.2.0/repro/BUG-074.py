"""STREAM-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the result of stage answer, which ended early, is marked as partial
Actual: it looks complete
"""

import asyncio
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput, create_core_ports  # noqa: E402
from stageflow.helpers.streaming import RealtimeStageBus  # noqa: E402

seen = []  # (stage, what happened, detail)


class Answer:
    async def execute(self, ctx):
        for _ in range(5):
            await asyncio.sleep(0.0)
        await ctx.inputs.ports.realtime_bus.publish("answer", "token 8")
        await asyncio.sleep(0.0)
        seen.append(("answer", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Guard:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    pipeline = Pipeline().with_stage("answer", Answer, StageKind.TRANSFORM)
    graph = pipeline.with_stage("guard", Guard, StageKind.TRANSFORM).build()
    bus = RealtimeStageBus(default_max_size=10000)
    ports = create_core_ports(realtime_bus=bus)
    results, error = {}, None
    try:
        results = await graph.run(PipelineContext.create(ports=ports))
    except (Exception, asyncio.CancelledError) as exc:
        results, error = getattr(exc, "results", {}), exc
    await bus.close_all()
    for stage in await bus.stats():
        output = results.get(stage)
        whole = output.status.value == "ok" if output else getattr(error, "stage", None) != stage
        if [one async for one in bus.subscribe(stage)]:
            seen.append((stage, "partial", whole))
    told, done = ("answer", "partial", True), ("answer", "stage.end", "ok")
    if told in seen and done not in seen:
        return "stage answer ended early; nothing says that its chunks are not all"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION STREAM-2: {found}" if found else "HOLDS STREAM-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
