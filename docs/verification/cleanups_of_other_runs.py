"""The end of one run runs, or forgets, another run's cleanups.

CLEAN-6, CLEAN-1, CLEAN-2, CORR-3.

The registry of cleanups is an attribute of the graph object, made anew by each run. So a stage of
one run registers with the registry of the run that started last; whichever run ends first runs
all that is in it, and each run that ends while that is going on runs the same list again.
"""

import asyncio
import contextvars
import sys

from start import graph_of, main, ok, run

GRAPHS = ("unified",)
run_name = contextvars.ContextVar("run_name", default="?")


async def seen(kind):
    ran, over, late = {}, [], set()
    starts = {"r0": 0.03, "r1": 0.01, "r2": 0.02}

    async def work(_ctx):
        mine = run_name.get()

        async def close():
            ran.setdefault(mine, []).append(run_name.get())
            await asyncio.sleep(0.01)
            if mine in over:
                late.add(mine)

        await asyncio.sleep(0.005)  # all runs have begun
        graph.register_cleanup(close)
        await asyncio.sleep(starts[mine])
        return ok()

    graph = graph_of(kind, {"work": work})

    async def one(name):
        run_name.set(name)
        await run(kind, graph)
        over.append(name)

    await asyncio.gather(*(asyncio.create_task(one(name)) for name in starts))
    await asyncio.sleep(0.03)
    told = []
    for name, times in sorted(ran.items()):
        others = [who for who in times if who != name]
        if len(times) > 1:
            told.append(f"that of {name} ran {len(times)} times")
        if others:
            told.append(f"that of {name} was run by {others[0]}, with {others[0]}'s context")
        if name in late:
            told.append(f"{name} was over before it")
    told += [f"that of {name} never ran" for name in starts if name not in ran]
    return "; ".join(told)


if __name__ == "__main__":
    main(sys.modules[__name__])
