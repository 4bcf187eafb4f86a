"""CTX-2 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the output of stage fetch is what it returned
Actual: it carries a change that stage rogue made
"""

import asyncio
import contextlib
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineTimer, StageContext, StageInputs, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Fetch:
    async def execute(self, ctx):
        return StageOutput.ok(value={"rows": [1, 2, 3]})


class Rogue:
    async def execute(self, ctx):
        value = ctx.inputs.get_from("fetch", "value")
        with contextlib.suppress(TypeError, AttributeError):  # it may be read-only
            value["changed"] = True
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("fetch", Fetch, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("rogue", Rogue, StageKind.TRANSFORM, dependencies=("fetch",))
    graph = pipeline.build()
    ids = RunIdentity(pipeline_run_id=uuid.uuid4(), org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"))
    ctx = enter(ContextSnapshot(run_id=ids))
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as error:
        results = getattr(error, "results", {})
    outputs = {name: one.data for name, one in results.items() if one.status.value == "ok"}
    own = {one: outputs[one] for one in outputs if one not in ["rogue"]}
    if "changed" in str(own):
        return f"an output carries a change that another stage made: {own}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CTX-2: {found}" if found else "HOLDS CTX-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
