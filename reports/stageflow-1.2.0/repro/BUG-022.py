"""TENANT-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: no value of tenant t0 is in what run south1 of tenant south produced
Actual: 'marker-north-01', an input of run north1, is in its stages
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run
INPUTS = {"north1": {"marker": "marker-north-01"}, "south1": {"marker": "marker-south-01"}}


def filled(value, given):
    if isinstance(value, dict):
        return {k: filled(v, given) for k, v in value.items()}
    if isinstance(value, list):
        return [filled(v, given) for v in value]
    if isinstance(value, str) and "marker" in given:
        return value.replace("$marker", given["marker"])
    return value


def settled(run):
    if run.cancelled() or not run.done():
        return None, asyncio.CancelledError() if run.cancelled() else TimeoutError("no end")
    return (None, run.exception()) if run.exception() else (run.result(), None)


class Ship:
    async def execute(self, ctx):
        given = {}
        given["marker"] = ctx.snapshot.metadata["marker"]
        return StageOutput.ok(value=filled("shipped to $marker", given))


async def start(graph, run, tenant):
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
        metadata=INPUTS[run],
        data={"idempotency_key": "key"},
    )
    run_names[ctx.pipeline_run_id] = run
    return await graph.run(ctx)


def reachable(results, error):
    """What a user can get at: the results, or what the exception carries of them."""
    found = {}
    for name, one in (results or getattr(error, "results", {})).items():
        how = one.status.value
        found[name] = one.data.get("value") if how == "ok" else f"{how}: {one.error}"
    return found


def violation(outputs):
    tenants = {'north1': 't0', 'south1': 'south'}
    given = {'north1': ['marker-north-01'], 'south1': ['marker-south-01']}
    produced = [(stage, kind, detail) for _, stage, kind, detail in seen]
    produced += [(stage, "output", value) for stage, value in outputs.items()]
    for stage, kind, detail in produced:
        run = stage.split("/")[0]
        for other, texts in given.items():
            if run in tenants and run != other and tenants[run] != tenants[other]:
                for text in texts:
                    if text in repr(detail):
                        return f"{text}, an input of {other}, is in the {kind} of {stage}"
        said = detail[1].get("tenant") if kind == "identity" else None
        if said in tenants.values() and said != tenants[run]:
            return f"{stage} is {tenants[run]}'s; its {detail[0]} is told {said}"


async def main():
    graph = Pipeline().with_stage("ship", Ship, StageKind.TRANSFORM).build()
    tasks = {
        "north1": asyncio.create_task(start(graph, "north1", "t0")),
        "south1": asyncio.create_task(start(graph, "south1", "south")),
    }
    await asyncio.wait(tasks.values(), timeout=10)
    outcomes = {run: settled(task) for run, task in tasks.items()}
    outputs = {
        f"{run}/{stage}": value
        for run, outcome in outcomes.items()
        for stage, value in reachable(*outcome).items()
    }
    found = violation(outputs)
    print(f"VIOLATION TENANT-1: {found}" if found else "HOLDS TENANT-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
