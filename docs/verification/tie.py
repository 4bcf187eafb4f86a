"""Of stages that complete in the tick in which another one ends the run, some are lost.

PART-3.

The unified graph goes through the tasks that `asyncio.wait` says are done, which is a set, and
raises when it comes to the stage that ends the run: what comes after it is lost. The older graph
marks as failed whatever it had not seen ended when it looked, also what has ended since.
"""

import asyncio
import sys

from stageflow import StageOutput
from start import graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")
TRIES = 12
TURNS = 12


async def once(kind):
    done = []

    async def ends(ctx):
        await asyncio.sleep(0.005)
        if kind == "older":
            ctx.mark_canceled()
        return StageOutput.cancel(reason="enough")

    def beside(name, turns):
        async def execute(_ctx):
            await asyncio.sleep(0.005)
            for _ in range(turns):
                await asyncio.sleep(0)
            done.append(name)
            return ok(rows=3)

        return execute

    stages = {f"s{i}": beside(f"s{i}", i) for i in range(TURNS)}
    ended = await outcome(run(kind, graph_of(kind, {**stages, "ends": ends})))
    results = ended.results if isinstance(ended, Exception) else ended
    return [n for n in done if n not in results or not results[n].data.get("rows")]


async def seen(kind):
    lost = [await once(kind) for _ in range(TRIES)]
    some = sum(1 for names in lost if names)
    return f"outputs of the same tick were lost in {some} of {TRIES} runs" if some else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
