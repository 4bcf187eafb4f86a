"""What the scripts of STREAM-2, STREAM-3 and STREAM-4 say of notes: the least that breaks a rule,
beside what just keeps it."""

from __future__ import annotations

import pytest

from harness.contract.clauses import CLAUSES
from harness.kernel.plan import Cancel, Consumer, Plan, RunSpec
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.steps import step
from scenarios.notation import acquire, chunk, cleanup, ok, program, sleep, stage, swallow
from tests.contract.script_bench import MORE_SHAPES, Note, said, sources
from tests.contract.script_bench import check as check_of

STREAM: Program = program("p", stage("a", *(chunk(i) for i in range(9)), ok(1)))
SLOW = Plan(consumer=Consumer("a", every_s=1.0, buffer_max=2))
STOPS = Plan(consumer=Consumer("a", stop_after=1))
OVER: Note = (9.0, "", "run.end", None)


def made(*numbers: int, at_s: float = 0.0) -> list[Note]:
    return [(at_s, "a", "chunk", n) for n in numbers]


def took(*numbers: int, at_s: float = 0.0) -> list[Note]:
    return [(at_s, "a", "consume", n) for n in numbers]


def test_as_many_chunks_may_wait_as_there_is_room_for_and_one_on_its_way() -> None:
    rest = took(1, 2, 3, 4, at_s=5.0)
    assert said("STREAM-3", STREAM, SLOW, [*made(0, 1, 2, 3), *took(0), *made(4), *rest]) is None
    many = [*made(0, 1, 2, 3, 4), *took(0), *rest]
    assert said("STREAM-3", STREAM, SLOW, many) == "4 chunks wait; there is room for 2"
    # What nobody ever consumes may have been dropped.
    assert said("STREAM-3", STREAM, SLOW, [*made(*range(9)), *took(0, 8)]) is None


START: list[Note] = [(0.0, "a", "stage.start", None), *made(0), *took(0)]
STOP: Note = (1.0, "a", "consume.stop", 1)


@pytest.mark.parametrize(
    ("shape", "after", "text"),
    [
        ("producer-not-stopped", [*made(1, at_s=2.0), (2.0, "a", "stage.end", "ok")], None),
        (
            "producer-not-stopped",
            [*made(1, 2, at_s=2.0), (2.0, "a", "stage.end", "ok")],
            "2 more chunks came after the consumer had stopped",
        ),
        ("producer-ran-on", [(11.0, "a", "stage.end", "ok")], None),
        (
            "producer-ran-on",
            [(11.5, "a", "stage.end", "ok")],
            "it ran on for 10.5 s after its consumer had stopped",
        ),
        ("producer-ran-on", [], "it ran on for 19.0 s after its consumer had stopped"),
        ("producer-ran-on", made(1, at_s=2.0), None),  # it may have been told so then
        ("producer-not-awaited", [(2.0, "a", "stage.end", "ok")], None),
        (
            "producer-not-awaited",
            [],
            "its consumer had stopped; it was still running when the run was over",
        ),
    ],
)
def test_a_stage_is_ended_when_its_consumer_has_stopped(
    shape: str, after: list[Note], text: str | None
) -> None:
    seen = [*START, STOP, *after]
    assert said("STREAM-4", STREAM, STOPS, seen, shape=shape, took=20.0) == text


@pytest.mark.parametrize("shape", MORE_SHAPES["STREAM-4"])
def test_a_consumer_that_never_stopped_or_came_too_late_shows_nothing(shape: str) -> None:
    ended: list[Note] = [(0.5, "a", "stage.end", "ok"), STOP]
    assert said("STREAM-4", STREAM, STOPS, [*START, *ended], shape=shape, took=20.0) is None
    assert said("STREAM-4", STREAM, STOPS, START, shape=shape, took=20.0) is None


def test_a_stage_that_did_not_complete_is_not_to_look_whole() -> None:
    def told(end: str, whole: bool) -> str | None:
        rows: list[Note] = [(0.5, "a", "stage.end", end)] if end else []
        return said("STREAM-2", STREAM, Plan(), [*made(0), *rows, (9.0, "a", "partial", whole)])

    assert told("", whole=True) == "stage a ended early; nothing says that its chunks are not all"
    assert told("ok", whole=True) is None
    assert told("", whole=False) is None


@pytest.mark.parametrize(
    ("clause", "other", "plan"),
    [
        ("STREAM-2", STREAM, Plan(cancels=(Cancel(at_s=0.1),))),
        ("STREAM-2", STREAM, SLOW),
        ("STREAM-2", program("p", stage("a", sleep(1.0))), Plan()),
        ("STREAM-3", STREAM, Plan()),
        ("STREAM-3", STREAM, Plan(runs=(RunSpec("r0"), RunSpec("r1")), consumer=SLOW.consumer)),
        ("STREAM-3", program("p", stage("a", chunk(1), chunk(1))), SLOW),
        ("STREAM-3", program("p", stage("a", swallow(1, chunk(1)))), SLOW),
        ("STREAM-3", Program((Stage("a", (chunk(1),), retry=Retry()),)), SLOW),
        ("STREAM-4", STREAM, SLOW),
        ("STREAM-4", program("p", stage("a", acquire("socket", 11.0), chunk(1))), STOPS),
    ],
)
def test_where_a_script_cannot_tell_there_is_none(clause: str, other: Program, plan: Plan) -> None:
    assert sources(clause, other, plan) == {}


PAIR = program("p", stage("a", cleanup("x"), cleanup("y")))


def test_what_was_registered_later_is_cleaned_up_before() -> None:
    def rows(*names: str, run: str = "") -> list[Note]:
        both: list[Note] = [(0.0, f"{run}a", "register", one) for one in ("x", "y")]
        return [*both, *((1.0, f"{run}a", "release.begin", one) for one in names)]

    assert said("CLEAN-3", PAIR, Plan(), rows("y", "x")) is None
    assert (
        said("CLEAN-3", PAIR, Plan(), rows("x", "y"))
        == "y was registered after x, and ran after it"
    )
    # What was not there yet when the other was run has no order.
    early: list[Note] = [(0.0, "a", "register", "x"), (0.0, "a", "release.begin", "x")]
    late: list[Note] = [(0.1, "a", "register", "y"), (0.1, "a", "release.begin", "y")]
    assert said("CLEAN-3", PAIR, Plan(), [*early, *late]) is None
    two = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
    mixed = [*rows("y", "x", run="r0/"), *rows("x", "y", run="r1/")]
    text = "y of r1 was registered after x, and ran after it"
    assert said("CLEAN-3", PAIR, two, mixed) == text


def test_no_attempt_of_several_runs_comes_after_its_own_run() -> None:
    tried = Program((Stage("a", (step("flaky"),), retry=Retry()),))
    plan = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
    check = CLAUSES["RETRY-1"].check_of(tried, plan, "retried-after-run")
    assert check is not None
    before: list[Note] = [(0.0, "r0/a", "stage.start", None), (0.1, "r0/", "run.end", None)]

    def found(stage: str) -> str | None:
        again: Note = (0.2, stage, "stage.start", None)
        return check_of(check or "", [*before, again], None, {}, [], 1.0)

    assert found("r1/a") is None
    assert (found("r0/a") or "").startswith("a stage was tried again after run r0 was over")
