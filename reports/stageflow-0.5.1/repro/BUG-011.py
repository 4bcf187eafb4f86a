"""GRAPH-5 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage pay is reported as completed only if it ran, or had completed under its key
Actual: in run r7 it did not run
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

seen = []  # (seconds since the start, stage, what happened, detail)
began = time.monotonic()
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
            seen.append((time.monotonic() - began, me, "stage.start", None))
            try:
                output = await execute(*args)
            except asyncio.CancelledError:
                seen.append((time.monotonic() - began, me, "stage.end", "cancelled"))
                raise
            except BaseException as exc:
                seen.append((time.monotonic() - began, me, "stage.end", f"raise:{type(exc).__name__}"))
                raise
            seen.append((time.monotonic() - began, me, "stage.end", ending(output)))
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
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    run_names[ctx.pipeline_run_id] = run
    seen.append((time.monotonic() - began, f"{run}/", "run.begin", None))
    try:
        return await graph.run(ctx)
    finally:
        seen.append((time.monotonic() - began, f"{run}/", "run.end", None))


def reachable(results, error):
    """What a user can get at; this graph returns failures among its results."""
    found = {}
    for name, one in (results or {}).items():
        data = one.data if isinstance(one.data, dict) else {}
        done = one.status == "completed"
        found[name] = data.get("value") if done else f"{one.status}: {one.error}"
    return found


def violation(outputs, took):
    found = {}
    told = {stage: value for stage, value in outputs.items()
            if not (isinstance(value, str) and ": " in value)}  # that it completed
    did = {}
    behind, kept = ['pay'], []  # a layer of the engine's; its idempotency layer
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
    most, reset = 5, 30.0  # failures in a row, and seconds for which they cut off
    tenants = {'r4': 't0', 'r5': 't0', 'r6': 't0', 'r7': 't0'}
    over = {stage[:-1]: at for at, stage, kind, _ in seen if kind == "run.end"}
    begun = {stage[:-1]: at for at, stage, kind, _ in seen if kind == "run.begin"}
    for name in ['pay']:
        row, opened = {}, {}  # tenant -> failures in a row; the one that made them enough
        for at, stage, kind, how in seen:
            run, _, one = stage.partition("/")
            who = tenants.get(run)
            if one == name and kind == "stage.start" and who in opened:
                since, last = opened[who]
                if begun[run] > over.get(last, took) and at < since + reset:
                    found.setdefault("closed", f"{stage} ran {at - since:.2f} s after "
                                     f"{most} failures in a row, the last in {last}")
            if one == name and kind == "stage.end":
                failed = how == "fail" or how.startswith("raise:")  # not "cancelled"
                row = {**row, who: row.get(who, 0) + 1} if failed else {}
                if row.get(who, 0) >= most:
                    opened.setdefault(who, (at, run))
    return "; ".join(found.values()) or None


async def main():
    graph = StageGraph([StageSpec(name="pay", runner=Pay)])
    tasks = {
        "r4": asyncio.create_task(start(graph, "r4", "t0", 0.0)),
        "r5": asyncio.create_task(start(graph, "r5", "t0", 0.0)),
        "r6": asyncio.create_task(start(graph, "r6", "t0", 0.0)),
        "r7": asyncio.create_task(start(graph, "r7", "t0", 0.1)),
    }
    await asyncio.wait(tasks.values(), timeout=10)
    outcomes = {run: settled(task) for run, task in tasks.items()}
    outputs = {
        f"{run}/{stage}": value
        for run, outcome in outcomes.items()
        for stage, value in reachable(*outcome).items()
    }
    took = time.monotonic() - began
    found = violation(outputs, took)
    print(f"VIOLATION GRAPH-5: {found}" if found else "HOLDS GRAPH-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
