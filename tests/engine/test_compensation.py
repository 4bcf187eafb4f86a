"""Compensations of the reference engine: what is undone, when, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from harness.engine import (
    CancelRun,
    Context,
    EngineError,
    MemoryCheckpoints,
    Pipeline,
    Retry,
    RunCancelled,
    RunFailed,
)
from harness.engine.result import RunResult
from tests.engine.virtual import Record, in_virtual_time, sleeper

Stage = Callable[[Context], Awaitable[Any]]


def done(
    record: Record, *names: str, takes: float = 1, undo_s: float = 1, error: Any = None
) -> Stage:
    """Return a stage that declares compensations and completes."""

    async def stage(context: Context) -> str:
        for name in names:

            async def undo(name: str = name) -> None:
                record(f"undo {name}")
                await asyncio.sleep(undo_s)
                if error is not None:
                    raise error
                record(f"undone {name}")

            context.compensate(name, undo)
        await asyncio.sleep(takes)
        return context.stage

    return stage


def failing(seconds: float) -> Stage:
    async def stage(context: Context) -> None:
        await asyncio.sleep(seconds)
        raise ValueError("no")

    return stage


def ended(
    pipeline: Pipeline, *cancels_at_s: float, left: int = 0, seed: int = 0, **options: Any
) -> RunResult:
    async def main() -> RunResult:
        run = pipeline.prepare(**options)
        task = asyncio.ensure_future(run.execute())
        for at_s in cancels_at_s:
            asyncio.get_running_loop().call_later(at_s, task.cancel)
        await asyncio.wait([task])
        if not task.cancelled() and (error := task.exception()) is not None:
            assert isinstance(error, RunFailed | RunCancelled), error
        assert run.result is not None
        return run.result

    result: RunResult = in_virtual_time(main(), left=left, seed=seed)
    return result


def test_completed_stages_are_undone_in_reverse_order_of_completion_one_at_a_time() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("slow", done(record, "slow", takes=3))
    pipeline.stage("quick", done(record, "q1", "q2", takes=1))
    pipeline.stage("fails", failing(4))
    result = ended(pipeline)
    assert record.lines == [
        *("4 undo slow", "5 undone slow"),
        *("5 undo q2", "6 undone q2"),
        *("6 undo q1", "7 undone q1"),
    ]
    assert (result.status, result.compensated) == ("failed", ("slow", "q2", "q1"))
    assert result.compensation_failures == ()
    assert dict(result.outputs) == {"slow": "slow", "quick": "quick"}


@pytest.mark.parametrize("policy", ["cancel", "continue"])
def test_only_what_completed_is_undone(policy: str) -> None:
    record = Record()

    async def declares_and_fails(context: Context) -> None:
        await done(record, "fails", takes=2)(context)
        raise ValueError("no")

    pipeline = Pipeline("p", on_failure=policy)
    pipeline.stage("done", done(record, "done"))
    pipeline.stage("fails", declares_and_fails)
    pipeline.stage("late", done(record, "late", takes=5))
    assert ended(pipeline).status == "failed"
    undone = {"cancel": ("done",), "continue": ("late", "done")}[policy]
    assert [line.split()[-1] for line in record.lines] == [n for n in undone for _ in "xx"]


@pytest.mark.parametrize("seed", range(10))
def test_what_completes_in_the_tick_of_the_failure_is_undone(seed: int) -> None:
    pipeline = Pipeline("p")
    pipeline.stage("before", done(Record(), "before"))
    pipeline.stage("fails", failing(1))
    pipeline.stage("after", done(Record(), "after"))
    assert sorted(ended(pipeline, seed=seed).compensated) == ["after", "before"]


def test_nothing_is_undone_when_the_run_goes_well_or_is_called_off() -> None:
    record = Record()
    good = Pipeline("p")
    good.stage("a", done(record, "a"))
    assert (ended(good).status, ended(good).compensated) == ("completed", ())

    async def enough(context: Context) -> CancelRun:
        await asyncio.sleep(2)
        return CancelRun("enough")

    good.stage("b", enough)
    assert (ended(good).status, ended(good).compensated) == ("cancelled", ())
    assert (ended(good, 1.5).status, ended(good, 1.5).compensated) == ("cancelled", ())
    assert record.lines == []


def test_timeouts_of_a_stage_and_of_the_run_are_failures_too() -> None:
    for options, stage in (({}, {"timeout_s": 2}), ({"timeout_s": 2}, {})):
        pipeline = Pipeline("p", **options)  # type: ignore[arg-type]
        pipeline.stage("a", done(Record(), "a"))
        pipeline.stage("b", sleeper(9), **stage)  # type: ignore[arg-type]
        assert ended(pipeline).compensated == ("a",)


def test_one_that_fails_is_reported_and_the_rest_goes_on() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", done(record, "a", takes=1))
    pipeline.stage("b", done(record, "b", takes=2, error=OSError("refund refused")))
    pipeline.stage("c", failing(3))
    result = ended(pipeline)
    assert record.lines == ["3 undo b", "4 undo a", "5 undone a"]
    assert result.compensated == ("b", "a")
    (failure,) = result.compensation_failures
    assert (failure.name, failure.stage, str(failure.error)) == ("b", "b", "refund refused")


def test_no_cancel_of_the_caller_reaches_a_compensation() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", done(record, "a", takes=1))
    pipeline.stage("b", done(record, "b", takes=2))
    pipeline.stage("c", failing(3))
    result = ended(pipeline, 3.5, 3.6, 4, 4.5)
    assert record.lines == ["3 undo b", "4 undone b", "4 undo a", "5 undone a"]
    assert (result.status, result.compensated) == ("cancelled", ("b", "a"))


def test_a_cancel_between_a_failure_and_its_undoing_changes_nothing_in_it() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("a", done(record, "a", takes=1))
    pipeline.stage("b", sleeper(9, cleanup_s=2))
    pipeline.stage("c", failing(3))
    result = ended(pipeline, 4)
    assert record.lines == ["5 undo a", "6 undone a"]
    assert result.status == "cancelled"


def test_they_have_the_cleanup_grace_all_together_and_run_before_cleanups() -> None:
    record = Record()

    async def registers(context: Context) -> None:
        async def close() -> None:
            record("close")

        context.cleanup("close", close)

    pipeline = Pipeline("p", cleanup_grace_s=3)
    pipeline.stage("x", registers)
    pipeline.stage("a", done(record, "a", takes=1, undo_s=0))
    pipeline.stage("b", done(record, "b", takes=2, undo_s=9))
    pipeline.stage("c", done(record, "c", takes=3, undo_s=2))
    pipeline.stage("d", failing(4))
    result = ended(pipeline)
    assert record.lines == [
        *("4 undo c", "6 undone c", "6 undo b"),
        *("7 undo a", "7 undone a", "7 close"),
    ]
    (failure,) = result.compensation_failures
    assert str(failure.error) == ("compensation 'b' was not done within the cleanup grace of 3 s")


def test_one_that_does_not_stop_is_left_and_named() -> None:
    async def stage(context: Context) -> None:
        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.sleep(1_000)
                    return
                except asyncio.CancelledError:
                    pass

        context.compensate("a", stubborn)

    pipeline = Pipeline("p", cleanup_grace_s=3)
    pipeline.stage("a", stage)
    pipeline.stage("b", failing(1))
    assert ended(pipeline, left=1).still_running == ("compensation 'a'",)


def test_of_several_attempts_only_the_completed_ones_declaration_counts() -> None:
    record = Record()

    async def stage(context: Context) -> None:
        await done(record, f"attempt {context.attempt}")(context)
        if context.attempt < 3:
            raise OSError("down")

    pipeline = Pipeline("p")
    pipeline.stage("a", stage, retry=Retry(backoff_s=1, factor=1))
    pipeline.stage("b", failing(0), needs=["a"])
    assert ended(pipeline).compensated == ("attempt 3",)


@pytest.mark.parametrize("child_fails", [False, True])
def test_a_child_run_undoes_its_own_if_it_fails_and_hands_it_up_if_it_completes(
    child_fails: bool,
) -> None:
    record = Record()
    child = Pipeline("child")
    child.stage("inner", done(record, "inner"))
    if child_fails:
        child.stage("broken", failing(2))

    async def parent(context: Context) -> None:
        await context.subpipeline(child)
        record("child is over")

    pipeline = Pipeline("p")
    pipeline.stage("first", done(record, "first", takes=0))
    pipeline.stage("parent", parent, needs=["first"])
    pipeline.stage("last", failing(2), needs=["parent"])
    result = ended(pipeline)
    assert result.status == "failed"
    if child_fails:
        assert record.lines[:2] == ["2 undo inner", "3 undone inner"]
        assert result.compensated == ("first",)
    else:
        assert record.lines[0] == "1 child is over"
        assert result.compensated == ("inner", "first")


def test_a_declaration_that_comes_too_late_is_refused() -> None:
    kept: list[Context] = []

    async def stage(context: Context) -> None:
        kept.append(context)

    pipeline = Pipeline("p")
    pipeline.stage("a", stage)
    ended(pipeline)

    async def undo() -> None:
        raise AssertionError("never run")

    with pytest.raises(EngineError, match=r"^stage 'a': compensation 'late' comes after its end$"):
        kept[0].compensate("late", undo)


def test_what_was_undone_is_run_again_by_a_redrive_and_so_is_what_depends_on_it() -> None:
    record = Record()
    runs: list[str] = []

    def counted(stage: Stage) -> Stage:
        async def run(context: Context) -> Any:
            runs.append(context.stage)
            return await stage(context)

        return run

    async def fails_once(context: Context) -> str:
        if runs.count("d") == 1:
            raise ValueError("no")
        return "d"

    pipeline = Pipeline("p")
    pipeline.stage("a", counted(sleeper(1)))
    pipeline.stage("b", counted(done(record, "b")), needs=["a"])
    pipeline.stage("c", counted(sleeper(1)), needs=["b"])
    pipeline.stage("d", counted(fails_once), needs=["c"])

    async def main() -> RunResult:
        store = MemoryCheckpoints()
        with pytest.raises(RunFailed):
            await pipeline.run(run_id="r", checkpoints=store)
        return await pipeline.redrive("r", checkpoints=store)

    result = in_virtual_time(main())
    assert record.lines == ["3 undo b", "4 undone b"]
    assert runs == ["a", "b", "c", "d", "b", "c", "d"]
    assert (result.status, result.reused) == ("completed", ("a",))
