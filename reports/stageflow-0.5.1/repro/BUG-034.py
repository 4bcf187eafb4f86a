"""CORR-3 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: what comes of run r4 carries the ids of run r4
Actual: its cleanup carries the correlation id of run r5
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
from stageflow.observability.tracing import get_correlation_id, set_correlation_id  # noqa: E402

seen = []  # (stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run
id_names = {}  # id -> what it stands for


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
        async def release_third():
            told = {"correlation": id_names.get(get_correlation_id() or ctx.request_id)}
            seen.append((f"{run_names[ctx.pipeline_run_id]}/work", "identity", ("cleanup", told)))
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
    id_names[request] = correlation
    await graph.run(ctx)


async def main():
    global graph
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    tasks = [asyncio.create_task(start(graph, run, "t0")) for run in ["r4", "r5"]]
    await asyncio.wait(tasks, timeout=10)
    ids = {"r5": "corr-005-03281"}  # run -> its id
    told = [(stage, *detail) for stage, kind, detail in seen if kind == "identity"]
    for stage, place, said in told:
        others = [one for run, one in ids.items() if not stage.startswith(f"{run}/")]
        if said.get("correlation", "") in others:
            return f"the {place} of {stage} is told of another: {said}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CORR-3: {found}" if found else "HOLDS CORR-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
