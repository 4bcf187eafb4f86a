"""A cycle, and a dependency that does not exist, are built; the run then stands still.

GRAPH-1.

`Pipeline.build()` says that it validates that dependencies are resolvable; up to 0.9.6 it did
not. The older graph has a builder that does (`PipelineBuilder`), but up to 0.9.1 no stage runs in
what that builds: its runners are functions, and the graph of those releases calls them like
classes.
"""

import sys

from stageflow.pipeline.builder import PipelineBuilder
from stageflow.pipeline.spec import PipelineSpec
from start import graph_of, main, ok, outcome, run, stage

GRAPHS = ("unified", "older")


async def works(_ctx):
    return ok()


async def builder_runs():
    spec = PipelineSpec(name="a", runner=stage("a", works))
    ended = await run("older", PipelineBuilder(stages={"a": spec}).build())
    return ended["a"].status == "completed"


async def seen(kind):
    told = []
    for fault, needs in {"cycle": "c", "unknown dependency": "nowhere"}.items():
        stages = {"a": works, "b": (works, (needs,)), "c": (works, ("b",))}
        try:
            if kind == "older" and await builder_runs():
                specs = {
                    n: PipelineSpec(name=n, runner=stage(n, works), dependencies=d)
                    for n, d in (("a", ()), ("b", (needs,)), ("c", ("b",)))
                }
                PipelineBuilder(stages=specs)
            graph = graph_of(kind, stages)
        except Exception:
            continue
        told.append(f"{fault}: {await outcome(run(kind, graph))}")
    return "; ".join(told)


if __name__ == "__main__":
    main(sys.modules[__name__])
