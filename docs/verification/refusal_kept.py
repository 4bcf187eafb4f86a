"""Under a key, a stage that the circuit breaker refused stands as done from then on.

GRAPH-5.

The refusal is told as completed (see `circuit`), and the idempotency interceptor, which is
outside of the breaker in the default chain, keeps what is completed for a day.
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
    paid, told = [], []

    async def pay(_ctx):
        if len(told) < 3:
            raise OSError("the bank does not answer")
        paid.append(1)
        return ok()

    graph = graph_of(kind, {"pay": pay})
    for _ in range(6):
        ended = await outcome(run(kind, graph, data={"idempotency_key": "order-1"}))
        status = "failed" if isinstance(ended, Exception) else ended["pay"].status
        told.append(getattr(status, "value", status))
    return "" if paid else f"the bank answers from run 4 on; told: {', '.join(told)}; paid: never"


if __name__ == "__main__":
    main(sys.modules[__name__])
