"""Subpipelines of the reference engine."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from harness.engine import (
    CancelRun,
    Context,
    Event,
    Pipeline,
    RunCancelled,
    RunFailed,
)
from harness.engine.result import RunResult
from harness.engine.run import Run
from tests.engine.virtual import Record, in_virtual_time, sleeper


def parent_of(child: Pipeline, **limits: Any) -> Pipeline:
    async def stage(context: Context) -> Any:
        result = await context.subpipeline(child, {"from": context.stage})
        return dict(result.outputs)

    grace_s = limits.pop("cleanup_grace_s", 10.0)
    parent = Pipeline("parent", cleanup_grace_s=grace_s)
    parent.stage("runs", stage, **limits)
    return parent


def finished(pipeline: Pipeline, *, cancel_s: float | None = None, left: int = 0) -> RunResult:
    async def main() -> RunResult:
        run = pipeline.prepare(run_id="r")
        caller = asyncio.create_task(run.execute())
        if cancel_s is not None:
            await asyncio.sleep(cancel_s)
            caller.cancel()
        with contextlib.suppress(RunFailed, RunCancelled, asyncio.CancelledError):
            await caller
        assert run.result is not None
        return run.result

    result: RunResult = in_virtual_time(main(), left=left)
    return result


def test_a_child_has_its_own_id_and_inputs_and_gives_its_result() -> None:
    async def stage(context: Context) -> Any:
        return [context.run_id, context.pipeline, context.inputs["from"]]

    child = Pipeline("child")
    child.stage("inner", stage)
    result = finished(parent_of(child))
    assert result.outputs["runs"] == {"inner": ["r/child", "child", "runs"]}


def test_children_of_one_name_have_ids_of_their_own() -> None:
    seen: list[str] = []

    async def inner(context: Context) -> None:
        seen.append(context.run_id)

    async def stage(context: Context) -> None:
        await asyncio.gather(context.subpipeline(child), context.subpipeline(child))

    child = Pipeline("child")
    child.stage("inner", inner)
    parent = Pipeline("parent")
    parent.stage("runs", stage)
    finished(parent)
    assert seen == ["r/child", "r/child#2"]


def test_a_child_ends_with_the_deadline_of_its_stage_and_cleans_up() -> None:
    record = Record()
    child = Pipeline("child")
    child.stage("inner", sleeper(60, record=record, cleanup_s=2))
    result = finished(parent_of(child, timeout_s=3))
    assert record.lines == ["inner starts", "5 inner ends"]
    assert [(f.stage, f.timeout_s) for f in result.failures] == [("runs", 3)]


def test_a_child_sees_the_nearest_of_all_deadlines() -> None:
    seen: list[float | None] = []

    async def stage(context: Context) -> None:
        seen.append(context.remaining_s)

    child = Pipeline("child", timeout_s=50)
    child.stage("loose", stage)
    child.stage("tight", stage, timeout_s=1)
    finished(parent_of(child, timeout_s=3))
    assert seen == [3, 1]


def test_a_timeout_inside_a_child_is_the_childs_and_reaches_the_stage_once() -> None:
    child = Pipeline("child")
    child.stage("inner", sleeper(60), timeout_s=1)
    result = finished(parent_of(child, timeout_s=3))
    (failure,) = result.failures
    assert (failure.stage, failure.timeout_s) == ("runs", None)
    assert isinstance(failure.error, RunFailed)
    assert [(f.stage, f.timeout_s) for f in failure.error.result.failures] == [("inner", 1)]
    assert "stage 'inner' timed out: 1 s" in failure.message


def test_a_stage_can_go_on_after_its_childs_failure() -> None:
    async def stage(context: Context) -> str:
        try:
            await context.subpipeline(child)
        except RunFailed as exc:
            return str(exc.result.failures[0].stage)
        return "no failure"

    child = Pipeline("child")
    child.stage("inner", sleeper(60), timeout_s=1)
    parent = Pipeline("parent")
    parent.stage("runs", stage)
    result = finished(parent)
    assert (result.status, result.outputs["runs"]) == ("completed", "inner")


def test_a_child_that_cancels_itself_tells_its_stage() -> None:
    child = Pipeline("child")
    child.stage("inner", sleeper(1, CancelRun("empty")))
    result = finished(parent_of(child))
    (failure,) = result.failures
    assert isinstance(failure.error, RunCancelled)
    assert failure.error.result.reason == "empty"


def test_a_callers_cancel_reaches_the_child_and_its_cleanups_run() -> None:
    record = Record()

    async def inner(context: Context) -> None:
        async def close() -> None:
            await asyncio.sleep(1)
            record("child closed")

        context.cleanup("x", close)
        await asyncio.sleep(60)

    child = Pipeline("child")
    child.stage("inner", inner)
    result = finished(parent_of(child), cancel_s=2)
    assert record.lines == ["3 child closed"]
    assert (result.status, result.stages["runs"].status) == ("cancelled", "cancelled")


def test_what_does_not_stop_in_a_child_is_reported_by_the_top_run_in_time() -> None:
    async def never(context: Context) -> None:
        while asyncio.get_running_loop().time() < 1_000:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(2_000)

    child = Pipeline("child")
    child.stage("never", never)
    result = finished(parent_of(child, timeout_s=1, cleanup_grace_s=10), left=1)
    assert result.still_running == ("runs/never",)
    assert result.duration_s <= 11


def test_a_stage_has_time_to_clean_up_also_if_its_childs_stage_timed_out_just_before() -> None:
    async def stubborn(context: Context) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(99)

    async def stage(context: Context) -> None:
        try:
            await context.subpipeline(child)
        finally:
            await asyncio.sleep(0.5)
            record("cleaned up")

    record = Record()
    child = Pipeline("child", cleanup_grace_s=10)
    child.stage("inner", stubborn, timeout_s=1.9)
    parent = Pipeline("parent", cleanup_grace_s=10)
    parent.stage("runs", stage, timeout_s=2)

    async def main() -> RunResult:
        with pytest.raises(RunFailed) as failed:
            await parent.run()
        return failed.value.result

    result = in_virtual_time(main(), left=1)
    # Nine tenths of the stage's grace are the child's, whatever it was given before.
    assert (record.lines, result.still_running) == (["11.5 cleaned up"], ("runs/inner",))


def test_events_of_a_child_reach_the_sink_of_the_top_run() -> None:
    async def speaks(context: Context) -> None:
        context.emit("hello")

    seen: list[Event] = []
    child = Pipeline("child")
    child.stage("inner", speaks)
    parent = parent_of(child)
    in_virtual_time(parent.run(run_id="r", sink=seen.append))
    assert seen == [Event("r/child", "inner", "hello", None)]


@pytest.mark.parametrize("k", range(60))
def test_a_cancel_at_any_turn_leaves_no_child_behind(k: int) -> None:
    async def inner(context: Context) -> None:
        opened.append(context.stage)
        try:
            for _ in range(4):
                await asyncio.sleep(0)
        finally:
            await asyncio.sleep(0)
            closed.append(context.stage)

    opened: list[str] = []
    closed: list[str] = []
    child = Pipeline("child")
    child.stage("first", inner)
    child.stage("second", inner, needs=["first"])

    async def main() -> tuple[Run, bool, bool, int]:
        run = parent_of(child).prepare()
        caller = asyncio.create_task(run.execute())
        for _ in range(k):
            await asyncio.sleep(0)
        taken = caller.cancel()
        await asyncio.wait([caller])
        return run, taken, caller.cancelled(), len(asyncio.all_tasks())

    _, taken, cancelled, tasks = asyncio.run(main())
    assert (taken, tasks) == (cancelled, 1)
    # The first cancel may itself land in a `finally`; then that one is cut, by whoever sent it.
    assert set(closed) <= set(opened)
    assert len(opened) - len(closed) <= 1
