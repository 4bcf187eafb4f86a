"""The stages of a subpipeline outlive the timeout of the stage that runs it.

CANCEL-6, TIME-10.

`asyncio.wait_for` in `run_with_interceptors` cancels the stage, the stage the child's `run()`,
and that leaves its own stages running: see `caller_cancel`.
"""

import asyncio
import sys

from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    notes = []

    async def search(_ctx):
        await asyncio.sleep(0.15)
        notes.append("the child's stage did its work after the parent's had timed out")
        return ok()

    async def delegate(_ctx):
        child = graph_of(kind, {"search": search})
        await run(kind, child)
        return ok()

    await outcome(run(kind, graph_of(kind, {"delegate": delegate}), data={"_timeout_ms": 30}))
    await asyncio.sleep(0.2)
    return ", ".join(notes)


if __name__ == "__main__":
    main(sys.modules[__name__])
