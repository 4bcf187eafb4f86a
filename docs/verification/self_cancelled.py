"""A stage that raises CancelledError by itself ends the run at once.

CLEAN-1, CLEAN-2, CLEAN-5, PART-3.

`task.exception()` of a task that ended by a cancellation raises, in the graph's own loop over the
tasks that are done: the graph is left without cancelling or awaiting the other stages, and what
had completed is lost.
"""

import asyncio
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified", "older")


async def seen(kind):
    notes = []

    async def client(_ctx):
        await asyncio.sleep(0.01)
        raise asyncio.CancelledError  # as an inner task that was cancelled raises it

    async def fetch(_ctx):
        try:
            await asyncio.sleep(0.03)
        finally:
            notes.append("its sibling was still running and closed its socket afterwards")
        return ok()

    running = asyncio.create_task(run(kind, graph_of(kind, {"client": client, "fetch": fetch})))
    await asyncio.wait([running])
    before = len(notes)
    await asyncio.sleep(0.06)
    if before or not notes:
        return ""
    return f"out of the run came CancelledError and nothing else: {running.cancelled()}; {notes[0]}"


if __name__ == "__main__":
    main(sys.modules[__name__])
