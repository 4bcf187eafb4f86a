"""PART-3 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: 1 stages that completed in the tick of the cancellation count as completed
Actual: 0 do
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


class StageA:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((time.monotonic(), "a", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class StageB:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        ctx.mark_canceled()
        return StageOutput.cancel(reason="cancelled")


class C0:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((time.monotonic(), "c0", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class C1:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((time.monotonic(), "c1", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class C2:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        seen.append((time.monotonic(), "c2", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class C3:
    async def execute(self, ctx):
        await asyncio.sleep(0.1)
        seen.append((time.monotonic(), "c3", "stage.end", "ok"))
        return StageOutput.ok(value=None)


def violation(error, outputs):
    done = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]
    lost = [stage for stage in done if stage not in outputs]
    if lost:
        return f"completed, and lost to the caller: {lost}; what it got: {error!r}"


async def main():
    graph = StageGraph(
        [
            StageSpec(name="a", runner=StageA),
            StageSpec(name="b", runner=StageB, dependencies=("a",)),
            StageSpec(name="c0", runner=C0),
            StageSpec(name="c1", runner=C1, dependencies=("a",)),
            StageSpec(name="c2", runner=C2, dependencies=("a",)),
            StageSpec(name="c3", runner=C3, dependencies=("a",)),
        ]
    )
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    results = error = None
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, [name for name, one in (results or {}).items() if one.status == "completed"])
    print(f"VIOLATION PART-3: {found}" if found else "HOLDS PART-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
