"""CANCEL-3 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage fetch has ended when the run is over (the caller cancelled it)
Actual: the run was over while it was still running
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput  # noqa: E402
from stageflow.context import ContextSnapshot, RunIdentity  # noqa: E402
from stageflow.stages import StageInputs  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


def stages_left():
    """Return the functions of this file in which tasks still are."""
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    return [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__]


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Fetch:
    async def execute(self, ctx):
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


def violation(error, left):
    if left:
        return f"still running when the run was over: {left}"
    accepted = any(kind == "cancel.sent" and sent[1] for _, _, kind, sent in seen)
    if accepted and not isinstance(error, asyncio.CancelledError):
        return f"cancel() was accepted, but what the caller then saw was: {error!r}"


async def main():
    graph = Pipeline().with_stage("fetch", Fetch, StageKind.TRANSFORM).build()
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    ctx = enter(ContextSnapshot(run_id=ids))
    loop, caller = asyncio.get_running_loop(), asyncio.current_task()
    loop.call_later(0.1, lambda: seen.append((time.monotonic(), "", "cancel.sent", (0, caller.cancel()))))
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, stages_left())
    print(f"VIOLATION CANCEL-3: {found}" if found else "HOLDS CANCEL-3", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
