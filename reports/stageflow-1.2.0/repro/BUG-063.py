"""TENANT-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship of tenant t2 runs: no run of this tenant has run it
Actual: it is given an output without having run; tenant t0 ran it
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run


def settled(run):
    if run.cancelled() or not run.done():
        return None, asyncio.CancelledError() if run.cancelled() else TimeoutError("no end")
    return (None, run.exception()) if run.exception() else (run.result(), None)


class Ship:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/ship"
        seen.append((time.monotonic(), me, "stage.start", None))
        return StageOutput.ok(value=None)


async def start(graph, run, tenant):
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
        data={"idempotency_key": "key"},
    )
    run_names[ctx.pipeline_run_id] = run
    return await graph.run(ctx)


def reachable(results, error):
    """What a user can get at; this graph returns failures among its results."""
    found = {}
    for name, one in (results or {}).items():
        data = one.data if isinstance(one.data, dict) else {}
        done = one.status == "completed"
        found[name] = data.get("value") if done else f"{one.status}: {one.error}"
    return found


def violation(outputs):
    tenants = {'r2': 't0', 'r3': 't2'}
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    ran = {}  # (tenant, stage) -> in which runs
    for _, stage, kind, _ in seen:
        if kind == "stage.start":
            run, _, name = stage.partition("/")
            ran.setdefault((tenants[run], name), []).append(run)
    for name in ['ship']:  # behind the idempotency layer
        whose = [tenant for tenant, one in ran if one == name]
        for run, tenant in tenants.items():
            if f"{run}/{name}" in told and tenant not in whose and whose:
                value = told[f"{run}/{name}"]
                return (f"{run}/{name} is told as completed, {value!r}; no run of "
                        f"{tenant} ran it, but one of {whose[0]} did")


async def main():
    graph = StageGraph([StageSpec(name="ship", runner=Ship)])
    tasks = {
        "r2": asyncio.create_task(start(graph, "r2", "t0")),
        "r3": asyncio.create_task(start(graph, "r3", "t2")),
    }
    await asyncio.wait(tasks.values(), timeout=10)
    outcomes = {run: settled(task) for run, task in tasks.items()}
    outputs = {
        f"{run}/{stage}": value
        for run, outcome in outcomes.items()
        for stage, value in reachable(*outcome).items()
    }
    found = violation(outputs)
    print(f"VIOLATION TENANT-2: {found}" if found else "HOLDS TENANT-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
