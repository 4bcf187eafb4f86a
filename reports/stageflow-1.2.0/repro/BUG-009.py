"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is not reported as completed: layer late failed after it
Actual: it is reported as completed
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402
from stageflow.pipeline.interceptors import BaseInterceptor, get_default_interceptors  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class LateLayer(BaseInterceptor):
    name, priority = "late", 100

    async def before(self, stage_name, ctx):
        pass

    async def after(self, stage_name, result, ctx):
        seen.append((time.monotonic(), stage_name, "layer.raise", "late"))
        raise RuntimeError("layer late failed")


class Ship:
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


def reachable(results, error):
    """What a user can get at: the results, or what the exception carries of them."""
    found = {}
    for name, one in (results or getattr(error, "results", {})).items():
        how = one.status.value
        found[name] = one.data.get("value") if how == "ok" else f"{how}: {one.error}"
    return found


def violation(error, outputs):
    did = [stage for _, stage, kind, _ in seen if kind == "layer.raise"]
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    found = []
    for stage in did:
        if stage in told:
            found.append(f"stage {stage}: a layer failed after it; it is told as completed")
        if stage not in outputs and error is None:
            found.append(f"stage {stage}: a layer failed after it; nothing is said of it")
    return "; ".join(found) or None


async def main():
    interceptors = [
        *get_default_interceptors(),
        LateLayer(),
    ]
    pipeline = Pipeline().with_stage("ship", Ship, StageKind.TRANSFORM)
    graph = pipeline.build(interceptors=interceptors)
    results = error = None
    try:
        results = await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, reachable(results, error))
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
