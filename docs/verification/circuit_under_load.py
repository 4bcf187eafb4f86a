"""Under load a failing stage is told as completed although it never ran, and its run as done.

GRAPH-5.

Ten users ask one graph for runs, now for one whose second stage works, now for one whose second
stage raises. Nothing is set: the chain of interceptors is the engine's default one. Only what
the stage bodies themselves noted counts as having run. A breaker may refuse a stage that keeps
failing; it must not call the refused stage completed.
"""

import asyncio
import sys

from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")
USERS, REQUESTS = 10, 6


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    ran = 0

    async def fetch(_ctx):
        await asyncio.sleep(0.001)
        return ok()

    async def refuse(_ctx):
        nonlocal ran
        ran += 1
        await asyncio.sleep(0.002)
        raise ValueError("no stock")

    sound = graph_of(kind, {"fetch": fetch, "price": (fetch, ("fetch",))})
    failing = graph_of(kind, {"fetch": fetch, "refuse": (refuse, ("fetch",))})
    told = []

    async def user(number):
        for n in range(REQUESTS):
            await outcome(run(kind, sound))
            if (number + n) % 3 == 0:
                ended = await outcome(run(kind, failing))
                said = ended if isinstance(ended, Exception) else ended["refuse"].status
                told.append(str(getattr(said, "value", said)))

    await asyncio.gather(*(user(number) for number in range(USERS)))
    completed = sum(word in ("ok", "completed") for word in told)
    if not completed:
        return ""
    return (
        f"of {len(told)} runs of the failing graph {ran} ran the stage, which raises each time; "
        f"{completed} told it as {next(w for w in told if w in ('ok', 'completed'))}"
    )


if __name__ == "__main__":
    main(sys.modules[__name__])
