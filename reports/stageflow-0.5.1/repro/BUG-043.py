"""GRAPH-1 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: a pipeline with this fault is refused at build: duplicate fetch
Actual: it was built; 1 stages started; and it was run
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineTimer, StageContext, StageInputs, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402

seen = []  # (stage, what happened)


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Work:
    async def execute(self, ctx):
        seen.append((ctx.stage_name, "stage.start"))
        return StageOutput.ok(value=None)


async def main():
    error = None
    try:
        pipeline = Pipeline().with_stage("fetch", Work, StageKind.TRANSFORM)
        graph = pipeline.with_stage("fetch", Work, StageKind.TRANSFORM).build()
        ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
        ctx = enter(ContextSnapshot(run_id=ids))
        seen.append(("", "run.begin"))
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    # The pipeline has this fault: duplicate fetch
    if any(kind == "run.begin" for _, kind in seen):
        ran = [stage for stage, kind in seen if kind == "stage.start"]
        return f"the pipeline was built; stages that ran: {ran}; then: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION GRAPH-1: {found}" if found else "HOLDS GRAPH-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
