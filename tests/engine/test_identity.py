"""For whom code works: known in every place, and never another run's."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from harness.engine import (
    Context,
    Event,
    Identity,
    IdentityFilter,
    Measurement,
    Pipeline,
    PipelineError,
    RunCancelled,
    RunFailed,
    current_identity,
)
from harness.engine.result import CancelRun
from tests.engine.virtual import in_virtual_time


def places(seen: list[str]) -> Pipeline:
    """A pipeline that says in every place for whom it works."""

    def say(place: str) -> None:
        known = current_identity()
        told = "nobody" if known is None else f"{known.run_id} {known.stage} {known.correlation_id}"
        seen.append(f"{place}: {told}")

    async def in_task() -> None:
        await asyncio.sleep(1)
        say("task")

    async def clean() -> None:
        say("cleanup")

    async def search(context: Context) -> None:
        say("child")

    child = Pipeline("child")
    child.stage("search", search)

    async def work(context: Context) -> None:
        context.cleanup("c", clean)
        say("stage")
        await asyncio.create_task(in_task())
        await context.to_thread(say, "thread")
        await context.subpipeline(child)
        say("stage again")

    pipeline = Pipeline("p")
    pipeline.stage("work", work)
    return pipeline


def test_the_ids_are_known_in_every_place_to_which_a_stage_s_code_goes() -> None:
    seen: list[str] = []

    async def main() -> Any:
        result = await places(seen).run(run_id="r", correlation_id="abc")
        return result, current_identity()

    result, outside = in_virtual_time(main())
    assert seen == [
        "stage: r work abc",
        "task: r work abc",
        "thread: r work abc",
        "child: r/child search abc",
        "stage again: r work abc",
        "cleanup: r work abc",
    ]
    assert (result.correlation_id, outside) == ("abc", None)


def test_the_ids_of_overlapping_runs_of_one_pipeline_are_apart() -> None:
    seen: list[str] = []

    async def main() -> None:
        pipeline = places(seen)
        await asyncio.gather(
            *(pipeline.run(run_id=f"r{i}", correlation_id=f"c{i}") for i in range(3))
        )

    in_virtual_time(main())
    for i in range(3):
        assert sum(f": r{i} work c{i}" in line for line in seen) == 5
        assert sum(f": r{i}/child search c{i}" in line for line in seen) == 1
    assert len(seen) == 18


def test_a_cleanup_after_a_cancel_knows_whose_it_is_and_its_other_variables() -> None:
    seen: list[Any] = []

    async def clean() -> None:
        known = current_identity()
        seen.append(known and (known.stage, known.tenant))

    async def work(context: Context) -> None:
        context.cleanup("c", clean)
        await asyncio.sleep(60)

    async def main() -> None:
        pipeline = Pipeline("p")
        pipeline.stage("work", work)
        task = asyncio.ensure_future(pipeline.run(tenant="north"))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    in_virtual_time(main())
    assert seen == [("work", "north")]


def test_a_compensation_knows_whose_it_is() -> None:
    seen: list[Any] = []

    async def undo() -> None:
        known = current_identity()
        seen.append(known and (known.stage, known.correlation_id))

    async def book(context: Context) -> None:
        context.compensate("unbook", undo)

    async def fail(_context: Context) -> None:
        raise ValueError("no")

    pipeline = Pipeline("p")
    pipeline.stage("book", book)
    pipeline.stage("pay", fail, needs=["book"])
    with pytest.raises(RunFailed):
        in_virtual_time(pipeline.run(correlation_id="abc"))
    assert seen == [("book", "abc")]


@pytest.mark.parametrize("how", ["fail", "cancel"])
def test_the_exception_of_a_run_carries_its_ids(how: str) -> None:
    async def end(_context: Context) -> Any:
        if how == "fail":
            raise ValueError("no")
        return CancelRun("enough")

    pipeline = Pipeline("p")
    pipeline.stage("end", end)
    with pytest.raises((RunFailed, RunCancelled)) as caught:
        in_virtual_time(pipeline.run(run_id="r", tenant="north", correlation_id="abc"))
    error = caught.value
    assert (error.result.run_id, error.tenant, error.correlation_id) == ("r", "north", "abc")


def test_events_carry_the_ids_of_who_emitted_them() -> None:
    events: list[Event] = []

    async def tell(context: Context) -> None:
        context.emit("told", 1)

    pipeline = Pipeline("p", rng=random.Random(1))
    pipeline.stage("tell", tell)
    run = pipeline.run(run_id="r", sink=events.append, tenant="north", correlation_id="abc")
    in_virtual_time(run)
    assert [event.identity for event in events] == [Identity("r", "p", "tell", "north", "abc")]


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.addFilter(IdentityFilter())
        self.setFormatter(logging.Formatter("%(tenant)s/%(run_id)s/%(correlation_id)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def test_log_records_of_any_logger_carry_the_ids_of_who_wrote_them() -> None:
    handler = _Lines()
    logger = logging.getLogger("tests.identity")
    logger.propagate, logger.manager = False, logging.Manager(logging.root)
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    async def work(context: Context) -> None:
        logger.info("in the stage")
        await context.to_thread(logger.info, "in a thread")
        await asyncio.create_task(asyncio.to_thread(logger.info, "in a task's thread"))

    pipeline = Pipeline("p")
    pipeline.stage("work", work)
    try:
        in_virtual_time(pipeline.run(run_id="r", tenant="north", correlation_id="abc"))
        logger.info("outside")
    finally:
        logger.removeHandler(handler)
    assert handler.lines == [
        "north/r/abc in the stage",
        "north/r/abc in a thread",
        "north/r/abc in a task's thread",
        "// outside",
    ]


def test_measurements_name_tenant_stage_and_end_and_nothing_else() -> None:
    measured: list[Measurement] = []

    async def work(_context: Context) -> str:
        await asyncio.sleep(2)
        return "secret"

    pipeline = Pipeline("p")
    pipeline.stage("work", work)
    in_virtual_time(pipeline.run({"key": "secret"}, tenant="north", measures=measured.append))
    labels = {"tenant": "north", "pipeline": "p", "status": "completed"}
    assert measured == [
        Measurement("stage.duration_s", 2.0, {"stage": "work"} | labels),
        Measurement("run.duration_s", 2.0, labels),
    ]


@pytest.mark.parametrize("value", ["", "x" * 201])
def test_a_correlation_id_has_a_length(value: str) -> None:
    pipeline = Pipeline("p")
    pipeline.stage("work", lambda _context: asyncio.sleep(0))
    with pytest.raises(PipelineError, match="correlation_id: expected a text of 1 to 200"):
        in_virtual_time(pipeline.run(correlation_id=value))


def test_an_unknown_argument_of_a_run_is_refused() -> None:
    pipeline = Pipeline("p")
    pipeline.stage("work", lambda _context: asyncio.sleep(0))
    with pytest.raises(TypeError, match="a run has no argument 'tennant'"):
        pipeline.prepare(tennant="north")  # type: ignore[call-arg]


def test_a_stage_run_by_itself_has_the_same_ids() -> None:
    seen: list[Any] = []

    async def look(context: Context) -> None:
        seen.append(current_identity())

    pipeline = Pipeline("p")
    pipeline.stage("look", look)
    said: Any = {"run_id": "r", "tenant": "north", "correlation_id": "abc"}
    in_virtual_time(pipeline.run(**said))
    in_virtual_time(pipeline.run_stage("look", **said))
    assert seen == [Identity("r", "p", "look", "north", "abc")] * 2
