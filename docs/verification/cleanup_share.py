"""A registered cleanup is cut off long before the time for cleanups is up.

CLEAN-2.

`run_all(timeout=...)` says that it is the maximum time for all cleanups; each gets that divided
by their number, however little the others take.
"""

import asyncio
import sys

from stageflow.pipeline.dag import UnifiedStageGraph
from start import graph_of, main, ok, run

GRAPHS = ("unified",)


async def seen(kind):
    notes = []

    async def work(_ctx):
        async def close():
            try:
                await asyncio.sleep(0.12)
                notes.append("closed")
            except asyncio.CancelledError:
                notes.append("cut off")
                raise

        async def at_once():
            pass

        graph.register_cleanup(close)
        graph.register_cleanup(at_once)
        return ok()

    specs = graph_of(kind, {"work": work}).stage_specs
    graph = UnifiedStageGraph(specs, cleanup_timeout=0.2)
    await run(kind, graph)
    return "" if notes == ["closed"] else "of 0.2 s for two cleanups one needs 0.12: it is cut off"


if __name__ == "__main__":
    main(sys.modules[__name__])
