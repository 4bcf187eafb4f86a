"""CANCEL-5 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage load has ended when the run is over (the caller cancelled it)
Actual: the run was over while it was still running
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

kept = []  # strong references: the loop itself holds its tasks weakly
seen = []  # (seconds, stage, what happened, detail)


def stages_left():
    """Return the functions of this file in which tasks still are."""
    coros = [task.get_coro() for task in asyncio.all_tasks() - {asyncio.current_task()}]
    for coro in coros:  # each is followed by the one that it awaits
        coros += [coro.cr_await] if hasattr(coro.cr_await, "cr_code") else []
    return [coro.__qualname__ for coro in coros if coro.cr_code.co_filename == __file__ and "<locals>" not in coro.__qualname__]


async def cancel_after(task, number, seconds, times=1, gap=0.0):
    await asyncio.sleep(seconds)
    for again in range(times):
        if again:
            await asyncio.sleep(gap)
        seen.append((time.monotonic(), "", "cancel.sent", (number, task.cancel())))


class Load:
    async def execute(self, ctx):
        async def release_cursor():
            await asyncio.sleep(0)

        graph.register_cleanup(release_cursor, name="cursor")
        await asyncio.sleep(0.2)
        return StageOutput.ok(value=None)


async def start():
    global graph
    graph = Pipeline().with_stage("load", Load, StageKind.TRANSFORM).build()
    return await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))


def violation(error, left):
    if left:
        return f"still running when the run was over: {left}"
    accepted = any(kind == "cancel.sent" and sent[1] for _, _, kind, sent in seen)
    if accepted and not isinstance(error, asyncio.CancelledError):
        return f"cancel() was accepted, but what the caller then saw was: {error!r}"


async def main():
    run = asyncio.create_task(start())
    kept.append(asyncio.create_task(cancel_after(run, 0, 0.1, times=2, gap=0.0), name="own cancel"))
    error = None
    try:
        await asyncio.wait_for(asyncio.shield(run), 10)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, stages_left())
    print(f"VIOLATION CANCEL-5: {found}" if found else "HOLDS CANCEL-5", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
