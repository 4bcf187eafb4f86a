"""CANCEL-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the run ends (stage stubborn swallows its cancellation)
Actual: it never ended: deadlock; _Trial._root waits in dag.py
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineTimer, StageContext, StageInputs, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402

seen = []  # (seconds since the start, what happened)
began = time.monotonic()


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Stubborn:
    async def execute(self, ctx):
        try:
            await asyncio.sleep(86400)
        except asyncio.CancelledError:
            seen.append((time.monotonic() - began, "swallowed"))
            await asyncio.sleep(86400)
        return StageOutput.ok(value=None)


class Parse:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    pipeline = Pipeline().with_stage("stubborn", Stubborn, StageKind.TRANSFORM)
    graph = pipeline.with_stage("parse", Parse, StageKind.TRANSFORM).build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    run = asyncio.create_task(graph.run(ctx))
    await asyncio.wait([run], timeout=14)
    took = time.monotonic() - began
    asked = [at for at, kind in seen if kind == "swallowed"]
    if asked and took > asked[0] + 10.25:
        return f"the run ended {took - asked[0]:.2f} s after it was told to"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CANCEL-4: {found}" if found else "HOLDS CANCEL-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
