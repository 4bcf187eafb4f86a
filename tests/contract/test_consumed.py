"""STREAM-3 and STREAM-4: journals of streams written by hand, of engines of another temper."""

from __future__ import annotations

import pytest

from harness.kernel.outcome import Outcome, StageReport
from harness.kernel.plan import Consumer, Plan
from harness.kernel.program import Program
from scenarios.notation import acquire, chunk, ok, program, sleep, stage
from tests.contract.bench import Row, by_hand, shapes

STREAM: Program = program("p", stage("a", *(chunk(i) for i in range(9)), ok(1)))
HOLDER: Program = program("p", stage("a", acquire("socket", 0.1), chunk(0), sleep(60.0), ok(1)))
BEGIN: list[Row] = [(0.0, "", "run.begin"), (0.0, "a", "stage.start")]
SLOW = Plan(consumer=Consumer("a", every_s=1.0, buffer_max=2))
STOPS = Plan(consumer=Consumer("a", stop_after=1))


def made(*numbers: int, at_s: float = 0.0) -> list[Row]:
    return [(at_s, "a", "chunk", n) for n in numbers]


def took(*numbers: int, at_s: float = 0.0) -> list[Row]:
    return [(at_s, "a", "consume", n) for n in numbers]


def done(at_s: float, how: str = "ok") -> list[Row]:
    return [(at_s, "a", "stage.end", how), (at_s, "", "run.end", "returned")]


def verdict(rows: list[Row], plan: Plan = SLOW) -> tuple[str, list[str]]:
    said = by_hand(STREAM, plan, rows, outcome=Outcome("r0", "ok"))["STREAM-3"]
    return said.verdict, [v.shape for v in said.violations]


def test_as_many_may_wait_as_the_buffer_holds_and_one_may_be_on_its_way() -> None:
    # The fourth is noted before it is handed over: it may be waiting for room.
    rows = [*BEGIN, *made(0, 1, 2, 3), *took(0, at_s=1.0), *made(4, at_s=1.0)]
    rest = [*took(1, 2, 3, 4, at_s=5.0), *done(5.0)]
    assert verdict([*rows, *rest]) == ("holds", [])
    assert verdict([*rows, *made(5, at_s=1.0), *took(1, 2, 3, 4, 5, at_s=5.0), *done(5.0)]) == (
        "violated",
        ["unbounded-buffer"],
    )


def test_chunks_that_a_policy_drops_are_not_buffered() -> None:
    """An engine that keeps the newest two, say: what nobody ever consumes may be gone."""
    rows = [*BEGIN, *made(*range(9)), *took(0, 7, 8, at_s=5.0)]
    assert verdict([*rows, *made(9, at_s=6.0), *took(9, at_s=6.0), *done(6.0)]) == ("holds", [])
    kept = [*BEGIN, *made(*range(9)), *took(*range(9), at_s=5.0), *done(5.0)]
    assert verdict(kept) == ("violated", ["unbounded-buffer"])


def test_a_stream_that_any_buffer_holds_proves_nothing() -> None:
    rows = [*BEGIN, *made(0, 1, 2), *took(0, 1, 2, at_s=5.0), *done(5.0)]
    assert verdict(rows) == ("untested", [])
    assert verdict(rows, Plan()) == ("untested", [])


# The consumer stops.


def stopped(*rows: Row, plan: Plan = STOPS, program: Program = STREAM) -> list[str]:
    start = [*BEGIN, *made(0), *took(0), (0.0, "a", "consume.stop", 1)]
    outcome = Outcome("r0", "ok", stages={"a": StageReport("cancelled", partial=(0,))})
    said = by_hand(program, plan, [*start, *rows], outcome=outcome)
    return shapes(said).get("STREAM-4", [])


def test_an_engine_may_tell_a_producer_when_it_hands_over_its_next_chunk() -> None:
    assert stopped(*made(1, at_s=1.0), *done(1.0, "raise:RuntimeError")) == []
    assert stopped(*made(1, 2, at_s=1.0), *done(1.0, "raise:RuntimeError")) == [
        "producer-not-stopped"
    ]


def test_a_producer_that_comes_to_its_own_end_meanwhile_is_left_alone() -> None:
    assert stopped(*done(5.0)) == []
    assert stopped(*made(1, at_s=1.0), *done(60.0)) == []
    assert stopped(*done(60.0)) == ["producer-ran-on"]


def test_what_ends_a_producer_long_after_is_not_its_consumer() -> None:
    """A timeout, say: it would have ended the stage as well if the consumer had stayed."""
    assert stopped((30.0, "a", "interrupt"), *done(30.0, "cancelled")) == ["producer-ran-on"]
    assert stopped((5.0, "a", "interrupt"), *done(5.0, "cancelled")) == []
    assert stopped(*made(1, at_s=29.0), (30.0, "a", "interrupt"), *done(30.0, "cancelled")) == []


def test_a_producer_is_awaited() -> None:
    interrupted: list[Row] = [(0.0, "a", "interrupt")]
    assert stopped(*interrupted, *done(3.0, "cancelled")) == []
    early = [*interrupted, (0.0, "", "run.end", "returned"), (3.0, "a", "stage.end", "cancelled")]
    assert stopped(*early) == ["producer-not-awaited"]
    never = [*interrupted, (0.0, "", "run.end", "returned")]
    assert stopped(*never) == ["producer-not-awaited"]


@pytest.mark.parametrize("kind", ["release.end", "release.fail", "release.cut"])
def test_what_a_producer_holds_is_given_back(kind: str) -> None:
    start: list[Row] = [
        *BEGIN,
        (0.0, "a", "acquire", "socket"),
        *made(0),
        *took(0),
        (0.0, "a", "consume.stop", 1),
        (0.0, "a", "interrupt"),
    ]
    release: list[Row] = [(0.0, "a", "release.begin", "socket"), (0.1, "a", kind, "socket")]

    def found(*rows: Row) -> list[str]:
        said = by_hand(HOLDER, STOPS, [*start, *rows], outcome=Outcome("r0", "ok"))
        return shapes(said).get("STREAM-4", [])

    assert found(*release, *done(0.1, "cancelled")) == []
    assert found(*done(0.0, "cancelled")) == ["producer-not-closed"]


def test_a_producer_that_had_ended_before_its_consumer_stopped_proves_nothing() -> None:
    rows = [*BEGIN, *made(0), (0.0, "a", "stage.end", "ok"), *took(0, at_s=1.0)]
    rows += [(1.0, "a", "consume.stop", 1), (1.0, "", "run.end", "returned")]
    said = by_hand(STREAM, STOPS, rows, outcome=Outcome("r0", "ok"))
    assert said["STREAM-4"].verdict == "untested"


# What a consumer that stops, or is slow, is no violation of.


def test_a_stage_that_is_ended_by_its_consumer_is_no_victim_of_another_run() -> None:
    rows = [*BEGIN, *made(0), *took(0), (0.0, "a", "consume.stop", 1), (0.0, "a", "interrupt")]
    outcome = Outcome("r0", "ok", stages={"a": StageReport("cancelled", partial=(0,))})
    said = by_hand(STREAM, STOPS, [*rows, *done(0.0, "cancelled")], outcome=outcome)
    assert shapes(said) == {"STREAM-2": ["not-marked-partial"]}
    marked = Outcome(
        "r0", "ok", stages={"a": StageReport("cancelled", partial=(0,), complete=False)}
    )
    said = by_hand(STREAM, STOPS, [*rows, *done(0.0, "cancelled")], outcome=marked)
    assert shapes(said) == {}


def test_the_chunk_that_waited_for_its_consumer_may_be_missing_from_the_report() -> None:
    def found(*partial: int, plan: Plan) -> list[str]:
        rows = [*BEGIN, *made(0, 1, 2), (1.0, "a", "interrupt"), *done(1.0, "cancelled")]
        report = StageReport("cancelled", partial=partial, complete=False)
        said = by_hand(STREAM, plan, rows, outcome=Outcome("r0", "ok", stages={"a": report}))
        return shapes(said).get("STREAM-1", [])

    assert found(0, 1, 2, plan=SLOW) == found(0, 1, plan=SLOW) == []
    assert found(0, plan=SLOW) == ["chunks-lost"]
    assert found(0, 1, plan=Plan()) == ["chunks-lost"]
