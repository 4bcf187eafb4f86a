"""Registered cleanups of the reference engine."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.engine import (
    CancelRun,
    Context,
    EngineError,
    GraceExceeded,
    Pipeline,
    RunCancelled,
    RunFailed,
    StrayCancel,
)
from harness.engine.result import RunResult
from tests.engine.virtual import Record, in_virtual_time, sleeper


def ended(pipeline: Pipeline, *, left: int = 0) -> RunResult:
    async def main() -> RunResult:
        run = pipeline.prepare()
        try:
            await run.execute()
        except (RunFailed, RunCancelled):
            pass
        assert run.result is not None
        return run.result

    result: RunResult = in_virtual_time(main(), left=left)
    return result


def closing(record: Record, name: str, seconds: float = 1) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        record(f"{name} closing")
        await asyncio.sleep(seconds)
        record(f"{name} closed")

    return close


async def fails(context: Context) -> None:
    raise ValueError("broken")


WAYS_OUT = {
    "ok": sleeper(0),
    "fail": fails,
    "timeout": sleeper(60),
    "cancel_run": sleeper(0, CancelRun("enough")),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_cleanups_run_once_each_in_reverse_order_on_every_way_out(way: str) -> None:
    record = Record()

    async def opens(context: Context) -> None:
        for name in ("x", "y", "z"):
            context.cleanup(name, closing(record, name))

    pipeline = Pipeline("p")
    pipeline.stage("opens", opens)
    pipeline.stage("ends", WAYS_OUT[way], needs=["opens"], timeout_s=1)
    result = ended(pipeline)
    began = 1 if way == "timeout" else 0
    expected = []
    for i, name in enumerate("zyx"):
        for step, at in (("closing", began + i), ("closed", began + i + 1)):
            expected.append(f"{at} {name} {step}".removeprefix("0 "))
    assert record.lines == expected
    assert result.cleanup_failures == ()


def test_cleanups_run_after_all_stages_have_ended() -> None:
    record = Record()

    async def opens(context: Context) -> None:
        context.cleanup("x", closing(record, "x", 0))

    pipeline = Pipeline("p")
    pipeline.stage("opens", opens)
    pipeline.stage("slow", sleeper(5, record=record))
    ended(pipeline)
    assert record.lines == ["slow starts", "5 slow ends", "5 x closing", "5 x closed"]


def test_a_failing_cleanup_is_reported_and_the_others_run() -> None:
    record = Record()

    async def broken() -> None:
        raise OSError("still busy")

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def opens(context: Context) -> None:
        context.cleanup("x", closing(record, "x", 0))
        context.cleanup("broken", broken)
        context.cleanup("cancelled", cancelled)
        context.cleanup("y", closing(record, "y", 0))

    pipeline = Pipeline("p")
    pipeline.stage("opens", opens)
    result = ended(pipeline)
    assert record.lines == ["y closing", "y closed", "x closing", "x closed"]
    assert result.status == "completed"
    assert [(f.name, f.stage, type(f.error)) for f in result.cleanup_failures] == [
        ("cancelled", "opens", StrayCancel),
        ("broken", "opens", OSError),
    ]


def test_cleanups_share_one_grace_and_what_must_wait_after_it_is_cut() -> None:
    record = Record()

    async def opens(context: Context) -> None:
        context.cleanup("sync", closing(record, "sync", 0))
        context.cleanup("late", closing(record, "late", 1))
        context.cleanup("long", closing(record, "long", 60))

    pipeline = Pipeline("p", cleanup_grace_s=3)
    pipeline.stage("opens", opens)
    result = ended(pipeline)
    assert record.lines == [
        "long closing",
        "3 late closing",
        "3 sync closing",
        "3 sync closed",
    ]
    assert [(f.name, type(f.error)) for f in result.cleanup_failures] == [
        ("long", GraceExceeded),
        ("late", GraceExceeded),
    ]
    assert str(result.cleanup_failures[0].error) == (
        "cleanup 'long' was not done within the cleanup grace of 3 s"
    )


def test_a_cleanup_that_does_not_stop_is_left_and_reported() -> None:
    async def never() -> None:
        while asyncio.get_running_loop().time() < 1_000:
            try:
                await asyncio.sleep(2_000)
            except asyncio.CancelledError:
                pass

    async def opens(context: Context) -> None:
        context.cleanup("never", never)

    pipeline = Pipeline("p", cleanup_grace_s=3)
    pipeline.stage("opens", opens)
    result = ended(pipeline, left=1)
    assert (result.still_running, result.duration_s) == (("cleanup 'never'",), 3)


def test_a_cleanup_may_register_another() -> None:
    record = Record()

    async def opens(context: Context) -> None:
        async def close() -> None:
            record("outer")
            context.cleanup("inner", closing(record, "inner", 0))

        context.cleanup("first", closing(record, "first", 0))
        context.cleanup("outer", close)

    pipeline = Pipeline("p")
    pipeline.stage("opens", opens)
    ended(pipeline)
    assert record.lines == [
        "outer",
        "inner closing",
        "inner closed",
        "first closing",
        "first closed",
    ]


def test_a_cleanup_registered_after_the_run_is_refused() -> None:
    kept: list[Context] = []

    async def opens(context: Context) -> None:
        kept.append(context)

    pipeline = Pipeline("p")
    pipeline.stage("opens", opens)
    ended(pipeline)
    with pytest.raises(EngineError, match="stage 'opens': cleanup 'x' comes after the run's end"):
        kept[0].cleanup("x", closing(Record(), "x"))


def test_concurrent_runs_of_one_pipeline_keep_their_cleanups_apart() -> None:
    record = Record()

    async def opens(context: Context) -> None:
        context.cleanup("x", closing(record, context.run_id, 0))
        await asyncio.sleep(context.inputs["seconds"])

    pipeline = Pipeline("p")
    pipeline.stage("opens", opens)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(pipeline.run({"seconds": 5}, run_id="long"))
            group.create_task(pipeline.run({"seconds": 1}, run_id="short"))

    in_virtual_time(main())
    assert record.lines == ["1 short closing", "1 short closed", "5 long closing", "5 long closed"]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_nothing_is_left_behind_on_any_way_out(way: str) -> None:
    """No task, no timer, no unretrieved exception, on the stock loop."""
    complaints: list[dict[str, Any]] = []

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: complaints.append(context))
        pipeline = Pipeline("p", timeout_s=3_600)
        pipeline.stage("ends", WAYS_OUT[way], timeout_s=0.01, idle_timeout_s=3_600)
        pipeline.stage("other", sleeper(0.02))
        try:
            await pipeline.run()
        except (RunFailed, RunCancelled):
            pass
        live = [h for h in loop._scheduled if not h.cancelled()]  # type: ignore[attr-defined]
        return len(asyncio.all_tasks()), len(live)

    assert asyncio.run(main()) == (1, 0)
    gc.collect()
    assert complaints == []
