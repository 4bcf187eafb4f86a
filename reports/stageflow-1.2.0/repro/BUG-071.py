"""PART-4 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the failure of stage ask carries its ValueError
Actual: the exception is gone; what is left says: raised
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class Ask:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "ask", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


def violation(error, outputs):
    if isinstance(error, asyncio.CancelledError):
        return None  # who cancels a run is told nothing
    failed = {stage: how for _, stage, kind, how in seen
              if kind == "stage.end" and how.split(":")[0] in ("fail", "raise")}
    text, one = str(outputs), error
    while one is not None and len(text) < 100_000:
        text += f"{one!r} {vars(one)}"
        one = getattr(one, 'original', None) or one.__cause__ or one.__context__
    lost = [stage for stage in failed if f"'{stage}'" not in text]
    if lost:
        return f"stages that failed: {sorted(failed)}; not reported: {lost}"
    for stage, how in failed.items():
        if how.partition(":")[2] not in text:
            told = f"the caller got: {text[:200]}"
            return f"the {how[6:]} of stage {stage} is gone; {told}"


async def main():
    graph = StageGraph([StageSpec(name="ask", runner=Ask)])
    results = error = None
    try:
        results = await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(error, results or {})
    print(f"VIOLATION PART-4: {found}" if found else "HOLDS PART-4", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
