"""What every reproduction here begins with: a graph of Stageflow's, and the context that starts it.

Stageflow and the standard library, nothing else: no dagstorm. Both releases' public APIs are
used as their documentation shows: the unified graph is what `Pipeline.build()` returns, the older
one is `StageGraph`. Up to 0.9.5 the unified graph is started with a `StageContext`, later with a
`PipelineContext`, as the older one always was.
"""

import asyncio
import importlib.metadata
import inspect
import logging
import sys
import uuid
import warnings

from stageflow import Pipeline, StageKind, StageOutput
from stageflow.context import ContextSnapshot
from stageflow.context.identity import RunIdentity
from stageflow.core import PipelineTimer, StageContext
from stageflow.events import NoOpEventSink
from stageflow.pipeline.dag import StageGraph, StageSpec
from stageflow.stages.context import PipelineContext
from stageflow.stages.inputs import create_stage_inputs

VERSION = importlib.metadata.version("stageflow-core")
TAKES_INTERCEPTORS = "interceptors" in inspect.signature(Pipeline.build).parameters
TAKES_PIPELINE_CONTEXT = hasattr(PipelineContext, "derive_root_stage_context")

ok = StageOutput.ok


def graph_of(kind, stages, interceptors=None):
    """Build a graph of {name: async function} or {name: (async function, names it needs)}."""
    parts = {n: one if isinstance(one, tuple) else (one, ()) for n, one in stages.items()}
    options = {} if interceptors is None else {"interceptors": interceptors}
    if kind == "older":
        specs = [
            StageSpec(name=n, runner=stage(n, function), dependencies=needs)
            for n, (function, needs) in parts.items()
        ]
        return StageGraph(specs, **options)
    pipeline = Pipeline()
    for n, (function, needs) in parts.items():
        pipeline = pipeline.with_stage(n, stage(n, function), StageKind.WORK, dependencies=needs)
    return pipeline.build(**options)


def stage(stage_name, function):
    """Make a stage class whose `execute` is `function`."""

    class Stage:
        name = stage_name
        kind = StageKind.WORK

        async def execute(self, ctx):
            return await function(ctx)

    return Stage


def context(kind, *, data=None, org=None, sink=None):
    """Return what a run of the graph is started with."""
    ids = {
        "pipeline_run_id": uuid.uuid4(),
        "request_id": uuid.uuid4(),
        "session_id": uuid.uuid4(),
        "user_id": uuid.uuid4(),
        "org_id": org or uuid.uuid4(),
        "interaction_id": None,
    }
    sink = sink or NoOpEventSink()
    if kind == "older":
        return PipelineContext(**ids, event_sink=sink, data=dict(data or {}))
    if TAKES_PIPELINE_CONTEXT:
        return PipelineContext(**ids, event_sink=sink, data=dict(data or {}))
    snapshot = ContextSnapshot(run_id=RunIdentity(**ids))
    return StageContext(
        snapshot=snapshot,
        inputs=create_stage_inputs(snapshot=snapshot, stage_name="root"),
        stage_name="root",
        timer=PipelineTimer(),
        event_sink=sink,
    )


def run(kind, graph, **start):
    """Return the coroutine of one run."""
    return graph.run(context(kind, **start))


async def outcome(coroutine):
    """Await a run; return its results, or the exception that came out of it."""
    try:
        return await coroutine
    except Exception as exc:
        return exc


def left_running():
    """Return how many tasks there are beside the one that asks."""
    return len([t for t in asyncio.all_tasks() if t is not asyncio.current_task()])


def judge(module):
    """Run a reproduction on each graph that it is about; graph -> what was seen.

    None is for a release that has not got the thing; "" says that the defect did not show.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    return {kind: asyncio.run(quietly(module.seen(kind))) for kind in module.GRAPHS}


async def quietly(coroutine):
    # That an exception was never fetched is told to the loop's handler: `unfetched` sets its own.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    return await coroutine


def main(module):
    """Print what was seen; exit 1 where the defect shows, 0 where it does not."""
    found = judge(module)
    for kind, what in found.items():
        told = "has not got this" if what is None else what or "the defect does not show"
        print(f"stageflow-core {VERSION}, {kind}: {told}")
    sys.exit(1 if any(found.values()) else 0)
