"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage report does not run when a layer around it fails or denies
Actual: it ran after layer crash had failed
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.pipeline.interceptors import BaseInterceptor, get_default_interceptors  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class CrashLayer(BaseInterceptor):
    name, priority = "crash", 100

    async def before(self, stage_name, ctx):
        seen.append((time.monotonic(), stage_name, "layer.raise", "crash"))
        raise RuntimeError("layer crash failed")

    async def after(self, stage_name, result, ctx):
        pass


class Report:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "report", "stage.start", None))
        return StageOutput.ok(value=None)


def reachable(results, error):
    """What a user can get at; this graph returns failures among its results."""
    found = {}
    for name, one in (results or {}).items():
        data = one.data if isinstance(one.data, dict) else {}
        done = one.status == "completed"
        found[name] = data.get("value") if done else f"{one.status}: {one.error}"
    return found


def violation(error, outputs):
    did = [stage for _, stage, kind, _ in seen if kind == "layer.raise"]
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    found = []
    for stage in did:
        if (stage, "stage.start") in [one[1:3] for one in seen]:
            found.append(f"stage {stage} ran after a layer around it had failed")
        if stage in told:
            found.append(f"stage {stage}: a layer failed; it is told as completed")
        if stage not in outputs and error is None:
            found.append(f"stage {stage}: a layer failed; nothing is said of it")
    return "; ".join(found) or None


async def main():
    interceptors = [
        *get_default_interceptors(),
        CrashLayer(),
    ]
    graph = StageGraph([StageSpec(name="report", runner=Report)], interceptors=interceptors)
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
