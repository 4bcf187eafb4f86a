"""A producer that waits for room is not told that its consumer has gone.

STREAM-4.

`publish()` answers False on a closed channel, which a stage can look at. `close_channel()` wakes
no `put()` that waits for room, and reaches nothing else of the stage: one that waits, or that
produces nothing just now, is left alone.
"""

import asyncio
import sys

from start import main

GRAPHS = ("bus",)


async def seen(_kind):
    try:
        from stageflow.helpers.streaming import RealtimeStageBus
    except ImportError:
        return None
    bus, notes = RealtimeStageBus(default_max_size=2), []

    async def producer():
        n = 0
        while await bus.publish("answer", n):
            n += 1
        notes.append("stopped")

    task = asyncio.create_task(producer())
    took = 0
    async for _ in bus.subscribe("answer"):
        took += 1
        await asyncio.sleep(0.005)  # the producer fills the channel again meanwhile
        if took == 3:
            break
    await bus.close_channel("answer")
    await asyncio.sleep(0.05)
    waits = not task.done()
    task.cancel()
    await asyncio.wait([task])
    return "the producer waits for room in a closed channel, for ever" if waits else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
