"""PART-5, PART-6 and RETRY-1 by hand: what they must let pass, and the least they must not.

A journal is written from lines of the run's story; a near miss stands beside each violation.
Longer than most, for these pairs of stories are many and are told in the same words.
"""

from __future__ import annotations

from typing import Any

import pytest

from harness.contract.clause import Judgement
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.program import Program, Retry
from harness.kernel.record import RunRecord
from scenarios.notation import (
    acquire,
    cancel_branch,
    chunk,
    cleanup,
    compensate,
    flaky,
    ok,
    program,
    raises,
    read,
    sleep,
    stage,
    subpipeline,
    swallow,
)
from tests.contract.bench import laboratory
from tests.contract.script_bench import said, sources

# (seconds, run, stage, kind, detail); kinds as in the journal.
Row = tuple[float, str, str, str, Any]


def judged(
    one: Program,
    plan: Plan,
    rows: list[Row],
    outcomes: list[Outcome],
    *,
    ended: str = "over",
    facts: dict[str, Any] | None = None,
) -> dict[str, Judgement]:
    journal = Journal()
    for row in rows:
        journal.add(*row)
    record = RunRecord(
        lab="sim",
        seed=0,
        ended=ended,
        journal=journal,
        outcomes={one.run: one for one in outcomes},
        took_s=rows[-1][0],
    )
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts or {})
    reading = Reading(one, plan, record, info)
    return {clause.id: clause.check(reading) for clause in CLAUSES.values()}


def shapes(said: dict[str, Judgement]) -> dict[str, list[str]]:
    return {c: [v.shape for v in j.violations] for c, j in said.items() if j.violations}


def run(run: str, at_s: float, *rows: Row, over_s: float = -1, how: str = "returned") -> list[Row]:
    """Put a run's begin and end around what happened in it."""
    end = max((row[0] for row in rows), default=at_s) if over_s < 0 else over_s
    return [(at_s, run, "", "run.begin", None), *rows, (end, run, "", "run.end", how)]


def ran(
    name: str, begun_s: float, ended_s: float, how: str = "ok", *, run: str = "r0"
) -> list[Row]:
    """An execution of a stage; `how` as in the journal, "" for one that never ends."""
    rows: list[Row] = [(begun_s, run, name, "stage.start", None)]
    if how == "ok":
        rows.append((ended_s, run, name, "returned", name))
    if how:
        rows.append((ended_s, run, name, "stage.end", how))
    return rows


def in_order(*groups: list[Row]) -> list[Row]:
    return sorted((row for group in groups for row in group), key=lambda row: row[0])


def outcome(run: str = "r0", status: str = "ok", **more: Any) -> Outcome:
    raised = None if status == "ok" else ErrorReport("RunFailed", status)
    return Outcome(run, status, raised=raised, **more)


def failed_at(*stages: str, run: str = "r0", **more: Any) -> Outcome:
    failures = tuple(FailureReport(s, error="OSError") for s in stages)
    return outcome(run, "failed", failures=failures, **more)


# RETRY-1.

RETRY = Retry(attempts=3, backoff_s=1.0, factor=2.0)
A_DONE = {"a": StageReport("completed", "a")}
TRIED = program("p", stage("a", sleep(1), flaky(9), ok("a"), retry=RETRY))
OSERROR = "raise:OSError"


def attempts(*spans: tuple[float, float, str], retried: Program = TRIED) -> list[Row]:
    return in_order(*(ran("a", begun, ended, how) for begun, ended, how in spans))


EXHAUSTED = ((0, 1, OSERROR), (2, 3, OSERROR), (5, 6, OSERROR))


def retry_shapes(
    *spans: tuple[float, float, str],
    status: str = "failed",
    plan: Plan | None = None,
    **more: Any,
) -> dict[str, list[str]]:
    rows = run("r0", 0, *attempts(*spans), **more)
    told = failed_at("a") if status == "failed" else outcome(status=status, stages=A_DONE)
    return shapes(judged(TRIED, plan or Plan(), rows, [told]))


def test_attempts_and_waits_as_declared_are_let_pass() -> None:
    assert retry_shapes(*EXHAUSTED) == {}
    assert retry_shapes((0, 1, OSERROR), (2, 3, "ok"), status="ok") == {}
    # A wait may be longer by what an engine takes to get round to it.
    assert retry_shapes((0, 1, OSERROR), (3.5, 4, "ok"), status="ok") == {}


@pytest.mark.parametrize(
    ("spans", "status", "shape"),
    [
        (EXHAUSTED[:2], "failed", "too-few"),
        (EXHAUSTED[:1], "failed", "too-few"),
        ((*EXHAUSTED, (10, 11, OSERROR)), "failed", "too-many"),
        (((0, 1, OSERROR), (1.9, 3, "ok")), "ok", "backoff-short"),
        (((0, 1, OSERROR), (2, 3, OSERROR), (4, 5, "ok")), "ok", "backoff-short"),
        (((0, 1, OSERROR), (9, 10, "ok")), "ok", "backoff-long"),
        (((0, 1, "ok"), (2, 3, "ok")), "ok", "completed-rerun"),
        (((0, 1, "skip"), (2, 3, "ok")), "ok", "completed-rerun"),
        (((0, 1, "cancel_branch"), (2, 3, "ok")), "ok", "called-off-rerun"),
        (((0, 3, OSERROR), (2, 4, "ok")), "ok", "attempts-overlap"),
    ],
)
def test_attempts_and_waits_otherwise_than_declared_are_not(
    spans: tuple[tuple[float, float, str], ...], status: str, shape: str
) -> None:
    assert shape in retry_shapes(*spans, status=status)["RETRY-1"]


def test_a_stage_that_declares_no_retry_is_not_run_again() -> None:
    two = program("p", stage("a", retry=RETRY), stage("b"))
    tries = attempts((0, 1, OSERROR), (2, 3, "ok"))
    told = [outcome(stages={n: StageReport("completed", n) for n in "ab"})]
    once = run("r0", 0, *in_order(tries, ran("b", 0, 1)))
    assert shapes(judged(two, Plan(), once, told)) == {}
    for how, shape in (("ok", "completed-rerun"), (OSERROR, "retried-undeclared")):
        twice = run("r0", 0, *in_order(tries, ran("b", 0, 1, how), ran("b", 2, 3)))
        assert shape in shapes(judged(two, Plan(), twice, told))["RETRY-1"]


def test_fewer_attempts_are_right_when_something_else_ends_the_run() -> None:
    two = program("p", stage("a", retry=RETRY), stage("b"))
    for b in (ran("b", 0, 1.5, OSERROR), ran("b", 0, 1.5, "cancel_run")):
        rows = run("r0", 0, *in_order(ran("a", 0, 1, OSERROR), b))
        status = "cancelled" if b[-1][-1] == "cancel_run" else "failed"
        told = outcome(status=status, failures=(FailureReport("b", error="OSError"),))
        said = shapes(judged(two, Plan(), rows, [told]))
        assert "RETRY-1" not in said, said
    # Nothing of b's ended the run: a should have been tried again.
    rows = run("r0", 0, *in_order(ran("a", 0, 1, OSERROR), ran("b", 0, 1.5)))
    assert shapes(judged(two, Plan(), rows, [failed_at("a")]))["RETRY-1"] == ["too-few"]


def test_a_retry_that_never_comes_in_a_run_that_never_ends_is_too_few() -> None:
    rows = run("r0", 0, *attempts((0, 1, OSERROR)))[:-1]
    assert shapes(judged(TRIED, Plan(), rows, [], ended="deadlock"))["RETRY-1"] == ["too-few"]
    assert shapes(judged(TRIED, Plan(), rows, [], ended="steps")).get("RETRY-1") is None


def test_whether_a_self_raised_cancel_is_retried_is_the_engines_choice() -> None:
    asked: Row = (1, "r0", "a", "self_cancel", None)
    once = [*ran("a", 0, 1, "cancelled")]
    once.insert(1, asked)
    assert "RETRY-1" not in shapes(judged(TRIED, Plan(), run("r0", 0, *once), [failed_at("a")]))
    again = run("r0", 0, *once, *ran("a", 2, 3))
    assert {"RETRY-1", "CANCEL-8"}.isdisjoint(shapes(judged(TRIED, Plan(), again, [outcome()])))


CANCELLED = Outcome("r0", "cancelled", raised=ErrorReport("CancelledError"))


@pytest.mark.parametrize(
    ("sent_s", "begun_s", "shape"),
    [(1.5, 2.0, "retried-after-cancel"), (2.0, 2.0, None), (2.5, 2.0, None)],
)
def test_no_attempt_begins_after_a_cancel(sent_s: float, begun_s: float, shape: Any) -> None:
    plan = Plan(cancels=(Cancel(at_s=sent_s),))
    second: list[Row] = [
        (begun_s, "r0", "a", "stage.start", None),
        (3, "r0", "a", "interrupt", None),
        (3, "r0", "a", "stage.end", "cancelled"),
    ]
    sent: list[Row] = [(sent_s, "r0", "", "cancel.sent", (0, True))]
    rows = run("r0", 0, *in_order(ran("a", 0, 1, OSERROR), sent, second), how="CancelledError")
    found = shapes(judged(TRIED, plan, rows, [CANCELLED])).get("RETRY-1")
    assert found == (None if shape is None else [shape])


def test_an_attempt_that_was_cancelled_is_not_followed_by_another() -> None:
    first = ran("a", 0, 1, "cancelled")
    first.insert(1, (1, "r0", "a", "interrupt", None))
    rows = run("r0", 0, *first, *ran("a", 2, 3))
    assert shapes(judged(TRIED, Plan(), rows, [outcome()]))["RETRY-1"] == ["retried-after-cancel"]
    # That interrupt is a timeout's: whether it is retried is the engine's choice.
    plan = Plan(stage_timeout_s=1.0)
    rows = run("r0", 0, *first, *ran("a", 2, 3))
    assert "RETRY-1" not in shapes(judged(TRIED, plan, rows, [outcome()]))


def test_no_attempt_begins_when_the_run_is_over_or_has_failed() -> None:
    rows = [*run("r0", 0, *ran("a", 0, 1, OSERROR), over_s=1.5), *ran("a", 2, 3)]
    assert "retried-after-run" in shapes(judged(TRIED, Plan(), rows, [failed_at("a")]))["RETRY-1"]
    two = program("p", stage("a", retry=RETRY), stage("b"))
    rows = run(
        "r0",
        0,
        *in_order(attempts((0, 1, OSERROR), (2, 3, OSERROR), (5, 6, OSERROR))),
    )
    failing = in_order(rows[:-1], ran("b", 0, 1.5, OSERROR), rows[-1:])
    told = [failed_at("a", "b")]
    assert shapes(judged(two, Plan(), failing, told))["RETRY-1"] == ["retried-after-cancel"]
    going_on = judged(two, Plan(on_failure="continue"), failing, told)
    assert "RETRY-1" not in shapes(going_on)


def test_a_success_is_kept_and_attempts_are_told_as_they_were() -> None:
    spans = ((0.0, 1.0, OSERROR), (2.0, 3.0, "ok"))
    assert retry_shapes(*spans)["RETRY-1"] == ["success-lost"]
    rows = run("r0", 0, *attempts(*spans))
    for told, shape in ((2, None), (None, None), (1, ["attempts-misreported"])):
        said = outcome(stages={"a": StageReport("completed", "a", attempts=told)})
        assert shapes(judged(TRIED, Plan(), rows, [said])).get("RETRY-1") == shape


# Other clauses, where a stage runs several times in a run.


def test_failed_attempts_of_a_stage_that_then_succeeds_are_no_failures_of_the_run() -> None:
    rows = run("r0", 0, *attempts((0, 1, OSERROR), (2, 3, "ok")))
    told = outcome(stages={"a": StageReport("completed", "a")})
    assert shapes(judged(TRIED, Plan(), rows, [told])) == {}


def test_a_stage_may_start_when_the_last_attempt_of_what_it_needs_completed() -> None:
    chain = program("p", stage("a", retry=RETRY), stage("b", needs="a"))
    tries = attempts((0, 1, OSERROR), (2, 3, "ok"))
    stages = {n: StageReport("completed", n) for n in "ab"}
    good = run("r0", 0, *in_order(tries, ran("b", 3, 4)))
    assert shapes(judged(chain, Plan(), good, [outcome(stages=stages)])) == {}
    for begun_s, shape in ((1.5, "started-after-failed"), (2.5, "started-early")):
        bad = run("r0", 0, *in_order(tries, ran("b", begun_s, 4)))
        said = shapes(judged(chain, Plan(), bad, [outcome(stages=stages)]))
        assert said["GRAPH-2"] == [shape]


def test_each_attempt_may_register_its_cleanups_and_run_them_when_it_likes() -> None:
    one = program("p", stage("a", cleanup("close"), flaky(1), ok("a"), retry=RETRY))
    register: Row = (0, "r0", "a", "register", "close")

    def closed(at_s: float) -> list[Row]:
        return [(at_s, "r0", "a", kind, "close") for kind in ("release.begin", "release.end")]

    told = [outcome(stages={"a": StageReport("completed", "a")})]
    first, second = ran("a", 0, 1, OSERROR), ran("a", 2, 3)
    for early in (True, False):
        rows = [first[0], register, *first[1:], *(closed(1) if early else [])]
        rows += [second[0], (2, *register[1:]), *second[1:]]
        rows += closed(3) if early else [*closed(3), *closed(3)]
        assert shapes(judged(one, Plan(), run("r0", 0, *rows), told)) == {}
    thrice = run("r0", 0, *rows, *closed(3))
    assert shapes(judged(one, Plan(), thrice, told))["CLEAN-1"] == ["released-twice"]
    once = run("r0", 0, *rows[:-2])
    assert shapes(judged(one, Plan(), once, told))["CLEAN-1"] == ["registered-cleanup-not-run"]


def test_chunks_of_the_last_attempt_or_of_all_may_be_kept() -> None:
    one = program("p", stage("a", chunk("x"), raises("OSError", "down"), retry=Retry(2, 0.0)))
    spans = []
    for begun in (0.0, 1.0):
        start, end = ran("a", begun, 1.0 + begun, OSERROR)
        spans += [start, (begun, "r0", "a", "chunk", f"x{begun:g}"), end]
    rows = run("r0", 0, *spans)

    def said(*partial: str) -> dict[str, list[str]]:
        stages = {"a": StageReport("failed", partial=partial, complete=False)}
        return shapes(judged(one, Plan(), rows, [failed_at("a", stages=stages)]))

    assert said("x1") == said("x0", "x1") == {}
    assert said("x0") == {"STREAM-1": ["chunks-changed"]}
    assert said() == {"STREAM-1": ["chunks-lost"]}


def test_an_attempt_that_timed_out_ends_no_siblings_and_need_not_be_told_as_the_runs() -> None:
    two = program(
        "p", stage("a", sleep(9), timeout_s=1.0, retry=RETRY), stage("b", sleep(9), ok("b"))
    )
    first = ran("a", 0, 1, "cancelled")
    first.insert(1, (1, "r0", "a", "interrupt", None))
    rows = run("r0", 0, *in_order(first, ran("a", 2, 2.5), ran("b", 0, 9)))
    stages = {n: StageReport("completed", n) for n in "ab"}
    told = outcome(stages=stages, timeouts={"a": 1.0})
    assert shapes(judged(two, Plan(), rows, [told])) == {}
    # Reported as a failure of an attempt, that is right as well.
    failure = FailureReport("a", "timeout", timeout_s=1.0, error="StageTimeout")
    told = outcome(stages=stages, timeouts={"a": 1.0}, failures=(failure,))
    assert shapes(judged(two, Plan(), rows, [told])) == {}


def test_a_timeout_for_all_attempts_together_is_a_timeout_too() -> None:
    one = program("p", stage("a", flaky(1), sleep(9), timeout_s=3.0, retry=RETRY))
    second = ran("a", 2, 3, "cancelled")
    second.insert(1, (3, "r0", "a", "interrupt", None))
    rows = run("r0", 0, *in_order(ran("a", 0, 1, OSERROR), second))
    failure = FailureReport("a", "timeout", timeout_s=3.0, error="StageTimeout")
    told = outcome(status="failed", failures=(failure,), timeouts={"a": 3.0})
    assert shapes(judged(one, Plan(), rows, [told])) == {}
    early = [
        (2.5 if row[3] in ("interrupt", "stage.end") and row[0] == 3 else row[0], *row[1:])
        for row in rows
    ]
    assert "TIME-2" in shapes(judged(one, Plan(), early, [told]))


def test_a_stubborn_attempt_that_ended_does_not_use_up_the_runs_grace() -> None:
    one = program("p", stage("a", swallow(1, sleep(9)), timeout_s=1.0, retry=RETRY))
    first = ran("a", 0, 2, OSERROR)
    first[1:1] = [(1, "r0", "a", "interrupt", None), (1, "r0", "a", "swallowed", 1)]
    rows = run("r0", 0, *first, *ran("a", 3, 3.5), over_s=90)
    told = outcome(stages={"a": StageReport("completed", "a")}, timeouts={"a": 1.0})
    assert "CANCEL-4" not in shapes(judged(one, Plan(cleanup_grace_s=5), rows, [told]))


def test_stages_of_subpipelines_are_retried_as_well() -> None:
    child = program(
        "child", stage("x", sleep(0.1), flaky(1), ok("x"), retry=Retry(2, 0.1), timeout_s=1.0)
    )
    slow = program("child", stage("x", sleep(9), timeout_s=1.0, retry=Retry(2, 0.1)))
    for inner, status in ((child, "ok"), (slow, "failed")):
        outer = program("p", stage("a", subpipeline(inner), ok("a")))
        lab = laboratory("reference")
        record = lab.run(outer, Plan())
        assert record.outcomes["r0"].status == status
        reading = Reading(outer, Plan(), record, lab.info)
        assert shapes({c.id: c.check(reading) for c in CLAUSES.values()}) == {}
        first, second = reading.ran["r0/child", "x"]
        assert (first.again, second.again) == (True, False)


# PART-5.

CHAIN = program("p", stage("a", ok("a")), stage("b", read("a"), flaky(1), ok("b"), needs="a"))
AGAIN = Plan(runs=(RunSpec("r0"), RunSpec("r1", redrives="r0")))
FIRST = run("r0", 0, *ran("a", 0, 1), *ran("b", 1, 2, OSERROR))
BOTH_DONE = A_DONE | {"b": StageReport("completed", "b")}


def redriven(
    *rows: Row, told: Outcome | None = None, how: str = "returned"
) -> dict[str, list[str]]:
    said = told or outcome("r1", stages=BOTH_DONE)
    story = [*FIRST, *run("r1", 3, *rows, how=how)]
    return shapes(judged(CHAIN, AGAIN, story, [failed_at("b", stages=A_DONE), said]))


def b_again(value: Any = "a") -> list[Row]:
    start, *end = ran("b", 3, 4, run="r1")
    return [start, (3, "r1", "b", "read", ("a", "value", value)), *end]


def test_a_redrive_that_goes_on_is_let_pass_also_if_it_tells_of_its_own_stages_only() -> None:
    assert redriven(*b_again()) == {}
    own = {"b": StageReport("completed", "b")}
    assert redriven(*b_again(), told=outcome("r1", stages=own)) == {}


def test_a_completed_stage_is_not_run_again() -> None:
    again = [*ran("a", 3, 3, run="r1"), *b_again()]
    assert redriven(*again)["PART-5"] == ["completed-rerun"]


def test_unfinished_stages_are_run() -> None:
    assert redriven()["PART-5"] == ["unfinished-left-out"]


def test_outputs_are_the_same_after_a_redrive() -> None:
    assert redriven(*b_again("A"))["PART-5"] == ["output-changed"]
    stages = BOTH_DONE | {"a": StageReport("completed", "A")}
    told = outcome("r1", stages=stages)
    assert redriven(*b_again(), told=told)["PART-5"] == ["output-changed"]


def test_a_redrive_does_not_fail_without_a_reason() -> None:
    refused = outcome("r1", "failed")
    assert redriven(told=refused)["PART-5"] == ["redrive-failed"]
    failing = ran("b", 3, 4, OSERROR, run="r1")
    assert redriven(*failing, told=failed_at("b", run="r1", stages=A_DONE)) == {}


def test_a_run_that_had_completed_need_not_be_redriven() -> None:
    first = run("r0", 0, *ran("a", 0, 1), *ran("b", 1, 2))
    for told in (outcome("r1", stages=BOTH_DONE), outcome("r1", "failed")):
        story = [*first, *run("r1", 3)]
        assert shapes(judged(CHAIN, AGAIN, story, [outcome(stages=BOTH_DONE), told])) == {}


def test_a_stage_that_completed_in_the_tick_of_the_failure_counts_if_the_engine_says_so() -> None:
    two = program("p", stage("a"), stage("b", flaky(1)))
    first = run("r0", 0, *in_order(ran("a", 0, 2), ran("b", 0, 2, OSERROR)))
    second = run("r1", 3, *in_order(ran("a", 3, 4, run="r1"), ran("b", 3, 4, run="r1")))
    told = outcome("r1", stages=BOTH_DONE)
    unsaid = [failed_at("b"), told]
    assert "PART-5" not in shapes(judged(two, AGAIN, [*first, *second], unsaid))
    said = [failed_at("b", stages=A_DONE), told]
    assert shapes(judged(two, AGAIN, [*first, *second], said))["PART-5"] == ["completed-rerun"]


def test_what_was_undone_and_what_depends_on_it_is_run_again() -> None:
    chain = program("p", stage("a", compensate("u")), stage("b", needs="a"), stage("c", needs="b"))
    declared: Row = (0, "r0", "a", "compensate", "u")
    undone: list[Row] = [(4, "r0", "a", kind, "u") for kind in ("undo.begin", "undo.end")]
    a, b = ran("a", 0, 1), ran("b", 1, 2)
    first = run("r0", 0, a[0], declared, *a[1:], *b, *ran("c", 2, 3, OSERROR), *undone)
    stages = {n: StageReport("completed", n) for n in "ab"}
    second = run("r1", 5, *(r for i, n in enumerate("abc") for r in ran(n, 5 + i, 6 + i, run="r1")))
    told = [failed_at("c", stages=stages), outcome("r1", stages=stages)]
    assert shapes(judged(chain, AGAIN, [*first, *second], told)) == {}
    kept = [row for row in first if row not in undone]
    assert "completed-rerun" in shapes(judged(chain, AGAIN, [*kept, *second], told))["PART-5"]


def test_one_redrive_of_a_run_is_made_at_a_time() -> None:
    plan = Plan(runs=(RunSpec("r0"), RunSpec("r1", redrives="r0"), RunSpec("r2", redrives="r0")))
    begun: Row = (3, "r2", "", "run.begin", None)
    refused = [*FIRST, begun, (3, "r2", "", "run.end", "returned"), *run("r1", 3, *b_again())]
    told = [
        failed_at("b", stages=A_DONE),
        outcome("r1", stages=BOTH_DONE),
        outcome("r2", "failed"),
    ]
    # Refused while the other was under way; not if the other had ended before.
    both = [*FIRST, begun, *run("r1", 3, *b_again()), (9, "r2", "", "run.end", "returned")]
    assert shapes(judged(CHAIN, plan, both, told)) == {}
    assert shapes(judged(CHAIN, plan, refused, told))["PART-5"] == ["redrive-failed"]
    other = [(row[0], "r2", *row[2:]) for row in b_again()]
    twice = [*FIRST, begun, *in_order(run("r1", 3, *b_again()), other)]
    twice.append((9, "r2", "", "run.end", "returned"))
    told[-1] = outcome("r2", stages=BOTH_DONE)
    assert shapes(judged(CHAIN, plan, twice, told))["PART-5"] == ["redriven-twice-at-once"]


def test_a_dependency_that_completed_in_the_run_before_is_a_completed_one() -> None:
    assert "GRAPH-2" not in redriven(*b_again())
    # One that had not completed is not.
    first = run("r0", 0, *ran("a", 0, 1, OSERROR))
    story = [*first, *run("r1", 3, *b_again())]
    told = [failed_at("a"), outcome("r1", stages=BOTH_DONE)]
    said = shapes(judged(CHAIN, AGAIN, story, told))
    assert said["GRAPH-2"] == ["started-early"]
    assert "unfinished-left-out" in said["PART-5"]


def test_branches_that_were_cancelled_in_the_run_before_need_not_run() -> None:
    one = program("p", stage("a", cancel_branch("no")), stage("b", needs="a"), stage("c", flaky(1)))
    first = run("r0", 0, *in_order(ran("a", 0, 1, "cancel_branch"), ran("c", 0, 2, OSERROR)))
    second = run("r1", 3, *ran("c", 3, 4, run="r1"))
    told = [failed_at("c"), outcome("r1", stages={"c": StageReport("completed", "c")})]
    assert shapes(judged(one, AGAIN, [*first, *second], told)) == {}


# PART-6.

BOOKED = program(
    "p",
    stage("a", compensate("ua"), ok("a")),
    stage("b", compensate("ub"), ok("b"), needs="a"),
    stage("c", raises("OSError", "no"), needs="b"),
)


def booked(*undos: Row, plan: Plan | None = None, **more: Any) -> dict[str, list[str]]:
    a, b = ran("a", 0, 1), ran("b", 1, 2)
    rows = [a[0], (0, "r0", "a", "compensate", "ua"), *a[1:]]
    rows += [b[0], (1, "r0", "b", "compensate", "ub"), *b[1:]]
    rows += ran("c", 2, 3, more.pop("c", OSERROR))
    how = more.pop("how", "returned")
    told = more.pop("told", None) or failed_at(
        "c", stages={n: StageReport("completed", n) for n in "ab"}
    )
    story = run("r0", 0, *in_order([*rows, *undos]), over_s=more.pop("over_s", -1), how=how)
    return shapes(judged(BOOKED, plan or Plan(), story, [told]))


def undo(name: str, begun_s: float, ended_s: float, end: str = "end") -> list[Row]:
    return [
        (begun_s, "r0", name, "undo.begin", f"u{name}"),
        *([(ended_s, "r0", name, f"undo.{end}", f"u{name}")] if end else []),
    ]


def test_what_completed_is_undone_in_reverse_each_once() -> None:
    assert booked(*undo("b", 3, 4), *undo("a", 4, 5)) == {}


@pytest.mark.parametrize(
    ("undos", "shape"),
    [
        ([], "not-undone"),
        (undo("b", 3, 4), "not-undone"),
        ([*undo("a", 3, 4), *undo("b", 4, 5)], "wrong-order"),
        ([*undo("b", 3, 4), *undo("b", 4, 5), *undo("a", 5, 6)], "undone-twice"),
        (in_order(undo("b", 3, 5), undo("a", 4, 6)), "not-in-turn"),
        ([*undo("b", 3, 3.5, "cut"), *undo("a", 4, 5)], "compensation-cut"),
        ([*undo("b", 3, 4), *undo("a", 4, 5, "")], "compensation-not-awaited"),
        ([*undo("b", 3, 4, "fail"), *undo("a", 4, 5)], "failure-not-reported"),
    ],
)
def test_undoing_otherwise_is_told_apart(undos: list[Row], shape: str) -> None:
    assert booked(*undos)["PART-6"] == [shape]


def test_a_failed_compensation_may_be_reported_by_name_or_by_its_words() -> None:
    undos = [*undo("b", 3, 4, "fail"), *undo("a", 4, 5)]
    stages = {n: StageReport("completed", n) for n in "ab"}
    by_name = failed_at("c", stages=stages, compensation_failures=("ub: OSError",))
    assert booked(*undos, told=by_name) == {}
    words = "compensation ub failed"
    by_words = failed_at("c", stages=stages)
    by_words = Outcome("r0", "failed", ErrorReport("RunFailed", words), stages, by_words.failures)
    assert booked(*undos, told=by_words) == {}


def test_nothing_is_undone_in_a_run_that_is_ok() -> None:
    good = outcome(stages={n: StageReport("completed", n) for n in "abc"})
    assert booked(c="ok", told=good) == {}
    undos = [*undo("b", 3, 4), *undo("a", 4, 5)]
    assert booked(*undos, c="ok", told=good)["PART-6"] == ["undone-without-failure"]


def test_an_engine_may_undo_or_leave_a_run_that_was_cancelled() -> None:
    plan = Plan(cancels=(Cancel(at_s=2.5),))
    sent: Row = (2.5, "r0", "", "cancel.sent", (0, True))
    interrupted: Row = (2.5, "r0", "c", "interrupt", None)
    for undos in ([], [*undo("b", 3, 4), *undo("a", 4, 5)]):
        said = booked(
            sent,
            interrupted,
            *undos,
            c="cancelled",
            plan=plan,
            told=CANCELLED,
            how="CancelledError",
        )
        assert said == {}


def test_a_cancel_while_things_are_undone_stops_nothing() -> None:
    plan = Plan(cancels=(Cancel(at_s=3.5),))
    sent: Row = (3.5, "r0", "", "cancel.sent", (0, True))
    how: dict[str, Any] = {"plan": plan, "told": CANCELLED, "how": "CancelledError"}
    assert "PART-6" not in booked(sent, *undo("b", 3, 4), *undo("a", 4, 5), **how)
    assert booked(sent, *undo("b", 3, 3.5, "cut"), **how)["PART-6"] == [
        "not-undone",
        "compensation-cut",
    ]


def test_the_grace_is_for_all_compensations_together() -> None:
    plan = Plan(cleanup_grace_s=2.0)
    slow = [*undo("b", 3, 5, "cut")]
    assert booked(*slow, plan=plan) == {}  # its grace was used up, a's turn never came
    assert booked(*undo("b", 3, 4.5), *undo("a", 4.5, 5, "cut"), plan=plan) == {}
    assert booked(*undo("b", 3, 4), *undo("a", 4, 4.5, "cut"), plan=plan)["PART-6"] == [
        "compensation-cut"
    ]


def test_what_completed_in_one_instant_may_be_undone_in_any_order() -> None:
    two = program(
        "p",
        stage("a", compensate("ua")),
        stage("b", compensate("ub")),
        stage("c", raises("OSError", "no"), needs="a b"),
    )
    a, b = ran("a", 0, 1), ran("b", 0, 1)
    rows = [a[0], (0, "r0", "a", "compensate", "ua"), b[0], (0, "r0", "b", "compensate", "ub")]
    rows += [*a[1:], *b[1:], *ran("c", 1, 2, OSERROR)]
    told = [failed_at("c", stages={n: StageReport("completed", n) for n in "ab"})]
    for order in ("ab", "ba"):
        undos = [row for i, n in enumerate(order) for row in undo(n, 2 + i, 3 + i)]
        assert shapes(judged(two, Plan(), run("r0", 0, *rows, *undos), told)) == {}
    # Nor need those that do not depend on each other wait for each other.
    together = in_order(undo("a", 2, 4), undo("b", 3, 5))
    assert shapes(judged(two, Plan(), run("r0", 0, *rows, *together), told)) == {}


def test_only_a_completed_stage_is_undone_and_of_attempts_the_last_one() -> None:
    one = program(
        "p",
        stage("a", acquire("lock"), compensate("ua"), flaky(1), retry=RETRY),
        stage("b", raises("OSError", "no"), needs="a"),
    )
    first, second = ran("a", 0, 1, OSERROR), ran("a", 2, 3)
    rows = [first[0], (0, "r0", "a", "compensate", "ua"), *first[1:]]
    rows += [second[0], (2, "r0", "a", "compensate", "ua"), *second[1:], *ran("b", 3, 4, OSERROR)]
    told = [failed_at("b", stages=A_DONE)]
    good = run("r0", 0, *rows, *undo("a", 4, 5))
    assert shapes(judged(one, Plan(), good, told)) == {}
    twice = run("r0", 0, *rows, *undo("a", 4, 5), *undo("a", 5, 6))
    assert shapes(judged(one, Plan(), twice, told))["PART-6"] == ["undone-though-not-completed"]
    failed = run("r0", 0, *rows[:3], *undo("a", 2, 3))
    said = shapes(judged(one, Plan(), failed, [failed_at("a")]))
    assert said["PART-6"] == ["undone-though-not-completed"]


# The script.


def scripted(*spans: tuple[float, float, str]) -> Any:
    seen = [(at, name, kind, detail) for at, _, name, kind, detail in attempts(*spans)]
    return said("RETRY-1", TRIED, Plan(), seen, took=9.0)


def test_the_script_says_the_same_in_fewer_words() -> None:
    assert scripted(*EXHAUSTED) is None
    assert scripted((0, 1, OSERROR), (2, 3, "ok")) is None
    assert scripted((0, 1, OSERROR)) == "stage a failed and was tried 1 of 3 times"
    assert scripted(*EXHAUSTED, (10, 11, OSERROR)) == "stage a was tried 4 times, not 3"
    assert scripted((0, 1, "ok"), (2, 3, "ok")) == "stage a ended ok and was tried again"
    assert scripted((0, 1, OSERROR), (1.5, 3, "ok")) == ("stage a was tried again after 0.500 s")
    assert sources("RETRY-1", program("p", stage("a")), Plan()) == {}
