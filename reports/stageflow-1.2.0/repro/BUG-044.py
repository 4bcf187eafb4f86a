"""CTX-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: the output of stage fetch is what it returned
Actual: it carries a change that stage rogue made
"""

import asyncio
import os
import sys
import threading
import uuid

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402


class Fetch:
    async def execute(self, ctx):
        return StageOutput.ok(value={"rows": [1, 2, 3]})


class Rogue:
    async def execute(self, ctx):
        value = ctx.inputs.get_from("fetch", "value")
        try:
            if isinstance(value, list):
                value.append("changed")
            else:
                value["changed"] = True
        except (TypeError, AttributeError):
            pass  # it is read-only
        return StageOutput.ok(value=None)


def reachable(results, error):
    """What a user can get at: the results, or what the exception carries of them."""
    found = {}
    for name, one in (results or getattr(error, "results", {})).items():
        how = one.status.value
        found[name] = one.data.get("value") if how == "ok" else f"{how}: {one.error}"
    return found


def violation(outputs):
    own = {stage: value for stage, value in outputs.items() if stage not in ['rogue']}
    if "changed" in str(own):
        return f"an output carries a change that another stage made: {own}"


async def main():
    pipeline = Pipeline().with_stage("fetch", Fetch, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("rogue", Rogue, StageKind.TRANSFORM, dependencies=("fetch",))
    graph = pipeline.build()
    results = error = None
    try:
        results = await graph.run(PipelineContext(pipeline_run_id=uuid.uuid4()))
    except (Exception, asyncio.CancelledError) as exc:
        error = exc
    found = violation(reachable(results, error))
    print(f"VIOLATION CTX-2: {found}" if found else "HOLDS CTX-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up


if __name__ == "__main__":
    threading.Timer(28, os._exit, (2,)).start()
    asyncio.run(main())
