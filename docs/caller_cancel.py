"""CANCEL-3 on stageflow-core 1.2.0: stages run on after the caller has cancelled the run.

Expected: when `graph.run()` has raised CancelledError, no stage is running any more.
Actual: the stage goes on, and does its work half a second after the run was over.
"""

import asyncio
import sys

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput

charged = []


class Charge:
    name = "charge"
    kind = StageKind.WORK

    async def execute(self, ctx):
        await asyncio.sleep(0.5)
        charged.append("card 4711")
        return StageOutput.ok()


async def main():
    graph = Pipeline().with_stage("charge", Charge, StageKind.WORK).build()
    run = asyncio.create_task(graph.run(PipelineContext.create()))
    await asyncio.sleep(0.1)
    run.cancel()
    await asyncio.wait([run])
    assert run.cancelled()
    await asyncio.sleep(1)  # the run is over; nothing of it should happen now


asyncio.run(main())
print(f"VIOLATION CANCEL-3: charged after the cancel: {charged}" if charged else "HOLDS CANCEL-3")
sys.exit(1 if charged else 0)
