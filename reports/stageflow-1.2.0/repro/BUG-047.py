"""CTX-2 on stageflow-core==1.2.0: exits 1 with VIOLATION, 0 with HOLDS, 2 if it could not run.

Expected: stage reader reads the output of fetch as fetch returned it
Actual: it reads what stage rogue changed in it
"""

import asyncio
import contextlib
import os
import sys
import threading

sys.excepthook = lambda *error: (sys.__excepthook__(*error), os._exit(2))
threading.Timer(28, os._exit, (2,)).start()

from stageflow import Pipeline, PipelineContext, StageKind, StageOutput  # noqa: E402

seen = []  # (stage, what happened, detail)


class Fetch:
    async def execute(self, ctx):
        return StageOutput.ok(value=[1, 2, 3])


class Rogue:
    async def execute(self, ctx):
        value = ctx.inputs.get_from("fetch", "value")
        with contextlib.suppress(TypeError, AttributeError):  # it may be read-only
            value.append("changed")
        return StageOutput.ok(value=None)


class Reader:
    async def execute(self, ctx):
        seen.append(("reader", "read", ("fetch", "value", ctx.inputs.get_from("fetch", "value"))))
        return StageOutput.ok(value=None)


async def main():
    pipeline = Pipeline().with_stage("fetch", Fetch, StageKind.TRANSFORM)
    pipeline = pipeline.with_stage("rogue", Rogue, StageKind.TRANSFORM, dependencies=("fetch",))
    pipeline = pipeline.with_stage("reader", Reader, StageKind.TRANSFORM, dependencies=("fetch",))
    graph = pipeline.build()
    await asyncio.gather(graph.run(PipelineContext.create()), return_exceptions=True)
    read = [(stage, what) for stage, kind, what in seen if kind == "read"]
    read = [(stage, what) for stage, what in read if stage not in ["rogue"]]
    if "changed" in str([what for _, what in read]):
        return f"a stage read what its sibling had changed: {read}"


with asyncio.Runner() as runner:
    found = runner.run(main())
    print(f"VIOLATION CTX-2: {found}" if found else "HOLDS CTX-2", flush=True)
    os._exit(1 if found else 0)  # at once: what is left running must not hold it up
