"""Hand-written programs of plain asyncio that the benchmarks run, on any event loop.

The standard library and nothing else is imported: other environments run this file too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["CANNOT_FAIL", "PROGRAMS", "diamond", "doubled", "refused", "unbooked"]

Wait = Callable[[], Awaitable[None]]


async def diamond() -> None:
    """Five stages: one, then three side by side, then one that needs all of them."""
    order: list[str] = []
    values: dict[str, int] = {}

    async def stage(name: str, seconds: float, *needs: asyncio.Task[None]) -> None:
        for need in needs:
            await need
        await asyncio.sleep(seconds)
        values[name] = 1 + sum(values[need.get_name()] for need in needs)
        order.append(name)

    def begin(name: str, seconds: float, *needs: asyncio.Task[None]) -> asyncio.Task[None]:
        return asyncio.create_task(stage(name, seconds, *needs), name=name)

    first = begin("a", 0.002)
    middle = [begin("b", 0.002, first), begin("c", 0.002, first), begin("d", 0.004, first)]
    await begin("e", 0.002, *middle)
    assert (order[0], order[-1], values["e"]) == ("a", "e", 7), (order, values)


# What cannot fail: each relies on one documented rule, that callbacks are called in the order
# in which they are registered (`loop.call_soon`); a task takes its first step by it.


async def handed_over() -> None:
    """A stage fills a box before its first await; the next, begun after it, empties it."""
    box: list[str] = []

    async def fill() -> None:
        box.append("parcel")

    async def empty() -> None:
        assert box, "the second stage ran before the first"

    async with asyncio.TaskGroup() as group:
        group.create_task(fill())
        group.create_task(empty())


async def begun_by_a_turn() -> None:
    """A worker is begun, and one turn of the loop is enough for it to be at work."""
    at_work = False

    async def worker() -> None:
        nonlocal at_work
        at_work = True
        await asyncio.sleep(0.001)

    task = asyncio.create_task(worker())
    await asyncio.sleep(0)
    assert at_work, "a turn of the loop did not begin the worker"
    await task


async def written_ahead() -> None:
    """Entries of a log are registered one after another, the commit last."""
    log: list[str] = []
    loop = asyncio.get_running_loop()
    for entry in ("begin", "debit", "credit", "commit"):
        loop.call_soon(log.append, entry)
    while len(log) < 4:
        await asyncio.sleep(0)
    assert log == ["begin", "debit", "credit", "commit"], log


async def in_turn() -> None:
    """Three stages take one turn each, round after round, in the order they were begun."""
    turns: list[int] = []

    async def stage(number: int) -> None:
        for _ in range(3):
            turns.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(stage(number))
    assert turns == [0, 1, 2] * 3, turns


PROGRAMS: dict[str, Callable[[], Any]] = {
    f.__name__: f for f in (diamond, handed_over, begun_by_a_turn, written_ahead, in_turn)
}
CANNOT_FAIL = tuple(PROGRAMS)


# What can fail, if two things fall together. Each returns whether they did.


async def doubled(wait: Wait, _cancel: Callable[[asyncio.Task[Any]], Awaitable[None]]) -> bool:
    """A hedged request: two replicas are asked, the first answer counts.

    The defect: it takes for granted that one of two is done, not both. They are where both
    answer before the asker has had its turn.
    """

    async def ask() -> int:
        await wait()
        return 1

    asked = {asyncio.create_task(ask()) for _ in range(2)}
    done, pending = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return sum(task.result() for task in done) > 1


async def unbooked(wait: Wait, cancel: Callable[[asyncio.Task[Any]], Awaitable[None]]) -> bool:
    """A payment is taken by a client and booked by the stage that called it.

    The defect: a cancel of the stage that lands after the client took the money and before
    the stage has had its turn loses the booking.
    """
    taken = booked = 0

    async def client() -> None:
        nonlocal taken
        answer = asyncio.get_running_loop().create_future()

        async def reader() -> None:
            await wait()
            answer.set_result(None)

        reading = asyncio.create_task(reader())
        try:
            await answer
            taken += 1
        finally:
            reading.cancel()

    async def stage() -> None:
        nonlocal booked
        await asyncio.create_task(client())
        booked += 1

    task = asyncio.create_task(stage())
    await cancel(task)
    await asyncio.wait([task])
    return taken > booked


async def refused(wait: Wait, _cancel: Callable[[asyncio.Task[Any]], Awaitable[None]]) -> bool:
    """A payment with a deadline: an alarm refuses it if the stage has not seen the answer by then.

    The defect: an answer that comes in the very turn of the deadline is taken for none. The money
    is gone, and the caller is told that it was refused.
    """
    taken = seen = told_refused = False

    async def client() -> None:
        nonlocal taken
        await wait()
        taken = True

    async def stage() -> None:
        nonlocal seen
        await asyncio.create_task(client())
        seen = True

    async def alarm(of: asyncio.Task[None]) -> None:
        nonlocal told_refused
        await wait()
        if not seen:
            told_refused = True
            of.cancel()

    task = asyncio.create_task(stage())
    ringing = asyncio.create_task(alarm(task))
    await asyncio.wait([task])
    ringing.cancel()
    return taken and told_refused
