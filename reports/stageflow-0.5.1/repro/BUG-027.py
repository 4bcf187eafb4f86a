"""CLEAN-1 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: third is released once
Actual: its cleanup ran 2 times
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
run_names = {}  # pipeline_run_id -> name of the run


def enter(snapshot, event_sink=None):
    return StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
        event_sink=event_sink,
    )


class Work:
    async def execute(self, ctx):
        me = f"{run_names[ctx.pipeline_run_id]}/work"
        async def release_third():
            seen.append((time.monotonic(), me, "release.begin", "third"))
            await asyncio.sleep(0)

        seen.append((time.monotonic(), me, "register", "third"))
        graph.register_cleanup(release_third, name="third")
        return StageOutput.ok(value=None)


async def start(graph, run, tenant):
    ids = RunIdentity(
        pipeline_run_id=uuid.uuid4(),
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, tenant),
    )
    ctx = enter(ContextSnapshot(run_id=ids))
    run_names[ctx.pipeline_run_id] = run
    try:
        return await graph.run(ctx)
    finally:
        seen.append((time.monotonic(), f"{run}/", "run.end", None))


def violation():
    held, begun = [], []
    for _, stage, kind, name in seen:
        if kind == "register":
            held.append((stage, name))
        if kind == "release.begin":
            begun.append((stage, name))
            if (stage, name) in held:
                held.remove((stage, name))
        lost = [one for one in held if kind == "run.end" and one[0].startswith(stage)]
        if lost:
            return f"not released when the run was over: {lost}"
    twice = [one for one in begun if begun.count(one) > 1]
    if twice:
        return f"released more than once: {twice[0]}"


async def main():
    global graph
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    tasks = [
        asyncio.create_task(start(graph, "r4", "t0")),
        asyncio.create_task(start(graph, "r5", "t0")),
    ]
    await asyncio.wait(tasks, timeout=10)
    found = violation()
    print(f"VIOLATION CLEAN-1: {found}" if found else "HOLDS CLEAN-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
