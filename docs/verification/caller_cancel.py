"""A caller's cancel leaves stages running.

CANCEL-3, CANCEL-5, CANCEL-6, CLEAN-1, CLEAN-2.

`CancelledError` leaves the graph's `asyncio.wait(active_tasks)`, which cancels nothing; no
handler of the graph's catches it, so what holds the stages is dropped. A subpipeline is a graph
whose `run()` is cancelled in the same way, by its parent stage.
"""

import asyncio
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified", "older")


async def seen(kind):
    notes = []

    async def fetch(_ctx):
        try:
            await asyncio.sleep(0.05)
            notes.append("the stage did its work")
        finally:
            await asyncio.sleep(0.01)
            notes.append("and closed its socket")
        return ok()

    running = asyncio.create_task(run(kind, graph_of(kind, {"fetch": fetch})))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    at_the_end = list(notes)
    await asyncio.sleep(0.1)
    later = notes[len(at_the_end) :]
    return f"cancelled: {running.cancelled()}; after that {', '.join(later)}" if later else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
