"""A stage starts although a stage that it depends on has failed.

GRAPH-2.

The interceptors turn an exception into a failed result, and the older graph takes any result for
a completed stage. Its documentation says that `run()` raises `StageExecutionError`.
"""

import sys

from start import graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    notes = []

    async def authorise(_ctx):
        raise PermissionError("no")

    async def pay(_ctx):
        notes.append("paid")
        return ok()

    stages = {"authorise": authorise, "pay": (pay, ("authorise",))}
    ended = await outcome(run(kind, graph_of(kind, stages)))
    if not notes:
        return ""
    return f"authorise: {ended['authorise'].status}; pay ran: {ended['pay'].status}"


if __name__ == "__main__":
    main(sys.modules[__name__])
