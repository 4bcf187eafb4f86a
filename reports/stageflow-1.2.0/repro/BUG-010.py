"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage pay is reported as completed only if it ran, or had completed under its key
Actual: in run r2 its output is None
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
run_names = {}  # pipeline_run_id -> name of the run


def settled(run):
    if run.cancelled() or not run.done():
        return None, asyncio.CancelledError() if run.cancelled() else TimeoutError("no end")
    return (None, run.exception()) if run.exception() else (run.result(), None)


class Pay:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/pay"
        seen.append((time.monotonic(), me, "stage.start", None))
        seen.append((time.monotonic(), me, "stage.end", "ok"))
        return StageOutput.ok(value="paid")


class Ship:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/ship"
        seen.append((time.monotonic(), me, "stage.start", None))
        seen.append((time.monotonic(), me, "stage.end", "ok"))
        return StageOutput.ok(value=None)


async def start(graph, run):
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"idempotency_key": "key"})
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
    found = {}
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    did = {}
    behind, kept = ['pay', 'ship'], ['pay', 'ship']  # a layer of the engine's; its idempotency layer
    started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]
    good = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]
    for stage, value in told.items():
        name = stage.rpartition("/")[2]
        if name not in behind or stage in started or stage in did:
            continue
        before = [one for one in good if one.rpartition("/")[2] == name and name in kept]
        if not before:
            text = f"{stage} is told as completed ({value!r}); it did not run, nor had it "
            text += "succeeded before"
            found.setdefault("answered", text)
            of = [one for one in good if value is not None and told.get(one) == value]
            if of:
                found.setdefault("whose", f"{stage} is given {of[0]}'s output: {value!r}")
        elif all(one in told and told[one] != value for one in before):
            found.setdefault("kept", f"{stage} was not run again; its output is {value!r}, "
                             f"it had been {told[before[0]]!r}")
    return "; ".join(found.values()) or None


async def main():
    pipeline = Pipeline().with_stage("pay", Pay, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("ship", Ship, StageKind.TRANSFORM)
    graph = pipeline.build()
    tasks = {
        "r1": asyncio.create_task(start(graph, "r1")),
        "r2": asyncio.create_task(start(graph, "r2")),
    }
    await asyncio.wait(tasks.values(), timeout=10)
    outcomes = {run: settled(task) for run, task in tasks.items()}
    outputs = {
        f"{run}/{stage}": value
        for run, outcome in outcomes.items()
        for stage, value in reachable(*outcome).items()
    }
    found = violation(outputs)
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
