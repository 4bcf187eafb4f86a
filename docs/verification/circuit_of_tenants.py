"""One tenant's failures make another tenant's stage not run, and count as done.

TENANT-2, TENANT-4, GRAPH-5.

The breaker is one of the graph's, and keeps its state by the stage's name alone.
"""

import sys
import uuid

from start import TAKES_INTERCEPTORS, graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    if kind == "unified" and not TAKES_INTERCEPTORS:
        return None
    north, south = uuid.uuid4(), uuid.uuid4()
    ran = []

    async def pay(_ctx):
        if whose == north:
            raise OSError("the account of this tenant is closed")
        ran.append("south")
        return ok()

    graph = graph_of(kind, {"pay": pay})
    for whose in (north, north, north, south):
        ended = await outcome(run(kind, graph, org=whose))
    if ran:
        return ""
    told = ended if isinstance(ended, Exception) else ended["pay"].status
    told = getattr(told, "value", told)
    return f"the other tenant's first run did not run its stage, and told it as {told}"


if __name__ == "__main__":
    main(sys.modules[__name__])
