"""What a result of the reference engine holds: outputs, failures, chunks, events, contexts."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from typing import Any

import pytest

from harness.engine import (
    Context,
    EngineError,
    Event,
    Pipeline,
    PipelineError,
    RunCancelled,
    RunFailed,
    StageFailed,
)
from harness.engine.result import RunResult
from tests.engine.virtual import in_virtual_time, sleeper


def ended(pipeline: Pipeline, **options: Any) -> RunResult:
    async def main() -> RunResult:
        run = pipeline.prepare(**options)
        try:
            await run.execute()
        except (RunFailed, RunCancelled):
            pass
        assert run.result is not None
        return run.result

    result: RunResult = in_virtual_time(main())
    return result


def failing(seconds: float, error: Exception) -> Any:
    async def stage(context: Context) -> None:
        await asyncio.sleep(seconds)
        raise error

    return stage


def test_completed_outputs_are_reachable_when_the_run_fails() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("first", sleeper(1, {"n": 1}))
    pipeline.stage("broken", failing(1, ValueError("bad")), needs=["first"])
    pipeline.stage("never", sleeper(0), needs=["broken"])
    result = ended(pipeline)
    assert dict(result.outputs) == {"first": {"n": 1}}
    assert list(result.stages) == ["first", "broken", "never"]
    assert result.stages["never"].reason == "it needs stage 'broken' (failed)"


@pytest.mark.parametrize("seed", range(20))
def test_stages_that_complete_in_the_tick_of_a_failure_are_completed(seed: int) -> None:
    pipeline = Pipeline("p")
    pipeline.stage("before", sleeper(1, "b"))
    pipeline.stage("broken", failing(1, ValueError("bad")))
    pipeline.stage("after", sleeper(1, "a"))

    async def main() -> RunResult:
        with pytest.raises(RunFailed) as caught:
            await pipeline.run()
        return caught.value.result

    result = in_virtual_time(main(), seed=seed)
    assert dict(result.outputs) == {"before": "b", "after": "a"}


def test_every_failure_is_reported_in_order_with_stage_and_cause() -> None:
    async def chained(context: Context) -> None:
        await asyncio.sleep(1)
        try:
            raise KeyError("row")
        except KeyError as exc:
            raise ValueError("bad table") from exc

    async def fails_stopping(context: Context) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise OSError("close failed")

    pipeline = Pipeline("p")
    pipeline.stage("one", chained)
    pipeline.stage("two", failing(1, StageFailed("no such user")))
    pipeline.stage("three", fails_stopping)
    result = ended(pipeline)
    assert [(f.stage, f.stopping, f.message) for f in result.failures] == [
        ("one", False, "stage 'one' failed: ValueError: bad table; after KeyError: 'row'"),
        ("two", False, "stage 'two' failed: StageFailed: no such user"),
        ("three", True, "stage 'three' failed: OSError: close failed; after CancelledError"),
    ]
    assert isinstance(result.failures[0].error.__cause__, KeyError)


def test_run_failed_names_all_failures_and_has_the_first_as_its_cause() -> None:
    first = ValueError("bad")
    pipeline = Pipeline("p")
    pipeline.stage("one", failing(1, first))
    pipeline.stage("two", failing(1, KeyError("worse")))
    with pytest.raises(RunFailed) as caught:
        in_virtual_time(pipeline.run(run_id="r"))
    assert caught.value.__cause__ is first
    assert str(caught.value) == (
        "run 'r' of pipeline 'p' failed: stage 'one' failed: ValueError: bad; "
        "stage 'two' failed: KeyError: 'worse'"
    )


def test_the_members_of_an_exception_group_are_named() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("many", failing(1, ExceptionGroup("both", [ValueError("a"), KeyError("b")])))
    (failure,) = ended(pipeline).failures
    assert "[ValueError: a; KeyError: 'b']" in failure.message


def test_with_continue_failures_add_up_and_other_branches_complete() -> None:
    pipeline = Pipeline("p", on_failure="continue")
    pipeline.stage("one", failing(1, ValueError("bad")))
    pipeline.stage("two", failing(3, ValueError("bad")))
    pipeline.stage("good", sleeper(5, "done"))
    pipeline.stage("below", sleeper(0), needs=["good", "one"])
    pipeline.stage("fine", sleeper(1, "done"), needs=["good"])
    result = ended(pipeline)
    assert [f.stage for f in result.failures] == ["one", "two"]
    assert dict(result.outputs) == {"good": "done", "fine": "done"}
    assert (result.status, result.stages["below"].status) == ("failed", "skipped")


def test_results_are_frozen() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("s", sleeper(0))
    result = ended(pipeline)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.status = "failed"  # type: ignore[misc]
    with pytest.raises(TypeError):
        result.stages["s"] = result.stages["s"]  # type: ignore[index]


def test_a_function_that_is_not_async_is_a_failure_of_its_stage() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("sync", lambda context: 1)  # type: ignore[arg-type, return-value]
    (failure,) = ended(pipeline).failures
    assert (failure.stage, type(failure.error)) == ("sync", TypeError)


def chunky(end: Any) -> Any:
    async def stage(context: Context) -> str:
        for i in range(4):
            await context.chunk(i)
        await end(context)
        return "all"

    return stage


@pytest.mark.parametrize("way", ["fail", "timeout", "ok"])
def test_chunks_are_kept_in_order_and_marked_as_partial(way: str) -> None:
    end = {"fail": failing(1, ValueError("x")), "timeout": sleeper(60), "ok": sleeper(1)}[way]
    pipeline = Pipeline("p")
    pipeline.stage("stream", chunky(end), timeout_s=3)
    stream = ended(pipeline).stages["stream"]
    assert (stream.chunks, stream.chunks_dropped, stream.complete) == ((0, 1, 2, 3), 0, way == "ok")


def test_chunks_beyond_the_bound_are_counted() -> None:
    pipeline = Pipeline("p", chunks_max=3)
    pipeline.stage("stream", chunky(sleeper(0)))
    stream = ended(pipeline).stages["stream"]
    assert (stream.chunks, stream.chunks_dropped) == ((0, 1, 2), 1)


def test_events_reach_the_sink_and_a_sink_that_raises_fails_no_stage() -> None:
    seen: list[Event] = []

    def sink(event: Event) -> None:
        if event.type == "bad":
            raise OSError("sink is full")
        seen.append(event)

    async def stage(context: Context) -> None:
        context.emit("good", {"n": 1})
        context.emit("bad")

    pipeline = Pipeline("p")
    pipeline.stage("speaks", stage)
    result = ended(pipeline, run_id="r", sink=sink)
    assert seen == [Event("r", "speaks", "good", {"n": 1})]
    assert (result.status, result.events_lost) == ("completed", 1)


def test_what_a_stage_reads_is_its_own() -> None:
    async def spoils(context: Context) -> Any:
        context.input("data")["list"].append("spoilt")
        context.inputs["key"] = "spoilt"  # type: ignore[index]
        return context.input("data")

    async def reads(context: Context) -> Any:
        return [context.input("data"), dict(context.inputs)]

    produced: dict[str, list[Any]] = {"list": [1]}

    async def data(context: Context) -> Any:
        asyncio.get_running_loop().call_later(1, produced["list"].append, "spoilt by producer")
        return produced

    given = {"key": ["value"]}
    pipeline = Pipeline("p")
    pipeline.stage("data", data)
    pipeline.stage("spoils", spoils, needs=["data"])
    pipeline.stage("waits", sleeper(2), needs=["spoils"])
    pipeline.stage("reads", reads, needs=["data", "waits"])
    result = ended(pipeline, inputs=given)
    assert result.outputs["reads"] == [{"list": [1]}, {"key": ["value"]}]
    assert result.outputs["spoils"] == {"list": [1]}
    assert given == {"key": ["value"]}


def test_an_output_that_cannot_be_copied_fails_its_stage_and_says_why() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("locks", sleeper(0, threading.Lock()))
    (failure,) = ended(pipeline).failures
    assert "stage 'locks': its output cannot be copied (lock)" in failure.message


def test_reading_a_stage_that_is_not_needed_is_refused() -> None:
    async def reads(context: Context) -> Any:
        return context.input("other")

    pipeline = Pipeline("p", on_failure="continue")
    pipeline.stage("other", sleeper(0))
    pipeline.stage("reads", reads)
    (failure,) = ended(pipeline).failures
    assert isinstance(failure.error, EngineError)
    assert "stage 'reads' reads 'other' without needing it" in failure.message


def test_a_stage_run_by_itself_finds_the_same_context() -> None:
    seen: list[list[str]] = []

    async def looks(context: Context) -> Any:
        seen.append([name for name in dir(context) if hasattr(context, name)])
        return context.input("data") + context.inputs["more"]

    pipeline = Pipeline("p", stage_timeout_s=5)
    pipeline.stage("data", sleeper(0, 1))
    pipeline.stage("looks", looks, needs=["data"])

    async def main() -> list[RunResult]:
        return [
            await pipeline.run({"more": 2}),
            await pipeline.run_stage("looks", {"more": 2}, given={"data": 1}),
        ]

    whole, alone = in_virtual_time(main())
    assert (whole.outputs["looks"], alone.outputs["looks"]) == (3, 3)
    assert seen[0] == seen[1]


def test_a_stage_that_is_not_declared_cannot_be_run_by_itself() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("s", sleeper(0))
    with pytest.raises(PipelineError, match="stage 'other' is not declared"):
        in_virtual_time(pipeline.run_stage("other"))
