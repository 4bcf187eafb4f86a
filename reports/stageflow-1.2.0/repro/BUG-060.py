"""TENANT-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage pay of tenant t1 runs, as if no other tenant were there
Actual: it was not let run (Circuit breaker open for pay), though its own runs gave no cause: ...
"""

import asyncio
import os
import sys
import threading
import time
import types
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402
from stageflow.tools import AdvancedToolExecutor, ToolDefinition  # noqa: E402
from stageflow.tools.definitions import ToolOutput  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)
run_names = {}  # pipeline_run_id -> name of the run


def settled(run):
    if run.cancelled() or not run.done():
        return None, asyncio.CancelledError() if run.cancelled() else TimeoutError("no end")
    return (None, run.exception()) if run.exception() else (run.result(), None)


async def call_tool(ctx, tool, work):
    async def handler(_input):
        return ToolOutput(success=True, data={"value": await work()})

    executor = AdvancedToolExecutor()
    executor.register(ToolDefinition(name=tool, action_type=tool, handler=handler))
    action = types.SimpleNamespace(id=uuid.uuid4(), type=tool, payload={})
    return await executor.execute(action, ctx)


def ending(output):
    kinds = {"ok": "ok", "fail": "fail", "skip": "skip", "cancel": "cancel_run"}
    return kinds[output.status.value]


def recorded(stage):
    """Note when a stage starts and how it ends."""

    def around(execute):
        async def run(*args):
            ctx = args[-1]
            me = f"{run_names[ctx.pipeline_run_id]}/{stage}"
            seen.append((time.monotonic(), me, "stage.start", None))
            try:
                output = await execute(*args)
            except asyncio.CancelledError:
                seen.append((time.monotonic(), me, "stage.end", "cancelled"))
                raise
            except BaseException as exc:
                seen.append((time.monotonic(), me, "stage.end", f"raise:{type(exc).__name__}"))
                raise
            seen.append((time.monotonic(), me, "stage.end", ending(output)))
            return output

        return run

    return around


async def bank_for_pay():
    await asyncio.sleep(0.0)
    raise RuntimeError("bank call 1 failed")


class Pay:
    @recorded("pay")
    async def execute(self, ctx):
        await call_tool(ctx, "bank", bank_for_pay)
        return StageOutput.ok(value=None)


async def start(graph, run, tenant, seconds):
    await asyncio.sleep(seconds)
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    run_names[ctx.pipeline_run_id] = run
    try:
        return await graph.run(ctx)
    finally:
        seen.append((time.monotonic(), f"{run}/", "run.end", None))


def reachable(results, error):
    """What a user can get at; this graph returns failures among its results."""
    found = {}
    for name, one in (results or {}).items():
        data = one.data if isinstance(one.data, dict) else {}
        done = one.status == "completed"
        found[name] = data.get("value") if done else f"{one.status}: {one.error}"
    return found


def violation(outputs):
    tenants = {'r4': 't0', 'r5': 't0', 'r6': 't0', 'r7': 't1'}
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    ran = {}  # (tenant, stage) -> in which runs
    for _, stage, kind, _ in seen:
        if kind == "stage.start":
            run, _, name = stage.partition("/")
            ran.setdefault((tenants[run], name), []).append(run)
    needs = {'pay': []}  # of the stages that the engine may cut off
    ends = {stage: how for _, stage, kind, how in seen if kind == "stage.end"}
    # However each ended, be it "cancelled".
    over = [stage[:-1] for _, stage, kind, _ in seen if kind == "run.end"]
    for run in over:
        mine = {s: how for s, how in ends.items() if s.split('/')[0] == run}
        if any(how not in ("ok", "skip") for how in mine.values()):
            continue  # it has trouble of its own
        for name, before in needs.items():
            due = all(f"{run}/{need}" in mine for need in before)
            tries = len(ran.get((tenants[run], name), []))
            theirs = [who for who, one in ran if one == name and who != tenants[run]]
            if due and f"{run}/{name}" not in ends and theirs and tries < 1:
                return (f"{run}/{name} was not let run; {tenants[run]} had run it "
                        f"{tries} times; others who had run it: {theirs}")


async def main():
    graph = StageGraph([StageSpec(name="pay", runner=Pay)])
    tasks = {
        "r4": asyncio.create_task(start(graph, "r4", "t0", 0.0)),
        "r5": asyncio.create_task(start(graph, "r5", "t0", 0.0)),
        "r6": asyncio.create_task(start(graph, "r6", "t0", 0.0)),
        "r7": asyncio.create_task(start(graph, "r7", "t1", 0.1)),
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
