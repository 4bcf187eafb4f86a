"""When a run fails, what had completed cannot be reached.

PART-1, PART-3.

`UnifiedStageExecutionError` carries the stage and its error. The exception of a cancelled run
carries `results` besides, so the graph has them at hand. Stages that complete in the same tick as
the failure are lost with the others.
"""

import sys

from start import graph_of, main, ok, outcome, run

GRAPHS = ("unified", "older")


async def seen(kind):
    async def load(_ctx):
        return ok(rows=3)

    async def check(_ctx):
        raise ValueError("no")

    graph = graph_of(kind, {"load": load, "check": (check, ("load",))})
    ended = await outcome(run(kind, graph))
    if not isinstance(ended, Exception):
        return ""  # the older graph returns what completed, beside what failed
    carried = sorted(n for n in vars(ended) if not n.startswith("_"))
    reachable = any("rows" in str(value) for value in vars(ended).values())
    return "" if reachable else f"{type(ended).__name__} carries {', '.join(carried)}; load is lost"


if __name__ == "__main__":
    main(sys.modules[__name__])
