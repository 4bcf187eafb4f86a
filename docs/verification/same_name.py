"""Of two stages of one name one is lost.

GRAPH-1.

Both graphs, and both builders' `with_stage`, put stages into a dictionary by name. That a name is
to be unique stands in the documentation of `with_stage`; nothing looks.
"""

import sys

from stageflow import Pipeline, StageKind
from stageflow.pipeline.dag import StageGraph, StageSpec
from start import main, ok, run, stage

GRAPHS = ("unified", "older")


async def seen(kind):
    notes = []

    async def charge(_ctx):
        notes.append("charge")
        return ok()

    async def refund(_ctx):
        notes.append("refund")
        return ok()

    two = [stage("pay", charge), stage("pay", refund)]
    if kind == "older":
        graph = StageGraph([StageSpec(name="pay", runner=one) for one in two])
    else:
        pipeline = Pipeline()
        for one in two:
            pipeline = pipeline.with_stage("pay", one, StageKind.WORK)
        graph = pipeline.build()
    await run(kind, graph)
    return f"of charge and refund there ran: {', '.join(notes)}" if len(notes) < 2 else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
