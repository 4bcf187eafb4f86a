"""TENANT-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r1, in which nothing went wrong, runs all its stages and ends ok
Actual: 1 executions of 2 stages; the run ended ok
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
run_names = {}  # pipeline_run_id -> name of the run


def note(stage, kind, detail=None):
    seen.append((time.monotonic() - began, stage, kind, detail))


def ending(output):
    kinds = {"ok": "ok", "fail": "fail", "skip": "skip", "cancel": "cancel_run"}
    return kinds[output.status.value]


def recorded(stage):
    """Note when a stage starts and how it ends."""

    def around(execute):
        async def run(*args):
            ctx = args[-1]
            me = f"{run_names[ctx.pipeline_run_id]}/{stage}"
            note(me, "stage.start")
            try:
                output = await execute(*args)
            except asyncio.CancelledError:
                note(me, "stage.end", "cancelled")
                raise
            except BaseException as exc:
                note(me, "stage.end", f"raise:{type(exc).__name__}")
                raise
            note(me, "stage.end", ending(output))
            return output

        return run

    return around


class First:
    @recorded("first")
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        return StageOutput.ok(value=None)


class Second:
    @recorded("second")
    async def execute(self, ctx):
        raise ValueError("raised")


async def start(graph, run, seconds):
    await asyncio.sleep(seconds)
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4())
    run_names[ctx.pipeline_run_id] = run
    note(f"{run}/", "run.begin")
    try:
        results = await graph.run(ctx)
        note(f"{run}/", "run.end", "returned")
        return results
    except BaseException as exc:
        note(f"{run}/", "run.end", type(exc).__name__)
        raise


def violation(took):
    stages = ['first', 'second']
    troubled = set([])  # runs that are cancelled, fail or are refused something
    begun, over, ran, spoilt = {}, {}, {}, {}
    for at, who, kind, how in seen:
        run, _, name = who.partition("/")
        if kind == "run.begin":
            begun[run] = at
        if kind == "run.end":
            over[run] = at
            if how != "returned":
                spoilt.setdefault(run, []).append(f"its caller got {how}")
        if kind == "stage.start":
            ran.setdefault(run, set()).add(name)
        if kind == "stage.end" and how == "cancelled":
            spoilt.setdefault(run, []).append(f"its stage {name} was cancelled")
        own = kind == "stage.end" and how not in ("ok", "cancelled")
        if own or kind in ("layer.raise", "layer.deny", "self_cancel"):
            troubled.add(run)
    for run in over:
        missing = [name for name in stages if name not in ran.get(run, set())]
        if missing:
            spoilt.setdefault(run, []).append(f"its stages {missing} did not run")
    found = {}
    for run, what in spoilt.items():
        if run in troubled or run not in over:
            continue
        for other in begun:
            beside = begun[other] < over[run] and begun[run] < over.get(other, took)
            if other != run and beside and (other in troubled or other not in spoilt):
                text = " and ".join(what)
                found[text] = f"nothing went wrong in {run}, but {text}; beside it: {other}"
    return "; ".join(found.values()) or None


async def main():
    graph = StageGraph(
        [
            StageSpec(name="first", runner=First),
            StageSpec(name="second", runner=Second),
        ]
    )
    tasks = [
        asyncio.create_task(start(graph, "r0", 0.0)),
        asyncio.create_task(start(graph, "r1", 0.03)),
        asyncio.create_task(start(graph, "r2", 0.0)),
        asyncio.create_task(start(graph, "r3", 0.0)),
    ]
    await asyncio.wait(tasks, timeout=10)
    took = time.monotonic() - began
    found = violation(took)
    print(f"VIOLATION TENANT-4: {found}" if found else "HOLDS TENANT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
