"""An exception of a second stage is never fetched.

CLEAN-5.

When a stage says fail, the graph raises without looking at the other tasks (see `failed_result`).
The exception of one that fails then, or in the cleanup that its end makes it run, is fetched by
nobody: asyncio tells of it when the task is collected.
"""

import asyncio
import gc
import sys

from stageflow import StageOutput
from start import graph_of, main, outcome, run

GRAPHS = ("unified",)


async def seen(kind):
    told = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, what: told.append(what["message"]))

    async def says_fail(_ctx):
        await asyncio.sleep(0.01)
        return StageOutput.fail(error="rejected")

    async def raises(_ctx):
        await asyncio.sleep(0.02)
        raise OSError("connection lost")

    await outcome(run(kind, graph_of(kind, {"says_fail": says_fail, "raises": raises})))
    await asyncio.sleep(0.03)
    gc.collect()
    await asyncio.sleep(0)
    return told[0] if told else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
