"""Where a run was given up: in the task that drives it, however deep the exception comes from.

The functions of this module stand for an engine: its package folder is this file's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from harness.kernel.loop import SimLoop
from harness.kernel.tape import Tape
from harness.kernel.witness import engine_location, traceback_location

ROOT = str(Path(__file__).parent)


class Turn:
    """Waits for one turn of any loop."""

    def __await__(self) -> Iterator[None]:
        yield


async def stage() -> None:
    await asyncio.sleep(1)
    raise ValueError("the stage failed")


async def run_stage() -> None:
    await stage()


async def in_a_task() -> None:
    await asyncio.create_task(run_stage())


async def waits_then_raises() -> None:
    task = asyncio.create_task(run_stage())
    await asyncio.wait([task])
    exc = task.exception()
    assert exc is not None
    raise exc


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(run_stage())


async def gathers() -> None:
    await asyncio.gather(run_stage(), asyncio.sleep(5))


async def cancels_it() -> None:
    task = asyncio.create_task(run_stage())
    await asyncio.sleep(0.5)
    task.cancel()
    await task


async def directly() -> None:
    await run_stage()


async def with_a_timeout() -> None:
    await asyncio.wait_for(run_stage(), 5)


def located(drive: Callable[[], Awaitable[None]]) -> str:
    """Return where an exception of `drive` is placed, without the line."""
    loop = SimLoop(Tape(0), horizon_s=100, steps_max=1_000)
    found = ""

    async def user() -> None:
        nonlocal found
        try:
            await drive()
        except BaseException as exc:
            found = traceback_location(exc, ROOT)

    user.__code__ = user.__code__.replace(co_filename="/the/user.py")
    try:
        task = loop.create_task(user())
        task.add_done_callback(lambda _: loop.stop())
        loop.run_forever()
        task.result()
    finally:
        loop.close()
    file, _, function = found.partition(" ")
    assert file.startswith("kernel/test_witness.py:")
    return function


@pytest.mark.parametrize("drive", [in_a_task, waits_then_raises, in_a_group, gathers, cancels_it])
def test_what_drives_the_run_is_named_and_not_the_task_it_came_from(
    drive: Callable[[], Awaitable[None]],
) -> None:
    assert located(drive) == drive.__name__


async def pause() -> None:
    await asyncio.sleep(1)
    raise ValueError("given up while waiting")


async def waits_elsewhere() -> None:
    task = asyncio.create_task(run_stage())
    try:
        await pause()
    finally:
        task.cancel()


def test_what_begins_the_tasks_is_named_and_not_where_it_waits_for_them() -> None:
    assert located(waits_elsewhere) == "waits_elsewhere"


@pytest.mark.parametrize("drive", [directly, with_a_timeout])
def test_in_one_task_the_innermost_place_is_named(drive: Callable[[], Awaitable[None]]) -> None:
    assert located(drive) == "stage"


def test_if_only_another_task_is_the_engines_its_place_is_named() -> None:
    async def drive() -> None:
        await asyncio.create_task(run_stage())

    drive.__code__ = drive.__code__.replace(co_filename="/not/the/engine.py")
    assert located(drive) == "stage"


def test_a_task_left_behind_is_named_by_what_it_was_begun_with() -> None:
    async def waits() -> None:
        await forever()

    async def forever() -> None:
        await Turn()

    coro = waits()
    coro.send(None)
    assert engine_location(coro, ROOT).endswith("<locals>.waits")
    assert engine_location(coro, "/elsewhere") == ""
    coro.close()
