"""GRAPH-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ship is reported as completed only if it ran, or had completed under its key
Actual: in run r1 it did not run; nor before
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.pipeline.interceptors import (  # noqa: E402
    BaseInterceptor,
    ErrorAction,
    InterceptorResult,
    get_default_interceptors,
)

seen = []  # (seconds, stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run


def settled(run):
    if run.cancelled() or not run.done():
        return None, asyncio.CancelledError() if run.cancelled() else TimeoutError("no end")
    return (None, run.exception()) if run.exception() else (run.result(), None)


class GuardLayer(BaseInterceptor):
    name, priority = "guard", 100
    raised = {}  # stage -> its exception

    async def before(self, stage_name, ctx):
        seen.append((time.monotonic(), f"{run_names[ctx.pipeline_run_id]}/{stage_name}", "layer.deny", "guard"))
        return InterceptorResult(stage_ran=False, error="denied by guard")

    async def after(self, stage_name, result, ctx):
        how = "raise:" + self.raised.pop(f"{run_names[ctx.pipeline_run_id]}/{stage_name}", "StageFailed") if result.status == "failed" else "ok"
        seen.append((time.monotonic(), f"{run_names[ctx.pipeline_run_id]}/{stage_name}", "layer.exit", ("guard", how)))

    async def on_error(self, stage_name, error, ctx):
        self.raised[f"{run_names[ctx.pipeline_run_id]}/{stage_name}"] = type(error).__name__
        return ErrorAction.FAIL


class Ship:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/ship"
        seen.append((time.monotonic(), me, "stage.start", None))
        seen.append((time.monotonic(), me, "stage.end", "ok"))
        return StageOutput.ok(value=None)


async def start(graph, run):
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), data={"idempotency_key": "key"})
    run_names[ctx.pipeline_run_id] = run
    try:
        results = await graph.run(ctx)
        seen.append((time.monotonic(), f"{run}/", "run.end", "returned"))
        return results
    except BaseException as exc:
        seen.append((time.monotonic(), f"{run}/", "run.end", type(exc).__name__))
        raise


def reachable(results, error):
    """What a user can get at; this graph returns failures among its results."""
    found = {}
    for name, one in (results or {}).items():
        data = one.data if isinstance(one.data, dict) else {}
        done = one.status == "completed"
        found[name] = data.get("value") if done else f"{one.status}: {one.error}"
    return found


def violation(outputs):
    found = {}
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    below = {'ship': []}  # what needs each stage, directly or not
    did, exits = {}, set()
    for _, stage, kind, detail in seen:
        run, _, name = stage.rpartition("/")
        if kind == "layer.exit":
            exits.add((stage, detail[0]))
        if kind == "layer.deny":
            did[stage] = "denied it"
        if kind == "layer.raise":
            did[stage] = "failed after it" if (stage, detail) in exits else "failed"
        if kind == "stage.start":
            if did.get(stage) in ("denied it", "failed"):
                text = f"stage {stage} ran after a layer around it had {did[stage]}"
                found["ran " + did[stage]] = text
            for other in did:
                of, _, need = other.rpartition("/")
                if of == run and name in below.get(need, ()):
                    text = f"stage {stage} ran, which needs {other}: a layer {did[other]}"
                    found["below " + did[other]] = text
    fine = [stage.strip("/") for _, stage, kind, how in seen
            if kind == "run.end" and how == "returned"]
    for stage in did:
        if stage in told:
            text = f"stage {stage}: a layer {did[stage]}; it is told as completed"
            found["told " + did[stage]] = text
        if stage not in outputs and stage.rpartition("/")[0] in fine:
            text = f"stage {stage}: a layer {did[stage]}; nothing is said of it"
            found["untold " + did[stage]] = text
    behind, kept = ['ship'], ['ship']  # a layer of the engine's; its idempotency layer
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
    interceptors = [
        *get_default_interceptors(),
        GuardLayer(),
    ]
    graph = StageGraph([StageSpec(name="ship", runner=Ship)], interceptors=interceptors)
    tasks = {
        "r0": asyncio.create_task(start(graph, "r0")),
        "r1": asyncio.create_task(start(graph, "r1")),
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
