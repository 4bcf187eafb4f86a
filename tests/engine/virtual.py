"""Runs coroutines in virtual time, so that tests of timeouts take no time and assert on it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from harness.engine import Context
from harness.kernel.loop import SimLoop
from harness.kernel.tape import Tape

__all__ = ["Record", "in_virtual_time", "sleeper"]

HORIZON_S = 100_000.0
STEPS_MAX = 2_000_000


def in_virtual_time(main: Coroutine[Any, Any, Any], *, left: int = 0, seed: int = 0) -> Any:
    """Run `main` and return its result; assert that it leaves `left` tasks behind."""
    loop = SimLoop(Tape(seed), horizon_s=HORIZON_S, steps_max=STEPS_MAX)
    try:
        root = loop.create_task(main)
        root.add_done_callback(lambda _task: loop.settle())
        loop.run_forever()
        assert root.done(), f"the run never ended: {loop.stalled}"
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.resume()
            ended = loop.create_task(_ended(tasks))
            ended.add_done_callback(lambda _task: loop.stop())
            loop.run_forever()
        assert len(tasks) == left, f"left behind: {[task.get_name() for task in tasks]}"
        return root.result()
    finally:
        loop.close()


async def _ended(tasks: set[asyncio.Task[Any]]) -> None:
    while not all(task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.sleep(1)


class Record:
    """What happened, in order, each with its virtual time if it is not 0."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, what: str) -> None:
        now = round(asyncio.get_running_loop().time(), 6)
        self.lines.append(f"{now:g} {what}" if now else what)


def sleeper(
    seconds: float,
    value: Any = None,
    *,
    record: Record | None = None,
    cleanup_s: float | None = None,
) -> Callable[[Context], Awaitable[Any]]:
    """Return a stage that sleeps and returns `value`; with a cleanup in its `finally`."""

    async def stage(context: Context) -> Any:
        if record is not None:
            record(f"{context.stage} starts")
        try:
            await asyncio.sleep(seconds)
            return value
        finally:
            if cleanup_s is not None:
                await asyncio.sleep(cleanup_s)
            if record is not None:
                record(f"{context.stage} ends")

    return stage
