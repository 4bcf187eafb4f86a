"""`stop()` of the event queue swallows its caller's cancel.

CANCEL-3.

It awaits its worker under `contextlib.suppress(asyncio.CancelledError)`, and does not ask whose
cancellation it was. A worker that is waited for is one whose sink closes something.
"""

import asyncio
import sys

from stageflow.events import BackpressureAwareEventSink
from start import main

GRAPHS = ("queue",)


async def seen(_kind):
    class Closes:
        async def emit(self, *, type, data):
            try:
                await asyncio.sleep(5)
            finally:
                await asyncio.sleep(0.03)

        def try_emit(self, *, type, data):
            raise NotImplementedError

    async def user():
        queue = BackpressureAwareEventSink(Closes())
        await queue.start()
        queue.try_emit(type="paid", data={})
        await asyncio.sleep(0.01)
        await queue.stop()
        return "stop() returned as if nothing had been"

    task = asyncio.create_task(user())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task])
    return "" if task.cancelled() else task.result()


if __name__ == "__main__":
    main(sys.modules[__name__])
