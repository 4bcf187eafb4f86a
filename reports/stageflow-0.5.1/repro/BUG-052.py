"""CORR-1 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the correlation id 'corr-005-03281' of run r0 is on its error
Actual: there is none
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
from stageflow.observability.tracing import set_correlation_id  # noqa: E402


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Second:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    graph = Pipeline().with_stage("second", Second, StageKind.TRANSFORM).build()
    correlation = {"r0": "corr-005-03281"}["r0"]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        request_id=request,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    ctx = enter(ContextSnapshot(run_id=ids))
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    text, one = "", error
    while one is not None and len(text) < 100_000:
        text += f"{one!r} {[getattr(one, name, None) for name in dir(one)]}"
        one = one.__cause__ or one.__context__
    of = type(error).__module__
    own = error and of not in ("builtins", "__main__", "asyncio.exceptions")
    due = "corr-005-03281"  # itself, or the UUID that was made of it
    if own and due not in text and str(uuid.uuid5(uuid.NAMESPACE_DNS, due)) not in text:
        return f"the correlation id {due} is not on the error of the run: {error!r}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CORR-1: {found}" if found else "HOLDS CORR-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
