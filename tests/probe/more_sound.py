"""Sound programs of the shapes that people write; a probe must say nothing about any of them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
import time
import uuid
from collections.abc import AsyncIterator
from functools import wraps
from typing import Any

from harness.engine import Context, Pipeline


async def retry_with_backoff() -> str:
    delay = 0.1
    for attempt in range(5):
        try:
            await asyncio.sleep(0.05)
            if attempt < 3:
                raise ConnectionError(f"attempt {attempt}")
            return f"after {attempt}"
        except ConnectionError:
            await asyncio.sleep(delay + random.random() * 0.01)
            delay *= 2
    return "never"


async def gather_keeping_errors() -> int:
    async def fetch(number: int) -> int:
        await asyncio.sleep(number / 10)
        if number % 2:
            raise ValueError(number)
        return number

    found = await asyncio.gather(*(fetch(n) for n in range(6)), return_exceptions=True)
    return sum(x for x in found if isinstance(x, int))


async def semaphore_pool() -> list[int]:
    permits = asyncio.Semaphore(2)

    async def job(number: int) -> int:
        async with permits:
            await asyncio.sleep(0.1 * number)
            return number * number

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job(n)) for n in range(5)]
    return [t.result() for t in tasks]


async def background_heartbeat() -> int:
    beats = 0

    async def beat() -> None:
        nonlocal beats
        while True:
            await asyncio.sleep(0.1)
            beats += 1

    heart = asyncio.create_task(beat())
    try:
        await asyncio.sleep(0.55)
        return beats
    finally:
        heart.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await heart


class _Connection:
    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.log = log

    async def connect(self) -> _Connection:
        await asyncio.sleep(0.05)
        self.log.append(f"+{self.name}")
        return self

    async def close(self) -> None:
        self.log.append(f"-{self.name}")
        await asyncio.sleep(0.05)


async def exit_stack() -> list[str]:
    log: list[str] = []
    async with contextlib.AsyncExitStack() as stack:
        for name in "abc":
            connection = _Connection(name, log)
            stack.push_async_callback(connection.close)
            await connection.connect()
        await asyncio.sleep(0.2)
    return log


async def work_in_threads() -> int:
    def crunch(number: int) -> int:
        return sum(range(number))

    first = await asyncio.to_thread(crunch, 100)
    second, third = await asyncio.gather(
        asyncio.to_thread(crunch, 10), asyncio.to_thread(crunch, 20)
    )
    return first + second + third


async def _pages(number: int) -> AsyncIterator[int]:
    connection = ["open"]
    try:
        for page in range(number):
            await asyncio.sleep(0.1)
            yield page
    finally:
        connection.clear()


async def closing_generator() -> int:
    async with contextlib.aclosing(_pages(10)) as pages:
        async for page in pages:
            await asyncio.sleep(0.05)
            if page == 3:
                return page
    return -1


async def _numbers() -> AsyncIterator[int]:
    for number in range(4):
        await asyncio.sleep(0.01)
        yield number


async def generator_without_cleanup() -> int:
    total = 0
    async for number in _numbers():
        await asyncio.sleep(0.1)
        total += number
        if number == 2:
            break
    return total


async def condition_hand_over() -> list[int]:
    ready = asyncio.Condition()
    items: list[int] = []
    got: list[int] = []

    async def take() -> None:
        async with ready:
            await ready.wait_for(lambda: bool(items))
            got.append(items.pop())

    async def give() -> None:
        for number in range(3):
            await asyncio.sleep(0.1)
            async with ready:
                items.append(number)
                ready.notify()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(take())
        group.create_task(give())
    return sorted(got)


async def fallback_after_timeout() -> str:
    async def primary() -> str:
        await asyncio.sleep(5.0)
        return "primary"

    try:
        return await asyncio.wait_for(primary(), 0.3)
    except TimeoutError:
        await asyncio.sleep(0.1)
        return "fallback"


async def worker_pool() -> list[int]:
    jobs: asyncio.Queue[int | None] = asyncio.Queue()
    done: list[int] = []

    async def worker() -> None:
        while (job := await jobs.get()) is not None:
            await asyncio.sleep(0.1)
            done.append(job)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(worker())
        for job in range(7):
            await jobs.put(job)
        for _ in range(3):
            await jobs.put(None)
    return sorted(done)


async def group_with_a_failure() -> str:
    async def good() -> None:
        await asyncio.sleep(1.0)

    async def bad() -> None:
        await asyncio.sleep(0.5)
        raise ValueError("bad")

    seen = "none"
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(good())
            group.create_task(bad())
    except* ValueError as errors:
        seen = str(errors.exceptions[0])
    await asyncio.sleep(0.1)
    return seen


async def nested_timeouts() -> str:
    try:
        async with asyncio.timeout(1.0):
            try:
                async with asyncio.timeout(0.5):
                    await asyncio.sleep(2.0)
            except TimeoutError:
                await asyncio.sleep(2.0)
    except TimeoutError:
        return "outer"
    return "none"


async def first_wins() -> int:
    async def racer(seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    tasks = {asyncio.create_task(racer(s)) for s in (0.5, 0.2, 0.9)}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return len(done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def shield_in_finally() -> None:
    log: list[str] = []

    async def flush() -> None:
        await asyncio.sleep(0.1)
        log.append("flushed")
        await asyncio.sleep(0.1)
        log.append("closed")

    try:
        await asyncio.sleep(0.5)
    finally:
        await asyncio.shield(flush())


_memo: dict[str, int] = {}
_memo_lock = asyncio.Lock()


async def cached_value() -> int:
    async with _memo_lock:
        if "x" not in _memo:
            await asyncio.sleep(0.3)
            _memo["x"] = 41
    await asyncio.sleep(0.1)
    return _memo["x"] + 1


class _Transaction:
    def __init__(self) -> None:
        self.state = "open"

    async def __aenter__(self) -> _Transaction:
        await asyncio.sleep(0.01)
        return self

    async def __aexit__(self, kind: Any, *_rest: object) -> None:
        if kind is not None:
            self.state = "rolled back"
            return
        try:
            await asyncio.sleep(0.1)
            self.state = "committed"
        except BaseException:
            self.state = "rolled back"
            raise


async def transaction() -> str:
    async with _Transaction() as current:
        await asyncio.sleep(0.2)
    return current.state


async def poll_the_clock() -> int:
    ends, polls = time.monotonic() + 2.0, 0
    while time.monotonic() < ends:
        await asyncio.sleep(0.25)
        polls += 1
    return polls


_request = contextvars.ContextVar("_request", default="")


async def context_and_ids() -> str:
    _request.set(str(uuid.uuid4()))

    async def child() -> str:
        await asyncio.sleep(0.1)
        return _request.get()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child()) for _ in range(3)]
    return "same" if len({t.result() for t in tasks}) == 1 else "other"


async def gives_back_after_a_cancel() -> int:
    """Cancels nicely: notes what it had, then lets the cancel go on."""
    done = 0
    saved: list[int] = []
    try:
        for _ in range(4):
            await asyncio.sleep(0.2)
            done += 1
    except asyncio.CancelledError:
        saved.append(done)
        await asyncio.sleep(0)
        raise
    return done


async def waits_for_the_shielded() -> str:
    """A critical section is finished even if the caller gives up, and only then left."""

    async def commit() -> str:
        await asyncio.sleep(0.3)
        return "committed"

    task = asyncio.create_task(commit())
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def stops_a_worker_by_event() -> int:
    stop = asyncio.Event()
    ticks = 0

    async def worker() -> None:
        nonlocal ticks
        while not stop.is_set():
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.1)

    async with asyncio.TaskGroup() as group:
        group.create_task(worker())
        try:
            await asyncio.sleep(0.45)
        finally:
            stop.set()
    return ticks


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[list[str]]:
    log = ["open"]
    try:
        await asyncio.sleep(0.05)
        yield log
    finally:
        log.clear()
        await asyncio.sleep(0.05)


async def managed_session() -> int:
    async with _session() as log:
        await asyncio.sleep(0.3)
        return len(log)


def _traced(function: Any) -> Any:
    @wraps(function)
    async def call(*args: Any, **kw: Any) -> Any:
        begun = time.perf_counter()
        try:
            return await function(*args, **kw)
        finally:
            call.took_s = time.perf_counter() - begun  # type: ignore[attr-defined]

    return call


@_traced
async def decorated(times: int = 3) -> int:
    for _ in range(times):
        await asyncio.sleep(0.1)
    return times


async def as_they_complete() -> list[int]:
    async def job(number: int) -> int:
        await asyncio.sleep((5 - number) / 10)
        return number

    tasks = [asyncio.create_task(job(n)) for n in range(4)]
    try:
        return [await one for one in asyncio.as_completed(tasks)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def timer_given_back() -> str:
    loop = asyncio.get_running_loop()
    alarm = loop.create_future()
    handle = loop.call_later(5.0, alarm.set_result, None)
    try:
        await asyncio.wait([alarm], timeout=0.5)
        return "rang" if alarm.done() else "quiet"
    finally:
        handle.cancel()


async def keeps_its_tasks() -> int:
    running: set[asyncio.Task[None]] = set()
    done = 0

    async def job() -> None:
        nonlocal done
        await asyncio.sleep(0.3)
        done += 1

    try:
        for _ in range(3):
            task = asyncio.create_task(job())
            running.add(task)
            task.add_done_callback(running.discard)
            await asyncio.sleep(0.1)
        await asyncio.gather(*running)
        return done
    finally:
        for task in list(running):
            task.cancel()
        if running:
            await asyncio.wait(running)


async def consumer_breaks_on_cancel() -> list[int]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    got: list[int] = []

    async def consume() -> None:
        while True:
            try:
                item = await queue.get()
            except asyncio.CancelledError:
                break
            got.append(item)

    consumer = asyncio.create_task(consume())
    try:
        for item in range(3):
            await queue.put(item)
            await asyncio.sleep(0.1)
    finally:
        consumer.cancel()
        await asyncio.wait([consumer])
    return got


async def polls_with_wait_for() -> int:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def produce() -> None:
        await asyncio.sleep(0.25)
        await queue.put(7)

    async with asyncio.TaskGroup() as group:
        group.create_task(produce())
        while True:
            with contextlib.suppress(TimeoutError):
                return await asyncio.wait_for(queue.get(), 0.1)


async def child_cleans_up_when_its_group_fails() -> str:
    async def failing() -> None:
        await asyncio.sleep(0.2)
        raise KeyError("gone")

    async def other() -> None:
        try:
            await asyncio.sleep(5.0)
        finally:
            await asyncio.sleep(0.1)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
            group.create_task(other())
    except ExceptionGroup:
        return "failed"
    return "done"


async def reference_pipeline() -> str:
    """An engine of its own: dagstorm's, three stages, one with a cleanup."""
    pipeline = Pipeline("orders", timeout_s=30.0)

    async def read(_ctx: Context) -> int:
        await asyncio.sleep(0.5)
        return 1

    async def write(_ctx: Context) -> int:
        try:
            await asyncio.sleep(0.5)
        finally:
            await asyncio.sleep(0.1)
        return 2

    pipeline.stage("read", read)
    pipeline.stage("write", write, needs=["read"])
    pipeline.stage("audit", read)
    return (await pipeline.run()).status
