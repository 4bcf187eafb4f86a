"""What breaks another clause, or none, is not laid at a clause's door.

Each pair is told as a journal and what the engine reported: of the first the clause says nothing,
the least change of it breaks the clause. They are what a search once accused real engines of: a
guard's refusal as disorder, the failure of another run as a timeout, the adapter's own closing as
the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Cancel, Consumer, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program, Retry
from harness.kernel.record import RunRecord
from scenarios.notation import (
    acquire,
    cancel_run,
    chunk,
    cleanup,
    never,
    ok,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    swallow,
    thread,
)

# (seconds, "run stage" or "run", kind[, detail])
Row = tuple[Any, ...]

PAIR = program("p", stage("a"), stage("b", needs="a"))
TWO = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
TIMED = Plan(stage_timeout_s=0.1)
CALLED_OFF = Plan(cancels=(Cancel(at_s=0.1),))
NOTHING_TOLD = Outcome("r0", "cancelled", raised=ErrorReport("CancelledError"))


def shapes(
    clause: str,
    pipeline: Program,
    plan: Plan,
    rows: Iterable[Row],
    *outcomes: Outcome,
    facts: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return the shapes of what a clause says of a journal; rows are put in order of time."""
    journal = Journal()
    for at_s, where, kind, *detail in sorted(rows, key=lambda row: row[0]):
        run, _, name = where.partition(" ")
        journal.add(at_s, run, name, kind, detail[0] if detail else None)
    told = {one.run: one for one in outcomes}
    record = RunRecord("sim", 0, "over", journal, told, took_s=journal.entries[-1].at_s)
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts or {})
    found = CLAUSES[clause].check(Reading(pipeline, plan, record, info)).violations
    return [one.shape for one in found]


def begun(*names: str, run: str = "r0", at_s: float = 0.0) -> list[Row]:
    return [(at_s, run, "run.begin"), *((at_s, f"{run} {name}", "stage.start") for name in names)]


def over(at_s: float, how: str = "returned", run: str = "r0") -> Row:
    return (at_s, run, "run.end", how)


def failed(*stages: str, run: str = "r0") -> Outcome:
    return Outcome(run, "failed", failures=tuple(FailureReport(s, "error", "x") for s in stages))


# GRAPH


def test_what_runs_although_a_guard_denied_what_it_needs_is_not_out_of_order() -> None:
    plan = Plan(layers=(Layer("deny", "guard", stages=("a",)),), cancels=(Cancel(at_s=0.1),))
    rest = [(0.1, "r0", "cancel.sent", (0, True)), over(0.1, "CancelledError")]

    def said(denied_s: float, clause: str = "GRAPH-2") -> list[str]:
        rows = [(0.0, "r0", "run.begin"), (denied_s, "r0 a", "layer.enter", "guard")]
        rows += [(denied_s, "r0 a", "layer.deny", "guard"), (0.02, "r0 b", "stage.start"), *rest]
        return shapes(clause, PAIR, plan, rows, NOTHING_TOLD)

    assert said(0.01) == []
    assert said(0.01, "GRAPH-5") == ["dependents-ran"]
    assert said(0.03) == ["started-early"]


def test_whether_a_layer_of_the_engines_kept_a_stage_out_cannot_be_seen() -> None:
    def said(*stages: str) -> list[str]:
        layer = Layer("circuit_breaker", "breaker", stages=stages)
        rows = [*begun("b"), (0.1, "r0", "cancel.sent", (0, True)), over(0.1, "CancelledError")]
        plan = Plan(layers=(layer,), cancels=(Cancel(at_s=0.1),))
        return shapes("GRAPH-2", PAIR, plan, rows, NOTHING_TOLD)

    assert said("a") == []
    assert said("b") == ["started-early"]


def test_a_run_that_something_else_called_off_was_not_refused_a_stage() -> None:
    plan = Plan(layers=(Layer("idempotency", "keys", stages=("a",)),))

    def said(status: str) -> list[str]:
        rows = [(0.0, "r0", "run.begin"), over(0.1)]
        return shapes("GRAPH-5", program("p", stage("a")), plan, rows, Outcome("r0", status))

    assert said("cancelled") == []
    assert said("failed") == ["refused-without-cause"]


def test_a_default_timeout_is_told_in_the_stead_of_a_layer_s_failure() -> None:
    plan = Plan(layers=(Layer("raise", "audit", phase="after", stages=("a",)),))
    two = program("p", stage("a"), stage("b", never()))

    def said(end_s: float) -> list[str]:
        rows = [*begun("b"), (0.0, "r0 a", "layer.enter", "audit"), (0.0, "r0 a", "stage.start")]
        rows += [(0.0, "r0 a", "stage.end", "ok"), (0.0, "r0 a", "layer.exit", ("audit", "ok"))]
        rows += [(0.0, "r0 a", "layer.raise", "audit"), (end_s, "r0 b", "interrupt")]
        rows += [(end_s, "r0 b", "stage.end", "cancelled"), over(end_s)]
        facts = {"default_stage_timeout_s": 30.0}
        return shapes("GRAPH-5", two, plan, rows, failed("b"), facts=facts)

    assert said(30.0) == []
    assert said(0.1) == ["stage-unnamed"]


def test_of_a_pipeline_that_is_no_pipeline_only_graph_1_speaks() -> None:
    def said(name: str, clause: str) -> list[str]:
        whole = program("p", stage("a", timeout_s=0.1), stage(name))
        rows = [*begun("a"), (0.0, "r0 a", "stage.end", "ok"), over(0.0)]
        return shapes(clause, whole, Plan(), rows, Outcome("r0", "ok"))

    assert said("a", "TIME-7") == []
    assert said("a", "GRAPH-1") == ["duplicate-accepted"]


def test_to_a_caller_who_is_told_nothing_no_layer_s_failure_is_named() -> None:
    plan = Plan(layers=(Layer("raise", "audit", phase="after"),))

    def said(outcome: Outcome) -> list[str]:
        rows = [(0.0, "r0", "run.begin"), (0.0, "r0 a", "layer.enter", "audit")]
        rows += [(0.0, "r0 a", "stage.start"), (0.0, "r0 a", "stage.end", "ok")]
        rows += [(0.0, "r0 a", "layer.exit", ("audit", "ok"))]
        rows += [(0.0, "r0 a", "layer.raise", "audit"), over(0.1)]
        return shapes("GRAPH-5", program("p", stage("a")), plan, rows, outcome)

    assert said(NOTHING_TOLD) == []
    assert said(Outcome("r0", "failed")) == ["stage-unnamed"]


# TIME


def test_what_a_timeout_that_none_should_have_taken_does_is_time_5_s() -> None:
    def said(other_s: float) -> list[str]:
        bad = stage("b", sleep(0.1), timeout_s=other_s)
        two = program("p", stage("a", sleep(0.3), timeout_s=0.5), bad)
        rows = [
            *begun("a", "b"),
            (0.0, "r0 b", "interrupt"),
            (0.0, "r0 b", "stage.end", "cancelled"),
        ]
        rows += [(0.0, "r0 a", "interrupt"), (0.0, "r0 a", "stage.end", "cancelled"), over(0.0)]
        return shapes("TIME-2", two, Plan(), rows, failed("b"))

    assert said(-1.0) == []
    assert said(1.0) == ["ended-early", "ended-early"]


def test_a_timeout_s_cancel_and_that_of_a_sibling_s_failure_are_two() -> None:
    names = [f"s{i}" for i in range(6)]
    many = program("p", *(stage(name, acquire("db", 0.2)) for name in names))

    def said(first: str) -> list[str]:
        rows = [*begun(*names), *((0.1, f"r0 {one}", "interrupt") for one in names)]
        rows += [(0.1, "r0 s0", "stage.end", first), (0.1, "r0 s1", "interrupt")]
        rows += [(0.1, f"r0 {one}", "stage.end", "cancelled") for one in names[1:]]
        return shapes("TIME-6", many, TIMED, [*rows, over(0.1)], failed(*names))

    assert "fired-twice" not in said("cancelled")
    assert "fired-twice" in said("ok")


def test_what_reached_a_stage_before_its_timeout_was_due_is_not_its_timeout() -> None:
    names = [f"s{i}" for i in range(6)]
    many = program("p", *(stage(name, acquire("db", 0.2)) for name in names))

    def said(first_s: float) -> list[str]:
        rows = [*begun(*names)]
        rows += [(at_s, f"r0 {one}", "interrupt") for one in names for at_s in (first_s, 0.2)]
        rows += [(0.2, f"r0 {one}", "stage.end", "cancelled") for one in names]
        plan = Plan(stage_timeout_s=0.1)
        return shapes("TIME-6", many, plan, [*rows, over(0.2)], failed(*names))

    assert "fired-twice" not in said(0.05)
    assert "fired-twice" in said(0.1)


def test_a_caller_who_gets_a_bare_cancelled_error_is_told_of_no_timeout() -> None:
    whole = program("p", stage("a", never()))

    def said(outcome: Outcome) -> list[str]:
        rows = [*begun("a"), (0.1, "r0 a", "interrupt"), (0.1, "r0 a", "stage.end", "cancelled")]
        return shapes("TIME-1", whole, TIMED, [*rows, over(0.1)], outcome)

    assert said(NOTHING_TOLD) == []
    assert said(Outcome("r0", "failed")) == ["stage-not-named"]


def test_what_reached_a_stage_in_its_subpipeline_it_has_not_noted_when_its_run_is_over() -> None:
    child = program("child", stage("c", sleep(0.1)))
    two = program("p", stage("a", subpipeline(child)), stage("b", never()))

    def said(*begins: Row) -> list[str]:
        rows = [*begun("a", "b"), *begins, (0.1, "r0 b", "interrupt")]
        rows += [(0.1, "r0 b", "stage.end", "cancelled"), over(0.1)]
        outcome = Outcome("r0", "failed", failures=(FailureReport("b", "timeout", "x", 0.1),))
        return shapes("TIME-1", two, TIMED, rows, outcome)

    assert said((0.0, "r0 a", "sub.begin", "child")) == []
    assert said() == ["not-ended"]


def test_a_stage_that_another_run_s_failure_ends_has_not_been_timed_out() -> None:
    whole = program("p", stage("a", sleep(0.3)))
    plan = Plan(runs=TWO.runs, stage_timeout_s=0.5)

    def said(how: str) -> list[str]:
        rows = [*begun("a"), *begun("a", run="r1"), (0.1, "r1 a", "stage.end", how)]
        rows += [(0.1, "r0 a", "interrupt"), (0.1, "r0 a", "stage.end", "cancelled")]
        rows += [over(0.1), over(0.1, run="r1")]
        other = Outcome("r1", "ok" if how == "ok" else "failed")
        return shapes("TIME-2", whole, plan, rows, Outcome("r0", "failed"), other)

    assert said("raise:ValueError") == []
    assert said("ok") == ["ended-early"]


def test_an_attempt_that_the_engine_let_be_the_last_may_end_the_other_stages() -> None:
    retried = stage("a", raises("ValueError", "x"), retry=Retry(3, 0.1, 2.0, 0.0))
    two = program("p", retried, stage("b", sleep(0.3)))

    def said(second: str) -> list[str]:
        rows = [*begun("a", "b"), (0.0, "r0 a", "stage.end", "raise:ValueError")]
        rows += [(0.1, "r0 a", "stage.start"), (0.1, "r0 a", "stage.end", second)]
        rows += [(0.1, "r0 b", "interrupt"), (0.1, "r0 b", "stage.end", "cancelled"), over(0.1)]
        return shapes("TIME-2", two, Plan(stage_timeout_s=0.5), rows, failed("a"))

    assert said("raise:ValueError") == []
    assert said("ok") == ["ended-early"]


def test_a_run_that_is_over_before_a_thread_is_has_not_waited_for_it() -> None:
    whole = program("p", stage("a", thread(0.5)))

    def said(over_s: float) -> list[str]:
        rows = [*begun("a"), (0.0, "r0 a", "thread.begin", 0.5), (0.1, "r0 a", "interrupt")]
        ended = [(over_s, "r0 a", "stage.end", "cancelled")] if over_s > 0.1 else []
        late = [row for row in rows if row[2] != "interrupt"] if over_s > 0.1 else rows
        return shapes("TIME-11", whole, TIMED, [*late, *ended, over(over_s)], failed("a"))

    assert "hung-on-thread" not in said(0.1)
    assert "hung-on-thread" in said(0.5)


# CANCEL


def asked_and(failed_s: float, clause: str) -> list[str]:
    """Say what is said of a run that is told as failed: `a` asked to end it, and `b` failed."""
    three = program("p", stage("c"), stage("a", cancel_run("by a")), stage("b", sleep(0.5)))
    rows = [*begun("a", "b", "c"), (0.0, "r0 c", "stage.end", "ok")]
    rows += [(0.1, "r0 a", "stage.end", "cancel_run")]
    rows += [(failed_s, "r0 b", "stage.end", "raise:ValueError"), over(0.2)]
    return shapes(clause, three, Plan(), rows, failed("b"))


def test_of_a_failure_and_a_request_in_one_instant_an_engine_may_go_by_either() -> None:
    assert asked_and(0.1, "CANCEL-1") == asked_and(0.1, "PART-2") == []
    assert asked_and(0.15, "CANCEL-1") == ["stage-not-cancelled"]
    assert asked_and(0.15, "PART-2") == ["outputs-lost"]


@pytest.mark.parametrize("how", ["fail", "raise:StageFault", "cancelled"])
def test_a_stage_that_fails_on_its_way_out_may_be_told_in_the_cancel_s_stead(how: str) -> None:
    whole = program("p", stage("a", acquire("db"), sleep(1.0)))
    rows = [*begun("a"), (0.1, "r0", "cancel.sent", (0, True)), (0.1, "r0 a", "interrupt")]
    rows += [(0.1, "r0 a", "stage.end", how), over(0.1)]
    swallowed = ["cancel-swallowed"] if how == "cancelled" else []
    mixed_up = ["cancelled-as-failed"] if how == "cancelled" else []
    assert shapes("CANCEL-3", whole, CALLED_OFF, rows, failed("a")) == swallowed
    assert shapes("CANCEL-7", whole, CALLED_OFF, rows, failed("a")) == mixed_up


def test_a_timeout_that_is_due_as_the_caller_cancels_may_be_told_in_its_stead() -> None:
    whole = program("p", stage("a", sleep(1.0)))
    rows = [*begun("a"), (0.1, "r0", "cancel.sent", (0, True)), (0.1, "r0 a", "interrupt")]
    rows += [(0.1, "r0 a", "stage.end", "cancelled"), over(0.1)]

    def said(limit_s: float, status: str = "failed") -> list[str]:
        plan = Plan(stage_timeout_s=limit_s, cancels=CALLED_OFF.cancels)
        return shapes("CANCEL-3", whole, plan, rows, Outcome("r0", status))

    assert said(0.1) == []
    assert said(0.2) == said(0.1, "ok") == ["cancel-swallowed"]


def test_a_stage_s_own_request_may_be_told_in_the_cancel_s_stead() -> None:
    whole = program("p", stage("a", swallow(1, sleep(1.0)), cancel_run("enough")))

    def said(how: str) -> list[str]:
        rows = [*begun("a"), (0.1, "r0", "cancel.sent", (0, True)), (0.1, "r0 a", "interrupt")]
        rows += [(0.1, "r0 a", "swallowed", 1), (0.1, "r0 a", "stage.end", how), over(0.1)]
        return shapes("CANCEL-3", whole, CALLED_OFF, rows, Outcome("r0", "cancelled"))

    assert said("cancel_run") == []
    assert said("ok") == ["cancel-swallowed"]


def test_a_cancel_that_comes_when_the_engine_s_call_is_out_changes_no_failure() -> None:
    whole = program("p", stage("a", sleep(1.0)))

    def said(end_s: float) -> list[str]:
        rows = [*begun("a"), (end_s, "r0", "engine.end"), (0.1, "r0", "cancel.sent", (0, True))]
        rows += [(0.05, "r0 a", "stage.end", "ok"), over(0.3)]
        return shapes("CANCEL-7", whole, CALLED_OFF, rows, Outcome("r0", "failed"))

    assert said(0.05) == []
    assert said(0.2) == ["cancelled-as-failed"]


def test_a_run_that_another_one_s_failure_called_off_is_told_so() -> None:
    whole = program("p", stage("a", sleep(0.1), raises("ValueError", "x")))

    def said(other: str, clause: str) -> list[str]:
        rows = [*begun("a"), *begun("a", run="r1"), (0.1, "r1 a", "stage.end", other)]
        rows += [(0.1, "r0 a", "stage.end", "raise:ValueError"), over(0.1), over(0.1, run="r1")]
        return shapes(clause, whole, TWO, rows, Outcome("r0", "cancelled"))

    assert said("raise:ValueError", "CANCEL-7") == said("raise:ValueError", "PART-4") == []
    assert said("ok", "CANCEL-7") == ["failed-as-cancelled"]
    assert said("ok", "PART-4") == ["stage-not-named"]


def test_a_grace_that_an_engine_cannot_be_told_is_not_asked_of_it() -> None:
    whole = program("p", stage("a", swallow(1, sleep(1.0))))
    plan = Plan(cleanup_grace_s=0, cancels=CALLED_OFF.cancels)

    def said(*, takes: bool) -> list[str]:
        rows = [*begun("a"), (0.1, "r0", "cancel.sent", (0, True)), (0.1, "r0 a", "interrupt")]
        rows += [(0.1, "r0 a", "swallowed", 1), (0.6, "r0 a", "stage.end", "cancelled")]
        rows += [over(0.6, "CancelledError")]
        return shapes("CANCEL-4", whole, plan, rows, NOTHING_TOLD, facts={"takes_grace": takes})

    assert said(takes=False) == []
    assert said(takes=True) == ["grace-exceeded"]


# CLEAN, EVENT, PART, RETRY, STREAM


@pytest.mark.parametrize(
    ("clause", "shape"),
    [("CLEAN-3", "wrong-order"), ("CLEAN-4", "stopped-after-failure")],
)
def test_what_became_of_cleanups_beside_another_run_is_clean_6_s(clause: str, shape: str) -> None:
    two = program("p", stage("a", cleanup("k1"), cleanup("k2", fails=True)))

    def said(other_s: float) -> list[str]:
        rows = [*begun("a"), *begun("a", run="r1", at_s=other_s), (0.0, "r0 a", "register", "k1")]
        rows += [(0.0, "r0 a", "register", "k2"), (0.1, "r0 a", "stage.end", "ok")]
        if clause == "CLEAN-3":
            rows += [(0.1, "r0 a", f"release.{how}", "k1") for how in ("begin", "end")]
        rows += [(0.1, "r0 a", f"release.{how}", "k2") for how in ("begin", "fail")]
        rows += [over(0.1), over(0.3, run="r1")]
        outcome = Outcome("r0", "ok", cleanup_failures=("k2",))
        return shapes(clause, two, TWO, rows, outcome, Outcome("r1", "ok"))

    assert said(0.05) == []
    assert said(0.2) == [shape]


def test_a_failing_cleanup_that_failed_a_second_stage_is_part_4_s_to_miss() -> None:
    two = program("p", stage("a", acquire("db", fails=True)), stage("b", sleep(0.1)))

    def said(*failures: str) -> list[str]:
        rows = [
            *begun("a", "b"),
            (0.0, "r0 a", "acquire", "db"),
            (0.0, "r0 a", "release.begin", "db"),
        ]
        rows += [
            (0.0, "r0 a", "release.fail", "db"),
            (0.0, "r0 a", "stage.end", "raise:StageFault"),
        ]
        rows += [(0.0, "r0 b", "stage.end", "raise:ValueError"), over(0.1)]
        return shapes("CLEAN-4", two, Plan(), rows, failed(*failures))

    assert said("b") == []
    assert said("a") == said() == ["failure-not-reported"]


def test_a_cleanup_that_fails_as_another_stage_asks_to_end_the_run_may_stay_untold() -> None:
    two = program("p", stage("a", acquire("db", fails=True)), stage("b", cancel_run("by b")))

    def said(asked_s: float) -> list[str]:
        rows = [
            *begun("a", "b"),
            (0.0, "r0 a", "acquire", "db"),
            (0.1, "r0 a", "release.begin", "db"),
        ]
        rows += [
            (0.1, "r0 a", "release.fail", "db"),
            (0.1, "r0 a", "stage.end", "raise:StageFault"),
        ]
        rows += [(asked_s, "r0 b", "stage.end", "cancel_run"), over(0.3)]
        return shapes("CLEAN-4", two, Plan(), rows, Outcome("r0", "cancelled", reason="by b"))

    assert said(0.1) == []
    assert said(0.2) == ["failure-not-reported"]


FLOOD = program("p", stage("a", sleep(0.5)))
HURRIED = Plan(sink=Sink(delivery_s=0.1, drain_s=0, queue_max=1))


def offered(count: int) -> list[Row]:
    numbers = [("p", n) for n in range(count)]
    taken = [(0.0, "r0 a", "offer.end", (*one, "taken")) for one in numbers]
    return [(0.0, "r0 a", "offer.begin", one) for one in numbers] + taken


def test_a_delivery_that_was_called_off_is_in_the_sinks_hands_no_more() -> None:
    def said(*cut: Row) -> list[str]:
        rows = [*begun("a"), *offered(2), (0.0, "r0 a", "account", (2, 0, 0, 0, 1))]
        rows += [(0.1, "", "deliver.begin", ("p", 0)), *cut, (0.3, "", "deliver.begin", ("p", 1))]
        rows += [(0.5, "r0 a", "stage.end", "ok"), over(0.5)]
        return shapes("EVENT-3", FLOOD, HURRIED, rows, Outcome("r0", "ok"))

    assert said((0.2, "", "deliver.cut", ("p", 0))) == []
    assert said() == ["deliveries-unbounded"]


def test_a_run_that_waits_for_another_one_s_cleanups_does_not_wait_for_events() -> None:
    def said(*other: Row) -> list[str]:
        rows = [*begun("a"), *offered(1), (0.1, "r0 a", "stage.end", "ok"), *other]
        rows += [(0.0, "r1", "run.begin"), over(0.9, run="r1"), over(0.3)]
        plan = Plan(runs=TWO.runs, sink=HURRIED.sink)
        found = shapes("EVENT-5", FLOOD, plan, rows, Outcome("r0", "ok"), Outcome("r1", "ok"))
        return [one for one in found if one == "drain-too-long"]

    cleaned = [
        (at_s, "r1 a", f"release.{how}", "k") for at_s, how in ((0.1, "begin"), (0.3, "end"))
    ]
    assert said(*cleaned) == []
    assert said() == ["drain-too-long"]


@pytest.mark.parametrize(
    ("clause", "shape"),
    [("PART-1", "outputs-lost"), ("PART-3", "tied-output-lost"), ("PART-4", "stage-not-named")],
)
def test_by_a_bare_cancelled_error_no_output_and_no_failure_is_kept_back(
    clause: str, shape: str
) -> None:
    tied = clause == "PART-3"
    two = program("p", stage("a", sleep(0.1), raises("ValueError", "x")), stage("b", ok(1)))

    def said(outcome: Outcome) -> list[str]:
        rows = [*begun("a", "b"), (0.1 if tied else 0.0, "r0 b", "stage.end", "ok")]
        rows += [(0.1, "r0 a", "stage.end", "raise:ValueError"), over(0.1)]
        return shapes(clause, two, Plan(), rows, outcome)

    assert said(NOTHING_TOLD) == []
    assert said(Outcome("r0", "failed")) == [shape]


def test_a_retry_s_success_may_be_lost_to_another_run_s_failure() -> None:
    whole = program("p", stage("a", retry=Retry(3, 0.1, 2.0, 0.0)))

    def said(other: str) -> list[str]:
        rows = [*begun("a"), (0.0, "r0 a", "stage.end", "raise:ValueError")]
        rows += [(0.1, "r0 a", "stage.start"), (0.1, "r0 a", "stage.end", "ok"), over(0.2)]
        rows += [*begun("a", run="r1"), (0.1, "r1 a", "stage.end", other), over(0.2, run="r1")]
        outcome = Outcome("r0", "cancelled", stages={"a": StageReport("completed")})
        return shapes("RETRY-1", whole, TWO, rows, outcome, Outcome("r1", "ok"))

    assert said("cancel_run") == []
    assert said("ok") == ["success-lost"]


def test_a_chunk_that_still_waits_for_room_when_its_run_is_over_is_not_lost() -> None:
    two = program("p", stage("a", chunk(1), chunk(2)), stage("b", never()))
    plan = Plan(consumer=Consumer("a", buffer_max=1), stage_timeout_s=0.1)

    def said(*got: int) -> list[str]:
        rows = [*begun("a", "b"), (0.0, "r0 a", "chunk", 1), (0.0, "r0 a", "chunk", 2)]
        rows += [(0.1, "r0 b", "interrupt"), (0.1, "r0 b", "stage.end", "cancelled"), over(0.1)]
        report = StageReport("failed", partial=got, complete=False)
        return shapes("STREAM-1", two, plan, rows, Outcome("r0", "failed", stages={"a": report}))

    assert said(1) == []
    assert said() == ["chunks-lost"]
