"""CANCEL-1 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the reason is given: cancelled
Actual: none
"""

import asyncio
import contextlib
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402


def stages_left():
    """Return the functions of this file in which tasks still are."""
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    return [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]


class StageA:
    async def execute(self, ctx):
        await asyncio.sleep(0.0)
        return StageOutput.ok(value=None)


class StageB:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        ctx.mark_canceled()
        return StageOutput.cancel(reason="cancelled")


class C0:
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


class C1:
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


class C2:
    async def execute(self, ctx):
        return StageOutput.ok(value=None)


class C3:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


def violation(left):
    if left:
        return f"still running when the run was over: {left}"


async def main():
    graph = StageGraph(
        [
            StageSpec(name="a", runner=StageA),
            StageSpec(name="b", runner=StageB),
            StageSpec(name="c0", runner=C0),
            StageSpec(name="c1", runner=C1),
            StageSpec(name="c2", runner=C2),
            StageSpec(name="c3", runner=C3),
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
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(ctx)
    found = violation(stages_left())
    print(f"VIOLATION CANCEL-1: {found}" if found else "HOLDS CANCEL-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
