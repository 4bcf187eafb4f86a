"""The older graph may lose the result of the very stage that cancelled the run, and its reason.

CANCEL-1.

Such a stage sets `ctx.canceled` and returns its reason. If another stage ends just before it, the
graph sees the flag before it has seen the stage's end, and marks the stage as failed. From 1.2.0
on `mark_canceled()` keeps the reason in the context.
"""

import asyncio
import sys

from stageflow import StageOutput
from start import context, graph_of, main, ok, outcome

GRAPHS = ("older",)


async def seen(kind):
    lost = 0

    async def beside(_ctx):
        await asyncio.sleep(0.005)
        return ok()

    for turns in range(12):

        async def ends(ctx, turns=turns):
            await asyncio.sleep(0.005)
            for _ in range(turns):
                await asyncio.sleep(0)
            ctx.mark_canceled()
            return StageOutput.cancel(reason="nothing to do")

        start = context(kind)
        stages = {"beside": beside, "ends": ends, "after": (beside, ("ends",))}
        results = await outcome(graph_of(kind, stages).run(start))
        kept = results["ends"].data.get("cancel_reason") or getattr(
            start, "cancellation_reason", None
        )
        lost += not kept
    return f"in {lost} of 12 timings nothing says why the run was ended" if lost else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
