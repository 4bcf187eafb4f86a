"""TENANT-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r1, in which nothing went wrong, runs all its stages and ends ok
Actual: 1 executions of 2 stages; the run ended ok
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


class First:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((f"{ctx.data['run']}/first", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Second:
    async def execute(self, ctx):
        seen.append((f"{ctx.data['run']}/second", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


async def start(graph, run, seconds):
    await asyncio.sleep(seconds)
    try:
        await graph.run(PipelineContext.create(pipeline_run_id=uuid.uuid4(), data={"run": run}))
        seen.append((f"{run}/", "run.end", "returned"))
    except (Exception, asyncio.CancelledError) as error:
        seen.append((f"{run}/", "run.end", type(error).__name__))


async def main():
    specs = [StageSpec(name="first", runner=First), StageSpec(name="second", runner=Second)]
    graph = StageGraph(specs)
    tasks = [asyncio.create_task(start(graph, "r0", 0.0))]
    tasks.append(asyncio.create_task(start(graph, "r1", 0.03)))
    tasks += [asyncio.create_task(start(graph, run, 0.0)) for run in ["r2", "r3"]]
    await asyncio.wait(tasks, timeout=10)
    rows = [(stage.split("/")[0], kind, how) for stage, kind, how in seen]
    failed = {
        run
        for run, kind, how in rows
        if kind == "stage.end" and how.split(":")[0] in ("fail", "raise", "cancel_run")
    }
    got = {run: how for run, kind, how in rows if kind == "run.end"}
    done = [run for run, kind, how in rows if kind == "stage.end" and how == "ok"]
    whole = [run for run in got if done.count(run) == 2]
    fine = [run for run in whole if got[run] == "returned"]
    spoilt = [run for run in got if run not in fine and run not in failed]
    if spoilt and len(spoilt) < len(got):
        return f"nothing went wrong in {spoilt[0]}, but: {got[spoilt[0]]}, stages: {done}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TENANT-4: {found}" if found else "HOLDS TENANT-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
