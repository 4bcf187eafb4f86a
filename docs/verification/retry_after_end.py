"""A stage is tried again after another one has asked to end the run.

CANCEL-1, RETRY-1.

One stage asks to end the run; another one, which has attempts left, raises some turns of the event
loop later. On Python 3.11 `asyncio.wait_for`, in which the graph runs it, loses a cancel that comes
as the stage raises: the next attempt comes after its delay all the same, and does its work in a run
that was to end.
"""

import asyncio
import sys
import time

from stageflow import StageOutput
from start import TAKES_INTERCEPTORS, context, graph_of, main, outcome

GRAPHS = ("unified", "older")
DELAY_MS, TIMINGS = 50, 16


async def seen(kind):
    try:
        from stageflow.pipeline.retry import JitterStrategy, RetryInterceptor
    except ImportError:
        return None
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    late = []
    for turns in range(TIMINGS):
        begun, asked = [], []

        async def charge(_ctx, begun=begun, turns=turns):
            begun.append(time.monotonic())
            await asyncio.sleep(0.01)
            for _ in range(turns):
                await asyncio.sleep(0)
            raise ConnectionError("reset")

        async def ends(ctx, asked=asked):
            await asyncio.sleep(0.01)
            asked.append(time.monotonic())
            if kind == "older":
                ctx.mark_canceled()
            return StageOutput.cancel(reason="nothing to do")

        retry = RetryInterceptor(base_delay_ms=DELAY_MS, jitter_strategy=JitterStrategy.NONE)
        graph = graph_of(kind, {"charge": charge, "ends": ends}, interceptors=[retry])
        await outcome(graph.run(context(kind)))
        late += [at - asked[0] for at in begun if asked and at > asked[0] + DELAY_MS / 2000]
    if not late:
        return ""
    return (
        f"in {len(late)} of {TIMINGS} timings a stage was begun again after the run was to end, "
        f"first {late[0]:.2f} s after"
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
