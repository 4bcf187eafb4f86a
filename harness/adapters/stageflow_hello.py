"""The shortest program in each spelling of Stageflow's API, as text that is run and counted."""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["hello_source", "run_hello"]


def hello_source(engine: Probe) -> str:
    """Return the shortest complete program in this version's API (one stage, its result)."""
    if engine.legacy:
        fields = (
            ""
            if _takes_nothing(engine.PipelineContext)
            else (
                "pipeline_run_id=None, request_id=None, session_id=None,\n"
                "        user_id=None, org_id=None, interaction_id=None,\n"
            )
        )
        context = f"PipelineContext(\n        {fields}    )" if fields else "PipelineContext()"
        return f"""\
import asyncio
from stageflow import PipelineContext, StageGraph, StageOutput, StageSpec

class Hello:
    async def execute(self, ctx):
        return StageOutput.ok(value="hello")

async def main():
    graph = StageGraph([StageSpec(name="hello", runner=Hello)])
    results = await graph.run({context})
    return results["hello"].data["value"]

asyncio.run(main())
"""
    stage = """\
class Hello:
    async def execute(self, ctx):
        return StageOutput.ok(value="hello")
"""
    if hasattr(engine.Pipeline, "run"):
        return f"""\
import asyncio
from stageflow import Pipeline, StageKind, StageOutput

{stage}
async def main():
    pipeline = Pipeline().with_stage("hello", Hello, StageKind.TRANSFORM)
    results = await pipeline.run()
    return results["hello"].data["value"]

asyncio.run(main())
"""
    return f"""\
import asyncio
from stageflow import Pipeline, PipelineTimer, StageContext, StageKind, StageOutput
from stageflow.context import ContextSnapshot
from stageflow.stages import StageInputs

{stage}
async def main():
    graph = Pipeline().with_stage("hello", Hello, StageKind.TRANSFORM).build()
    snapshot = ContextSnapshot()
    ctx = StageContext(
        snapshot=snapshot,
        inputs=StageInputs(snapshot=snapshot),
        stage_name="entry",
        timer=PipelineTimer(),
    )
    results = await graph.run(ctx)
    return results["hello"].data["value"]

asyncio.run(main())
"""


def run_hello(source: str) -> bool:
    """Run a hello-world for real, so that the count of its lines is a count of working lines."""
    names: dict[str, Any] = {}
    body = source.replace("asyncio.run(main())", "said = asyncio.run(main())")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exec(compile(body, "<hello>", "exec"), names)
    return bool(names["said"] == "hello")


def _takes_nothing(cls: Any) -> bool:
    return all(
        p.default is not inspect.Parameter.empty for p in inspect.signature(cls).parameters.values()
    )
