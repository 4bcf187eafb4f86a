"""CLEAN-6 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: run r9 goes on when another run ends
Actual: its stage score was interrupted
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
INPUTS = {"r7": {}, "r9": {"marker": "request-009-523"}}


class Search:
    async def execute(self, ctx):
        me = f"{ctx.snapshot.metadata['run']}/search"
        try:

            async def release_index():
                await asyncio.sleep(0)

            graph.register_cleanup(release_index, name="index")
            return StageOutput.ok(value=None)
        except asyncio.CancelledError:
            seen.append((me, "stage.end", "cancelled"))
            raise
        except Exception as exc:
            seen.append((me, "stage.end", f"raise:{type(exc).__name__}"))
            raise


class Score:
    async def execute(self, ctx):
        me = f"{ctx.snapshot.metadata['run']}/score"
        try:
            marker = ctx.snapshot.metadata["marker"]
            await asyncio.sleep(0.1)
            return StageOutput.ok(value=None)
        except asyncio.CancelledError:
            seen.append((me, "stage.end", "cancelled"))
            raise
        except Exception as exc:
            seen.append((me, "stage.end", f"raise:{type(exc).__name__}"))
            raise


async def start(graph, run):
    ctx = PipelineContext.create(pipeline_run_id=uuid.uuid4(), metadata={"run": run, **INPUTS[run]})
    await graph.run(ctx)


async def main():
    global graph
    pipeline = Pipeline().with_stage("search", Search, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("score", Score, StageKind.TRANSFORM)
    graph = pipeline.build()
    tasks = [asyncio.create_task(start(graph, run)) for run in ["r7", "r9"]]
    await asyncio.wait(tasks, timeout=10)
    rows = [(stage, how) for stage, kind, how in seen if kind == "stage.end"]
    ends = [(stage.split("/")[0], how) for stage, how in rows]
    fails = ("fail", "raise", "cancel_run")
    failed = {run for run, how in ends if how.split(":")[0] in fails}
    cut = [run for run, how in ends if how == "cancelled" and run not in failed]
    if cut:
        return f"a stage was cancelled, though nothing had ended its run: {cut}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CLEAN-6: {found}" if found else "HOLDS CLEAN-6", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
