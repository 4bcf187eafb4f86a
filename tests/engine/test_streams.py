"""A stage's chunks, consumed while the run goes on: back-pressure, and a consumer that goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.engine import Context, EngineError, Pipeline, PipelineError, Retry, RunFailed, Stream
from harness.engine.result import RunResult
from harness.engine.run import Run
from tests.engine.virtual import Record, in_virtual_time, sleeper


def producer(count: int, every_s: float, record: Record, *, cleanup_s: float = 0.0) -> Any:
    async def stage(context: Context) -> str:
        try:
            for i in range(count):
                await asyncio.sleep(every_s)
                await context.chunk(i)
                record(f"made {i}")
            return "all"
        finally:
            await asyncio.sleep(cleanup_s)
            record("producer closed")

    return stage


async def together(run: Run, consumer: Any) -> RunResult:
    """Execute a run beside a consumer, as the documentation has it."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run.execute())
        tasks.create_task(consumer)
    return running.result()


async def consume(
    stream: Stream, record: Record, every_s: float = 0.0, stop_after: int | None = None
) -> None:
    async with stream:
        taken = 0
        async for chunk in stream:
            record(f"took {chunk}")
            taken += 1
            if taken == stop_after:
                break
            await asyncio.sleep(every_s)
    record("consumer gone")


def streamed(
    pipeline: Pipeline, record: Record, *, buffer_max: int = 16, **consumer: Any
) -> RunResult:
    run = pipeline.prepare()
    stream = run.stream("answer", buffer_max=buffer_max)
    result: RunResult = in_virtual_time(together(run, consume(stream, record, **consumer)))
    return result


def answering(stage: Any) -> Pipeline:
    pipeline = Pipeline("p")
    pipeline.stage("answer", stage)
    return pipeline


def test_chunks_are_consumed_as_they_come() -> None:
    record = Record()
    result = streamed(answering(producer(3, 1, record)), record)
    assert record.lines == [
        *("1 made 0", "1 took 0", "2 made 1", "2 took 1", "3 made 2", "3 took 2"),
        *("3 producer closed", "3 consumer gone"),
    ]
    assert (result.stages["answer"].chunks, result.outputs) == ((0, 1, 2), {"answer": "all"})


def test_a_producer_waits_for_a_slow_consumer() -> None:
    record = Record()
    result = streamed(answering(producer(6, 0, record)), record, buffer_max=2, every_s=1)
    made = [line for line in record.lines if "made" in line]
    # Two wait; one more is made for each that is taken.
    assert made == ["made 0", "made 1", "made 2", "1 made 3", "2 made 4", "3 made 5"]
    assert [line for line in record.lines if "took" in line][-1] == "5 took 5"
    assert result.duration_s == 3


def test_what_waits_when_the_stage_ends_can_still_be_taken() -> None:
    record = Record()
    streamed(answering(producer(3, 0, record)), record, every_s=1)
    assert record.lines[-4:] == ["producer closed", "1 took 1", "2 took 2", "3 consumer gone"]


def test_a_consumer_that_stops_ends_the_stage_and_waits_for_it() -> None:
    record = Record()
    pipeline = answering(producer(100, 1, record, cleanup_s=0.5))
    pipeline.stage("needs", sleeper(0), needs=["answer"])
    pipeline.stage("other", sleeper(5, "other"))
    result = streamed(pipeline, record, stop_after=2)
    assert record.lines == [
        *("1 made 0", "1 took 0", "2 made 1", "2 took 1"),
        *("2.5 producer closed", "2.5 consumer gone"),
    ]
    stage = result.stages["answer"]
    assert (stage.status, stage.chunks, stage.complete) == ("cancelled", (0, 1), False)
    assert stage.reason == "the consumer of its stream has stopped"
    assert result.stages["needs"].reason == "it needs stage 'answer' (cancelled)"
    assert (result.status, result.outputs) == ("completed", {"other": "other"})


def test_a_consumer_that_stops_while_the_producer_waits_for_room() -> None:
    record = Record()
    result = streamed(
        answering(producer(100, 0, record)), record, buffer_max=1, every_s=1, stop_after=2
    )
    assert record.lines[-2:] == ["1 producer closed", "1 consumer gone"]
    assert result.stages["answer"].status == "cancelled"


def test_a_consumer_that_stops_before_the_stage_begins() -> None:
    record = Record()
    pipeline = answering(producer(3, 1, record))
    pipeline.stage("early", sleeper(0, "early"))
    run = pipeline.prepare()
    stream = run.stream("answer")

    async def main() -> RunResult:
        await stream.aclose()
        return await run.execute()

    result = in_virtual_time(main())
    stage = result.stages["answer"]
    assert (stage.status, stage.started_s, stage.note) == ("cancelled", None, "it had not begun")
    assert (record.lines, result.outputs) == ([], {"early": "early"})


def test_a_consumer_that_raises_takes_the_producer_with_it() -> None:
    record = Record()
    run = answering(producer(100, 1, record)).prepare()
    stream = run.stream("answer")

    async def breaks() -> None:
        async with stream:
            async for _chunk in stream:
                raise OSError("client gone")

    async def main() -> RunResult:
        running = asyncio.create_task(run.execute())
        with pytest.raises(OSError, match="client gone"):
            await breaks()
        record("raised")
        return await running

    result = in_virtual_time(main())
    assert record.lines == ["1 made 0", "1 producer closed", "1 raised"]
    assert result.stages["answer"].status == "cancelled"


@pytest.mark.parametrize("at_s", [0.5, 1, 1.5])
def test_a_consumer_that_is_cancelled_takes_the_producer_with_it(at_s: float) -> None:
    record = Record()
    run = answering(producer(100, 1, record, cleanup_s=0.2)).prepare()
    stream = run.stream("answer")

    async def main() -> RunResult:
        running = asyncio.create_task(run.execute())
        consumer = asyncio.create_task(consume(stream, record, every_s=0.7))
        await asyncio.sleep(at_s)
        consumer.cancel()
        await asyncio.wait([consumer])
        assert consumer.cancelled()
        record("consumer cancelled")
        return await running

    result = in_virtual_time(main())
    assert record.lines[-2:] == [
        f"{at_s + 0.2:g} producer closed",
        f"{at_s + 0.2:g} consumer cancelled",
    ]
    assert result.stages["answer"].status == "cancelled"


def test_a_producer_that_ignores_its_end_is_waited_for_until_the_grace_is_over() -> None:
    record = Record()

    async def stubborn(context: Context) -> None:
        await context.chunk(0)
        while True:
            try:
                await asyncio.sleep(50)
                return
            except asyncio.CancelledError:
                continue

    pipeline = Pipeline("p", cleanup_grace_s=2)
    pipeline.stage("answer", stubborn)
    run = pipeline.prepare()
    stream = run.stream("answer")
    result = in_virtual_time(together(run, consume(stream, record, stop_after=1)), left=1)
    assert (record.lines[-1], result.still_running) == ("2 consumer gone", ("answer",))


def test_a_producer_that_fails_ends_the_stream_after_what_it_made() -> None:
    record = Record()

    async def fails(context: Context) -> None:
        for i in range(3):
            await context.chunk(i)
        raise ValueError("reset")

    run = answering(fails).prepare()
    stream = run.stream("answer")

    async def main() -> None:
        running = asyncio.create_task(run.execute())
        await consume(stream, record, every_s=1)
        with pytest.raises(RunFailed):
            await running

    in_virtual_time(main())
    assert record.lines == ["took 0", "1 took 1", "2 took 2", "3 consumer gone"]


def test_a_timeout_ends_a_producer_that_waits_for_room() -> None:
    record = Record()
    pipeline = Pipeline("p", stage_timeout_s=2)
    pipeline.stage("answer", producer(9, 0, record))
    run = pipeline.prepare()
    stream = run.stream("answer", buffer_max=1)

    async def main() -> None:
        running = asyncio.create_task(run.execute())
        first = await anext(stream)
        with pytest.raises(RunFailed):
            await running
        record(f"first {first}, then {[chunk async for chunk in stream]}")

    in_virtual_time(main())
    assert record.lines[-2:] == ["2 producer closed", "2 first 0, then [1]"]
    assert run.result is not None
    # The third was made, and is in the report; there was no room for it.
    assert run.result.stages["answer"].chunks == (0, 1, 2)


def test_the_attempts_of_a_stage_are_one_stream() -> None:
    record = Record()

    async def flaky(context: Context) -> None:
        await context.chunk(f"attempt {context.attempt}")
        if context.attempt < 3:
            raise OSError("reset")

    pipeline = Pipeline("p")
    pipeline.stage("answer", flaky, retry=Retry(3, backoff_s=1, factor=1))
    streamed(pipeline, record)
    assert record.lines == [
        *("took attempt 1", "1 took attempt 2", "2 took attempt 3"),
        "2 consumer gone",
    ]


def test_the_stream_of_a_stage_that_is_skipped_ends() -> None:
    record = Record()

    async def fails(context: Context) -> None:
        raise ValueError("no")

    pipeline = Pipeline("p")
    pipeline.stage("first", fails)
    pipeline.stage("answer", sleeper(1), needs=["first"])
    run = pipeline.prepare()
    stream = run.stream("answer")

    async def main() -> None:
        running = asyncio.create_task(run.execute())
        await consume(stream, record)
        with pytest.raises(RunFailed):
            await running

    in_virtual_time(main())
    assert record.lines == ["consumer gone"]


def test_a_consumer_cannot_change_what_the_report_holds() -> None:
    async def stage(context: Context) -> None:
        await context.chunk({"n": 1})

    run = answering(stage).prepare()
    stream = run.stream("answer")

    async def changes() -> None:
        async for chunk in stream:
            chunk["n"] = 2

    result = in_virtual_time(together(run, changes()))
    assert result.stages["answer"].chunks == ({"n": 1},)


def test_tasks_of_one_stage_wait_for_room_together() -> None:
    record = Record()

    async def several(context: Context) -> None:
        async with asyncio.TaskGroup() as tasks:
            for i in range(6):
                tasks.create_task(context.chunk(i))

    streamed(answering(several), record, buffer_max=1, every_s=1)
    assert [line.split()[-1] for line in record.lines[:-1]] == ["0", "1", "2", "3", "4", "5"]


def test_a_stage_has_one_stream_and_it_is_asked_for_before_the_run() -> None:
    pipeline = answering(sleeper(1))
    run = pipeline.prepare()
    run.stream("answer")
    with pytest.raises(EngineError, match="gets no stream: it has one"):
        run.stream("answer")
    with pytest.raises(PipelineError, match="stream of stage 'nobody': not declared"):
        run.stream("nobody")
    with pytest.raises(PipelineError, match="buffer_max: expected a whole number from 1"):
        pipeline.prepare().stream("answer", buffer_max=0)

    async def main() -> None:
        late = pipeline.prepare()
        await late.execute()
        with pytest.raises(EngineError, match="gets no stream: the run has begun"):
            late.stream("answer")

    in_virtual_time(main())


def test_a_stream_has_one_consumer_at_a_time() -> None:
    run = answering(sleeper(1)).prepare()
    stream = run.stream("answer")

    async def main() -> None:
        running = asyncio.create_task(run.execute())
        first = asyncio.create_task(anext(stream, "end"))
        await asyncio.sleep(0)
        with pytest.raises(EngineError, match="it has a consumer; one at a time"):
            await anext(stream)
        await running
        assert await first == "end"

    in_virtual_time(main())


def test_a_stream_that_is_closed_by_another_task_ends_its_consumer() -> None:
    record = Record()
    run = answering(producer(9, 1, record)).prepare()
    stream = run.stream("answer")

    async def main() -> None:
        running = asyncio.create_task(run.execute())
        consumer = asyncio.create_task(consume(stream, record))
        await asyncio.sleep(0.5)
        await stream.aclose()
        await asyncio.wait([running, consumer])

    in_virtual_time(main())
    assert record.lines == ["0.5 producer closed", "0.5 consumer gone"]
