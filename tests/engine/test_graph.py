"""Graphs of the reference engine: what is refused, in which order stages run, at what cost."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from harness.engine import Context, Pipeline, PipelineError
from harness.engine.result import RunResult
from tests.engine.virtual import Record, in_virtual_time, sleeper


def declared(**needs: str) -> Pipeline:
    pipeline = Pipeline("p")
    for name, deps in needs.items():
        pipeline.stage(name, sleeper(1, name), needs=deps.split())
    return pipeline


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        ({}, "it has no stages; declare at least one by stage()"),
        ({"a": "a"}, "stages need each other in a circle: a -> a"),
        ({"a": "b", "b": "a"}, "stages need each other in a circle: a -> b -> a"),
        (
            {"in": "", "a": "in c", "b": "a", "c": "b", "out": "c"},
            "stages need each other in a circle: a -> c -> b -> a",
        ),
        ({"a": "ghost"}, "stage 'a' needs 'ghost', which is not declared"),
        (
            {"a": "ghost", "b": "c", "c": "b"},
            "stage 'a' needs 'ghost', which is not declared; "
            "stages need each other in a circle: b -> c -> b",
        ),
    ],
)
def test_a_faulty_graph_is_refused_before_anything_runs(needs: dict[str, str], says: str) -> None:
    with pytest.raises(PipelineError) as caught:
        in_virtual_time(declared(**needs).run())
    assert str(caught.value) == f"pipeline 'p': {says}"


def test_a_name_used_twice_is_refused() -> None:
    pipeline = declared(a="")
    with pytest.raises(PipelineError, match="pipeline 'p': stage 'a' is declared twice"):
        pipeline.stage("a", sleeper(1))


def test_arguments_that_cannot_be_right_are_refused() -> None:
    with pytest.raises(PipelineError, match="on_failure: expected one of cancel, continue, got"):
        Pipeline("p", on_failure="ignore")
    with pytest.raises(PipelineError, match="pipeline 'p': cleanup_grace_s: expected a number"):
        Pipeline("p", cleanup_grace_s=-1)
    with pytest.raises(PipelineError, match="stage 'a': needs: expected a list of names, got 'b'"):
        Pipeline("p").stage("a", sleeper(1), needs="b")
    with pytest.raises(PipelineError, match="stage 'a': expected an async function, got 1"):
        Pipeline("p").stage("a", 1)  # type: ignore[arg-type]


def test_a_stage_starts_when_all_it_needs_has_completed_and_no_later() -> None:
    record = Record()
    pipeline = Pipeline("p")
    pipeline.stage("join", sleeper(1, record=record), needs=["short", "long"])
    pipeline.stage("long", sleeper(5, record=record), needs=["root"])
    pipeline.stage("short", sleeper(2, record=record), needs=["root"])
    pipeline.stage("root", sleeper(1, record=record))
    in_virtual_time(pipeline.run())
    assert record.lines == [
        "root starts",
        "1 root ends",
        "1 long starts",
        "1 short starts",
        "3 short ends",
        "6 long ends",
        "6 join starts",
        "7 join ends",
    ]


def test_the_order_of_declaration_makes_no_difference_to_the_outcome() -> None:
    needs = {"a": "", "b": "a", "c": "a", "d": "b c"}

    async def joins(context: Context) -> Any:
        return [context.stage, *(context.input(name) for name in context.needs)]

    outcomes = []
    for order in itertools.permutations(needs):
        pipeline = Pipeline("p")
        for name in order:
            pipeline.stage(name, joins, needs=needs[name].split())
        result = in_virtual_time(pipeline.run())
        assert list(result.stages) == list(order)
        outcomes.append(dict(result.outputs))
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0]["d"] == ["d", ["b", ["a"]], ["c", ["a"]]]


def test_needing_a_stage_twice_is_needing_it_once() -> None:
    assert declared(a="", b="a a").describe()["stages"][1]["needs"] == ["a"]


def test_runs_of_one_pipeline_may_overlap() -> None:
    async def doubles(context: Context) -> int:
        await asyncio.sleep(1)
        return 2 * int(context.inputs["n"])

    pipeline = Pipeline("p")
    pipeline.stage("doubles", doubles)

    async def main() -> list[RunResult]:
        return await asyncio.gather(*(pipeline.run({"n": n}) for n in range(50)))

    results = in_virtual_time(main())
    assert [r.outputs["doubles"] for r in results] == [2 * n for n in range(50)]
    assert len({r.run_id for r in results}) == 50


def test_a_stage_added_after_a_run_is_part_of_the_next_one() -> None:
    pipeline = declared(a="")

    async def main() -> list[list[str]]:
        first = await pipeline.run()
        pipeline.stage("b", sleeper(0), needs=["a"])
        second = await pipeline.run()
        return [list(first.stages), list(second.stages)]

    assert in_virtual_time(main()) == [["a"], ["a", "b"]]


class Counting:
    """Counts the callbacks that a run schedules: what a run costs, free of the clock."""

    def __init__(self) -> None:
        self.scheduled = 0

    def run(self, pipeline: Pipeline) -> int:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            inner = loop.call_soon

            def counted(*args: Any, **kwargs: Any) -> Any:
                self.scheduled += 1
                return inner(*args, **kwargs)

            loop.call_soon = counted  # type: ignore[method-assign, assignment]
            await pipeline.run()

        in_virtual_time(main())
        return self.scheduled


def chain(length: int) -> Pipeline:
    pipeline = Pipeline("chain")
    for i in range(length):
        pipeline.stage(f"s{i}", sleeper(0, i), needs=[f"s{i - 1}"] if i else [])
    return pipeline


def wide(width: int) -> Pipeline:
    pipeline = Pipeline("wide")
    for i in range(width):
        pipeline.stage(f"s{i}", sleeper(0, i))
    pipeline.stage("join", sleeper(0, "joined"), needs=[f"s{i}" for i in range(width)])
    return pipeline


@pytest.mark.parametrize("shape", [chain, wide])
def test_the_cost_of_a_run_grows_with_the_number_of_stages(shape: Any) -> None:
    small, large = (Counting().run(shape(n)) for n in (250, 1_000))
    assert large <= 4.2 * small


@pytest.mark.parametrize("backwards", [False, True])
def test_a_long_chain_exceeds_no_limit(backwards: bool) -> None:
    pipeline = Pipeline("chain")
    order = range(5_000)
    for i in reversed(order) if backwards else order:
        pipeline.stage(f"s{i}", sleeper(0), needs=[f"s{i - 1}"] if i else [])
    assert in_virtual_time(pipeline.run()).status == "completed"


def test_a_long_cycle_is_found_and_named_in_full() -> None:
    pipeline = Pipeline("cycle")
    for i in range(3_000):
        pipeline.stage(f"s{i}", sleeper(0), needs=[f"s{(i + 1) % 3_000}"])
    with pytest.raises(PipelineError, match=r"circle: s0 -> s1 -> .* -> s2999 -> s0$"):
        pipeline.check()


def test_a_failure_at_the_head_of_a_long_chain_skips_the_rest() -> None:
    async def fails(context: Context) -> None:
        raise ValueError("head")

    pipeline = Pipeline("chain", on_failure="continue")
    pipeline.stage("s0", fails)
    for i in range(1, 5_000):
        pipeline.stage(f"s{i}", sleeper(0), needs=[f"s{i - 1}"])

    async def main() -> list[str]:
        run = pipeline.prepare()
        with pytest.raises(Exception, match="head"):
            await run.execute()
        assert run.result is not None
        return [stage.status for stage in run.result.stages.values()]

    assert in_virtual_time(main()) == ["failed", *["skipped"] * 4_999]
