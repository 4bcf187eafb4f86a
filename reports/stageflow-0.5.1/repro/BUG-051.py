"""TIME-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage ask failed by a TimeoutError of its own code, after 0 s
Actual: the engine says: Stage timed out after 30000ms
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


class Ask:
    async def execute(self, ctx):
        seen.append(("ask", "stage.end", "raise:TimeoutError"))
        raise TimeoutError("raised")


async def main():
    graph = StageGraph([StageSpec(name="ask", runner=Ask)])
    ctx = PipelineContext(
        pipeline_run_id=uuid.uuid4(),
        request_id=uuid.uuid4(),
        session_id=None,
        user_id=None,
        interaction_id=None,
        org_id=uuid.uuid5(uuid.NAMESPACE_DNS, "t0"),
    )
    results, error = {}, None
    try:
        results = await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    own = [
        stage for stage, kind, how in seen if kind == "stage.end" and how == "raise:TimeoutError"
    ]
    text = f"{error} {results}"
    if own and "timed out after" in text:
        return f"a TimeoutError raised by stage {own[0]} itself is told as: {text}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION TIME-4: {found}" if found else "HOLDS TIME-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
