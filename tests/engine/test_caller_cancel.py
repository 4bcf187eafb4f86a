"""The caller cancels a run: at every turn of the loop, and again, and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from harness.engine import Context, Pipeline, RunFailed
from harness.engine.run import Run
from tests.engine.virtual import Record, in_virtual_time, sleeper


class Books:
    """What stages hold and what cleanups have been run, by number of times."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.opened: list[str] = []
        self.closed: list[str] = []

    def stage(self, *, fails: bool = False) -> Callable[[Context], Any]:
        async def stage(context: Context) -> str:
            name = context.stage
            self.inside.append(name)
            self.opened.append(f"{name}.registered")
            context.cleanup(name, lambda: self._close(f"{name}.registered"))
            self.opened.append(f"{name}.held")
            try:
                await _turns(3)
                if fails:
                    raise ValueError(name)
                return name
            finally:
                try:
                    # Shielded from nothing: the engine must not cancel here again.
                    await self._close(f"{name}.held")
                finally:
                    self.inside.remove(name)

        return stage

    async def _close(self, what: str) -> None:
        await _turns(2)
        self.closed.append(what)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def diamond(books: Books, failing: str) -> Pipeline:
    pipeline = Pipeline("diamond")
    for name, needs in (("a", []), ("b", ["a"]), ("c", ["a"]), ("d", ["b", "c"])):
        pipeline.stage(name, books.stage(fails=name == failing), needs=needs)
    return pipeline


async def cancel_at(pipeline: Pipeline, turns: list[int]) -> tuple[str, Run, int]:
    """Run the pipeline and cancel its caller after each of `turns`; say how that went.

    Returns how the caller saw it end, the run, and the number of cancels that were taken.
    """
    run = pipeline.prepare()
    caller = asyncio.create_task(run.execute())
    taken = 0
    for count in turns:
        await _turns(count)
        taken += caller.cancel()
    await asyncio.wait([caller])
    if caller.cancelled():
        return "cancelled", run, taken
    error = caller.exception()
    return "returned" if error is None else type(error).__name__, run, taken


def check(books: Books, how: str, taken: int, natural: str) -> None:
    assert how == ("cancelled" if taken else natural)
    assert books.inside == []
    held = [what for what in books.opened if what.endswith(".held")]
    registered = [what for what in books.opened if what.endswith(".registered")]
    closed_held = [what for what in books.closed if what.endswith(".held")]
    assert len(set(books.closed)) == len(books.closed)
    # A first cancel may land in the `finally` of a stage that is ending by itself.
    assert set(closed_held) <= set(held)
    assert [w for w in books.closed if w in registered] == registered[::-1]


@pytest.mark.parametrize("failing", ["", "b", "d"])
def test_a_cancel_at_every_turn_of_the_loop(failing: str) -> None:
    async def main() -> int:
        natural = "RunFailed" if failing else "returned"
        for k in range(10_000):
            before = asyncio.all_tasks()
            books = Books()
            pipeline = diamond(books, failing)
            how, run, taken = await cancel_at(pipeline, [k])
            check(books, how, taken, natural)
            assert asyncio.all_tasks() == before, f"cancel after {k} turns left a task"
            if how == "cancelled" and k:
                assert run.result is not None
                assert set(run.result.stages) == {"a", "b", "c", "d"}
            # The same pipeline works once more.
            again = Books()
            how, _, _ = await cancel_at(diamond(again, failing), [])
            check(again, how, 0, natural)
            if not taken:
                return k
        raise AssertionError("the run never ended")

    assert asyncio.run(main()) > 20


@pytest.mark.parametrize("gaps", [[0], [1], [2], [3], [0, 0], [1, 1], [2, 3, 1]])
def test_further_cancels_change_nothing(gaps: list[int]) -> None:
    async def main() -> None:
        for k in range(1, 60):
            before = asyncio.all_tasks()
            books = Books()
            how, _, taken = await cancel_at(diamond(books, ""), [k, *gaps])
            check(books, how, taken, "returned")
            assert asyncio.all_tasks() == before
            if taken:
                held = {what for what in books.opened if what.endswith(".held")}
                # What a second cancel must never do: cut a cleanup that the first began.
                late = held - {what for what in books.closed if what.endswith(".held")}
                single = Books()
                await cancel_at(diamond(single, ""), [k])
                assert late == {w for w in single.opened if w.endswith(".held")} - set(
                    single.closed
                )

    asyncio.run(main())


def test_a_cancel_before_the_first_step_runs_nothing() -> None:
    async def main() -> None:
        books = Books()
        caller = asyncio.create_task(diamond(books, "").run())
        caller.cancel()
        await asyncio.wait([caller])
        assert (caller.cancelled(), books.opened) == (True, [])

    asyncio.run(main())


def test_a_cancel_after_the_end_is_refused_by_asyncio() -> None:
    async def main() -> None:
        caller = asyncio.create_task(diamond(Books(), "").run())
        await caller
        assert caller.cancel() is False

    asyncio.run(main())


def test_the_result_can_be_read_after_a_cancel() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("quick", sleeper(1, "kept"))
    pipeline.stage("slow", sleeper(60), needs=["quick"])

    async def main() -> Run:
        run = pipeline.prepare()
        caller = asyncio.create_task(run.execute())
        await asyncio.sleep(2)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        return run

    result = in_virtual_time(main()).result
    assert result is not None
    assert (result.status, result.reason) == ("cancelled", "the caller cancelled the run")
    assert dict(result.outputs) == {"quick": "kept"}
    assert result.stages["slow"].status == "cancelled"


def test_cleanups_finish_although_the_caller_is_cancelled_while_they_run() -> None:
    record = Record()

    async def stage(context: Context) -> None:
        for name in ("first", "second"):
            context.cleanup(name, lambda name=name: closing(name))  # type: ignore[misc]

    async def closing(name: str) -> None:
        await asyncio.sleep(2)
        record(f"{name} closed")

    async def main() -> None:
        pipeline = Pipeline("p")
        pipeline.stage("opens", stage)
        caller = asyncio.create_task(pipeline.run())
        for _ in range(3):
            await asyncio.sleep(1)
            caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    in_virtual_time(main())
    assert record.lines == ["2 second closed", "4 first closed"]


def test_the_message_of_the_callers_cancel_is_kept() -> None:
    async def main() -> tuple[Any, ...]:
        pipeline = Pipeline("p")
        pipeline.stage("slow", sleeper(60))
        caller = asyncio.create_task(pipeline.run())
        await asyncio.sleep(1)
        caller.cancel("shutting down")
        try:
            await caller
        except asyncio.CancelledError as exc:
            return exc.args
        raise AssertionError("the cancel was swallowed")

    assert in_virtual_time(main()) == ("shutting down",)


def test_asyncio_timeout_around_a_run_works_as_around_anything() -> None:
    record = Record()

    async def main() -> int:
        pipeline = Pipeline("p")
        pipeline.stage("slow", sleeper(60, record=record, cleanup_s=1))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await pipeline.run()
        record("caller goes on")
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert in_virtual_time(main()) == 0
    assert record.lines == ["slow starts", "3 slow ends", "3 caller goes on"]


def test_a_cancel_inside_asyncio_timeout_stays_a_cancel() -> None:
    async def main() -> None:
        pipeline = Pipeline("p")
        pipeline.stage("slow", sleeper(60, cleanup_s=5))

        async def call() -> None:
            async with asyncio.timeout(2):
                await pipeline.run()

        caller = asyncio.create_task(call())
        await asyncio.sleep(1)
        caller.cancel()  # and the timeout expires while the stage cleans up
        with pytest.raises(asyncio.CancelledError):
            await caller

    in_virtual_time(main())


def test_a_task_group_ends_a_run_like_any_other_task() -> None:
    record = Record()

    async def main() -> None:
        pipeline = Pipeline("p")
        pipeline.stage("slow", sleeper(60, record=record, cleanup_s=1))

        async def fails() -> None:
            await asyncio.sleep(2)
            raise ValueError("other")

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(pipeline.run())
                group.create_task(fails())
        assert [type(e) for e in caught.value.exceptions] == [ValueError]

    in_virtual_time(main())
    assert record.lines == ["slow starts", "3 slow ends"]


def test_a_caller_that_is_cancelled_sees_that_and_not_the_failure() -> None:
    async def fails_stopping(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("close failed")

    async def main() -> Run:
        pipeline = Pipeline("p")
        pipeline.stage("odd", fails_stopping)
        run = pipeline.prepare()
        caller = asyncio.create_task(run.execute())
        await asyncio.sleep(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        return run

    result = in_virtual_time(main()).result
    assert result is not None
    assert [str(f.error) for f in result.failures] == ["close failed"]


def test_a_stage_that_does_not_stop_does_not_hang_a_cancelled_caller() -> None:
    async def never(context: Context) -> None:
        while asyncio.get_running_loop().time() < 1_000:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(2_000)

    async def main() -> tuple[float, tuple[str, ...]]:
        pipeline = Pipeline("p", cleanup_grace_s=4)
        pipeline.stage("never", never)
        run = pipeline.prepare()
        caller = asyncio.create_task(run.execute())
        await asyncio.sleep(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert run.result is not None
        return asyncio.get_running_loop().time(), run.result.still_running

    assert in_virtual_time(main(), left=1) == (5, ("never",))


def test_a_run_is_executed_once() -> None:
    async def main() -> None:
        pipeline = Pipeline("p")
        pipeline.stage("s", sleeper(1))
        run = pipeline.prepare(run_id="r")
        await run.execute()
        with pytest.raises(Exception, match="run 'r' was started before; prepare"):
            await run.execute()

    in_virtual_time(main())


def test_a_failed_run_leaves_no_cancel_behind_in_its_caller() -> None:
    async def main() -> int:
        pipeline = Pipeline("p")
        pipeline.stage("slow", sleeper(60), timeout_s=1)
        with pytest.raises(RunFailed):
            await pipeline.run()
        task = asyncio.current_task()
        assert task is not None
        return task.cancelling()

    assert in_virtual_time(main()) == 0
