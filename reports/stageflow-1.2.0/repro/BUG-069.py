"""CORR-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

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

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402
from stageflow.observability.tracing import set_correlation_id  # noqa: E402


class Second:
    async def execute(self, ctx):
        raise ValueError("raised")


async def main():
    graph = Pipeline().with_stage("second", Second, StageKind.TRANSFORM).build()
    correlation = {"r0": "corr-005-03281"}["r0"]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    error = None
    try:
        await graph.run(PipelineContext.create(request_id=request))
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
