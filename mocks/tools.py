"""The simulated tool: what a `call` step awaits in virtual time.

It behaves as a careful tool would: a resource it holds is released in a `finally`,
the items it produced are given to the stage as they come, and a fault that the plan
puts on this call fires in the middle of its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from harness.kernel.interpreter import ERROR_TYPES, Execution

__all__ = ["simulated_tool"]


class SimulatedTool:
    """The mocks of a simulated laboratory: the tool itself, and the store behind `store` steps."""

    async def __call__(self, ex: Execution, args: Mapping[str, Any], number: int) -> list[Any]:
        """Serve the `number`-th call of a tool in this run; returns the items it produced.

        Raises:
            the exception that the step's `error` or one of the plan's faults names.
        """
        tool = args["tool"]
        error = ex.world.fault_for(tool, number)
        if error is not None:
            ex.note("fault.fired", (tool, number))
        error = error or args["error"]
        if not args["holds"]:
            return await _work(ex, args, number, error)
        name = f"{tool}#{number}"
        ex.note("acquire", name)
        try:
            return await _work(ex, args, number, error)
        finally:
            ex.note("release.begin", name)
            try:
                await asyncio.sleep(ex.seconds(args["cleanup_s"]))
            except asyncio.CancelledError:
                ex.note("interrupt")
                ex.note("release.cut", name)
                raise
            ex.note("release.end", name)

    def store(self) -> Any:
        """Return a new, empty store for tenants' rows."""
        from mocks.store.simulated import SimulatedStore  # few programs need a database

        return SimulatedStore()


simulated_tool = SimulatedTool()


async def _work(
    ex: Execution, args: Mapping[str, Any], number: int, error: str | None
) -> list[Any]:
    seconds = ex.seconds(args["seconds"])
    count = args["chunks"]
    items: list[Any] = []
    for i in range(count):
        await _wait(ex, seconds / (count + 1))
        item = f"{args['tool']}#{number}.{i}"
        items.append(item)
        ex.items.append(item)
        ex.note("item", item)
    await _wait(ex, seconds / (count + 1))
    if error is not None:
        raise ERROR_TYPES[error](f"{args['tool']} call {number} failed")
    return items


async def _wait(ex: Execution, seconds: float) -> None:
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        ex.note("interrupt")
        raise
