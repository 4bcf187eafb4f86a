"""A stage can change what its siblings read of another stage's output, and what the run returns.

CTX-2.

`StageInputs` is documented as an immutable view of prior outputs; it hands out the very objects.
Of the older graph the documentation says that `PipelineContext.data` is shared and mutable.
"""

import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified",)


async def seen(kind):
    read = []

    async def load(_ctx):
        return ok(prices={"tea": 3})

    async def rogue(ctx):
        ctx.inputs.get_from("load", "prices")["tea"] = 0
        return ok()

    async def bill(ctx):
        read.append(ctx.inputs.get_from("load", "prices")["tea"])
        return ok()

    stages = {"load": load, "rogue": (rogue, ("load",)), "bill": (bill, ("load", "rogue"))}
    results = await run(kind, graph_of(kind, stages))
    returned = results["load"].data["prices"]["tea"]
    if (read, returned) == ([3], 3):
        return ""
    return f"a price of 3 is read as {read[0]} by a sibling and returned as {returned}"


if __name__ == "__main__":
    main(sys.modules[__name__])
