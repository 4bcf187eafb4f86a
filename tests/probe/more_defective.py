"""Defective programs of the shapes that people write, one planted defect each.

The line that a probe must point to carries a comment `DEFECT kind`; where the same mistake
has a second face, that carries `ALSO kind`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator

Lock = asyncio.Lock


async def retry_takes_cancel_for_failure() -> str:
    for _ in range(3):
        try:
            await asyncio.sleep(0.2)
            return "done"
        except BaseException:  # DEFECT swallowed
            await asyncio.sleep(0.1)
    return "gave up"


async def suppressed() -> int:
    done = 0
    for _ in range(3):
        with contextlib.suppress(asyncio.CancelledError):  # DEFECT swallowed
            await asyncio.sleep(0.2)
            done += 1
    return done


async def cancel_becomes_an_error() -> None:
    try:
        await asyncio.sleep(1.0)
    except asyncio.CancelledError as exc:  # DEFECT swallowed
        raise RuntimeError("stopped") from exc


async def return_in_finally() -> str:
    result = "none"
    try:
        await asyncio.sleep(0.5)
        result = "whole"
    finally:
        return result  # noqa: B012  # DEFECT swallowed


async def _save(rows: list[int]) -> int:
    try:
        await asyncio.sleep(0.3)
    except asyncio.CancelledError:  # DEFECT swallowed
        rows.clear()
    return len(rows)


async def child_swallows() -> int:
    return await asyncio.create_task(_save([1, 2, 3]))


async def gather_leaves_siblings() -> str:
    async def slow() -> None:
        await asyncio.sleep(5.0)

    async def failing() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("no")

    try:
        await asyncio.gather(failing(), slow())  # DEFECT task
    except ValueError:
        return "failed"
    return "done"


async def first_completed_leaves_rest() -> int:
    tasks = [asyncio.create_task(asyncio.sleep(s)) for s in (0.1, 9.0)]  # DEFECT task
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    return len(done)


async def cancelled_but_not_awaited() -> str:
    async def slow_to_stop() -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            await asyncio.sleep(1.0)

    task = asyncio.create_task(slow_to_stop())  # DEFECT task
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.sleep(0.1)
    return "ended"


class _File:
    def __init__(self) -> None:
        self.closed = False

    async def __aenter__(self) -> _File:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._flush()  # DEFECT cut-off
        self.closed = True

    async def _flush(self) -> None:
        await asyncio.sleep(0.2)


async def exit_cut_off() -> bool:
    async with _File() as file:
        await asyncio.sleep(0.3)
    return file.closed


@contextlib.asynccontextmanager
async def _lease(log: list[str]) -> AsyncIterator[None]:
    log.append("leased")
    try:
        yield
    finally:
        await asyncio.sleep(0.1)  # DEFECT cut-off
        log.append("returned")


async def lease_cut_off() -> list[str]:
    log: list[str] = []
    async with _lease(log):
        await asyncio.sleep(0.3)
    return log


async def stack_cut_off() -> list[str]:
    closed: list[str] = []

    async def close() -> None:
        await asyncio.sleep(0.1)  # DEFECT cut-off
        closed.append("one")

    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(close)
        await asyncio.sleep(0.3)
    return closed


async def rollback_cut_off() -> list[str]:
    log: list[str] = []
    try:
        try:
            await asyncio.sleep(0.3)
            raise OSError("disk")
        except OSError:
            await asyncio.sleep(0.1)  # DEFECT cut-off
            log.append("rolled back")
            raise
    except OSError:
        return log


async def closes_in_a_loop() -> list[int]:
    closed: list[int] = []
    try:
        await asyncio.sleep(0.2)
    finally:
        for number in range(3):
            closed.append(number)
            await asyncio.sleep(0.1)  # DEFECT cut-off
    return closed


_permits = asyncio.Semaphore(1)


async def permit_lost() -> int:
    await _permits.acquire()  # DEFECT lock
    await asyncio.sleep(0.4)
    _permits.release()
    return 1


_busy = False


async def busy_for_ever() -> str:
    global _busy  # noqa: PLW0603
    if _busy:
        raise RuntimeError("already running")  # DEFECT again
    _busy = True
    await asyncio.sleep(0.3)
    _busy = False
    return "ran"


async def nobody_fetches() -> str:
    async def failing() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("lost")  # DEFECT unretrieved

    task = asyncio.create_task(failing())  # ALSO task: a cancel in the first 0.1 s leaves it
    await asyncio.sleep(0.5)
    return str(task.done())


async def alarm_left_set() -> str:
    loop = asyncio.get_running_loop()
    handle = loop.call_later(60.0, print, "too late")  # DEFECT timer
    await asyncio.sleep(1.0)
    handle.cancel()
    return "in time"


async def waits_for_a_dead_consumer() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def consume() -> None:
        while True:
            await queue.get()
            await asyncio.sleep(0.1)
            queue.task_done()

    consumer = asyncio.create_task(consume())
    try:
        for item in range(4):
            await queue.put(item)
        await asyncio.sleep(0.15)
    finally:
        consumer.cancel()
        await queue.join()  # DEFECT stuck


async def waits_in_cleanup() -> None:
    ready = asyncio.Event()

    async def get_ready() -> None:
        await asyncio.sleep(0.2)
        ready.set()

    task = asyncio.create_task(get_ready())
    try:
        await ready.wait()
    finally:
        task.cancel()
        await ready.wait()  # DEFECT stuck


async def locks_twice() -> None:
    lock = Lock()
    async with lock:
        await asyncio.sleep(0.1)
        async with lock:  # DEFECT stuck
            await asyncio.sleep(0.1)


async def crossed_locks() -> None:
    left, right = Lock(), Lock()

    async def one(first: Lock, second: Lock) -> None:
        async with first:
            await asyncio.sleep(0.1)
            async with second:  # DEFECT stuck
                await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(one(left, right))
        group.create_task(one(right, left))


_stream_lock = Lock()


async def _stream() -> AsyncIterator[int]:
    async with _stream_lock:
        for number in range(5):
            yield number
            await asyncio.sleep(0.1)


async def consumer_cancelled() -> int:
    total = 0
    async for number in _stream():  # DEFECT asyncgen
        await asyncio.sleep(0.2)
        total += number
    return total


async def thread_left() -> int:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait, daemon=True)
    thread.start()  # DEFECT thread
    await asyncio.sleep(0.1)
    return threading.active_count()


async def ignores_cancel_for_ever() -> None:
    left = 3
    while left:
        try:
            await asyncio.sleep(0.2)
            left -= 1
        except asyncio.CancelledError:  # DEFECT swallowed
            left += 1


async def starts_before_the_try() -> int:
    async def beat() -> None:
        while True:
            await asyncio.sleep(0.1)

    task = asyncio.create_task(beat())  # DEFECT task
    await asyncio.sleep(0.2)
    try:
        await asyncio.sleep(0.2)
        return 1
    finally:
        task.cancel()


async def spins() -> int:
    await asyncio.sleep(0.1)
    number = 0
    while number >= 0:  # DEFECT blocked
        number += 1
    return number
