"""A TimeoutError of the stage's own code is told as the engine's timeout.

TIME-4.

`run_with_interceptors` catches `TimeoutError` around the stage and does not ask whose it is. From
0.9.6 on the unified graph keeps what the stage raised and raises that.
"""

import sys

from start import TAKES_INTERCEPTORS, graph_of, main, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None

    async def asks(_ctx):
        raise TimeoutError("the database did not answer")

    ended = await outcome(run(kind, graph_of(kind, {"asks": asks}), data={"_timeout_ms": 2000}))
    said = str(ended if isinstance(ended, Exception) else ended["asks"].error)
    return f"it failed at once, and is told as: {said}" if "2000ms" in said else ""


if __name__ == "__main__":
    main(sys.modules[__name__])
