"""The stages of a subpipeline run on after their parent.

CANCEL-6, CLEAN-1, CLEAN-2, CLEAN-5.

What the parent graph cancels is the stage that awaits the child graph's `run()`: see
`caller_cancel`. So it does not matter what ended the parent, a failing sibling for one.
"""

import asyncio
import sys

from start import graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    notes = []

    async def search(_ctx):
        await asyncio.sleep(0.1)
        notes.append("the child's stage did its work after the parent was over")
        return ok()

    async def delegate(_ctx):
        await run(kind, graph_of(kind, {"search": search}))
        return ok()

    async def check(_ctx):
        await asyncio.sleep(0.01)
        raise ValueError("no")

    parent = graph_of(kind, {"delegate": delegate, "check": check})
    if kind == "older":  # which goes on when a stage fails: so its caller ends it
        running = asyncio.create_task(run(kind, parent))
        await asyncio.sleep(0.03)
        running.cancel()
        await asyncio.wait([running])
    else:
        await outcome(run(kind, parent))
    await asyncio.sleep(0.15)
    return ", ".join(notes)


if __name__ == "__main__":
    main(sys.modules[__name__])
