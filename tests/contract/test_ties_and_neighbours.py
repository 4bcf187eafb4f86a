"""What came of one instant, or of another run's trouble, is not laid at a clause's door.

Each pair is told as a journal and what the engine reported: the first must pass, the least change
of it must not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, SinkReport, StageReport
from harness.kernel.plan import Cancel, Consumer, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.record import RunRecord
from harness.kernel.steps import step
from scenarios.notation import (
    cancel_run,
    chunk,
    cleanup,
    ok,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    thread,
    using,
)
from tests.contract.bench import Row, by_hand, shapes

BEGIN: list[Row] = [(0.0, "", "run.begin"), (0.0, "a", "stage.start"), (0.0, "b", "stage.start")]
BREAKS, OWN = raises("OSError", "it broke"), raises("CancelledError", "called off")
TIMED = Plan(stage_timeout_s=0.1)
TWO = Plan(runs=(RunSpec("r0"), RunSpec("r1")))


def over(at_s: float, how: str = "returned") -> Row:
    return (at_s, "", "run.end", how)


def of_runs(
    clause: str,
    whole: Program,
    rows: Sequence[Row],
    outcomes: Mapping[str, Outcome],
    plan: Plan = TWO,
) -> list[str]:
    """Return the shapes in which a clause is violated; rows name a stage as `run/stage`."""
    journal = Journal()
    for at_s, name, kind, *detail in rows:
        run, _, of = name.partition("/")
        journal.add(at_s, run, of, kind, detail[0] if detail else None)
    took_s = journal.entries[-1].at_s
    record = RunRecord("sim", 0, "over", journal, dict(outcomes), took_s=took_s)
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none")
    found = CLAUSES[clause].check(Reading(whole, plan, record, info)).violations
    return [one.shape for one in found]


# One instant


def test_a_failure_of_the_instant_in_which_a_stage_asked_may_be_what_is_told() -> None:
    both = program("p", stage("a", cancel_run("enough")), stage("b", sleep(0.5), BREAKS))

    def said(failed_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.5, "a", "stage.end", "cancel_run")]
        rows += [(failed_s, "b", "stage.end", "raise:OSError"), over(failed_s)]
        failures = (FailureReport("b", "error", "b broke", error="OSError"),)
        outcome = Outcome("r0", "failed", failures=failures)
        return shapes(by_hand(both, Plan(), rows, outcome=outcome)).get("CANCEL-1", [])

    assert said(0.5) == []
    assert said(0.7) == ["stage-not-cancelled"]


def test_outputs_are_lost_to_the_failure_of_that_instant_not_to_the_asking() -> None:
    early = stage("c", ok(1))
    both = program("p", early, stage("a", cancel_run("enough")), stage("b", BREAKS))

    def said(failed_s: float) -> dict[str, list[str]]:
        rows: list[Row] = [*BEGIN, (0.0, "c", "stage.start"), (0.1, "c", "returned", 1)]
        rows += [(0.1, "c", "stage.end", "ok"), (0.5, "a", "stage.end", "cancel_run")]
        rows += [(failed_s, "b", "stage.end", "raise:OSError"), over(failed_s)]
        outcome = Outcome("r0", "failed", reason="enough")
        found = shapes(by_hand(both, Plan(), rows, outcome=outcome))
        return {c: s for c, s in found.items() if c in ("CANCEL-1", "PART-2")}

    assert said(0.5) == {}
    assert said(0.7)["PART-2"] == ["outputs-lost"]


def test_an_attempt_that_is_tried_again_is_no_failure_of_that_instant() -> None:
    retried = Stage("b", (step("raise"),), retry=Retry(attempts=3, backoff_s=0.1))
    both = Program((stage("a", cancel_run("enough")), retried))

    def said(*again: Row) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "stage.end", "cancel_run")]
        rows += [(0.0, "b", "stage.end", "raise:ValueError"), *again, over(0.2)]
        outcome = Outcome("r0", "cancelled", reason="enough")
        return shapes(by_hand(both, Plan(), rows, outcome=outcome)).get("CANCEL-1", [])

    assert said() == []
    late: list[Row] = [(0.1, "b", "stage.start"), (0.1, "b", "stage.end", "raise:ValueError")]
    assert said(*late) == ["stage-started-after"]


def test_of_an_attempt_that_was_the_last_and_a_stage_that_asks_either_is_told() -> None:
    retried = Stage("b", (step("raise"),), retry=Retry(attempts=3, backoff_s=0.0))
    both = Program((stage("a", cancel_run("enough")), retried))

    def said(how: str) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "stage.end", "cancel_run")]
        rows += [(0.0, "b", "stage.end", how), over(0.0)]
        outcome = Outcome("r0", "failed")
        return shapes(by_hand(both, Plan(), rows, outcome=outcome)).get("CANCEL-7", [])

    assert said("raise:ValueError") == []
    assert said("ok") == ["cancelled-as-failed"]


def test_a_cancel_after_the_engine_s_own_call_changes_nothing_of_how_that_ended() -> None:
    one = program("p", stage("a", BREAKS))

    def said(*last: Row) -> list[str]:
        rows: list[Row] = [*BEGIN[:2], (0.1, "a", "stage.end", "cancelled"), *last, over(0.2)]
        outcome = Outcome("r0", "failed")
        plan = Plan(cancels=(Cancel(at_s=0.1),))
        return shapes(by_hand(one, plan, rows, outcome=outcome)).get("CANCEL-7", [])

    sent, left = (0.1, "", "cancel.sent", (0, True)), (0.1, "", "engine.end")
    assert said(left, sent) == []
    assert said(sent, left) == ["cancelled-as-failed"]


def test_a_stage_that_called_itself_off_when_another_timed_out_may_be_what_is_told() -> None:
    both = program("p", stage("a", sleep(0.1), OWN), stage("b", sleep(9.0)))

    def said(self_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.1, "b", "interrupt"), (0.1, "b", "stage.end", "cancelled")]
        own: list[Row] = [(self_s, "a", "self_cancel"), (self_s, "a", "stage.end", "cancelled")]
        outcome = Outcome("r0", "cancelled")
        rows = [*rows, *own, over(0.2)]
        return shapes(by_hand(both, TIMED, rows, outcome=outcome)).get("TIME-1", [])

    assert said(0.1) == []
    assert "stage-not-named" in said(0.15)


def test_a_stage_that_waits_for_its_subpipeline_notes_its_timeout_late() -> None:
    child = program("child", stage("c", cleanup("db", 0.1), sleep(0.1)))
    both = program("p", stage("a", subpipeline(child)), stage("b", sleep(9.0)))

    def said(*begun: Row) -> list[str]:
        rows: list[Row] = [*BEGIN, *begun, (0.1, "b", "interrupt")]
        rows += [(0.1, "b", "stage.end", "cancelled"), over(0.1)]
        outcome = Outcome("r0", "failed")
        return shapes(by_hand(both, TIMED, rows, outcome=outcome)).get("TIME-1", [])

    assert "not-ended" not in said((0.0, "a", "sub.begin", "child"))
    assert "not-ended" in said()


def test_an_attempt_that_none_followed_ends_its_siblings() -> None:
    retried = Stage("b", (step("raise"),), retry=Retry(attempts=3, backoff_s=0.1))
    both = Program((stage("a", sleep(9.0)), retried))

    def said(failed: str) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "self_cancel"), (0.05, "b", "stage.end", failed)]
        rows += [(0.05, "a", "interrupt"), (0.05, "a", "stage.end", "cancelled"), over(0.05)]
        outcome = Outcome("r0", "failed")
        return shapes(by_hand(both, TIMED, rows, outcome=outcome)).get("TIME-2", [])

    assert said("raise:ValueError") == []
    assert said("ok") == ["ended-early"]


def test_a_sibling_that_outlives_the_engine_s_call_is_left_running_not_run_on() -> None:
    both = program("p", stage("a", sleep(9.0)), stage("b", sleep(9.0)))

    def said(left_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN[:2], (0.05, "b", "stage.start"), (0.1, "a", "interrupt")]
        rows += [(0.1, "a", "stage.end", "cancelled"), (left_s, "", "engine.end")]
        rows += [(0.15, "b", "interrupt"), (0.15, "b", "stage.end", "cancelled"), over(0.2)]
        rows.sort(key=lambda row: row[0])
        outcome = Outcome("r0", "failed")
        return shapes(by_hand(both, TIMED, rows, outcome=outcome)).get("TIME-3", [])

    assert said(0.1) == ["sibling-left-running"]
    assert said(0.2) == ["sibling-not-cancelled"]


def test_a_failure_in_whose_stead_a_timeout_is_told_by_name_is_lost_and_not_unnamed() -> None:
    both = program("p", stage("a", sleep(0.1), BREAKS), stage("b", sleep(9.0)))

    def said(*told: FailureReport) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.1, "a", "stage.end", "raise:OSError")]
        rows += [(0.1, "b", "interrupt"), (0.1, "b", "stage.end", "cancelled"), over(0.1)]
        outcome = Outcome("r0", "failed", failures=told)
        return shapes(by_hand(both, TIMED, rows, outcome=outcome)).get("PART-4", [])

    assert said(FailureReport("b", "timeout", "too long", 0.1)) == ["failures-lost"]
    assert said(FailureReport(None, "error", "too bad")) == ["stage-not-named"]


def test_a_stage_that_was_told_in_time_has_not_waited_for_its_thread() -> None:
    whole = program("p", stage("a", using("lock", thread(0.5), cleanup_s=0.9)), stage("b", ok(1)))

    def said(told_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "b", "stage.end", "ok")]
        rows += [(0.0, "a", "thread.begin", 0.5), (told_s, "a", "interrupt"), over(0.6)]
        outcome = Outcome("r0", "failed", still_running=("a",))
        plan = Plan(stage_timeout_s=0.1, cleanup_grace_s=2.0)
        return shapes(by_hand(whole, plan, rows, outcome=outcome)).get("TIME-11", [])

    assert said(0.1) == []
    assert said(0.5) == ["hung-on-thread"]


def test_a_chunk_that_waits_for_its_consumer_is_not_lost_with_a_stage_that_never_ended() -> None:
    many = program("p", stage("a", *(chunk(i) for i in range(3))), stage("b", BREAKS))

    def said(kept: int) -> list[str]:
        rows: list[Row] = [*BEGIN, *((0.0, "a", "chunk", i) for i in range(3))]
        rows += [(0.1, "b", "stage.end", "raise:OSError"), over(0.1)]
        stages = {"a": StageReport("unknown", partial=tuple(range(kept)))}
        outcome = Outcome("r0", "failed", stages=stages)
        plan = Plan(consumer=Consumer("b", buffer_max=2))
        return shapes(by_hand(many, plan, rows, outcome=outcome)).get("STREAM-1", [])

    assert said(2) == []
    assert said(1) == ["chunks-lost"]


def test_a_chunk_that_comes_when_the_run_is_over_is_not_waited_for() -> None:
    late = program("p", stage("a", sleep(0.5), chunk(0)), stage("b", BREAKS))

    def said(chunk_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.1, "b", "stage.end", "raise:OSError"), over(0.1)]
        rows = sorted([*rows, (chunk_s, "a", "chunk", 0)], key=lambda row: row[0])
        outcome = Outcome("r0", "failed", stages={"a": StageReport("unknown", partial=())})
        return shapes(by_hand(late, Plan(), rows, outcome=outcome)).get("STREAM-1", [])

    assert said(0.5) == []
    assert said(0.05) == ["chunks-lost"]


def test_a_chunk_in_the_middle_of_which_a_stage_was_cut_is_kept_or_not() -> None:
    many = program("p", stage("a", chunk(0), sleep(0.1), chunk(1)), stage("b", cancel_run("x")))

    def said(cut_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "chunk", 0), (0.1, "a", "chunk", 1)]
        rows += [(0.1, "b", "stage.end", "cancel_run"), (cut_s, "a", "interrupt")]
        rows += [(cut_s, "a", "stage.end", "cancelled"), over(cut_s)]
        stages = {"a": StageReport("cancelled", partial=(0,))}
        outcome = Outcome("r0", "cancelled", reason="x", stages=stages)
        return shapes(by_hand(many, Plan(), rows, outcome=outcome)).get("STREAM-1", [])

    assert said(0.1) == []
    assert said(0.2) == ["chunks-lost"]


def test_a_channel_that_the_first_attempt_has_closed_takes_nothing_of_the_next() -> None:
    makes = Stage("a", (step("chunk", value=0), step("raise")), retry=Retry(2, backoff_s=0.1))

    def said(*got: int) -> list[str]:
        rows: list[Row] = [*BEGIN[:2]]
        for at_s in (0.0, 0.1):
            rows += [(at_s, "a", "stage.start")] if at_s else []
            rows += [(at_s, "a", "chunk", 0), (at_s, "a", "stage.end", "raise:ValueError")]
        stages = {"a": StageReport("failed", partial=got)}
        outcome = Outcome("r0", "failed", stages=stages)
        found = by_hand(Program((makes,)), Plan(), [*rows, over(0.1)], outcome=outcome)
        return shapes(found).get("STREAM-1", [])

    assert (said(0), said(0, 0)) == ([], [])
    assert said() == ["chunks-lost"]


def test_a_hang_over_a_stage_that_clings_is_not_the_asking_stage_s() -> None:
    both = program("p", stage("a", cancel_run("enough")), stage("b", sleep(9.0)))

    def said(*clings: Row) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "a", "stage.end", "cancel_run")]
        rows += [(0.0, "b", "interrupt"), *clings]
        judged = by_hand(both, Plan(), rows, ended="deadlock")
        return shapes(judged).get("CANCEL-1", [])

    assert said((0.0, "b", "swallowed", 1)) == []
    assert said() == ["hung"]


def test_a_timeout_of_the_instant_in_which_a_stage_asked_may_be_what_is_told() -> None:
    both = program("p", stage("a", sleep(0.1), cancel_run("enough")), stage("b", sleep(9.0)))

    def said(asked_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (asked_s, "a", "stage.end", "cancel_run")]
        rows += [(0.1, "b", "interrupt"), (0.1, "b", "stage.end", "cancelled"), over(0.1)]
        outcome = Outcome("r0", "cancelled")
        return shapes(by_hand(both, TIMED, rows, outcome=outcome)).get("CANCEL-1", [])

    assert said(0.1) == []
    assert "reason-lost" in said(0.05)


def test_the_engine_s_own_limit_is_trouble_beside_that_of_a_layer() -> None:
    pair = program("p", stage("a", sleep(60.0)), stage("b", ok(1)))
    plan = Plan(layers=(Layer("raise", "audit", phase="after", stages=("b",)),))

    def said(end_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN, (0.0, "b", "layer.enter", "audit")]
        rows += [(0.0, "b", "stage.end", "ok"), (0.0, "b", "layer.raise", "audit")]
        rows += [(end_s, "a", "interrupt"), (end_s, "a", "stage.end", "cancelled"), over(end_s)]
        raised = ErrorReport("StageError", "a timed out", stage="a")
        outcome = Outcome("r0", "failed", raised=raised)
        facts = {"default_stage_timeout_s": 30.0}
        return shapes(by_hand(pair, plan, rows, outcome=outcome, facts=facts)).get("GRAPH-5", [])

    assert "stage-unnamed" not in said(30.0)
    assert "stage-unnamed" in said(0.1)


def test_what_a_stage_left_behind_emits_while_the_queue_is_stopped_comes_on_top() -> None:
    flood = program("p", stage("a", sleep(0.1)))

    def said(left_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN[:2]]
        for n in range(3):
            rows += [(0.0, "a", "offer.begin", ("p", n))]
            rows += [(0.0, "a", "offer.end", ("p", n, "taken"))]
            rows += [(0.1, "", "deliver.begin", ("p", n)), (0.3, "", "deliver.end", ("p", n))]
        rows += [(0.0, "a", "account", (3, 0, 0, 0, 1)), (left_s, "", "engine.end")]
        rows += [(0.2, "a", "stage.end", "ok"), over(0.4)]
        rows.sort(key=lambda row: row[0])
        plan = Plan(sink=Sink(delivery_s=0.2, queue_max=1))
        return shapes(by_hand(flood, plan, rows, outcome=Outcome("r0", "ok"))).get("EVENT-3", [])

    assert "deliveries-unbounded" not in said(0.05)
    assert "deliveries-unbounded" in said(0.15)


def test_what_is_emitted_when_the_run_is_over_is_in_no_account_of_it() -> None:
    flood = program("p", stage("a", sleep(0.1)))

    def said(second_s: float) -> dict[str, list[str]]:
        rows: list[Row] = [*BEGIN[:2], over(0.1)]
        for n, at_s in enumerate((0.0, second_s)):
            rows += [(at_s, "a", "offer.begin", ("p", n))]
            rows += [(at_s, "a", "offer.end", ("p", n, "taken"))]
        rows += [(0.0, "", "deliver.begin", ("p", 0)), (0.0, "", "deliver.end", ("p", 0))]
        rows.sort(key=lambda row: row[0])
        sink = SinkReport(offered=1, delivered=1, dropped=0, pending=0, queue_max=1)
        outcome = Outcome("r0", "failed", sink=sink)
        plan = Plan(sink=Sink(queue_max=1))
        found = shapes(
            by_hand(flood, plan, [*rows, (0.3, "a", "stage.end", "ok")], outcome=outcome)
        )
        return {c: s for c, s in found.items() if c in ("EVENT-2", "EVENT-5")}

    assert said(0.2) == {}
    assert said(0.05) == {"EVENT-2": ["drop-unseen"], "EVENT-5": ["left-unsettled"]}


# Another run


def both_runs(*rows: Row) -> list[Row]:
    begun = [(0.0, f"{run}/{one}", kind) for run in ("r0", "r1") for one, kind in STARTS]
    return [*begun, *rows]


STARTS = (("", "run.begin"), ("a", "stage.start"), ("b", "stage.start"))
PAIR = program("p", stage("a", sleep(0.1), BREAKS), stage("b", sleep(9.0)))


def test_a_failure_that_another_run_s_failure_came_before_may_be_told_as_its_doing() -> None:
    def said(beside: str) -> list[str]:
        rows = both_runs((0.1, "r1/a", "stage.end", beside), (0.1, "r1/b", "stage.end", "ok"))
        rows += [(0.1, "r0/a", "stage.end", "raise:OSError"), (0.1, "r0/b", "stage.end", "ok")]
        rows += [(0.1, "r1/", "run.end", "returned"), (0.1, "r0/", "run.end", "returned")]
        status = "ok" if beside == "ok" else "failed"
        outcomes = {"r0": Outcome("r0", "cancelled"), "r1": Outcome("r1", status)}
        return of_runs("CANCEL-7", PAIR, rows, outcomes)

    assert said("raise:OSError") == []
    assert said("ok") == ["failed-as-cancelled"]


def test_a_reason_that_another_run_s_end_took_the_place_of_is_not_lost_to_this_one() -> None:
    asks = program("p", stage("a", cancel_run("enough")), stage("b", sleep(9.0)))

    def said(beside: str) -> list[str]:
        rows = both_runs((0.1, "r1/a", "stage.end", beside), (0.1, "r1/b", "stage.end", "ok"))
        rows += [(0.1, "r0/a", "stage.end", "cancel_run"), (0.1, "r0/b", "stage.end", "ok")]
        rows += [(0.1, "r0/", "run.end", "returned"), (0.1, "r1/", "run.end", "returned")]
        outcomes = {"r0": Outcome("r0", "cancelled", reason="r1's"), "r1": Outcome("r1", "ok")}
        return of_runs("CANCEL-1", asks, rows, outcomes)

    assert said("raise:OSError") == []
    assert "reason-lost" in said("ok")


def test_a_stage_that_another_run_s_failure_cut_was_not_timed_out_early() -> None:
    def said(beside: str) -> list[str]:
        rows = both_runs((0.1, "r1/a", "stage.end", beside), (0.1, "r1/b", "stage.end", "ok"))
        rows += [(0.1, "r0/a", "stage.end", "ok"), (0.1, "r0/b", "interrupt")]
        rows += [(0.1, "r0/b", "stage.end", "cancelled"), (0.1, "r0/", "run.end", "returned")]
        rows += [(0.1, "r1/", "run.end", "returned")]
        outcomes = {"r0": Outcome("r0", "failed"), "r1": Outcome("r1", "ok")}
        plan = Plan(runs=TWO.runs, stage_timeout_s=1.0)
        return of_runs("TIME-2", PAIR, rows, outcomes, plan)

    assert said("raise:OSError") == []
    assert said("ok") == ["ended-early"]


def test_a_good_retry_is_not_lost_where_another_run_failed() -> None:
    retried = Stage("a", (step("flaky"),), retry=Retry(attempts=2, backoff_s=0.1))
    pair = Program((retried, stage("b", ok(1))))

    def said(beside: str) -> list[str]:
        rows = both_runs((0.0, "r0/b", "stage.end", "ok"), (0.0, "r1/b", "stage.end", beside))
        rows += [(0.0, "r0/a", "stage.end", "raise:OSError"), (0.0, "r1/a", "stage.end", "ok")]
        rows += [(0.1, "r0/a", "stage.start"), (0.1, "r0/a", "stage.end", "ok")]
        rows += [(0.2, "r0/", "run.end", "returned"), (0.2, "r1/", "run.end", "returned")]
        status = "ok" if beside == "ok" else "failed"
        outcomes = {"r0": Outcome("r0", "cancelled"), "r1": Outcome("r1", status)}
        return of_runs("RETRY-1", pair, rows, outcomes)

    assert said("raise:OSError") == []
    assert said("ok") == ["success-lost"]


def test_a_cleanup_that_another_run_cleared_was_not_stopped_by_a_failing_one() -> None:
    held = program("p", stage("a", cleanup("first"), cleanup("second")))

    def said(begin_s: float) -> list[str]:
        rows: list[Row] = [(0.0, "r0/", "run.begin"), (0.0, "r0/a", "stage.start")]
        rows += [(0.0, "r0/a", "register", one) for one in ("first", "second")]
        rows += [(0.1, "r0/a", "stage.end", "ok"), (0.1, "r0/a", "release.begin", "second")]
        rows += [(0.1, "r0/a", "release.fail", "second"), (0.1, "r0/", "run.end", "returned")]
        rows += [(begin_s, "r1/", "run.begin"), (begin_s, "r1/a", "stage.start")]
        rows += [(0.5, "r1/a", "stage.end", "ok"), (0.5, "r1/", "run.end", "returned")]
        rows.sort(key=lambda row: row[0])
        told = {
            run: Outcome(run, "ok", cleanup_failures=("cleanup of second failed",))
            for run in ("r0", "r1")
        }
        return of_runs("CLEAN-4", held, rows, told)

    assert said(0.05) == []
    assert said(0.2) == ["stopped-after-failure"]


def test_a_stage_that_another_run_s_failure_kept_out_was_not_refused_by_a_layer() -> None:
    chain = program("p", stage("a", ok(1)), stage("b", ok(2), needs="a"))
    plan = Plan(runs=TWO.runs, layers=(Layer("idempotency", "keys"),))

    def said(beside: str) -> list[str]:
        rows: list[Row] = [(0.0, "r0/", "run.begin"), (0.0, "r1/", "run.begin")]
        rows += [(0.0, "r0/a", "stage.start"), (0.1, "r0/a", "stage.end", "ok")]
        rows += [(0.0, "r1/a", "stage.start"), (0.1, "r1/a", "stage.end", beside)]
        rows += [(0.2, "r0/", "run.end", "returned"), (0.2, "r1/", "run.end", "returned")]
        rows.sort(key=lambda row: row[0])
        done = {"a": StageReport("completed", 1)}
        outcomes = {"r0": Outcome("r0", "failed", stages=done)}
        if beside != "ok":
            outcomes["r1"] = Outcome("r1", "failed")
        else:
            outcomes["r1"] = Outcome("r1", "ok", stages={**done, "b": StageReport("completed", 2)})
        return [one for one in of_runs("GRAPH-5", chain, rows, outcomes, plan) if "refused" in one]

    assert said("raise:OSError") == []
    assert said("ok") == ["refused-without-cause"]


def test_what_the_engine_does_for_another_run_is_no_wait_for_events() -> None:
    flood = program("p", stage("a", sleep(0.1)))

    def said(left_s: float) -> list[str]:
        rows: list[Row] = [*BEGIN[:2], (0.0, "a", "offer.begin", ("p", 0))]
        rows += [(0.0, "a", "offer.end", ("p", 0, "taken")), (0.1, "a", "stage.end", "ok")]
        rows += [(left_s, "", "engine.end"), (0.9, "", "deliver.begin", ("p", 0))]
        rows += [(1.0, "", "deliver.end", ("p", 0)), over(1.0)]
        plan = Plan(sink=Sink(delivery_s=0.1, drain_s=0.0))
        return shapes(by_hand(flood, plan, rows, outcome=Outcome("r0", "ok"))).get("EVENT-5", [])

    assert said(1.0) == []
    assert said(0.1) == ["drain-too-long"]


def test_a_run_that_another_run_s_end_took_along_was_not_failed_by_its_sink() -> None:
    flood = program("p", stage("a", sleep(0.1)), stage("b", ok(1)))

    def said(beside: str) -> list[str]:
        rows = both_runs((0.0, "r0/a", "offer.begin", ("p", 0)))
        rows += [(0.0, "r0/a", "offer.end", ("p", 0, "taken"))]
        rows += [(0.1, "r0/", "deliver.begin", ("p", 0)), (0.2, "r0/", "deliver.end", ("p", 0))]
        rows += [(0.2, "r1/a", "stage.end", beside), (0.2, "r1/b", "stage.end", "ok")]
        rows += [(0.2, f"r0/{one}", "stage.end", "ok") for one in ("a", "b")]
        rows += [(0.3, "r0/", "run.end", "returned"), (0.3, "r1/", "run.end", "returned")]
        outcomes = {"r0": Outcome("r0", "cancelled"), "r1": Outcome("r1", "ok")}
        plan = Plan(runs=TWO.runs, sink=Sink(delivery_s=0.1))
        return [one for one in of_runs("EVENT-6", flood, rows, outcomes, plan) if "run" in one]

    assert said("cancel_run") == []
    assert said("ok") == ["run-failed"]
