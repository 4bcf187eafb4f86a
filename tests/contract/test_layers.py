"""GRAPH-5 on journals written by hand: what an engine of another temper may do, and next to it
the least change that it may not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.record import RunRecord
from scenarios.notation import ok, program, raises, sleep, stage

OUT, IN = Layer("observe", "out"), Layer("observe", "in")
CRASH, GUARD = Layer("raise", "crash"), Layer("deny", "guard")
LATE = Layer("raise", "late", phase="after")
BREAKER = Layer("circuit_breaker", "breaker", options={"threshold": 2, "reset_s": 10.0})
LIMIT = Layer("rate_limit", "limit", options={"limit": 1, "window_s": 10.0})
ONCE = Layer("idempotency", "once", options={"key": "k"})

ONE = program("p", stage("a", sleep(0.1), ok("A")))
TWO = program("p", stage("a", sleep(0.1), ok("A")), stage("b", ok("B"), needs="a"))

# (seconds, run, stage, kind), (seconds, run, stage, kind, detail)
Row = tuple[Any, ...]


def judge(
    what: Program,
    plan: Plan,
    rows: Sequence[Row],
    *outcomes: Outcome,
    facts: dict[str, Any] | None = None,
) -> list[str] | str:
    """Return the shapes of what GRAPH-5 finds, or its verdict if it finds nothing."""
    journal = Journal()
    for at_s, run, name, kind, *detail in rows:
        journal.add(at_s, run, name, kind, detail[0] if detail else None)
    record = RunRecord(
        lab="sim",
        seed=0,
        ended="over",
        journal=journal,
        outcomes={one.run: one for one in outcomes},
        took_s=journal.entries[-1].at_s,
    )
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts or {})
    said = CLAUSES["GRAPH-5"].check(Reading(what, plan, record, info))
    return [v.shape for v in said.violations] or said.verdict


def enter(layer: str, name: str = "a", run: str = "r0") -> Row:
    return (0.0, run, name, "layer.enter", layer)


def leave(layer: str, name: str = "a", run: str = "r0", how: str = "ok") -> Row:
    return (0.2, run, name, "layer.exit", (layer, how))


def begin(run: str = "r0", at_s: float = 0.0) -> Row:
    return (at_s, run, "", "run.begin")


def over(run: str = "r0", at_s: float = 0.3, how: str = "returned") -> Row:
    return (at_s, run, "", "run.end", how)


def ran(
    name: str = "a",
    run: str = "r0",
    *,
    at_s: float = 0.0,
    how: str = "ok",
    value: Any = None,
    took_s: float = 0.1,
) -> list[Row]:
    end_s = at_s + took_s
    said: list[Row] = [(end_s, run, name, "returned", value or name.upper())] if how == "ok" else []
    return [(at_s, run, name, "stage.start"), *said, (end_s, run, name, "stage.end", how)]


def whole(run: str = "r0", *, at_s: float = 0.0, how: str = "ok", value: Any = None) -> list[Row]:
    """One run of `ONE`."""
    return [
        begin(run, at_s),
        *ran("a", run, at_s=at_s, how=how, value=value),
        over(run, at_s + 0.1),
    ]


def refused(run: str, at_s: float) -> list[Row]:
    return [begin(run, at_s), over(run, at_s)]


def success(run: str = "r0", value: Any = "A", **more: Any) -> Outcome:
    return Outcome(run, "ok", stages={"a": StageReport("completed", value), **more})


def failure(run: str = "r0", status: str = "failed", message: str = "stage 'a'") -> Outcome:
    return Outcome(
        run,
        "failed",
        raised=ErrorReport("RunFailed", message),
        stages={"a": StageReport(status)},
        failures=(FailureReport("a"),) if "a" in message.split("'") else (),
    )


def runs(*starts: float, tenants: str = "") -> tuple[RunSpec, ...]:
    return tuple(
        RunSpec(f"r{i}", tenant=tenants[i] if tenants else "t", start_s=at)
        for i, at in enumerate(starts)
    )


# Order.


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([enter("out"), enter("in"), *ran(), leave("in"), leave("out")], "holds"),
        ([enter("in"), enter("out"), *ran(), leave("out"), leave("in")], "both"),
        ([enter("out"), enter("in"), *ran(), leave("out"), leave("in")], ["not-nested"]),
        ([enter("out"), enter("in"), *ran()], "holds"),  # hooks that are not called at the end
        ([enter("out"), *ran(), leave("out")], ["layer-skipped"]),
        ([*ran(), enter("out"), enter("in")], ["layer-skipped"]),
        (
            [enter("out"), leave("out"), enter("in"), *ran(), leave("in")],
            ["not-nested", "layer-skipped"],
        ),
        ([enter("out"), enter("out"), enter("in"), *ran()], ["entered-twice"]),
    ],
)
def test_layers_nest_in_declared_order(rows: list[Row], said: Any) -> None:
    expected = ["out-of-order", "not-nested"] if said == "both" else said
    found = judge(ONE, Plan(layers=(OUT, IN)), [begin(), *rows, over()], success())
    assert found == expected


def test_a_layer_of_another_stage_need_not_be_entered() -> None:
    plan = Plan(layers=(Layer("observe", "out", stages=("b",)),))
    rows = [begin(), *ran(), enter("out", "b"), *ran("b", at_s=0.1), leave("out", "b"), over()]
    assert judge(TWO, plan, rows, success(b=StageReport("completed", "B"))) == "holds"


@pytest.mark.parametrize("again", [[enter("out"), enter("in")], [enter("in")], []])
def test_a_retry_may_be_put_at_any_layer(again: list[Row]) -> None:
    tried = Program((Stage("a", (sleep(0.1), raises("ValueError", "x")), retry=Retry(2, 0.0)),))
    failed = ran(how="raise:ValueError")
    first = [leave("in", how="raise:ValueError")] if again else []
    first += [leave("out", how="raise:ValueError")] if len(again) > 1 else []
    rows = [begin(), enter("out"), enter("in"), *failed, *first, *again, *failed, over()]
    assert judge(tried, Plan(layers=(OUT, IN)), rows, failure()) == "holds"


# Layers that fail or deny.


def test_a_stage_does_not_run_when_a_layer_fails_before_it() -> None:
    plan = Plan(layers=(CRASH, IN))
    crash: list[Row] = [begin(), enter("crash"), (0.0, "r0", "a", "layer.raise", "crash")]
    assert judge(ONE, plan, [*crash, over()], failure()) == "holds"
    # Hooks that are called all the same change nothing, as long as the stage stays out.
    assert judge(ONE, plan, [*crash, enter("in"), leave("in"), over()], failure()) == "holds"
    went_on = [*crash, enter("in"), *ran(), leave("in"), over()]
    assert judge(ONE, plan, went_on, success()) == ["ran-despite-failing-layer"]


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (failure(), "holds"),
        (failure(status="skipped"), "holds"),
        (failure(status="completed"), ["failed-layer-completed"]),
        (Outcome("r0", "ok", stages={"a": StageReport("skipped")}), ["failed-layer-untold"]),
        (failure(message="something is wrong"), ["stage-unnamed"]),
    ],
)
def test_a_failing_layer_fails_the_run_and_names_the_stage(outcome: Outcome, said: Any) -> None:
    rows: list[Row] = [begin(), enter("crash"), (0.0, "r0", "a", "layer.raise", "crash"), over()]
    assert judge(ONE, Plan(layers=(CRASH,)), rows, outcome) == said


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (failure(), "holds"),
        # A denial may be told as a skip, in a run that goes well, as long as it is told.
        (Outcome("r0", "ok", stages={"a": StageReport("skipped")}), "holds"),
        (Outcome("r0", "ok"), ["denial-untold"]),
        (success(), ["denied-completed"]),
    ],
)
def test_a_denial_is_no_success(outcome: Outcome, said: Any) -> None:
    rows: list[Row] = [begin(), enter("guard"), (0.0, "r0", "a", "layer.deny", "guard"), over()]
    assert judge(ONE, Plan(layers=(GUARD,)), rows, outcome) == said


def test_what_needs_a_denied_stage_stays_out() -> None:
    plan = Plan(layers=(Layer("deny", "guard", stages=("a",)),))
    rows: list[Row] = [begin(), enter("guard"), (0.0, "r0", "a", "layer.deny", "guard")]
    said = Outcome("r0", "ok", stages={"a": StageReport("skipped"), "b": StageReport("skipped")})
    assert judge(TWO, plan, [*rows, over()], said) == "holds"
    assert judge(TWO, plan, [*rows, *ran("b"), over()], said) == ["dependents-ran"]


def test_a_denied_stage_does_not_run_and_a_retry_may_ask_again() -> None:
    plan = Plan(layers=(OUT, GUARD))
    denied: list[Row] = [enter("out"), enter("guard"), (0.0, "r0", "a", "layer.deny", "guard")]
    rows = [begin(), *denied, *ran(), over()]
    assert judge(ONE, plan, rows, success()) == ["ran-despite-denial"]
    tried = Program((Stage("a", (sleep(0.1), ok("A")), retry=Retry(2, 0.0)),))
    rows = [begin(), *denied, *denied[:2], *ran(), leave("guard"), leave("out"), over()]
    assert judge(tried, plan, rows, success()) == "holds"


def test_a_layer_that_fails_after_the_stage_fails_it() -> None:
    rows = [begin(), enter("late"), *ran(), leave("late"), (0.2, "r0", "a", "layer.raise", "late")]
    plan = Plan(layers=(LATE,))
    assert judge(ONE, plan, [*rows, over()], failure()) == "holds"
    assert judge(ONE, plan, [*rows, over()], success()) == ["failure-after-completed"]
    below = Plan(layers=(Layer("raise", "late", stages=("a",), phase="after"),))
    ends = [*rows, *ran("b", at_s=0.2), over()]
    assert judge(TWO, below, ends, failure()) == ["dependents-ran"]


def test_a_run_without_layers_or_that_was_not_built_puts_nothing_to_the_test() -> None:
    assert judge(ONE, Plan(), whole(), success()) == "untested"


# Circuit breakers.


def failing(run: str, at_s: float) -> list[Row]:
    return whole(run, at_s=at_s, how="raise:ValueError")


def test_a_circuit_opens_at_its_threshold() -> None:
    plan = Plan(runs=runs(0, 1, 2), layers=(BREAKER,))
    two = [*failing("r0", 0.0), *failing("r1", 1.0)]
    fails = [failure("r0"), failure("r1"), failure("r2")]
    assert judge(ONE, plan, [*two, *refused("r2", 2.0)], *fails) == "holds"
    assert judge(ONE, plan, [*two, *whole("r2", at_s=2.0)], *fails) == ["circuit-stayed-closed"]
    # Ten seconds later it lets one try; one that began before it opened does not count.
    assert judge(ONE, plan, [*two, *whole("r2", at_s=11.2)], *fails) == "holds"
    beside = [begin("r2", 0.5), *two, *ran(run="r2", at_s=1.1), over("r2", 1.3)]
    assert judge(ONE, plan, sorted(beside, key=lambda row: row[0]), *fails) == "holds"


def test_what_an_engine_declares_of_its_breaker_goes_before_the_plan() -> None:
    plan = Plan(runs=runs(0, 1, 2), layers=(BREAKER,))
    rows = [*failing("r0", 0.0), *failing("r1", 1.0), *failing("r2", 2.0)]
    fails = [failure("r0"), failure("r1"), failure("r2")]
    assert judge(ONE, plan, rows, *fails) == ["circuit-stayed-closed"]
    assert judge(ONE, plan, rows, *fails, facts={"circuit_breaker": {"threshold": 3}}) == "holds"


@pytest.mark.parametrize("how", ["cancelled", "ok"])
def test_a_stage_is_not_cut_off_for_what_was_no_failure(how: str) -> None:
    plan = Plan(runs=runs(0, 1, 2), layers=(BREAKER,), cancels=(Cancel(run="r1", at_s=1.05),))
    first = whole("r0", how="raise:ValueError")
    second = whole("r1", at_s=1.0, how=how)
    rows = [*first, *second, *refused("r2", 2.0)]
    fails = [failure("r0"), failure("r1"), failure("r2")]
    assert judge(ONE, plan, rows, *fails) == ["refused-without-cause"]
    rows = [*first, *failing("r1", 1.0), *refused("r2", 2.0)]
    assert judge(ONE, plan, rows, *fails) == "holds"


def test_a_refused_stage_is_no_success() -> None:
    plan = Plan(runs=runs(0, 1, 2), layers=(BREAKER,))
    rows = [*failing("r0", 0.0), *failing("r1", 1.0), *refused("r2", 2.0)]
    fails = [failure("r0"), failure("r1")]
    assert judge(ONE, plan, rows, *fails, success("r2")) == ["completed-without-running"]
    assert judge(ONE, plan, rows, *fails, Outcome("r2", "ok")) == ["denial-untold"]
    told = Outcome("r2", "ok", stages={"a": StageReport("skipped")})
    assert judge(ONE, plan, rows, *fails, told) == "holds"


def test_whose_failures_they_were_is_another_clauses_question() -> None:
    rows = [*failing("r0", 0.0), *failing("r1", 1.0), *refused("r2", 2.0)]
    fails = [failure("r0"), failure("r1"), failure("r2")]
    same = Plan(runs=runs(0, 1, 2, tenants="xxx"), layers=(BREAKER,))
    other = Plan(runs=runs(0, 1, 2, tenants="xxy"), layers=(BREAKER,))
    assert judge(ONE, same, rows, *fails) == "holds"
    assert judge(ONE, other, rows, *fails) == "holds"
    # In a circuit that all share, another's success comes between the two failures.
    mixed = [*failing("r0", 0.0), *whole("r1", at_s=1.0), *failing("r2", 2.0)]
    plan = Plan(runs=runs(0, 1, 2, 3, tenants="xyxx"), layers=(BREAKER,))
    rows = [*mixed, *whole("r3", at_s=3.0)]
    told = [failure("r0"), success("r1"), failure("r2"), success("r3")]
    assert judge(ONE, plan, rows, *told) == "holds"


def test_a_circuit_closes_again_but_may_wait_longer_after_a_failed_probe() -> None:
    plan = Plan(runs=runs(0, 1, 2, 3), layers=(BREAKER,))
    two = [*failing("r0", 0.0), *failing("r1", 1.0)]
    fails = [failure(f"r{i}") for i in range(4)]
    late = [*two, *refused("r2", 2.0), *refused("r3", 30.0)]
    assert judge(ONE, plan, late, *fails) == ["refused-without-cause"]
    probed = [*two, *failing("r2", 15.0), *refused("r3", 30.0)]
    assert judge(ONE, plan, probed, *fails) == "holds"


def test_one_refusal_may_keep_the_other_stages_of_its_run_out() -> None:
    sides = program("p", stage("a", sleep(0.1), ok("A")), stage("b", sleep(0.2), ok("B")))
    two = [*failing("r0", 0.0), *failing("r1", 1.0)]
    rows = [*two, *refused("r2", 2.0)]
    fails = [failure("r0"), failure("r1"), failure("r2")]
    plan = Plan(runs=runs(0, 1, 2), layers=(BREAKER,))
    assert judge(sides, plan, rows, *fails) == "holds"
    goes_on = Plan(runs=runs(0, 1, 2), layers=(BREAKER,), on_failure="continue")
    assert judge(sides, goes_on, rows, *fails) == ["refused-without-cause"]


# Rate limits.


def test_a_rate_limit_may_be_of_a_fixed_window_and_may_make_wait() -> None:
    plan = Plan(runs=runs(0, 0, 0), layers=(LIMIT,))
    rows = [*whole("r0", at_s=0.0), *whole("r1", at_s=0.5), *refused("r2", 0.7)]
    assert judge(ONE, plan, rows, success("r0"), success("r1"), failure("r2")) == "holds"
    rows = [*whole("r0", at_s=0.0), *whole("r1", at_s=0.5), *whole("r2", at_s=1.0)]
    said = judge(ONE, plan, rows, success("r0"), success("r1"), success("r2"))
    assert said == ["rate-exceeded"]
    rows = [*whole("r0"), *whole("r1", at_s=10.0), *whole("r2", at_s=20.0)]
    assert judge(ONE, plan, rows, success("r0"), success("r1"), success("r2")) == "holds"


def test_a_rate_limit_refuses_no_first_run_and_none_when_its_window_is_over() -> None:
    same = Plan(runs=runs(0, 1), layers=(LIMIT,))
    rows = [*refused("r0", 0.0), *whole("r1", at_s=20.0)]
    assert judge(ONE, same, rows, failure("r0"), success("r1")) == ["refused-without-cause"]
    rows = [*whole("r0"), *refused("r1", 1.0)]
    assert judge(ONE, same, rows, success("r0"), failure("r1")) == "holds"
    rows = [*whole("r0"), *refused("r1", 12.0)]
    assert judge(ONE, same, rows, success("r0"), failure("r1")) == ["refused-without-cause"]


# Idempotency.


@pytest.mark.parametrize(
    ("first", "told", "second", "said"),
    [
        ("ok", success("r0"), success("r1"), "holds"),
        ("ok", success("r0"), success("r1", "B"), ["kept-wrong"]),
        ("raise:ValueError", failure("r0"), success("r1"), ["completed-without-running"]),
        ("cancelled", Outcome("r0", "cancelled"), success("r1"), ["completed-without-running"]),
        # It had run to its end when its run was cancelled: the engine may keep that.
        ("ok", Outcome("r0", "cancelled"), success("r1"), "holds"),
        ("ok", failure("r0"), success("r1"), ["completed-without-running"]),
        # A failure may be kept as a failure, and a duplicate refused.
        ("raise:ValueError", failure("r0"), failure("r1"), "holds"),
        ("ok", success("r0"), failure("r1"), "holds"),
    ],
)
def test_only_a_success_stands_for_a_later_run(
    first: str, told: Outcome, second: Outcome, said: Any
) -> None:
    plan = Plan(runs=runs(0, 1), layers=(ONCE,))
    rows = [*whole("r0", how=first), *refused("r1", 1.0)]
    assert judge(ONE, plan, rows, told, second) == said


def test_a_key_refuses_no_first_run() -> None:
    plan = Plan(runs=runs(0, 1), layers=(ONCE,))
    rows = [*refused("r0", 0.0), *whole("r1", at_s=1.0)]
    assert judge(ONE, plan, rows, failure("r0"), success("r1")) == ["refused-without-cause"]


def test_a_key_is_of_one_stage() -> None:
    plan = Plan(runs=runs(0, 1), layers=(ONCE,))
    rows = [begin(), *ran(), *ran("b", at_s=0.1), over(), *refused("r1", 1.0)]
    b = StageReport("completed", "B")
    assert judge(TWO, plan, rows, success("r0", b=b), success("r1", b=b)) == "holds"
    a = StageReport("completed", "A")
    said = judge(TWO, plan, rows, success("r0", b=b), success("r1", b=a))
    assert said == ["kept-for-another-stage"]
    alone = [begin(), *ran(), over()]
    assert judge(TWO, plan, alone, success("r0", b=a)) == ["kept-for-another-stage"]


def test_a_stage_does_not_run_again_under_a_key_under_which_it_completed() -> None:
    plan = Plan(runs=runs(0, 1), layers=(ONCE,))
    both = [success("r0"), success("r1")]
    again = [*whole("r0"), *whole("r1", at_s=1.0)]
    assert judge(ONE, plan, again, *both) == ["ran-again-under-its-key"]
    beside = [begin(), begin("r1"), ran()[0], *ran(run="r1"), *ran()[1:], over(), over("r1")]
    assert judge(ONE, plan, beside, *both) == ["ran-again-under-its-key"]
    # After a failure it may, and must be let.
    rows = [*whole("r0", how="raise:ValueError"), *whole("r1", at_s=1.0)]
    assert judge(ONE, plan, rows, failure("r0"), success("r1")) == "holds"
    others = Plan(runs=runs(0, 1, tenants="xy"), layers=(ONCE,))
    assert judge(ONE, others, again, *both) == "holds"
