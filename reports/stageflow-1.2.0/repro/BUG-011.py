"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is reported as completed only if it ran, or had completed under its key
Actual: its output in run r0 is another stage's
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class Pay:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "pay", "stage.start", None))
        return StageOutput.ok(value=None)


class Ship:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "ship", "stage.start", None))
        return StageOutput.ok(value=None)


def reachable(results, error):
    """What a user can get at: the results, or what the exception carries of them."""
    found = {}
    for name, one in (results or getattr(error, "results", {})).items():
        how = one.status.value
        found[name] = one.data.get("value") if how == "ok" else f"{how}: {one.error}"
    return found


def violation(outputs):
    started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    for stage, value in told.items():
        if stage not in started:
            of = [one for one in started if value is not None and told.get(one) == value]
            text = f"{stage} is told as completed ({value!r}); it did not run, nor had "
            text += "it succeeded before"
            return text + (f"; it is given the output of {of[0]}" if of else "")


async def main():
    pipeline = Pipeline().with_stage("pay", Pay, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("ship", Ship, StageKind.TRANSFORM)
    graph = pipeline.build()
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"idempotency_key": "key"})
    results = error = None
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(reachable(results, error))
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
