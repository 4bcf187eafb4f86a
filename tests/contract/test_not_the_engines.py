"""What the search once laid at an engine's door and was not its doing, beside what is.

Each pair is told as a journal and what the engine reported: the first must pass, the least change
of it must not.
"""

from __future__ import annotations

from typing import Any

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Cancel, Consumer, Plan, RunSpec, Sink
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from scenarios.notation import (
    acquire,
    cancel_run,
    chunk,
    cleanup,
    ok,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    swallow,
)
from tests.contract.bench import Row, by_hand, shapes

CANCELLED = Outcome("r0", "cancelled", raised=ErrorReport("CancelledError"))
TIMED = Plan(stage_timeout_s=0.1)
STUBBORN: Program = program("p", stage("a", swallow(1, sleep(0.2)), ok(1)))
BEGIN: list[Row] = [(0.0, "", "run.begin"), (0.0, "a", "stage.start")]


def over(at_s: float, how: str = "returned") -> Row:
    return (at_s, "", "run.end", how)


def test_a_stage_that_swallows_its_timeout_ends_by_its_own_word() -> None:
    def said(*swallowed: Row) -> dict[str, list[str]]:
        rows = [*BEGIN, (0.1, "a", "interrupt"), *swallowed, (0.1, "a", "stage.end", "ok")]
        outcome = Outcome("r0", "ok", stages={"a": StageReport("completed", 1)})
        return shapes(by_hand(STUBBORN, TIMED, [*rows, over(0.1)], outcome=outcome))

    assert said((0.1, "a", "swallowed", 1)) == {}
    lost = said()
    assert lost["TIME-1"] == ["stage-not-named"]
    assert lost["CANCEL-7"] == ["failed-as-ok"]


def test_of_two_stages_that_ask_in_one_instant_either_is_told() -> None:
    both = program("p", stage("a", cancel_run("by a")), stage("b", sleep(0.5), cancel_run("by b")))

    def said(second_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "b", "stage.start")]
        rows += [(0.5, "a", "stage.end", "cancel_run")]
        rows += [(second_s, "b", "stage.end", "cancel_run"), over(second_s)]
        outcome = Outcome("r0", "cancelled", reason="by b")
        return shapes(by_hand(both, Plan(), rows, outcome=outcome)).get("CANCEL-1", [])

    assert said(0.5) == []
    assert "reason-lost" in said(0.7)


STREAM = program("p", stage("a", *(chunk(i) for i in range(9)), ok(1)))


def test_a_consumer_whose_stream_has_ended_has_not_stopped() -> None:
    def said(taken: int) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "chunk", 0), (0.0, "a", "consume", 0)]
        rows += [(1.0, "a", "consume.stop", taken), over(1.0)]
        plan = Plan(consumer=Consumer("a", stop_after=2))
        outcome = Outcome("r0", "failed", failures=(FailureReport("b", "error", "x"),))
        return shapes(by_hand(STREAM, plan, rows, outcome=outcome)).get("STREAM-4", [])

    assert said(1) == []
    assert said(2) == ["producer-not-awaited"]


def test_of_a_run_that_lets_a_cancelled_error_out_nobody_is_told_anything() -> None:
    flood = program("p", stage("a", sleep(0.1), raises("CancelledError", "own")))
    rows: list[Row] = [*BEGIN, (0.0, "a", "offer.begin", ("p", 0))]
    rows += [(0.0, "a", "offer.end", ("p", 0, "taken")), (0.1, "a", "self_cancel")]
    rows += [(0.1, "a", "stage.end", "cancelled"), over(0.1, "CancelledError")]
    plan = Plan(sink=Sink(delivery_s=1.0))

    def said(outcome: Outcome) -> list[str]:
        return shapes(by_hand(flood, plan, rows, outcome=outcome)).get("EVENT-2", [])

    assert said(CANCELLED) == []
    assert said(Outcome("r0", "failed")) == ["drop-unseen"]


def test_a_cleanup_that_is_not_due_yet_was_not_kept_from_running() -> None:
    nested = program("p", stage("a", acquire("outer"), acquire("mid", 0.3), acquire("inner")))

    def said(end_s: float) -> list[str]:
        rows: list[Any] = [*BEGIN]
        rows += [(0.0, "a", "acquire", one) for one in ("outer", "mid", "inner")]
        rows += [(0.1, "a", "release.begin", "inner"), (0.1, "a", "release.fail", "inner")]
        rows += [(0.1, "a", "release.begin", "mid"), (0.2, "", "cancel.sent", (0, True))]
        stage_end: Row = (end_s, "a", "stage.end", "cancelled")
        rows += sorted([stage_end, over(0.2, "CancelledError")], key=lambda row: row[0])
        plan = Plan(cancels=(Cancel(at_s=0.2),))
        return shapes(by_hand(nested, plan, rows, outcome=CANCELLED)).get("CLEAN-4", [])

    assert said(0.4) == []
    assert said(0.15) == ["stopped-after-failure"]


def test_of_nested_cleanups_that_fail_the_outermost_is_what_comes_out() -> None:
    pair = program("p", stage("a", acquire("outer"), acquire("inner")))
    rows: list[Row] = [*BEGIN]
    rows += [(0.0, "a", "acquire", one) for one in ("outer", "inner")]
    for one in ("inner", "outer"):
        rows += [(0.1, "a", "release.begin", one), (0.1, "a", "release.fail", one)]
    rows += [(0.1, "a", "stage.end", "raise:StageFault"), over(0.1)]

    def said(message: str) -> list[str]:
        failures = (FailureReport("a", "error", message),)
        outcome = Outcome("r0", "failed", failures=failures)
        return shapes(by_hand(pair, Plan(), rows, outcome=outcome)).get("CLEAN-4", [])

    assert said("cleanup of outer failed") == []
    assert said("something failed") == ["failure-not-reported"]


def test_a_run_that_only_lets_a_stage_s_own_cancelled_error_out_has_no_room_for_a_report() -> None:
    one = program("p", stage("a", acquire("x"), raises("CancelledError", "called off")))
    rows: list[Row] = [*BEGIN, (0.0, "a", "acquire", "x"), (0.1, "a", "release.begin", "x")]
    rows += [(0.1, "a", "release.fail", "x"), (0.1, "a", "stage.end", "raise:StageFault")]

    def said(error: str, how: str) -> list[str]:
        outcome = Outcome("r0", how, raised=ErrorReport(error, "called off"))
        told = by_hand(one, Plan(), [*rows, over(0.1, error)], outcome=outcome)
        return shapes(told).get("CLEAN-4", [])

    assert said("CancelledError", "cancelled") == []
    assert said("PipelineFailed", "failed") == ["failure-not-reported"]


def test_an_output_that_another_stage_changed_is_not_lost() -> None:
    changed = program("p", stage("a", ok([1])), stage("b", sleep(0.1), raises("OSError", "x")))

    def said(*mutated: Row) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "b", "stage.start"), (0.0, "a", "returned", [1])]
        rows += [(0.0, "a", "stage.end", "ok"), *mutated, (0.1, "b", "stage.end", "raise:OSError")]
        stages = {"a": StageReport("completed", [1, "changed"]), "b": StageReport("failed")}
        failures = (FailureReport("b", "error", "x", error="OSError"),)
        outcome = Outcome("r0", "failed", stages=stages, failures=failures)
        return shapes(by_hand(changed, Plan(), [*rows, over(0.1)], outcome=outcome)).get(
            "PART-1", []
        )

    assert said((0.1, "b", "mutated", ("a", "value", True))) == []
    assert said() == ["output-changed"]


def test_a_default_timeout_of_the_engine_is_not_another_run() -> None:
    long = program("p", stage("a", sleep(60.0)))

    def said(interrupted_s: float) -> list[str]:
        journal = Journal()
        for run in ("r0", "r1"):
            journal.add(0.0, run, "", "run.begin")
            journal.add(0.0, run, "a", "stage.start")
        for run in ("r1", "r0"):
            journal.add(interrupted_s, run, "a", "interrupt")
            journal.add(interrupted_s, run, "a", "stage.end", "cancelled")
            journal.add(interrupted_s, run, "", "run.end", "returned")
        outcomes = {run: Outcome(run, "failed") for run in ("r0", "r1")}
        record = RunRecord("sim", 0, "over", journal, outcomes, took_s=interrupted_s)
        facts = {"default_stage_timeout_s": 30.0}
        info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts)
        plan = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
        found = CLAUSES["CLEAN-6"].check(Reading(long, plan, record, info)).violations
        return [one.shape for one in found]

    assert said(30.0) == []
    assert set(said(20.0)) == {"other-run-interrupted"}


def test_what_a_stage_of_a_childs_child_raised_comes_out_of_the_subpipeline() -> None:
    inner = program("inner", stage("x", raises("CancelledError", "own")))
    child = program("child", stage("c", subpipeline(inner)))
    whole = program("p", stage("a", subpipeline(child)))

    def said(*own: Row) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "child/c", "stage.start")]
        rows += [(0.0, "child/inner/x", "stage.start"), *own]
        rows += [(0.0, "child/inner/x", "stage.end", "cancelled"), (0.0, "child/c", "interrupt")]
        rows += [(0.0, "child/c", "stage.end", "cancelled"), (0.0, "a", "interrupt")]
        rows += [(0.0, "a", "stage.end", "cancelled"), over(0.0)]
        outcome = Outcome("r0", "failed")
        return shapes(by_hand(whole, TIMED, rows, outcome=outcome)).get("TIME-2", [])

    assert said((0.0, "child/inner/x", "self_cancel")) == []
    assert said() == ["ended-early"]


def test_of_nested_scopes_that_are_due_together_asyncio_lets_the_outermost_tell() -> None:
    names = [f"s{i}" for i in range(6)]
    many = program("p", *(stage(name, sleep(1.0)) for name in names))

    def said(inner_s: float) -> list[str]:
        rows: list[Row] = [(0.0, "", "run.begin"), *((0.0, one, "stage.start") for one in names)]
        for one in names:
            rows += [(0.0, one, "scope.enter", ("outer", 0.5))]
            rows += [(0.0, one, "scope.enter", ("inner", inner_s))]
        rows += [(0.5, one, "scope.expired", ("outer", 0.5)) for one in names]
        rows += [(0.5, one, "stage.end", "ok") for one in names]
        outcome = Outcome("r0", "ok")
        return shapes(by_hand(many, Plan(), [*rows, over(0.5)], outcome=outcome)).get("TIME-6", [])

    assert said(0.5) == []
    assert said(0.3) == ["some-not-fired"]


def test_a_timeout_that_is_due_after_the_end_of_its_run_is_none_that_did_not_fire() -> None:
    names = [f"s{i}" for i in range(6)]
    many = program("p", *(stage(name, sleep(1.0)) for name in names))

    def said(over_s: float) -> list[str]:
        rows: list[Row] = [(0.0, "", "run.begin"), *((0.0, one, "stage.start") for one in names)]
        rows += [(0.0, "s0", "self_cancel"), (0.0, "s0", "stage.end", "cancelled")]
        outcome = Outcome("r0", "cancelled")
        found = by_hand(many, TIMED, [*rows, over(over_s, "CancelledError")], outcome=outcome)
        return shapes(found).get("TIME-6", [])

    assert said(0.0) == []
    assert said(0.2) == ["some-not-fired"]


def test_what_a_stage_of_its_own_child_raised_is_no_interruption_by_another_run() -> None:
    child = program("child", stage("c", raises("CancelledError", "own")))
    whole = program("p", stage("a", subpipeline(child)))

    def said(*, self_cancelled: bool) -> list[str]:
        journal = Journal()
        for run in ("r0", "r1"):
            journal.add(0.0, run, "", "run.begin")
            journal.add(0.0, run, "a", "stage.start")
        for run in ("r0", "r1"):
            journal.add(0.1, f"{run}/child", "c", "stage.start")
            if self_cancelled:
                journal.add(0.1, f"{run}/child", "c", "self_cancel")
            journal.add(0.1, f"{run}/child", "c", "stage.end", "cancelled")
            journal.add(0.1, run, "a", "interrupt")
            journal.add(0.1, run, "a", "stage.end", "cancelled")
            journal.add(0.1, run, "", "run.end", "CancelledError")
        outcomes = {run: Outcome(run, "cancelled") for run in ("r0", "r1")}
        record = RunRecord("sim", 0, "over", journal, outcomes, took_s=0.1)
        info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none")
        plan = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
        found = CLAUSES["CLEAN-6"].check(Reading(whole, plan, record, info)).violations
        return [one.shape for one in found]

    assert said(self_cancelled=True) == []
    assert set(said(self_cancelled=False)) == {"other-run-interrupted"}


def test_one_more_may_be_delivered_at_the_end_beside_the_one_under_way() -> None:
    flood = program("p", stage("a", sleep(0.1)))

    def said(numbers: int) -> list[str]:
        rows: list[Row] = [*BEGIN]
        for n in range(numbers):
            rows += [
                (0.0, "a", "offer.begin", ("p", n)),
                (0.0, "a", "offer.end", ("p", n, "taken")),
            ]
        rows += [(0.0, "a", "account", (numbers, 0, 0, 0, 1))]
        rows += [(0.1, "", "deliver.begin", ("p", 0)), (0.1, "a", "stage.end", "ok")]
        rows += [(0.2, "", "deliver.begin", ("p", n)) for n in range(1, numbers)]
        rows += [over(1.0)]
        plan = Plan(sink=Sink(hangs_at=1, queue_max=1))
        return shapes(by_hand(flood, plan, rows, outcome=Outcome("r0", "ok"))).get("EVENT-3", [])

    assert said(2) == []
    assert "deliveries-unbounded" in said(3)


def test_what_starts_when_the_caller_has_cancelled_is_not_the_asking_stage_s_doing() -> None:
    both = program("p", stage("a", cancel_run("by a")), stage("b", raises("ValueError", "b")))

    def said(*sent: Row) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "stage.end", "cancel_run"), *sent]
        rows += [(0.1, "b", "stage.start"), (0.1, "b", "stage.end", "raise:ValueError")]
        rows += [over(0.2, "CancelledError")]
        judged = by_hand(both, Plan(cancels=(Cancel(at_s=0.0),)), rows, outcome=CANCELLED)
        return shapes(judged).get("CANCEL-1", [])

    assert said((0.0, "", "cancel.sent", (0, True))) == []
    assert "stage-started-after" in said()


def test_who_ran_the_cleanups_of_a_run_is_not_told_by_a_stage_that_outlived_it() -> None:
    held = program("p", stage("a", cleanup("db"), sleep(0.2)))

    def said(stage_end_s: float) -> list[str]:
        rows: list[tuple[float, str, str, str, Any]] = []
        for run in ("r0", "r1"):
            rows += [(0.0, run, "", "run.begin", None), (0.0, run, "a", "stage.start", None)]
            rows += [(0.0, run, "a", "register", "db")]
        rows += [(0.1, "r0", "", "cancel.sent", (0, True))]
        rows += [(0.1, "r0", "a", "release.begin", "db"), (0.1, "r0", "a", "release.end", "db")]
        rows += [(stage_end_s, "r0", "a", "stage.end", "ok")]
        rows += [(0.15, "r0", "", "run.end", "CancelledError")]
        rows += [(0.2, "r1", "a", "stage.end", "ok"), (0.2, "r1", "a", "release.begin", "db")]
        rows += [(0.2, "r1", "a", "release.end", "db"), (0.2, "r1", "", "run.end", "returned")]
        journal = Journal()
        for row in sorted(rows, key=lambda row: row[0]):
            journal.add(*row)
        outcomes = {"r0": Outcome("r0", "cancelled"), "r1": Outcome("r1", "ok")}
        record = RunRecord("sim", 0, "over", journal, outcomes, took_s=0.2)
        info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none")
        plan = Plan(runs=(RunSpec("r0"), RunSpec("r1")), cancels=(Cancel(at_s=0.1),))
        found = CLAUSES["CLEAN-6"].check(Reading(held, plan, record, info)).violations
        return [one.shape for one in found]

    assert said(0.18) == []
    assert said(0.12) == ["ran-by-other-run"]
