"""GRAPH-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage parse starts after fetch has completed
Actual: it started when fetch had ended raise:RuntimeError
"""

import asyncio
import contextlib
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)
executions = {}  # stage -> how often it has been run


def execution_number(stage):
    executions[stage] = executions.get(stage, 0) + 1
    return executions[stage]


class Fetch:
    async def execute(self, ctx):
        execution = execution_number("fetch")
        seen.append((time.monotonic(), "fetch", "stage.start", None))
        if execution <= 1:
            raise RuntimeError("flaky")
        seen.append((time.monotonic(), "fetch", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Parse:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "parse", "stage.start", None))
        seen.append((time.monotonic(), "parse", "stage.end", "ok"))
        return StageOutput.ok(value=None)


def violation():
    needs = {'parse': ['fetch']}
    done = set()
    for _, stage, kind, how in seen:
        if kind == "stage.start":
            due = needs.get(stage, ())
            missing = [need for need in due if need not in done]
            if missing:
                return f"stage {stage} started; not completed before it: {missing}"
        if kind == "stage.end" and how == "ok":
            done.add(stage)


async def main():
    graph = StageGraph(
        [
            StageSpec(name="fetch", runner=Fetch),
            StageSpec(name="parse", runner=Parse, dependencies=("fetch",)),
        ]
    )
    with contextlib.suppress(Exception, asyncio.CancelledError):
        await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    found = violation()
    print(f"VIOLATION GRAPH-2: {found}" if found else "HOLDS GRAPH-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
