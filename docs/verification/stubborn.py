"""A stage that swallows its cancellation holds the run for as long as it likes.

CANCEL-4.

A stage has failed; the graph cancels the others and awaits them with `asyncio.gather`, without a
limit. The older graph does not cancel them when a stage fails, but a timeout does (`wait_for`,
which has no limit either).
"""

import asyncio
import sys
import time

from start import graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")
LONG_S = 0.25


async def seen(kind):
    async def stubborn(_ctx):
        until = time.monotonic() + LONG_S
        while time.monotonic() < until:
            try:
                await asyncio.sleep(until - time.monotonic())
            except asyncio.CancelledError:
                pass
        return ok()

    async def raises(_ctx):
        await asyncio.sleep(0.01)
        raise OSError("connection lost")

    ends = {"unified": ({"raises": raises}, {}), "older": ({}, {"_timeout_ms": 20})}
    others, data = ends[kind]
    begun = time.monotonic()
    await outcome(run(kind, graph_of(kind, {"stubborn": stubborn, **others}), data=data))
    took = time.monotonic() - begun
    if took < LONG_S * 0.9:
        return ""
    return "the run waited until the stage ended by itself, and says nothing of it"


if __name__ == "__main__":
    main(sys.modules[__name__])
