"""CLEAN-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the engine reports that the cleanup of connection failed
Actual: the run ended failed and says nothing of it
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (what happened, detail)


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Load:
    async def execute(self, ctx):
        try:
            await asyncio.sleep(0.1)
        finally:
            await asyncio.sleep(0)
            seen.append(("release.fail", "connection"))
            raise RuntimeError("cleanup of connection failed")
        return StageOutput.ok(value=None)


class Parse:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    pipeline = Pipeline().with_stage("load", Load, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("parse", Parse, StageKind.TRANSFORM)
    graph = pipeline.build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    results, error = {}, None
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        results, error = getattr(exc, "results", {}), exc
    failed = [name for kind, name in seen if kind == "release.fail"]
    if error is None or isinstance(error, asyncio.CancelledError):
        return None  # what its results say of it is not looked at here
    text = f"{error!r} {vars(error)} {error.__cause__!r} {error.__context__!r} {results}"
    if failed and f"cleanup of {failed[0]} failed" not in text:
        return f"cleanup of {failed[0]} failed; the caller was told: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-4: {found}" if found else "HOLDS CLEAN-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
