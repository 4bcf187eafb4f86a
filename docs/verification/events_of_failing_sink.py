"""An event over which the sink raises is counted nowhere, and can end the drain.

EVENT-2, EVENT-5.

The worker logs what the sink raises; the metrics have emitted (counted when it was queued) and
dropped (the queue was full) only. `_drain` catches nothing of it, so `stop()` raises and leaves
the rest in the queue.
"""

import asyncio
import sys

from stageflow.events import BackpressureAwareEventSink
from start import main

GRAPHS = ("queue",)


async def seen(_kind):
    taken = []

    class Failing:
        async def emit(self, *, type, data):
            await asyncio.sleep(0.001)
            if data["n"] % 3 == 0:
                raise OSError("disk full")
            taken.append(data["n"])

        def try_emit(self, *, type, data):
            raise NotImplementedError

    dropped = []
    queue = BackpressureAwareEventSink(Failing(), on_drop=lambda *event: dropped.append(event))
    await queue.start()
    for n in range(9):
        queue.try_emit(type="paid", data={"n": n})
    await asyncio.sleep(0.05)
    figures = queue.metrics
    told = []
    if len(taken) + figures.dropped + len(dropped) < figures.emitted:
        told.append(f"{figures.emitted} emitted, {figures.dropped} dropped, {len(taken)} taken")
    for n in (1, 3, 4, 5):
        queue.try_emit(type="paid", data={"n": n})
    try:
        await queue.stop(drain=True, timeout=5)
    except OSError:
        told.append(f"stop() raised the sink's OSError with {queue.queue_size} events left")
    return "; ".join(told)


if __name__ == "__main__":
    main(sys.modules[__name__])
