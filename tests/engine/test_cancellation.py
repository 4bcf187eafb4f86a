"""Cancellation by stages of the reference engine, and stages that do not take it well."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.engine import (
    CancelBranch,
    CancelRun,
    Context,
    Pipeline,
    RunCancelled,
    RunFailed,
    Skip,
    StrayCancel,
)
from harness.engine.result import RunResult
from tests.engine.virtual import Record, in_virtual_time, sleeper


def ended(pipeline: Pipeline, *, left: int = 0) -> RunResult:
    """Run a pipeline in virtual time, and return its result however it ends."""

    async def main() -> RunResult:
        run = pipeline.prepare(run_id="r")
        try:
            await run.execute()
        except (RunFailed, RunCancelled) as exc:
            assert exc.result is run.result
        assert run.result is not None
        return run.result

    result: RunResult = in_virtual_time(main(), left=left)
    return result


def after(seconds: float, value: Any) -> Any:
    return sleeper(seconds, value)


def stubborn(times: int, seconds: float = 60) -> Any:
    """Return a stage that swallows so many cancellations and then returns."""

    async def stage(context: Context) -> str:
        for _ in range(times):
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                pass
        return "stubborn"

    return stage


def statuses(result: RunResult) -> dict[str, str]:
    return {name: one.status for name, one in result.stages.items()}


def test_a_stage_can_end_the_run_with_a_reason_and_outputs_are_kept() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("early", after(1, "kept"))
    pipeline.stage("ender", after(2, CancelRun("nothing to do")))
    pipeline.stage("other", sleeper(9, record=record, cleanup_s=3))
    pipeline.stage("below", after(0, None), needs=["other"])
    result = ended(pipeline)
    assert record.lines == ["other starts", "5 other ends"]
    assert (result.status, result.reason, result.cancelled_by) == (
        "cancelled",
        "nothing to do",
        "ender",
    )
    assert dict(result.outputs) == {"early": "kept"}
    assert statuses(result) == {
        "early": "completed",
        "ender": "cancelled",
        "other": "cancelled",
        "below": "skipped",
    }
    assert result.failures == ()


def test_run_cancelled_says_by_whom_and_why() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("ender", after(2, CancelRun("nothing to do")))
    with pytest.raises(RunCancelled, match="cancelled by stage 'ender': nothing to do"):
        in_virtual_time(pipeline.run())


def test_stages_that_complete_in_the_tick_of_a_cancellation_are_completed() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("before", after(1, "b"))
    pipeline.stage("ender", after(1, CancelRun("enough")))
    pipeline.stage("after", after(1, "a"))
    assert dict(ended(pipeline).outputs) == {"before": "b", "after": "a"}


def test_a_failure_in_the_tick_of_a_cancellation_makes_the_run_a_failed_one() -> None:
    async def fails(context: Context) -> None:
        await asyncio.sleep(1)
        raise ValueError("broken")

    for order in (("ender", "fails"), ("fails", "ender")):
        pipeline = Pipeline("p")
        for name in order:
            pipeline.stage(name, fails if name == "fails" else after(1, CancelRun("enough")))
        result = ended(pipeline)
        assert (result.status, result.reason) == ("failed", "enough")


def test_a_failure_while_stopping_does_not_turn_a_cancelled_run_into_a_failed_one() -> None:
    async def fails_stopping(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("close failed")

    pipeline = Pipeline("p")
    pipeline.stage("ender", after(1, CancelRun("enough")))
    pipeline.stage("other", fails_stopping)
    result = ended(pipeline)
    assert (result.status, statuses(result)["other"]) == ("cancelled", "cancelled")
    assert [(f.stage, str(f.error), f.stopping) for f in result.failures] == [
        ("other", "close failed", True)
    ]


def test_a_cancelled_branch_skips_what_is_below_it_and_nothing_else() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("root", after(1, "r"))
    pipeline.stage("ender", after(1, CancelBranch("not needed")), needs=["root"])
    pipeline.stage("below", after(0, None), needs=["ender", "other"])
    pipeline.stage("further", after(0, None), needs=["below"])
    pipeline.stage("other", after(5, "o"), needs=["root"])
    pipeline.stage("last", after(5, "l"), needs=["other"])
    result = ended(pipeline)
    assert result.status == "completed"
    assert dict(result.outputs) == {"root": "r", "other": "o", "last": "l"}
    assert statuses(result)["further"] == "skipped"
    assert (result.cancelled_by, result.reason) == ("ender", "not needed")


def test_what_needs_a_skipped_stage_runs_and_reads_none() -> None:
    async def reads(context: Context) -> Any:
        return [context.input("maybe")]

    pipeline = Pipeline("p")
    pipeline.stage("maybe", after(0, Skip("no data")))
    pipeline.stage("reads", reads, needs=["maybe"])
    result = ended(pipeline)
    assert statuses(result) == {"maybe": "skipped", "reads": "completed"}
    assert (result.outputs["reads"], result.stages["maybe"].reason) == ([None], "no data")


def test_a_stage_that_swallows_its_cancel_and_returns_keeps_its_verdict() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("slow", stubborn(1), timeout_s=1)
    result = ended(pipeline)
    slow = result.stages["slow"]
    assert (slow.status, slow.output, slow.duration_s) == ("timed_out", None, 1)
    assert slow.note == "it swallowed its cancellation and returned; what it returned is dropped"


def test_a_stage_that_answers_its_cancel_with_another_error_keeps_its_verdict() -> None:
    async def stage(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise ValueError("instead") from None

    pipeline = Pipeline("p")
    pipeline.stage("slow", stage, timeout_s=1)
    result = ended(pipeline)
    assert statuses(result) == {"slow": "timed_out"}
    assert [type(f.error).__name__ for f in result.failures] == ["StageTimeout", "ValueError"]


def test_a_stage_that_never_stops_is_left_and_reported_when_the_grace_is_over() -> None:
    pipeline = Pipeline("p", cleanup_grace_s=5)
    pipeline.stage("never", stubborn(100, 1_000), timeout_s=1)
    pipeline.stage("good", sleeper(60, cleanup_s=2))
    result = ended(pipeline, left=1)
    assert (result.still_running, result.duration_s) == (("never",), 6)
    assert statuses(result) == {"never": "timed_out", "good": "cancelled"}


@pytest.mark.parametrize("grace_s", [0, 3])
def test_a_loop_in_finally_does_not_hang_the_run(grace_s: float) -> None:
    async def stage(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            while not context.stage.startswith("x"):  # for ever
                try:
                    await asyncio.sleep(0.5)
                except asyncio.CancelledError:
                    if asyncio.get_running_loop().time() > 1_000:
                        raise

    pipeline = Pipeline("p", cleanup_grace_s=grace_s)
    pipeline.stage("never", stage, timeout_s=1)

    async def main() -> RunResult:
        with pytest.raises(RunFailed) as caught:
            await pipeline.run()
        return caught.value.result

    result = in_virtual_time(main(), left=1)
    assert (result.still_running, result.duration_s) == (("never",), 1 + grace_s)


async def raises_cancelled(context: Context) -> None:
    await asyncio.sleep(1)
    raise asyncio.CancelledError("mine")


async def loses_a_task(context: Context) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    asyncio.get_running_loop().call_later(1, task.cancel)
    await task


async def cancels_itself(context: Context) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(1, task.cancel)
    await asyncio.sleep(60)


@pytest.mark.parametrize("stage", [raises_cancelled, loses_a_task, cancels_itself])
def test_a_cancelled_error_of_the_stages_own_is_its_failure(stage: Any) -> None:
    pipeline = Pipeline("p")
    pipeline.stage("odd", stage)
    pipeline.stage("other", sleeper(60))
    pipeline.stage("below", sleeper(0), needs=["odd"])
    result = ended(pipeline)
    assert result.status == "failed"
    assert statuses(result) == {"odd": "failed", "other": "cancelled", "below": "skipped"}
    (failure,) = result.failures
    assert isinstance(failure.error, StrayCancel)
    assert failure.message.startswith("StrayCancel: stage 'odd' ended by a CancelledError")


def test_the_cause_of_a_stray_cancel_is_the_cancelled_error() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("odd", raises_cancelled)
    (failure,) = ended(pipeline).failures
    assert isinstance(failure.error.__cause__, asyncio.CancelledError)
    assert failure.error.__cause__.args == ("mine",)


def test_a_stage_cancelled_from_outside_before_its_first_step_has_failed() -> None:
    async def main() -> RunResult:
        pipeline = Pipeline("p")
        pipeline.stage("victim", sleeper(1))
        run = pipeline.prepare()

        async def strike() -> None:
            for task in asyncio.all_tasks():
                if task.get_name() == "victim":
                    task.cancel()

        striking = asyncio.create_task(strike())
        # Its task is made in the very step in which the run begins, before `strike` runs.
        with pytest.raises(RunFailed):
            await run.execute()
        await striking
        assert run.result is not None
        return run.result

    result = in_virtual_time(main())
    assert statuses(result) == {"victim": "failed"}
    assert isinstance(result.failures[0].error, StrayCancel)
