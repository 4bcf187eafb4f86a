"""The simulated tool: what a `call` step awaits in virtual time.

It behaves as a careful tool would: a resource it holds is released in a `finally`,
the items it produced are given to the stage as they come, and a fault that the plan
puts on this call fires in the middle of its work. `Tool` is what it has in common with
its live twin (mocks/live_tool.py), which has the same done by services over sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from harness.kernel.interpreter import ERROR_TYPES, Execution

__all__ = ["Ask", "SimulatedTool", "Tool", "broken_off", "simulated_tool"]


class Ask:
    """One call as its service is asked for it.

    Attributes:
        number: which call of the tool this is in its run, from 1.
        seconds: how long the service takes.
        chunks: how many items it gives on the way.
        error: the error that it answers with, or None.
        items: what has come so far.
    """

    __slots__ = ("chunks", "error", "ex", "felt", "holds", "items", "number", "seconds", "tool")

    def __init__(
        self, ex: Execution, args: Mapping[str, Any], number: int, error: str | None
    ) -> None:
        self.ex = ex
        self.tool: str = args["tool"]
        self.number = number
        self.seconds = ex.seconds(args["seconds"])
        self.chunks: int = args["chunks"]
        self.holds: bool = args["holds"]
        self.error = error
        self.items: list[Any] = []
        self.felt = False

    def give(self, item: Any) -> None:
        """Take an item of the answer for the stage, which has it from now on."""
        self.items.append(item)
        self.ex.items.append(item)
        self.ex.note("item", item)

    def feel(self, how: str) -> None:
        """Note, once, that the network changed this call."""
        if not self.felt:
            self.felt = True
            self.ex.note("net.felt", (self.tool, self.number, how))


def broken_off(ask: Ask, how: str) -> ConnectionError:
    """Return what a client raises whose connection was reset, or cut before the answer's end."""
    ask.feel(how)
    if how == "reset":
        return ConnectionResetError(f"{ask.tool} call {ask.number}: connection reset by peer")
    return ConnectionError(f"{ask.tool} call {ask.number}: the answer was cut short")


class Tool:
    """What both twins do. A twin says by `answer` how an answer comes."""

    async def __call__(self, ex: Execution, args: Mapping[str, Any], number: int) -> list[Any]:
        """Serve the `number`-th call of a tool in this run; returns the items it produced.

        Raises:
            the exception that the step's `error` or one of the plan's faults names, or a
            `ConnectionError` where the plan's toxics broke the connection.
        """
        tool = args["tool"]
        error = ex.world.fault_for(tool, number)
        if error is not None:
            ex.note("fault.fired", (tool, number))
        error = error or args["error"]
        if not args["holds"]:
            return await self._work(ex, args, number, error)
        name = f"{tool}#{number}"
        ex.note("acquire", name)
        try:
            return await self._work(ex, args, number, error)
        finally:
            ex.note("release.begin", name)
            try:
                await asyncio.sleep(ex.seconds(args["cleanup_s"]))
            except asyncio.CancelledError:
                ex.note("interrupt")
                ex.note("release.cut", name)
                raise
            ex.note("release.end", name)

    async def _work(
        self, ex: Execution, args: Mapping[str, Any], number: int, error: str | None
    ) -> list[Any]:
        ask = Ask(ex, args, number, error)
        try:
            await self.answer(ask)
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise
        if error == "CancelledError":
            ex.note("self_cancel")
        if error is not None:
            raise ERROR_TYPES[error](f"{ask.tool} call {number} failed")
        return ask.items

    async def answer(self, ask: Ask) -> None:
        """Give the stage the items of an answer as they come, and return when it is over."""
        raise NotImplementedError


class SimulatedTool(Tool):
    """The mocks of a simulated laboratory: the tool itself, and the store behind `store` steps."""

    async def answer(self, ask: Ask) -> None:
        if ask.ex.world.plan.toxics:
            await _through_toxics(ask)
            return
        gap_s = ask.seconds / (ask.chunks + 1)
        for i in range(ask.chunks):
            await asyncio.sleep(gap_s)
            ask.give(f"{ask.tool}#{ask.number}.{i}")
        await asyncio.sleep(gap_s)

    async def collect(self, run: str, number: int, type: str, data: Any, seconds: float) -> None:
        """Take an event, as slowly as the plan's sink does."""
        await asyncio.sleep(seconds)

    async def allocate(self, megabytes: int) -> Any:
        """Fail as if there were no such memory: a simulation must not depend on the machine's."""
        raise MemoryError(f"{megabytes} MB are not to be had")

    def store(self) -> Any:
        """Return a new, empty store for tenants' rows."""
        from mocks.store.simulated import SimulatedStore  # few programs need a database

        return SimulatedStore()


simulated_tool = SimulatedTool()


async def _through_toxics(ask: Ask) -> None:
    from mocks.network import FELT_S, comings  # few plans have toxics

    now = ask.ex.world.now
    began_s = now()
    closes = ask.chunks > 0 or not ask.holds
    path = comings(
        ask.ex.world.plan.toxics,
        ask.ex.world.tape,
        seconds=ask.seconds,
        items=ask.chunks,
        closes=closes,
    )
    for one in path:
        try:
            if one.at_s is None:
                await asyncio.get_running_loop().create_future()
            else:
                await asyncio.sleep(max(0.0, began_s + one.at_s - now()))
        except asyncio.CancelledError:
            if now() - began_s > one.sent_s + FELT_S:
                ask.feel("silent")
            raise
        if one.what in ("cut", "reset"):
            raise broken_off(ask, one.what)
        if one.at_s is not None and one.at_s > one.sent_s + FELT_S:
            ask.feel("late")
        if one.what == "item":
            ask.give(f"{ask.tool}#{ask.number}.{len(ask.items)}")
