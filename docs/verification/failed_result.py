"""A stage that says fail, or times out, ends the run while others run.

TIME-3, CLEAN-1, CLEAN-2, CLEAN-5.

An exception makes the graph cancel and await the other stages; `StageOutput.fail()`, which a
timeout is turned into as well, makes it raise without that. Up to 0.7.0 a reported failure was
turned into an exception by the stage's own task, and was handled as one.
"""

import asyncio
import sys

from stageflow import StageOutput
from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified",)


async def seen(kind):
    told = []

    async def pause(_ctx):
        await asyncio.sleep(0.04)
        return ok()

    async def fetch(_ctx):
        await asyncio.sleep(0.08)
        notes.append("its sibling did its work after the run was over")
        return ok()

    async def says_fail(_ctx):
        await asyncio.sleep(0.05)
        return StageOutput.fail(error="rejected")

    async def takes_long(_ctx):
        await asyncio.sleep(5)

    for way, ends in {"fail": says_fail, "timeout": takes_long}.items():
        if way == "timeout" and not TAKES_INTERCEPTORS:
            continue
        notes = []
        graph = graph_of(kind, {"pause": pause, "fetch": (fetch, ("pause",)), "ends": ends})
        ended = await outcome(run(kind, graph, data={"_timeout_ms": 100}))
        before = len(notes)
        await asyncio.sleep(0.1)
        if isinstance(ended, Exception) and notes[before:]:
            told.append(f"{way}: {notes[before]}")
    return "; ".join(told)


if __name__ == "__main__":
    main(sys.modules[__name__])
