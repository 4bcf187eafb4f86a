"""The event in the queue's hands is lost when the queue is stopped, and stands as emitted.

EVENT-5, EVENT-1.

`stop()` cancels the worker while it awaits the sink; with nothing else in the queue it does so at
once, whatever the timeout. `Graceful shutdown with drain support` is what the docstring says.
"""

import asyncio
import sys

from stageflow.events import BackpressureAwareEventSink
from start import main

GRAPHS = ("queue",)


async def seen(_kind):
    taken = []

    class Slow:
        async def emit(self, *, type, data):
            await asyncio.sleep(0.03)
            taken.append(type)

        def try_emit(self, *, type, data):
            raise NotImplementedError

    queue = BackpressureAwareEventSink(Slow(), max_queue_size=10)
    await queue.start()
    queue.try_emit(type="paid", data={})
    await asyncio.sleep(0.01)
    await queue.stop(drain=True, timeout=30)
    figures = queue.metrics
    if taken:
        return ""
    return (
        f"1 offered, stopped with 30 s to drain: 0 taken, {figures.emitted} emitted, "
        f"{figures.dropped} dropped, {queue.queue_size} waiting"
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
