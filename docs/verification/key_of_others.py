"""Under an idempotency key a stage is given another one's output.

GRAPH-5, TENANT-1, TENANT-2.

The key is what stands in `ctx.data["idempotency_key"]` and nothing else: neither the stage's name
nor the tenant is in it. So two stages of one run, and two tenants that number their orders alike,
share it. The interceptor is in every graph by default, and acts on stages of every kind.
"""

import sys
import uuid

from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")
KEY = {"idempotency_key": "order-1"}


async def seen(kind):
    try:
        import stageflow.pipeline.idempotency  # noqa: F401
    except ImportError:
        return None
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    ran = []

    async def diagnose(_ctx):
        return ok(secret=f"of {tenants[-1]}")

    async def bill(_ctx):
        ran.append("bill")
        return ok(amount=3)

    told, tenants = [], ["north"]
    both = graph_of(kind, {"diagnose": diagnose, "bill": (bill, ("diagnose",))})
    ended = await outcome(run(kind, both, data=KEY))
    if "bill" not in ran:
        told.append(f"bill never ran and is told with {content(ended['bill'])}")
    alone = graph_of(kind, {"diagnose": diagnose})
    for tenant in ("north", "south"):
        tenants.append(tenant)
        ended = await outcome(run(kind, alone, data=KEY, org=uuid.uuid4()))
    if "of north" in str(ended["diagnose"].data):
        told.append(f"tenant south's diagnose is told with {content(ended['diagnose'])}")
    return "; ".join(told)


def content(result):
    data = result.data
    return data if isinstance(data, dict) else f"a {type(data).__name__} that holds {data.data}"


if __name__ == "__main__":
    main(sys.modules[__name__])
