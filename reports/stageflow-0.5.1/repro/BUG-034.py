"""CORR-3 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: what comes of run r4 carries the ids of run r4
Actual: its cleanup carries the correlation id of run r5
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.observability.tracing import get_correlation_id, set_correlation_id  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run
id_names = {}  # id -> what it stands for


def told(ctx):
    """For whom the code works, by what it is given and by the correlation id that was set."""
    ids = {
        "run": ctx.pipeline_run_id,
        "tenant": ctx.snapshot.org_id,
        "correlation": get_correlation_id() or ctx.request_id,
    }
    return {what: id_names.get(one, str(one)) for what, one in ids.items()}


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
        me = f"{run_names[ctx.pipeline_run_id]}/work"
        async def release_third():
            seen.append((time.monotonic(), me, "identity", ("cleanup", told(ctx))))
            await asyncio.sleep(0)

        graph.register_cleanup(release_third, name="third")
        return StageOutput.ok(value=None)


async def start(graph, run, tenant):
    correlation = {"r4": "", "r5": "corr-005-03281"}[run]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        request_id=request,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    id_names[ctx.pipeline_run_id], id_names[ctx.snapshot.org_id] = run, tenant
    id_names[request] = correlation
    return await graph.run(ctx)


def violation():
    ids = {'r4': '', 'r5': 'corr-005-03281'}  # run -> the correlation id of its caller
    for _, stage, kind, detail in seen:
        if kind != "identity":
            continue
        place, said, run = *detail, stage.split("/")[0]
        for other, correlation in ids.items():
            if correlation and said.get("correlation") == correlation != ids[run]:
                return f"the {place} of {stage} is told the correlation id of run {other}"
            if other != run and said.get("run", "").split("/")[0] == other:
                return f"the {place} of {stage} is told that it is of run {other}"


async def main():
    global graph
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    tasks = [
        asyncio.create_task(start(graph, "r4", "t0")),
        asyncio.create_task(start(graph, "r5", "t0")),
    ]
    await asyncio.wait(tasks, timeout=10)
    found = violation()
    print(f"VIOLATION CORR-3: {found}" if found else "HOLDS CORR-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
