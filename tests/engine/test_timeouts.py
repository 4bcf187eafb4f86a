"""Timeouts of the reference engine: stages, idle stages, tools, runs, threads."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest

from harness.engine import (
    Context,
    Pipeline,
    PipelineError,
    RunFailed,
    RunTimeout,
    StageTimeout,
    ToolTimeout,
)
from harness.engine.result import RunResult
from harness.kernel.loop import ThreadJob
from tests.engine.virtual import Record, in_virtual_time, sleeper


def failed(pipeline: Pipeline, *, left: int = 0) -> RunResult:
    """Run a pipeline that must fail, in virtual time, and return its result."""

    async def main() -> RunResult:
        with pytest.raises(RunFailed) as caught:
            await pipeline.run()
        return caught.value.result

    result: RunResult = in_virtual_time(main(), left=left)
    return result


def test_a_stage_is_ended_at_its_timeout_and_named() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("slow", sleeper(9), timeout_s=2.5)
    result = failed(pipeline)
    slow = result.stages["slow"]
    assert (slow.status, slow.duration_s) == ("timed_out", 2.5)
    assert [(f.stage, f.timeout_s, f.message) for f in result.failures] == [
        ("slow", 2.5, "StageTimeout: stage 'slow' timed out: 2.5 s")
    ]


def test_the_error_says_which_stage_and_which_timeout() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("slow", sleeper(9), timeout_s=2.5)
    with pytest.raises(RunFailed) as caught:
        in_virtual_time(pipeline.run(run_id="r"))
    assert str(caught.value) == (
        "run 'r' of pipeline 'p' failed: StageTimeout: stage 'slow' timed out: 2.5 s"
    )
    assert isinstance(caught.value.__cause__, StageTimeout)
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_a_stage_that_finishes_before_its_timeout_is_left_alone() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("quick", sleeper(2.499, "done"), timeout_s=2.5)
    result = in_virtual_time(pipeline.run())
    assert dict(result.outputs) == {"quick": "done"}


@pytest.mark.parametrize("seed", range(1, 30))
def test_a_tie_of_end_and_timeout_has_one_verdict(seed: int) -> None:
    pipeline = Pipeline("p", on_failure="continue")
    pipeline.stage("tie", sleeper(1, "done"), timeout_s=1)

    async def main() -> tuple[str, int]:
        run = pipeline.prepare()
        try:
            await run.execute()
        except RunFailed:
            pass
        assert run.result is not None
        return run.result.stages["tie"].status, len(run.result.failures)

    assert in_virtual_time(main(), seed=seed) in [("completed", 0), ("timed_out", 1)]


def test_the_cleanup_of_a_timed_out_stage_is_awaited() -> None:
    record = Record()
    pipeline = Pipeline("p", cleanup_grace_s=5)
    pipeline.stage("slow", sleeper(9, record=record, cleanup_s=4.5), timeout_s=1)
    result = failed(pipeline)
    assert record.lines == ["slow starts", "5.5 slow ends"]
    assert result.stages["slow"].status == "timed_out"
    assert result.still_running == ()


def test_a_cleanup_longer_than_the_grace_is_given_up_and_reported() -> None:
    pipeline = Pipeline("p", cleanup_grace_s=2)
    pipeline.stage("slow", sleeper(9, cleanup_s=60), timeout_s=1)
    result = failed(pipeline, left=1)
    assert result.still_running == ("slow",)
    assert result.duration_s == 3


def test_a_cleanup_that_takes_exactly_the_grace_is_awaited() -> None:
    pipeline = Pipeline("p", cleanup_grace_s=2)
    pipeline.stage("slow", sleeper(9, cleanup_s=2), timeout_s=1)
    assert failed(pipeline).still_running == ()


def test_siblings_of_a_timed_out_stage_are_cancelled_and_awaited() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("slow", sleeper(9), timeout_s=1)
    pipeline.stage("sibling", sleeper(5, record=record, cleanup_s=2))
    result = failed(pipeline)
    assert record.lines == ["sibling starts", "3 sibling ends"]
    assert {n: s.status for n, s in result.stages.items()} == {
        "slow": "timed_out",
        "sibling": "cancelled",
    }


def test_with_continue_the_siblings_of_a_timed_out_stage_go_on() -> None:
    pipeline = Pipeline("p", on_failure="continue")
    pipeline.stage("slow", sleeper(9), timeout_s=1)
    pipeline.stage("sibling", sleeper(5, "done"))
    pipeline.stage("below", sleeper(0), needs=["slow"])
    result = failed(pipeline)
    assert {n: s.status for n, s in result.stages.items()} == {
        "slow": "timed_out",
        "sibling": "completed",
        "below": "skipped",
    }
    assert result.stages["below"].reason == "it needs stage 'slow' (timed_out)"


def test_zero_ends_a_stage_at_its_first_wait() -> None:
    record = Record()

    async def stage(context: Context) -> None:
        record("first")
        await asyncio.sleep(0)
        record("second")

    pipeline = Pipeline("p")
    pipeline.stage("zero", stage, timeout_s=0)
    assert failed(pipeline).stages["zero"].status == "timed_out"
    assert record.lines == ["first"]


BAD_SECONDS = [
    -1,
    -0.001,
    float("nan"),
    float("inf"),
    -float("inf"),
    True,
    "1",
    Decimal(1),
    10**400,
]


@pytest.mark.parametrize("bad", BAD_SECONDS, ids=repr)
@pytest.mark.parametrize("option", ["timeout_s", "idle_timeout_s"])
def test_a_number_that_is_no_timeout_is_refused_with_the_stages_name(option: str, bad: Any) -> None:
    with pytest.raises(PipelineError, match=rf"^stage 'fetch': {option}: expected a number"):
        Pipeline("p").stage("fetch", sleeper(1), **{option: bad})


@pytest.mark.parametrize("bad", BAD_SECONDS, ids=repr)
def test_a_default_that_is_no_timeout_is_refused_with_a_stages_name(bad: Any) -> None:
    pipeline = Pipeline("p", stage_timeout_s=bad)
    pipeline.stage("own", sleeper(1), timeout_s=1)
    pipeline.stage("fetch", sleeper(1))
    with pytest.raises(PipelineError, match=r"^stage 'fetch': timeout_s, from the pipeline's"):
        pipeline.check()


def test_concurrent_timeouts_fire_once_each() -> None:
    pipeline = Pipeline("p", on_failure="continue")
    for i in range(1_000):
        pipeline.stage(f"s{i}", sleeper(60), timeout_s=1 + i % 7)
    result = failed(pipeline)
    assert [s.duration_s for s in result.stages.values()] == [1 + i % 7 for i in range(1_000)]
    assert sorted(f.stage or "" for f in result.failures) == sorted(result.stages)


def test_each_stage_has_its_own_timeout_or_the_pipelines() -> None:
    pipeline = Pipeline("p", stage_timeout_s=30)
    pipeline.stage("own", sleeper(1), timeout_s=5, idle_timeout_s=2)
    pipeline.stage("default", sleeper(1), needs=["own"])
    assert pipeline.describe() == {
        "name": "p",
        "timeout_s": None,
        "cleanup_grace_s": 10.0,
        "on_failure": "cancel",
        "chunks_max": 1_000,
        "layers": [],
        "stages": [
            {"name": "own", "needs": [], "timeout_s": 5.0, "idle_timeout_s": 2.0},
            {"name": "default", "needs": ["own"], "timeout_s": 30.0, "idle_timeout_s": None},
        ],
    }


def test_a_tool_call_has_its_own_timeout_inside_the_stages() -> None:
    async def stage(context: Context) -> str:
        try:
            await context.call("search", lambda: asyncio.sleep(60), timeout_s=1)
        except ToolTimeout as exc:
            assert (exc.stage, exc.tool, exc.timeout_s) == ("ask", "search", 1)
            assert isinstance(exc, TimeoutError)
        await context.call("search", lambda: asyncio.sleep(2))
        return "went on"

    pipeline = Pipeline("p")
    pipeline.stage("ask", stage, timeout_s=4)
    result = in_virtual_time(pipeline.run())
    assert (result.stages["ask"].output, result.duration_s) == ("went on", 3)


def test_a_tool_timeout_that_the_stage_lets_out_is_a_timeout_of_that_stage() -> None:
    async def stage(context: Context) -> None:
        await context.call("search", lambda: asyncio.sleep(60), timeout_s=1)

    pipeline = Pipeline("p")
    pipeline.stage("ask", stage, timeout_s=4)
    result = failed(pipeline)
    assert [(f.stage, f.timeout_s) for f in result.failures] == [("ask", 1)]
    assert result.stages["ask"].status == "failed"
    assert "tool 'search' timed out: 1 s" in result.failures[0].message


def test_a_timeout_error_of_the_tools_own_is_no_timeout_of_the_engines() -> None:
    async def tool() -> None:
        await asyncio.sleep(1)
        raise TimeoutError("upstream said so")

    async def stage(context: Context) -> None:
        await context.call("search", tool, timeout_s=5)

    pipeline = Pipeline("p")
    pipeline.stage("ask", stage)
    (failure,) = failed(pipeline).failures
    assert (type(failure.error), failure.timeout_s) == (TimeoutError, None)


def test_a_tool_that_swallows_its_timeout_is_late_all_the_same() -> None:
    async def tool() -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        return "late"

    async def stage(context: Context) -> None:
        await context.call("search", tool, timeout_s=1)

    pipeline = Pipeline("p")
    pipeline.stage("ask", stage)
    assert [f.timeout_s for f in failed(pipeline).failures] == [1]


def test_a_bad_tool_timeout_names_stage_and_tool() -> None:
    async def stage(context: Context) -> None:
        await context.call("search", lambda: asyncio.sleep(0), timeout_s=-1)

    pipeline = Pipeline("p")
    pipeline.stage("ask", stage)
    (failure,) = failed(pipeline).failures
    assert "stage 'ask': timeout_s of tool 'search': expected a number" in failure.message


def test_a_stage_that_ends_while_its_tool_is_called_is_ended_by_its_own_timeout() -> None:
    async def stage(context: Context) -> None:
        await context.call("search", lambda: asyncio.sleep(60), timeout_s=2)

    pipeline = Pipeline("p")
    pipeline.stage("ask", stage, timeout_s=2)
    result = failed(pipeline)
    assert [(f.stage, f.timeout_s) for f in result.failures] == [("ask", 2)]


def test_heartbeats_keep_a_stage_alive_and_silence_ends_it() -> None:
    async def stage(context: Context) -> None:
        for _ in range(5):
            await asyncio.sleep(0.9)
            context.heartbeat()
        await asyncio.sleep(60)

    pipeline = Pipeline("p")
    pipeline.stage("worker", stage, idle_timeout_s=1)
    result = failed(pipeline)
    assert result.stages["worker"].duration_s == pytest.approx(5.5)
    assert result.failures[0].message == ("StageTimeout: stage 'worker' gave no heartbeat for 1 s")


def test_the_run_has_a_timeout_too() -> None:
    record = Record()
    pipeline = Pipeline("p", timeout_s=3)
    pipeline.stage("first", sleeper(2, "done"))
    pipeline.stage("second", sleeper(2, record=record, cleanup_s=1), needs=["first"])
    result = failed(pipeline)
    assert record.lines == ["2 second starts", "4 second ends"]
    assert [(f.stage, type(f.error), f.timeout_s) for f in result.failures] == [
        (None, RunTimeout, 3)
    ]
    assert dict(result.outputs) == {"first": "done"}


def test_a_stage_can_ask_how_long_it_has() -> None:
    async def stage(context: Context) -> list[float | None]:
        before = context.remaining_s
        await asyncio.sleep(2)
        return [before, context.remaining_s, context.grace_left_s]

    pipeline = Pipeline("p", timeout_s=20)
    pipeline.stage("tight", stage, timeout_s=5)
    pipeline.stage("loose", stage)
    outputs = in_virtual_time(pipeline.run()).outputs
    assert outputs == {"tight": [5, 3, None], "loose": [20, 18, None]}


def test_the_stages_own_timeouts_work_inside_the_engines() -> None:
    async def stage(context: Context) -> str:
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep(1)
        return "went on"

    pipeline = Pipeline("p")
    pipeline.stage("nested", stage, timeout_s=3)
    assert in_virtual_time(pipeline.run()).outputs["nested"] == "went on"


def test_a_timeout_error_of_the_stages_own_is_no_timeout_of_the_engines() -> None:
    async def stage(context: Context) -> None:
        async with asyncio.timeout(1):
            await asyncio.sleep(60)

    pipeline = Pipeline("p")
    pipeline.stage("nested", stage, timeout_s=3)
    result = failed(pipeline)
    (failure,) = result.failures
    assert (type(failure.error), failure.timeout_s) == (TimeoutError, None)
    assert result.stages["nested"].status == "failed"


def test_own_timeouts_still_work_in_the_cleanup_of_a_timed_out_stage() -> None:
    record = Record()

    async def stage(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(60)
            except TimeoutError:
                record("gave up closing")

    pipeline = Pipeline("p")
    pipeline.stage("slow", stage, timeout_s=2)
    assert failed(pipeline).still_running == ()
    assert record.lines == ["3 gave up closing"]


def test_a_thread_does_not_hold_up_its_stages_timeout_and_is_reported() -> None:
    async def stage(context: Context) -> None:
        await context.to_thread(ThreadJob(60, lambda: None))

    pipeline = Pipeline("p")
    pipeline.stage("blocked", stage, timeout_s=1)
    result = failed(pipeline)
    assert (result.duration_s, result.threads_running) == (1, ("blocked",))


def test_a_real_thread_does_not_hold_up_the_loop_either() -> None:
    release = threading.Event()

    async def stage(context: Context) -> None:
        await context.to_thread(release.wait)

    pipeline = Pipeline("p")
    pipeline.stage("blocked", stage, timeout_s=0.01)
    try:
        with pytest.raises(RunFailed) as caught:
            asyncio.run(pipeline.run())  # returns though the thread is still there
        assert caught.value.result.threads_running == ("blocked",)
    finally:
        release.set()


def test_a_thread_gives_its_value_or_its_exception() -> None:
    async def stage(context: Context) -> int:
        with pytest.raises(ZeroDivisionError):
            await context.to_thread(divmod, 1, 0)
        return await context.to_thread(pow, 2, 5)

    pipeline = Pipeline("p")
    pipeline.stage("threaded", stage)
    result = asyncio.run(pipeline.run())
    assert (result.outputs["threaded"], result.threads_running) == (32, ())
