"""GRAPH-2 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage reply starts after load has completed
Actual: it started when load had ended raise:MemoryError
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


class Load:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "load", "stage.start", None))
        raise MemoryError("10000 MB are not to be had")
        seen.append((time.monotonic(), "load", "stage.end", "ok"))
        return StageOutput.ok(value=None)


class Reply:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "reply", "stage.start", None))
        seen.append((time.monotonic(), "reply", "stage.end", "ok"))
        return StageOutput.ok(value=None)


def violation():
    needs = {'reply': ['load']}
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
            StageSpec(name="load", runner=Load),
            StageSpec(name="reply", runner=Reply, dependencies=("load",)),
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
    found = violation()
    print(f"VIOLATION GRAPH-2: {found}" if found else "HOLDS GRAPH-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
