"""A cancel that lands while the graph ends its other stages cuts their cleanups.

CANCEL-3, CLEAN-2.

A stage has failed, the others were cancelled, and the graph awaits them with `asyncio.gather`.
The caller's cancel goes through it to each of them a second time, into the cleanup that is under
way, and `gather` does not wait for them after that.
"""

import asyncio
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified",)


async def seen(kind):
    notes = []

    async def fetch(_ctx):
        try:
            await asyncio.sleep(5)
        finally:
            try:
                await asyncio.sleep(0.05)
                notes.append("closed")
            except asyncio.CancelledError:
                notes.append("the cleanup was cut off")
                raise
        return ok()

    async def check(_ctx):
        await asyncio.sleep(0.01)
        raise ValueError("no")

    running = asyncio.create_task(run(kind, graph_of(kind, {"fetch": fetch, "check": check})))
    await asyncio.sleep(0.03)
    running.cancel()
    await asyncio.wait([running])
    told = list(notes)
    await asyncio.sleep(0.06)
    if not told:
        return f"the run was over first, then: {', '.join(notes)}"
    return "" if told == ["closed"] else ", ".join(told)


if __name__ == "__main__":
    main(sys.modules[__name__])
