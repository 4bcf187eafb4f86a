"""CORR-1 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the correlation id 'corr-005-03281' of run r5 is on its error
Actual: there is none
"""

import asyncio
import os
import sys
import threading
import time
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402
from stageflow.observability.tracing import get_correlation_id, set_correlation_id  # noqa: E402

seen = []  # (seconds, stage, what happened, detail)


class Second:
    async def execute(self, ctx):
        seen.append((time.monotonic(), "second", "stage.end", "raise:ValueError"))
        raise ValueError("raised")


def violation(error):
    ids = {'r5': 'corr-005-03281'}  # run -> the correlation id of its caller
    for _, stage, kind, detail in seen:
        due = ids.get('r5')
        if kind == "identity" and due is not None:
            said = detail[1].get("correlation", "")
            if said not in ids.values():
                return f"{stage}, {detail[0]}: the correlation id is {said!r}, not {due}"
    # `error` is that of the first run that has one.
    got = {'r5': how for _, stage, kind, how in seen if kind == "run.end"}
    first = [run for run in ['r5'] if got.get(run) != "returned"]
    failed = [stage for _, stage, kind, how in seen if kind == "stage.end"
              and (how == "fail" or how.startswith("raise:"))]
    own = error is not None and type(error).__module__ not in ('builtins', '__main__')
    due = ids.get(first[0]) if first else None
    if own and due and not isinstance(error, asyncio.CancelledError):
        if any('r5' == first[0] for stage in failed):
            texts, one = [], error
            while one is not None and len(texts) < 20:
                fields = {n: getattr(one, n, None) for n in dir(one) if n[:2] != '__'}
                texts.append(f"{one!r} {fields}")
                one = one.__cause__ or one.__context__
            # The id itself, or the UUID that was made of it for an engine that wants one.
            forms = due, str(uuid.uuid5(uuid.NAMESPACE_DNS, due))
            if not any(one in str(texts) for one in forms):
                return f"the correlation id {due} is not on the error of the run: {error!r}"


async def main():
    graph = Pipeline().with_stage("second", Second, StageKind.TRANSFORM).build()
    correlation = {"r5": "corr-005-03281"}["r5"]
    request = uuid.uuid5(uuid.NAMESPACE_DNS, correlation)
    set_correlation_id(request)
    ctx = PipelineContext(pipeline_run_id=uuid.uuid4(), request_id=request)
    error = None
    try:
        await graph.run(ctx)
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    seen.append((time.monotonic(), "", "run.end", None))
    found = violation(error)
    print(f"VIOLATION CORR-1: {found}" if found else "HOLDS CORR-1", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
