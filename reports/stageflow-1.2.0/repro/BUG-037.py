"""CLEAN-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: third is released once
Actual: its cleanup ran 2 times
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened, detail)


class Work:
    async def execute(self, ctx):
        async def release_third():
            seen.append((f"{ctx.snapshot.metadata['run']}/work", "release.begin", "third"))
            await asyncio.sleep(0)

        graph.register_cleanup(release_third, name="third")
        return StageOutput.ok(value=None)


async def start(graph, run):
    await graph.run(PipelineContext.create(pipeline_run_id=uuid.uuid4(), metadata={"run": run}))


async def main():
    global graph
    graph = Pipeline().with_stage("work", Work, StageKind.TRANSFORM).build()
    tasks = [asyncio.create_task(start(graph, run)) for run in ["r4", "r5"]]
    await asyncio.wait(tasks, timeout=10)
    begun = [(stage, name) for stage, kind, name in seen if kind == "release.begin"]
    twice = [one for one in begun if begun.count(one) > 1]
    if twice:
        return f"released more than once: {twice[0]}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-1: {found}" if found else "HOLDS CLEAN-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
