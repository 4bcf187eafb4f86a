"""A run that fails ends another run of the same graph, in which nothing went wrong.

TENANT-4, CLEAN-6.

The cancellation token is an attribute of the graph object, made anew by each run. A run that
fails cancels whichever token is there: that of the run that started last.
"""

import asyncio
import sys

from start import graph_of, main, ok, outcome, run

GRAPHS = ("unified",)


async def seen(kind):
    names = ["failing", "sound"]

    async def work(_ctx):
        mine = names.pop(0)
        await asyncio.sleep(0.02)
        if mine == "failing":
            raise ValueError("no")
        return ok()

    async def beside(_ctx):
        try:
            await asyncio.sleep(0.04)
        finally:
            await asyncio.sleep(0.05)  # the failed run waits for this, its token cancelled
        return ok()

    async def after(_ctx):
        return ok()

    stages = {"work": work, "beside": beside, "after": (after, ("beside",))}
    graph = graph_of(kind, stages)
    failing = asyncio.create_task(outcome(run(kind, graph)))
    await asyncio.sleep(0.005)
    ended = await outcome(run(kind, graph))
    await failing
    if not isinstance(ended, Exception):
        return ""
    return f"the run in which nothing went wrong ended as {type(ended).__name__}: {ended}"


if __name__ == "__main__":
    main(sys.modules[__name__])
