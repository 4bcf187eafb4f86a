"""Ten small async programs: five that are sound, five with one planted defect each.

The line of each defect carries a comment `DEFECT kind`, which is where a probe must point to.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

# Sound


async def task_group() -> int:
    """Two children in a task group, each with something to give back."""
    open_now: list[str] = []

    async def child(name: str, seconds: float) -> int:
        open_now.append(name)
        try:
            await asyncio.sleep(seconds)
            return len(name)
        finally:
            open_now.remove(name)

    async with asyncio.TaskGroup() as group:
        first = group.create_task(child("first", 1.0))
        second = group.create_task(child("second", 2.0))
    return first.result() + second.result()


async def producer_consumer() -> list[int]:
    """A bounded queue between two tasks; the consumer is stopped and awaited at the end."""
    queue: asyncio.Queue[int] = asyncio.Queue(maxsize=2)
    got: list[int] = []

    async def consume() -> None:
        while True:
            item = await queue.get()
            await asyncio.sleep(0.1)
            got.append(item)
            queue.task_done()

    consumer = asyncio.create_task(consume())
    try:
        for item in range(5):
            await queue.put(item)
        await queue.join()
    finally:
        consumer.cancel()
        await asyncio.gather(consumer, return_exceptions=True)
    return got


class Account:
    """Something that must be settled, whatever happens."""

    def __init__(self) -> None:
        self.settled = False

    async def settle(self) -> None:
        await asyncio.sleep(0.2)
        self.settled = True
        await asyncio.sleep(0.1)


async def shielded_cleanup() -> bool:
    """Cleans up in a task of its own and waits for it, however often it is cancelled."""
    account = Account()
    try:
        await asyncio.sleep(1.0)
    finally:
        settling = asyncio.create_task(account.settle())
        cancelled = False
        while not settling.done():
            try:
                await asyncio.shield(settling)
            except asyncio.CancelledError:
                cancelled = True
        if cancelled:
            raise asyncio.CancelledError
    return account.settled


async def timeout_with_cleanup() -> str:
    """Gives up on slow work after a while, and lets go of what it held."""
    held = ["connection"]
    try:
        async with asyncio.timeout(0.5):
            await asyncio.sleep(10.0)
    except TimeoutError:
        await asyncio.sleep(0.1)
        return "too slow"
    finally:
        held.clear()
    return "done"


class Resource:
    """Opened and closed with an await in each."""

    def __init__(self) -> None:
        self.open = False

    async def __aenter__(self) -> Resource:
        await asyncio.sleep(0.1)
        self.open = True
        return self

    async def __aexit__(self, *_exc: object) -> None:
        self.open = False
        await asyncio.sleep(0.1)


async def nested_managers() -> int:
    """Context managers inside one another; each lets go before it awaits."""
    lock = asyncio.Lock()
    async with Resource() as outer, lock:
        async with asyncio.timeout(5.0), Resource() as inner:
            await asyncio.sleep(0.5)
        return outer.open + inner.open


# Defective


async def _audit() -> None:
    await asyncio.sleep(5.0)


async def orphaned_task() -> str:
    """Starts a task and never waits for it."""
    audit = asyncio.create_task(_audit())  # DEFECT task
    await asyncio.sleep(1.0)
    return audit.get_name()[:4]


async def swallowed_cancel() -> str:
    """Takes a cancel for a reason to return."""
    try:
        await asyncio.sleep(1.0)
    except asyncio.CancelledError:  # DEFECT swallowed
        return "partial"
    return "whole"


async def cleanup_cut_off() -> list[str]:
    """The second statement of its cleanup never runs if a cancel hits the first."""
    log: list[str] = []
    try:
        await asyncio.sleep(1.0)
    finally:
        await asyncio.sleep(0.5)  # DEFECT cut-off
        log.append("released")
    return log


async def _rows() -> AsyncIterator[int]:
    try:
        for number in range(10):
            yield number
            await asyncio.sleep(0.1)
    finally:
        await asyncio.sleep(0)


async def unclosed_generator() -> int:
    """Leaves an async generator in the middle."""
    async for row in _rows():  # DEFECT asyncgen
        if row == 3:
            return row
    return -1


_cache_lock = asyncio.Lock()


async def lock_held() -> int:
    """A cancel between acquire and release leaves the lock taken."""
    await _cache_lock.acquire()  # DEFECT lock
    await asyncio.sleep(1.0)
    _cache_lock.release()
    return 1


@contextlib.asynccontextmanager
async def _unused() -> AsyncIterator[None]:
    yield
