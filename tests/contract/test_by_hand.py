"""Journals written by hand: engines of another temper, of which there is none here to run.

Each test shows one thing that a check must let pass and, next to it, the least change that
it must not.
"""

from __future__ import annotations

from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Cancel, Consumer, Plan
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.record import Leak
from scenarios.notation import (
    acquire,
    cancel_run,
    cleanup,
    ok,
    parallel,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    swallow,
    thread,
    timeout,
)
from tests.contract.bench import Row, by_hand, shapes

CANCELLED = Outcome("r0", "cancelled", raised=ErrorReport("CancelledError"))
HOLDER = program("p", stage("a", acquire("lock", 1.0), sleep(2.0)))
BEGIN: list[Row] = [(0.0, "", "run.begin"), (0.0, "a", "stage.start")]


def caller_cancel(at_s: float, *more: float, **plan: Any) -> Plan:
    return Plan(cancels=tuple(Cancel(at_s=at) for at in (at_s, *more)), **plan)


def sent(at_s: float, accepted: bool = True) -> Row:
    return (at_s, "", "cancel.sent", (0, accepted))


def over(at_s: float, how: str = "CancelledError") -> Row:
    return (at_s, "", "run.end", how)


# Cleanups.


def natural_cleanup(*before: Row) -> list[Row]:
    """A cleanup of 1 s that a cancel at 0.5 s cuts short."""
    return [
        *BEGIN,
        (0.0, "a", "acquire", "lock"),
        *before,
        (0.2, "a", "release.begin", "lock"),
        sent(0.5),
        (0.5, "a", "interrupt"),
        (0.5, "a", "release.cut", "lock"),
        (0.5, "a", "stage.end", "cancelled"),
        over(0.5),
    ]


def test_no_engine_can_know_that_its_first_cancel_lands_in_a_natural_finally() -> None:
    plan = caller_cancel(0.5)
    assert shapes(by_hand(HOLDER, plan, natural_cleanup(), outcome=CANCELLED)) == {}
    again = natural_cleanup(sent(0.2), (0.2, "a", "interrupt"))
    said = by_hand(HOLDER, plan, again, outcome=CANCELLED)
    assert shapes(said) == {"CLEAN-2": ["cleanup-cut"]}


@pytest.mark.parametrize(("limit_s", "shape"), [(0.2, []), (9.0, ["cleanup-cut"])])
def test_a_stage_that_waits_for_a_subpipeline_notes_its_own_timeout_late(
    limit_s: float, shape: list[str]
) -> None:
    child = subpipeline(program("child", stage("search", sleep(2.0))))
    holder = program("p", stage("a", timeout("t", limit_s, acquire("lock", 1.0), child)))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "a", "scope.enter", ("t", limit_s)),
        (0.0, "a", "acquire", "lock"),
        (0.0, "a", "sub.begin", "child"),
        (0.5, "a", "interrupt"),
        (0.5, "a", "sub.end", ("child", "cancelled")),
        (0.5, "a", "release.begin", "lock"),
        sent(0.75),
        (0.75, "a", "interrupt"),
        (0.75, "a", "release.cut", "lock"),
        (0.75, "a", "scope.exit", ("t", "CancelledError")),
        (0.75, "a", "stage.end", "cancelled"),
        over(0.75),
    ]
    said = by_hand(holder, caller_cancel(0.75), rows, outcome=CANCELLED)["CLEAN-2"]
    assert [v.shape for v in said.violations] == shape


def given_up(at_s: float) -> list[Row]:
    return [
        *BEGIN,
        (0.0, "a", "acquire", "lock"),
        sent(0.5),
        (0.5, "a", "interrupt"),
        (0.5, "a", "release.begin", "lock"),
        over(at_s),
    ]


@pytest.mark.parametrize(("at_s", "verdict"), [(1.0, "holds"), (0.99, "violated")])
def test_an_engine_may_give_up_on_a_cleanup_when_the_grace_is_over_and_not_before(
    at_s: float, verdict: str
) -> None:
    said = by_hand(
        HOLDER, caller_cancel(0.5, cleanup_grace_s=0.5), given_up(at_s), outcome=CANCELLED
    )
    assert [said[c].verdict for c in ("CANCEL-3", "CLEAN-2")] == [verdict, verdict]


@pytest.mark.parametrize(("over_s", "shape"), [(1.5, []), (1.4, ["not-released"])])
def test_a_stage_cannot_release_while_its_subpipeline_does_not_stop(
    over_s: float, shape: list[str]
) -> None:
    child = program("child", stage("search", swallow(9, sleep(9.0))))
    holder = program("p", stage("a", acquire("lock", 1.0), subpipeline(child), timeout_s=0.5))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "a", "acquire", "lock"),
        (0.0, "a", "sub.begin", "child"),
        (0.0, "child/search", "stage.start"),
        (0.5, "child/search", "interrupt"),
        (0.5, "child/search", "swallowed", 1),
        over(over_s, "returned"),
        (over_s, "a", "interrupt"),
        (over_s, "a", "sub.end", ("child", "cancelled")),
        (over_s, "a", "release.begin", "lock"),
    ]
    failure = FailureReport("a", kind="timeout", timeout_s=0.5)
    told = Outcome("r0", "failed", failures=(failure,), still_running=("a",))
    said = by_hand(holder, Plan(cleanup_grace_s=1.0), rows, outcome=told)["CLEAN-1"]
    assert [v.shape for v in said.violations] == shape


def test_a_resource_may_be_released_late_in_the_run_but_not_after_it() -> None:
    def rows(over_s: float) -> list[Row]:
        rest: list[Row] = [
            (1.0, "a", "release.begin", "lock"),
            (1.0, "a", "release.end", "lock"),
            (1.0, "a", "stage.end", "cancelled"),
        ]
        head: list[Row] = [
            *BEGIN,
            (0.0, "a", "acquire", "lock"),
            sent(0.5),
            (0.5, "a", "interrupt"),
        ]
        return [*head, *rest, over(over_s)] if over_s >= 1.0 else [*head, over(over_s), *rest]

    plan = caller_cancel(0.5)
    assert shapes(by_hand(HOLDER, plan, rows(1.0), outcome=CANCELLED)) == {}
    said = shapes(by_hand(HOLDER, plan, rows(0.5), outcome=CANCELLED))
    assert said == {"CANCEL-3": ["stage-outlived-run"], "CLEAN-1": ["not-released"]}


def test_cleanups_of_own_tasks_have_no_order_and_those_of_one_block_have() -> None:
    def rows(*released: str) -> list[Row]:
        ends = [(1.0, "a", f"release.{k}", name) for name in released for k in ("begin", "end")]
        held = [(0.0, "a", "acquire", "x"), (0.0, "a", "acquire", "y")]
        return [*BEGIN, *held, *ends, (1.0, "a", "stage.end", "ok"), over(1.0, "returned")]

    block = program("p", stage("a", acquire("x"), acquire("y"), sleep(1.0)))
    tasks = program(
        "p", stage("a", parallel((acquire("x"), sleep(1.0)), (acquire("y"), sleep(1.0))))
    )
    assert by_hand(block, Plan(), rows("y", "x"))["CLEAN-3"].verdict == "holds"
    assert by_hand(block, Plan(), rows("x", "y"))["CLEAN-3"].verdict == "violated"
    assert by_hand(tasks, Plan(), rows("x", "y"))["CLEAN-3"].verdict == "untested"


# Timeouts.


def timed(first_s: float) -> list[Row]:
    return [
        *BEGIN,
        (first_s, "a", "interrupt"),
        (first_s, "a", "stage.end", "cancelled"),
        over(first_s, "returned"),
    ]


def says(**failure: Any) -> Outcome:
    told = FailureReport(**({"stage": "a", "kind": "timeout", "timeout_s": 0.5} | failure))
    return Outcome("r0", "failed", raised=ErrorReport("Oops"), failures=(told,))


ONE = program("p", stage("a", sleep(2.0)))
HALF = Plan(stage_timeout_s=0.5)


@pytest.mark.parametrize(
    ("at_s", "late_s", "outcome", "shape"),
    [
        (0.5, 0.0, says(), None),
        (0.501, 0.001, says(), None),
        (0.501, 0.0, says(), "late"),
        (0.5, 0.0, says(timeout_s=None), "timeout-not-named"),
        (0.5, 0.0, says(timeout_s=0.6), "timeout-not-named"),
        (0.5, 0.0, says(kind="error"), "not-called-timeout"),
        (0.5, 0.0, says(stage=None), "stage-not-named"),
        # That another failure of the same tick is told instead is PART-4's to judge.
        (0.5, 0.0, says(stage="b", kind="error"), None),
    ],
)
def test_a_timeout_is_in_time_within_the_loops_own_tolerance_and_named(
    at_s: float, late_s: float, outcome: Outcome, shape: str | None
) -> None:
    said = by_hand(ONE, HALF, timed(at_s), outcome=outcome, late_s=late_s)["TIME-1"]
    assert [v.shape for v in said.violations] == ([shape] if shape else [])
    assert said.figures == {"timeouts_due": 1}


def test_a_stage_whose_cleanup_fails_at_its_timeout_ends_by_an_error_of_its_own() -> None:
    """As with `asyncio.timeout`: what is raised on the way out takes the place of the timeout."""
    told = says(kind="error", timeout_s=None, error="StageFault")

    def said(how: str, outcome: Outcome = told) -> list[str]:
        rows = [*timed(0.5)[:-2], (0.5, "a", "stage.end", how), over(0.5, "returned")]
        return shapes(by_hand(ONE, HALF, rows, outcome=outcome)).get("TIME-1", [])

    assert said("raise:StageFault") == []
    assert said("cancelled") == ["not-called-timeout"]
    assert said("raise:StageFault", says(stage=None, kind="error")) == ["stage-not-named"]


def test_what_a_stage_takes_when_its_run_has_come_out_is_lost_by_the_stage_that_ran_on() -> None:
    """A consumer beside the run may end later, and whoever awaits both sees its end only then."""
    holder = program("p", stage("a", sleep(0.5), cleanup("k"), ok(1)))
    plan = caller_cancel(0.3, consumer=Consumer("a"))

    def said(*rows: Row) -> dict[str, list[str]]:
        told = [*BEGIN, sent(0.3), *rows, over(0.6)]
        return shapes(by_hand(holder, plan, told, outcome=CANCELLED))

    out: Row = (0.4, "", "engine.end")
    took: list[Row] = [(0.5, "a", "register", "k"), (0.5, "a", "stage.end", "ok")]
    assert said(out, *took) == {"CANCEL-3": ["stage-outlived-run"]}
    assert said(*took, out)["CLEAN-1"] == ["registered-cleanup-not-run"]
    assert "CANCEL-3" not in said(*took, out)


def test_a_stage_that_is_interrupted_before_its_timeout_by_nothing_else_was_ended_early() -> None:
    early = by_hand(ONE, HALF, timed(0.4), outcome=says())
    assert shapes(early)["TIME-2"] == ["ended-early"]
    assert early["TIME-1"].verdict == "untested"
    other = program("p", stage("a", sleep(2.0)), stage("b", sleep(0.4), raises("OSError", "x")))
    rows: list[Row] = [*timed(0.4)]
    rows[2:2] = [(0.0, "b", "stage.start"), (0.4, "b", "stage.end", "raise:OSError")]
    told = says(stage="b", kind="error", timeout_s=None, error="OSError")
    assert by_hand(other, HALF, rows, outcome=told)["TIME-2"].verdict == "untested"


def siblings(cancel_s: float, end_s: float) -> list[Row]:
    """Stage a times out at 0.5 and cleans up to 0.7; b is cancelled, and ends."""
    return [
        *BEGIN,
        (0.2, "b", "stage.start"),
        (0.5, "a", "interrupt"),
        (0.7, "a", "stage.end", "cancelled"),
        (cancel_s, "b", "interrupt"),
        (end_s, "b", "stage.end", "cancelled"),
        over(end_s, "returned"),
    ]


def test_what_ends_before_the_cleanup_of_the_stage_that_timed_out_was_not_left_to_run_on() -> None:
    own = Program.from_json(
        {"stages": [{"name": "a", "timeout_s": 0.5}, {"name": "b", "timeout_s": 9.0}]}
    )

    def said(end_s: float, grace_s: float) -> list[str]:
        rows = [row for row in siblings(0.6, end_s) if row[1:3] != ("a", "stage.end")]
        rows = [row for row in rows if row[1:3] != ("b", "interrupt")]
        rows = [(*row[:3], "ok") if row[1:3] == ("b", "stage.end") else row for row in rows]
        verdicts = by_hand(own, Plan(cleanup_grace_s=grace_s), rows, outcome=says())
        return shapes(verdicts).get("TIME-3", [])

    assert said(0.6, 0.2) == []
    assert said(0.9, 0.2) == ["sibling-not-cancelled"]


def test_where_another_failure_is_named_the_missing_ones_are_lost_and_not_unnamed() -> None:
    again = Retry(attempts=3, backoff_s=0.1)
    fails = (raises("OSError", "x"),)
    both = Program((Stage("a", fails, retry=again), Stage("b", fails)))
    rows: list[Row] = [*BEGIN, (0.0, "b", "stage.start"), (0.0, "a", "stage.end", "raise:OSError")]
    rows += [(0.0, "b", "stage.end", "raise:OSError"), over(0.0, "returned")]

    def said(*stages: str | None) -> list[str]:
        told = tuple(FailureReport(stage=one, kind="error", error="OSError") for one in stages)
        outcome = Outcome("r0", "failed", raised=ErrorReport("Oops"), failures=told)
        return shapes(by_hand(both, Plan(), rows, outcome=outcome)).get("PART-4", [])

    assert said("a") == ["failures-lost"]
    assert said(None) == ["stage-not-named"]
    assert said("a", "b") == []


@pytest.mark.parametrize(
    ("cancel_s", "policy", "shape"),
    [
        (0.5, "cancel", None),
        # An engine may first wait for the timed-out stage's own cleanup.
        (0.7, "cancel", None),
        (0.8, "cancel", "sibling-not-cancelled"),
        (0.6, "continue", "sibling-cancelled"),
    ],
)
def test_siblings_fare_as_the_engine_declares(
    cancel_s: float, policy: str, shape: str | None
) -> None:
    rows = sorted(siblings(cancel_s, 0.9), key=lambda row: row[0])
    own = Program.from_json(
        {"stages": [{"name": "a", "timeout_s": 0.5}, {"name": "b", "timeout_s": 9.0}]}
    )
    said = by_hand(own, Plan(), rows, outcome=says(), facts={"on_failure": policy})
    assert [v.shape for v in said["TIME-3"].violations] == ([shape] if shape else [])


@pytest.mark.parametrize(
    ("reported", "completed", "shape"),
    [
        ("timeout", False, None),
        (None, True, None),
        ("timeout", True, "both-verdicts"),
        (None, False, "no-verdict"),
    ],
)
def test_a_tie_may_go_either_way_but_has_one_verdict(
    reported: str | None, completed: bool, shape: str | None
) -> None:
    tie = program("p", stage("a", sleep(0.5), ok(1)))
    rows = [
        *BEGIN,
        (0.5, "a", "returned", 1),
        (0.5, "a", "stage.end", "ok"),
        over(0.5, "returned"),
    ]
    outcome = Outcome(
        "r0",
        "failed" if reported else "ok",
        stages={"a": StageReport("completed", 1)} if completed else {},
        failures=(FailureReport("a", "timeout", timeout_s=0.5),) if reported else (),
    )
    said = by_hand(tie, HALF, rows, outcome=outcome)["TIME-2"]
    assert [v.shape for v in said.violations] == ([shape] if shape else [])
    assert said.figures == {"finished_in_time": 1, "ties": 1}


def test_a_thread_that_the_engine_reports_is_not_held_against_it() -> None:
    blocked = program("p", stage("a", thread(9.0)))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "a", "thread.begin", 9.0),
        (0.5, "a", "interrupt"),
        (0.5, "a", "stage.end", "cancelled"),
        over(0.5, "returned"),
    ]
    told = Outcome("r0", "failed", failures=says().failures, still_running=("a",))
    assert shapes(by_hand(blocked, HALF, rows, outcome=told)) == {}
    assert shapes(by_hand(blocked, HALF, rows, outcome=says())) == {
        "TIME-11": ["thread-not-reported"]
    }


# Cancels.


def test_a_cancel_that_was_refused_or_came_after_the_end_binds_nobody() -> None:
    rows = [*BEGIN, (0.5, "a", "stage.end", "ok"), over(0.5, "returned")]
    done = Outcome("r0", "ok", stages={"a": StageReport("completed", None)})
    late = [*rows, sent(0.6, accepted=False)]
    assert by_hand(ONE, caller_cancel(0.6), late, outcome=done)["CANCEL-3"].verdict == "untested"
    early = [*BEGIN, sent(0.4), *rows[2:]]
    said = by_hand(ONE, caller_cancel(0.4), early, outcome=done)["CANCEL-3"]
    assert [v.shape for v in said.violations] == ["cancel-swallowed"]


def test_a_failure_in_the_tick_of_the_cancel_may_be_told_instead_but_never_success() -> None:
    rows = [*BEGIN, sent(0.4), (0.4, "a", "stage.end", "raise:OSError"), over(0.4, "returned")]
    bad = program("p", stage("a", sleep(0.4), raises("OSError", "x")))
    told = says(kind="error", timeout_s=None, error="OSError")
    assert by_hand(bad, caller_cancel(0.4), rows, outcome=told)["CANCEL-3"].verdict == "holds"
    fine = Outcome("r0", "ok")
    assert by_hand(bad, caller_cancel(0.4), rows, outcome=fine)["CANCEL-3"].verdict == "violated"


def test_a_run_that_hangs_when_it_is_cancelled_is_judged() -> None:
    rows = [*BEGIN, sent(0.4), (0.4, "a", "interrupt"), (0.4, "a", "stage.end", "cancelled")]
    said = by_hand(ONE, caller_cancel(0.4), rows, ended="deadlock")["CANCEL-3"]
    assert [(v.shape, v.actual) for v in said.violations] == [("hung", "it never ended: deadlock")]


def test_a_stubborn_stage_is_excused_by_the_report_of_it_only() -> None:
    stubborn = program(
        "p", stage("a", swallow(9, sleep(99.0))), stage("b", sleep(0.5), raises("OSError", "x"))
    )
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.5, "b", "stage.end", "raise:OSError"),
        (0.5, "a", "interrupt"),
        (0.5, "a", "swallowed", 1),
    ]
    plan = Plan(cleanup_grace_s=1.0)
    failure = FailureReport("b", message="x", error="OSError")

    def said(over_s: float, *still: str) -> list[str]:
        told = Outcome("r0", "failed", failures=(failure,), still_running=still)
        judged = by_hand(stubborn, plan, [*rows, over(over_s, "returned")], outcome=told)
        return [v.shape for v in judged["CANCEL-4"].violations]

    assert said(1.5, "a") == []
    assert said(1.5) == ["not-reported"]
    assert said(1.6, "a") == ["grace-exceeded"]


def test_a_stage_that_is_cancelled_for_the_sake_of_a_stubborn_one_has_a_grace_of_its_own() -> None:
    both = program("p", stage("a", swallow(9, sleep(99.0)), timeout_s=0.5), stage("b", sleep(9.0)))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.5, "a", "interrupt"),
        (0.5, "a", "swallowed", 1),
        (1.5, "b", "interrupt"),
    ]
    failure = FailureReport("a", kind="timeout", timeout_s=0.5)
    told = Outcome("r0", "failed", failures=(failure,), still_running=("a",))

    def said(*rest: Row) -> list[str]:
        judged = by_hand(both, Plan(cleanup_grace_s=1.0), [*rows, *rest], outcome=told)
        return [v.shape for v in judged["CANCEL-4"].violations]

    ended = (2.4, "b", "stage.end", "cancelled")
    assert said(ended, over(2.4, "returned")) == []
    assert said(ended, over(2.5, "returned")) == ["grace-exceeded"]
    assert said(over(2.6, "returned")) == ["grace-exceeded"]  # it outlives its own grace


def test_where_others_go_on_the_grace_counts_from_the_cancel_of_the_run() -> None:
    both = program("p", stage("a", swallow(9, sleep(99.0)), timeout_s=0.5), stage("b", sleep(9.0)))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.5, "a", "interrupt"),
        (0.5, "a", "swallowed", 1),
        sent(4.0),
        (4.0, "b", "interrupt"),
    ]
    plan = caller_cancel(4.0, cleanup_grace_s=1.0, on_failure="continue")

    def said(over_s: float) -> list[str]:
        judged = by_hand(both, plan, [*rows, over(over_s)], outcome=CANCELLED)
        return [v.shape for v in judged["CANCEL-4"].violations]

    assert said(5.0) == []
    assert said(5.1) == ["grace-exceeded"]


def test_a_child_that_ends_in_the_tick_of_the_cancel_was_not_left_alone() -> None:
    child = program("child", stage("search", sleep(2.0)))
    parent = program("p", stage("a", subpipeline(child)))

    def said(end_s: float, how: str, over_s: float) -> list[str]:
        rows = [
            *BEGIN,
            (0.0, "a", "sub.begin", "child"),
            (0.0, "child/search", "stage.start"),
            sent(0.5),
            *([(0.5, "child/search", "interrupt")] if how == "cancelled" else []),
            (end_s, "child/search", "stage.end", how),
            (over_s, "a", "interrupt"),
            (over_s, "a", "sub.end", ("child", "cancelled")),
            (over_s, "a", "stage.end", "cancelled"),
            over(over_s),
        ]
        judged = by_hand(parent, caller_cancel(0.5), rows, outcome=CANCELLED)["CANCEL-6"]
        return [v.shape for v in judged.violations]

    assert said(0.5, "ok", 0.5) == []
    assert said(0.9, "cancelled", 0.9) == []  # it was cancelled, and cleaned up
    assert said(0.9, "ok", 0.9) == ["child-not-cancelled"]


@pytest.mark.parametrize(
    ("tries", "policy", "shape"),
    [(1, "cancel", ["child-not-cancelled"]), (2, "cancel", []), (1, "continue", [])],
)
def test_a_timeout_that_does_not_end_the_run_does_not_end_the_child_of_another_stage(
    tries: int, policy: str, shape: list[str]
) -> None:
    child = program("child", stage("search", sleep(0.6)))
    retry = Retry(tries, backoff_s=9.0) if tries > 1 else None
    parent = program(
        "p",
        stage("a", subpipeline(child), sleep(9.0)),
        stage("b", sleep(9.0), timeout_s=0.2, retry=retry),
    )
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.0, "a", "sub.begin", "child"),
        (0.0, "child/search", "stage.start"),
        (0.2, "b", "interrupt"),
        (0.2, "b", "stage.end", "cancelled"),
        (0.6, "child/search", "stage.end", "ok"),
        (0.6, "a", "sub.end", ("child", "ok")),
        sent(0.9),
        (0.9, "a", "interrupt"),
        (0.9, "a", "stage.end", "cancelled"),
        over(0.9),
    ]
    plan = caller_cancel(0.9, on_failure=policy)
    said = by_hand(parent, plan, rows, outcome=CANCELLED)["CANCEL-6"]
    assert [v.shape for v in said.violations] == shape


def test_when_a_run_both_failed_and_was_cancelled_either_may_be_told() -> None:
    both = program(
        "p", stage("a", sleep(0.5), cancel_run("enough")), stage("b", raises("OSError", "x"))
    )
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.5, "a", "stage.end", "cancel_run"),
        (0.5, "b", "stage.end", "raise:OSError"),
        over(0.5, "returned"),
    ]
    for status in ("failed", "cancelled"):
        assert (
            by_hand(both, Plan(), rows, outcome=Outcome("r0", status))["CANCEL-7"].verdict
            == "untested"
        )
    alone = [row for row in rows if row[1] != "b"]
    ended = {
        s: by_hand(both, Plan(), alone, outcome=Outcome("r0", s)) for s in ("failed", "cancelled")
    }
    assert {s: said["CANCEL-7"].verdict for s, said in ended.items()} == {
        "failed": "violated",
        "cancelled": "holds",
    }


# What is left behind, and what is out of court.


def test_a_stage_that_outlives_a_cancel_is_told_once_not_as_a_leak_too() -> None:
    leak = Leak("task", "stage a", "a")
    rows = [*BEGIN, sent(0.5), over(0.5)]
    said = by_hand(ONE, caller_cancel(0.5), rows, outcome=CANCELLED, leaks=[leak])
    assert shapes(said) == {"CANCEL-3": ["stage-outlived-run"]}
    plain = [*BEGIN, (0.5, "a", "stage.end", "ok"), over(0.5, "returned")]
    done = Outcome("r0", "ok", stages={"a": StageReport("completed", None)})
    said = by_hand(ONE, Plan(), plain, outcome=done, leaks=[Leak("task", "helper")])
    assert shapes(said) == {"CLEAN-5": ["task-left"]}


def test_a_failed_run_that_leaves_a_sibling_running_is_told_as_left_behind() -> None:
    failing = program("p", stage("a", sleep(9.0)), stage("b", sleep(0.5), raises("OSError", "x")))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.5, "b", "stage.end", "raise:OSError"),
        over(0.5, "returned"),
    ]
    told = Outcome("r0", "failed", failures=(FailureReport("b", message="x", error="OSError"),))
    leak = Leak("task", "main", "a", "engine.py:1 run")
    said = by_hand(failing, Plan(), rows, outcome=told, leaks=[leak])["CLEAN-5"]
    assert [(v.shape, v.stage) for v in said.violations] == [("stage-left-running", "a")]


def test_a_run_may_be_over_while_the_stage_that_timed_out_cleans_up() -> None:
    """What had completed by then is to be reachable all the same; the rest is CLEAN-2's."""
    two = program("p", stage("a", acquire("lock", 1.0), sleep(9.0)), stage("b", ok(7)))
    rows: list[Row] = [
        *BEGIN,
        (0.0, "b", "stage.start"),
        (0.0, "a", "acquire", "lock"),
        (0.1, "b", "returned", 7),
        (0.1, "b", "stage.end", "ok"),
        (0.5, "a", "interrupt"),
        (0.5, "a", "release.begin", "lock"),
        over(0.5, "returned"),
    ]
    plan = Plan(stage_timeout_s=0.5)

    def said(**stages: StageReport) -> tuple[str, list[str]]:
        outcome = Outcome(
            "r0", "failed", stages=stages, failures=(FailureReport("a", "timeout", "late"),)
        )
        found = by_hand(two, plan, rows, outcome=outcome)["PART-1"]
        return found.verdict, [v.shape for v in found.violations]

    assert said(b=StageReport("completed", 7)) == ("holds", [])
    assert said() == ("violated", ["outputs-lost"])


def test_nothing_is_judged_on_a_journal_that_overflowed() -> None:
    rows = [*BEGIN, sent(0.5), over(0.5)]
    whole = by_hand(ONE, caller_cancel(0.5), rows, outcome=CANCELLED)
    assert whole["CANCEL-3"].verdict == "violated"
    cut = by_hand(ONE, caller_cancel(0.5), rows, outcome=CANCELLED, overflowed=True)
    assert {c: j.verdict for c, j in cut.items() if j.verdict != "untested"} == {}


def test_a_run_in_which_nothing_happened_accuses_nobody() -> None:
    rows: list[Row] = [(0.0, "", "run.begin"), over(0.0, "returned")]
    empty = program("p", stage("a", ok(None)))
    said = by_hand(empty, Plan(), rows, outcome=Outcome("r0", "ok"))
    assert set(said) == set(CLAUSES)
    assert shapes({c: j for c, j in said.items() if c != "GRAPH-3"}) == {}
    assert said["GRAPH-3"].verdict == "violated"  # it says ok, and has no output
