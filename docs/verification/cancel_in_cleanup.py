"""A cancel that lands in a registered cleanup cuts it off and is swallowed.

CANCEL-3, CLEAN-1, CLEAN-2.

`CleanupRegistry.run_all` catches `CancelledError` around each cleanup and goes on; nothing raises
it again, so the caller's `await` returns as if it had not cancelled.
"""

import asyncio
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified",)


async def seen(kind):
    notes = []

    async def work(_ctx):
        async def close():
            await asyncio.sleep(0.03)
            notes.append("closed")

        graph.register_cleanup(close)
        return ok()

    graph = graph_of(kind, {"work": work})
    running = asyncio.create_task(run(kind, graph))
    await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.wait([running])
    if running.cancelled():
        return ""
    cut = "" if notes else "; the cleanup never ended"
    return f"the cancelled run returned {sorted(running.result())}{cut}"


if __name__ == "__main__":
    main(sys.modules[__name__])
