"""Of an output that is taken from the idempotency cache nothing is left, or a wrapped one.

GRAPH-5.

A hit hands on the whole cached `StageResult` as the stage's data, and stores that in turn: one
level deeper with each hit. The unified graph takes one level off, the older one none.
"""

import sys

from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    try:
        import stageflow.pipeline.idempotency  # noqa: F401
    except ImportError:
        return None
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None

    async def charge(_ctx):
        return ok(receipt=7)

    graph = graph_of(kind, {"charge": charge})
    got = []
    for _ in range(3):
        ended = await outcome(run(kind, graph, data={"idempotency_key": "order-1"}))
        data = ended["charge"].data
        got.append(data if isinstance(data, dict) else f"a {type(data).__name__}")
    return "" if got == [{"receipt": 7}] * 3 else f"three runs under one key: {got}"


if __name__ == "__main__":
    main(sys.modules[__name__])
