"""What a run registers when another one has ended is forgotten.

CLEAN-6, CLEAN-1, CLEAN-2.

The run that ends sets the graph's registry to None, and `register_cleanup` then does nothing and
says nothing.
"""

import asyncio
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified",)


async def seen(kind):
    ran, late = [], []

    async def work(_ctx):
        mine = late.pop() if late else 0.0
        await asyncio.sleep(mine)

        async def close():
            ran.append(mine)

        graph.register_cleanup(close)
        await asyncio.sleep(0.01)
        return ok()

    graph = graph_of(kind, {"work": work})
    late[:] = [0.0, 0.04]
    await asyncio.gather(run(kind, graph), run(kind, graph))
    return "" if 0.04 in ran else "the cleanup of the run that registered later never ran"


if __name__ == "__main__":
    main(sys.modules[__name__])
