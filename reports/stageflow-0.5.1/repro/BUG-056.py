"""PART-4 on stageflow-core==0.5.1: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the failure of stage ask carries its ValueError
Actual: the exception is gone; what is left says: raised
"""

import asyncio
import os
import sys
import threading
import traceback
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (stage, what happened, detail)


class Ask:
    async def execute(self, ctx):
        seen.append(("ask", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


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
    ends = {stage: how for stage, kind, how in seen if kind == "stage.end"}
    failed = [stage for stage, how in ends.items() if how.startswith(("fail", "raise"))]
    text = f"{results} {error} {getattr(error, '__dict__', None)}"
    text += "".join(traceback.format_exception(error, limit=0))
    gone = [stage for stage in failed if ends[stage].partition(":")[2] not in text]
    if gone and not isinstance(error, asyncio.CancelledError):
        return f"what failed in {gone} is gone; the caller got: {text[:200]}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION PART-4: {found}" if found else "HOLDS PART-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
