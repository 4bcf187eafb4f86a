"""A second cancel cuts a registered cleanup, and stages go on unseen.

CANCEL-5, CLEAN-1, CLEAN-2.

The caller's cancel makes the graph run the registered cleanups while its stages still run (see
`caller_cancel`); a second one cuts the cleanup short, as in `cancel_in_cleanup`.
"""

import asyncio
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified",)


async def seen(kind):
    notes = []

    async def work(_ctx):
        async def close():
            await asyncio.sleep(0.02)
            notes.append("closed")

        graph.register_cleanup(close)
        await asyncio.sleep(0.08)
        notes.append("the stage did its work")
        return ok()

    graph = graph_of(kind, {"work": work})
    running = asyncio.create_task(run(kind, graph))
    for _ in range(2):
        await asyncio.sleep(0.01)
        running.cancel()
    await asyncio.wait([running])
    before = list(notes)
    await asyncio.sleep(0.1)
    if "closed" in notes and before == notes:
        return ""
    return f"when the run was over: {before or 'nothing'}; in the end: {notes}"


if __name__ == "__main__":
    main(sys.modules[__name__])
