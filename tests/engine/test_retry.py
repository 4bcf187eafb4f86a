"""Retries of the reference engine: attempts, waits, and what ends them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.engine import (
    CancelBranch,
    CancelRun,
    Context,
    Pipeline,
    PipelineError,
    Retry,
    RunCancelled,
    RunFailed,
    Skip,
)
from harness.engine.result import RunResult
from tests.engine.virtual import Record, in_virtual_time, sleeper

Stage = Callable[[Context], Awaitable[Any]]


def flaky(record: Record, fails: int, *, takes: float = 1, error: Any = OSError) -> Stage:
    """Return a stage that fails in its first attempts."""

    async def stage(context: Context) -> str:
        record(f"{context.stage} {context.attempt}")
        await asyncio.sleep(takes)
        if context.attempt <= fails:
            raise error(f"attempt {context.attempt}")
        return f"attempt {context.attempt}"

    return stage


def ended(pipeline: Pipeline, *, cancel_at_s: float | None = None, seed: int = 0) -> RunResult:
    async def main() -> RunResult:
        run = pipeline.prepare()
        task = asyncio.ensure_future(run.execute())
        if cancel_at_s is not None:
            asyncio.get_running_loop().call_later(cancel_at_s, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, RunFailed | RunCancelled), error
        assert run.result is not None
        return run.result

    result: RunResult = in_virtual_time(main(), seed=seed)
    return result


def errors(result: RunResult, stage: str) -> list[str]:
    return [str(one.error) for one in result.stages[stage].earlier]


def test_a_stage_is_tried_again_after_growing_waits_until_it_succeeds() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", flaky(record, 2), retry=Retry(attempts=5, backoff_s=2, factor=3))
    pipeline.stage("b", flaky(record, 0), needs=["a"])
    result = ended(pipeline)
    assert record.lines == ["a 1", "3 a 2", "10 a 3", "11 b 1"]
    assert (result.status, dict(result.outputs)) == (
        "completed",
        {"a": "attempt 3", "b": "attempt 1"},
    )
    assert result.failures == ()
    assert (result.stages["a"].attempts, errors(result, "a")) == (3, ["attempt 1", "attempt 2"])
    assert (result.stages["b"].attempts, errors(result, "b")) == (1, [])


def test_the_last_attempts_failure_is_the_stages_and_the_earlier_ones_are_kept() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", flaky(record, 9), retry=Retry(attempts=3, backoff_s=1, factor=1))
    pipeline.stage("b", sleeper(0), needs=["a"])
    result = ended(pipeline)
    assert record.lines == ["a 1", "2 a 2", "4 a 3"]
    assert [f.message for f in result.failures] == ["stage 'a' failed: OSError: attempt 3"]
    stage = result.stages["a"]
    assert (stage.status, stage.attempts, str(stage.error)) == ("failed", 3, "attempt 3")
    assert errors(result, "a") == ["attempt 1", "attempt 2"]
    assert result.stages["b"].reason == "it needs stage 'a' (failed)"


@pytest.mark.parametrize(
    "value", [None, 0, Skip("nothing new"), CancelBranch("no"), CancelRun("enough")], ids=repr
)
def test_a_stage_that_returned_is_done_whatever_it_returned(value: Any) -> None:
    record = Record()

    async def stage(context: Context) -> Any:
        record("ran")
        return value

    pipeline = Pipeline("p")
    pipeline.stage("a", stage, retry=Retry(attempts=5))
    result = ended(pipeline)
    assert record.lines == ["ran"]
    assert result.stages["a"].attempts == 1


def test_a_stage_that_raises_cancelled_error_by_itself_is_not_tried_again() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", flaky(record, 9, error=asyncio.CancelledError), retry=Retry())
    result = ended(pipeline)
    assert record.lines == ["a 1"]
    assert (result.status, result.stages["a"].status) == ("failed", "failed")


def test_completed_siblings_are_not_run_again() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("first", flaky(record, 0))
    pipeline.stage("a", flaky(record, 1), needs=["first"], retry=Retry(backoff_s=1))
    pipeline.stage("b", flaky(record, 0), needs=["first"])
    assert ended(pipeline).status == "completed"
    assert record.lines == ["first 1", "1 a 1", "1 b 1", "3 a 2"]


def test_each_attempt_has_the_stages_timeout_anew_and_may_time_out() -> None:
    record = Record()

    async def stage(context: Context) -> str:
        record(f"attempt {context.attempt}, {context.remaining_s:g} s left")
        await asyncio.sleep(9 if context.attempt < 3 else 1)
        return "done"

    pipeline = Pipeline("p")
    pipeline.stage("a", stage, timeout_s=2, retry=Retry(attempts=3, backoff_s=1, factor=1))
    pipeline.stage("b", sleeper(20, "b"))
    result = ended(pipeline)
    assert record.lines == [
        "attempt 1, 2 s left",
        "3 attempt 2, 2 s left",
        "6 attempt 3, 2 s left",
    ]
    assert (result.status, result.failures) == ("completed", ())
    assert errors(result, "a") == ["stage 'a' timed out: 2 s"] * 2


def test_a_timeout_of_the_last_attempt_is_the_stages() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("a", sleeper(9), timeout_s=2, retry=Retry(attempts=2, backoff_s=1))
    result = ended(pipeline)
    assert [(f.stage, f.timeout_s) for f in result.failures] == [("a", 2)]
    assert (result.stages["a"].status, result.duration_s) == ("timed_out", 5)


def test_a_cleanup_that_fails_after_a_timeout_is_kept_as_well() -> None:
    async def stage(context: Context) -> str:
        if context.attempt > 1:
            return "done"
        try:
            await asyncio.sleep(9)
        finally:
            raise OSError("cannot close")

    pipeline = Pipeline("p")
    pipeline.stage("a", stage, timeout_s=2, retry=Retry(backoff_s=1))
    result = ended(pipeline)
    assert result.status == "completed"
    assert [(str(f.error), f.stopping) for f in result.stages["a"].earlier] == [
        ("stage 'a' timed out: 2 s", False),
        ("cannot close", True),
    ]


def test_an_attempts_own_resources_are_released_before_the_wait_begins() -> None:
    record = Record()

    async def stage(context: Context) -> str:
        try:
            record(f"take {context.attempt}")
            await asyncio.sleep(1)
            if context.attempt == 1:
                raise OSError("down")
            return "done"
        finally:
            await asyncio.sleep(2)
            record(f"give back {context.attempt}")

    pipeline = Pipeline("p")
    pipeline.stage("a", stage, retry=Retry(backoff_s=5))
    assert ended(pipeline).status == "completed"
    assert record.lines == ["take 1", "3 give back 1", "8 take 2", "11 give back 2"]


def test_registered_cleanups_of_all_attempts_run_at_the_end_of_the_run() -> None:
    record = Record()

    async def stage(context: Context) -> None:
        async def close() -> None:
            record(f"close {number}")

        number = context.attempt
        context.cleanup(f"close {number}", close)
        await asyncio.sleep(1)
        if number == 1:
            raise OSError("down")

    pipeline = Pipeline("p")
    pipeline.stage("a", stage, retry=Retry(backoff_s=1))
    assert ended(pipeline).status == "completed"
    assert record.lines == ["3 close 2", "3 close 1"]


def test_an_attempt_that_does_not_stop_is_not_followed_by_another() -> None:
    async def stubborn(context: Context) -> None:
        while True:
            try:
                await asyncio.sleep(1_000)
                return
            except asyncio.CancelledError:
                pass

    async def main() -> RunResult:
        pipeline = Pipeline("p", cleanup_grace_s=3)
        pipeline.stage("a", stubborn, timeout_s=2, retry=Retry(attempts=9))
        with pytest.raises(RunFailed) as caught:
            await pipeline.run()
        return caught.value.result

    result = in_virtual_time(main(), left=1)
    assert (result.still_running, result.stages["a"].attempts) == (("a",), 1)
    assert [(f.stage, f.timeout_s) for f in result.failures] == [("a", 2)]


@pytest.mark.parametrize("cancel_at_s", [0.5, 1.0, 1.5, 2.9, 3.0, 3.5])
def test_no_attempt_begins_after_the_caller_has_cancelled(cancel_at_s: float) -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", flaky(record, 9), retry=Retry(attempts=9, backoff_s=2, factor=1))
    pipeline.stage("b", sleeper(100, cleanup_s=5))
    result = ended(pipeline, cancel_at_s=cancel_at_s)
    assert (result.status, result.duration_s) == ("cancelled", cancel_at_s + 5)
    begun = [float(line.split()[0]) for line in record.lines[1:]]
    assert [at for at in begun if at > cancel_at_s] == []


def test_a_stage_that_waited_when_the_run_was_stopped_tells_what_it_failed_by() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", flaky(record, 9), retry=Retry(attempts=9, backoff_s=10))
    pipeline.stage("below", sleeper(0), needs=["a"])

    async def fails(context: Context) -> None:
        await asyncio.sleep(3)
        raise ValueError("b is broken")

    pipeline.stage("b", fails)
    result = ended(pipeline)
    assert [f.stage for f in result.failures] == ["b"]
    stage = result.stages["a"]
    assert (stage.status, str(stage.error), stage.attempts, stage.earlier) == (
        "cancelled",
        "attempt 1",
        1,
        (),
    )
    assert stage.note == "it had failed and was to be tried again"
    assert result.stages["below"].status == "skipped"
    assert result.duration_s == 3


@pytest.mark.parametrize("seed", range(8))
def test_an_attempt_that_fails_with_the_run_is_told_the_same_way_in_any_order(seed: int) -> None:
    async def fails(context: Context) -> None:
        await asyncio.sleep(1)
        raise ValueError("b is broken")

    for names in (("a", "b"), ("b", "a")):
        pipeline = Pipeline("p")
        for name in names:
            if name == "a":
                pipeline.stage("a", flaky(Record(), 9), retry=Retry(attempts=9))
            else:
                pipeline.stage("b", fails)
        result = ended(pipeline, seed=seed)
        assert [f.stage for f in result.failures] == ["b"]
        assert (result.stages["a"].status, str(result.stages["a"].error)) == (
            "cancelled",
            "attempt 1",
        )


def test_an_attempt_stopped_before_it_began_leaves_the_parts_of_the_one_before() -> None:
    async def parts(context: Context) -> None:
        await context.chunk(f"part of attempt {context.attempt}")
        raise OSError

    notes = set()
    for turns in range(12):

        async def fails(context: Context, turns: int = turns) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            raise ValueError("b is broken")

        pipeline = Pipeline("p")
        pipeline.stage("a", parts, retry=Retry(attempts=9, backoff_s=0))
        pipeline.stage("b", fails)
        stage = ended(pipeline).stages["a"]
        assert stage.chunks == (f"part of attempt {stage.attempts}",)
        notes.add(stage.note)
    assert notes == {"it had not begun", "it had failed and was to be tried again"}


def test_a_wait_that_would_pass_the_runs_deadline_is_not_begun() -> None:
    record = Record()
    pipeline = Pipeline("p", timeout_s=10)
    pipeline.stage("a", flaky(record, 9), retry=Retry(attempts=9, backoff_s=2))
    result = ended(pipeline)
    # The next wait, of 8 s from 9 s on, could only end in the run's own timeout.
    assert record.lines == ["a 1", "3 a 2", "8 a 3"]
    assert result.duration_s == 9
    assert [f.message for f in result.failures] == ["stage 'a' failed: OSError: attempt 3"]


def test_a_policy_to_go_on_lets_a_stage_be_tried_again_when_others_have_failed() -> None:
    record = Record()
    pipeline = Pipeline("p", on_failure="continue")
    pipeline.stage("a", flaky(record, 2), retry=Retry(backoff_s=1))

    async def fails(context: Context) -> None:
        raise ValueError("b is broken")

    pipeline.stage("b", fails)
    result = ended(pipeline)
    assert dict(result.outputs) == {"a": "attempt 3"}
    assert [f.stage for f in result.failures] == ["b"]


def test_a_subpipeline_is_run_anew_in_each_attempt() -> None:
    record = Record()
    child = Pipeline("child")
    child.stage("inner", flaky(record, 0))

    async def parent(context: Context) -> str:
        await context.subpipeline(child)
        if context.attempt == 1:
            raise OSError("down")
        return "done"

    pipeline = Pipeline("p")
    pipeline.stage("a", parent, retry=Retry(backoff_s=1))
    assert ended(pipeline).status == "completed"
    assert record.lines == ["inner 1", "2 inner 1"]


def test_jitter_is_added_from_the_given_source_and_only_ever_lengthens_a_wait() -> None:
    retry = Retry(backoff_s=1, factor=2, jitter_s=0.5)
    rng = random.Random(3)
    waits = [retry.wait_s(failed, random.Random(seed)) for seed in range(50) for failed in (1, 2)]
    assert all(1 <= wait <= 1.5 for wait in waits[::2])
    assert all(2 <= wait <= 2.5 for wait in waits[1::2])
    assert len(set(waits)) == len(waits)

    def times(seed: int) -> list[str]:
        record = Record()
        pipeline = Pipeline("p", rng=random.Random(seed))
        pipeline.stage("a", flaky(record, 2), retry=retry)
        ended(pipeline)
        return record.lines

    assert times(1) == times(1) != times(2)
    assert Retry(backoff_s=1).wait_s(1, rng) == 1


def test_a_wait_has_a_limit_however_it_grows() -> None:
    assert Retry(backoff_s=1, factor=1e9).wait_s(999, random.Random(0)) == 1_000_000_000


@pytest.mark.parametrize(
    ("retry", "says"),
    [
        (3, "stage 'a': retry: expected a Retry, got 3"),
        (
            Retry(attempts=0),
            "stage 'a': retry: attempts: expected a whole number from 1 to 1000, got 0",
        ),
        (
            Retry(attempts=True),
            "stage 'a': retry: attempts: expected a whole number from 1 to 1000, got True",
        ),
        (
            Retry(backoff_s=-1),
            "stage 'a': retry: backoff_s: expected a number of seconds from 0 to 1e+09, got -1",
        ),
        (
            Retry(jitter_s=float("nan")),
            "stage 'a': retry: jitter_s: expected a number of seconds from 0 to 1e+09, got nan",
        ),
        (
            Retry(factor=0.5),
            "stage 'a': retry: factor: expected a number from 1 to 1e+09, got 0.5",
        ),
    ],
    ids=repr,
)
def test_a_retry_that_cannot_be_used_is_refused_with_the_stages_name(retry: Any, says: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline("p").stage("a", sleeper(0), retry=retry)
    assert str(caught.value) == says


def test_a_declared_retry_is_in_the_description() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("a", sleeper(0), retry=Retry(attempts=2))
    pipeline.stage("b", sleeper(0))
    a, b = pipeline.describe()["stages"]
    assert a["retry"] == {"attempts": 2, "backoff_s": 0.1, "factor": 2.0, "jitter_s": 0.0}
    assert "retry" not in b
