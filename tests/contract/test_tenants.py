"""TENANT by hand: leaks in channels that nobody thought of, and what only looks like one."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from harness.contract.clause import Judgement
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import (
    ErrorReport,
    EventReport,
    FailureReport,
    LogReport,
    MetricReport,
    Outcome,
    SinkReport,
    SpanReport,
    StageReport,
)
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from scenarios.notation import given, ok, program, sleep, stage

PROGRAM = program("p", stage("a", given(), sleep(0.1), ok("$marker")))
NORTH, SOUTH = "marker-north-17", "marker-south-42"
RUNS = (
    RunSpec("r0", "north", inputs={"marker": NORTH}),
    RunSpec("r1", "south", inputs={"marker": SOUTH}),
)
PLAN = Plan(runs=RUNS)
OK = {"a": StageReport("completed", "done")}

Rows = list[tuple[Any, ...]]


def lived(run: str, *more: tuple[str, Any], how: str = "ok", end: str = "returned") -> Rows:
    """Return the entries of an ordinary run of one stage, with some more in its midst."""
    return [
        (run, "", "run.begin", None),
        (run, "a", "stage.start", None),
        *((run, "a", kind, detail) for kind, detail in more),
        (run, "a", "stage.end", how),
        (run, "", "run.end", end),
    ]


def beside(*runs: Rows) -> Rows:
    """Return the entries of runs as if they had gone side by side."""
    longest = max(len(rows) for rows in runs)
    return [rows[i] for i in range(longest) for rows in runs if i < len(rows)]


def said(
    clause: str,
    rows: Iterable[tuple[Any, ...]],
    outcomes: Mapping[str, Outcome] | None = None,
    *,
    plan: Plan = PLAN,
    of: Program = PROGRAM,
    facts: Mapping[str, Any] | None = None,
) -> Judgement:
    journal = Journal()
    for i, (run, stage_name, kind, detail) in enumerate(rows):
        journal.add(i / 100, run, stage_name, kind, detail)
    given_ = outcomes or {run.id: Outcome(run.id, "ok", stages=OK) for run in plan.runs}
    record = RunRecord("sim", 0, "over", journal, given_)
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts or {})
    return CLAUSES[clause].check(Reading(of, plan, record, info))


def found(judgement: Judgement) -> list[str]:
    return [violation.shape for violation in judgement.violations]


BOTH = beside(lived("r0"), lived("r1"))

# Wherever an outcome can hold text -> the channel that it is reported as.
LEAKS: dict[str, tuple[dict[str, Any], str]] = {
    "an output": ({"stages": {"a": StageReport("completed", [{"x": SOUTH}])}}, "outputs"),
    "a key of an output": ({"stages": {"a": StageReport("completed", {SOUTH: 1})}}, "outputs"),
    "the name of a stage": ({"stages": OK | {f"a:{SOUTH}": OK["a"]}}, "outputs"),
    "a partial result": ({"stages": {"a": StageReport("failed", partial=(1, SOUTH))}}, "outputs"),
    "within a word": ({"stages": {"a": StageReport("completed", f"x{SOUTH}y")}}, "outputs"),
    "in capitals": ({"stages": {"a": StageReport("completed", SOUTH.upper())}}, "outputs"),
    "backwards": ({"stages": {"a": StageReport("completed", SOUTH[::-1])}}, "outputs"),
    "in hexadecimal": (
        {"stages": {"a": StageReport("completed", SOUTH.encode().hex())}},
        "outputs",
    ),
    "as bytes": ({"stages": {"a": StageReport("completed", SOUTH.encode())}}, "outputs"),
    "in a set": ({"stages": {"a": StageReport("completed", {SOUTH})}}, "outputs"),
    "in an exception": ({"stages": {"a": StageReport("completed", KeyError(SOUTH))}}, "outputs"),
    "an event": ({"events": (("seen", {"of": SOUTH}),)}, "events"),
    "a type of event": ({"events": ((SOUTH, None),)}, "events"),
    "an event's ids": ({"event_reports": (EventReport("e", 1, {"x": SOUTH}),)}, "events"),
    "a log record": ({"logs": (LogReport(f"done for {SOUTH}"),)}, "logs"),
    "a log record's ids": ({"logs": (LogReport("done", {"who": SOUTH}),)}, "logs"),
    "a label": ({"metrics": (MetricReport("m", 1.0, {"of": SOUTH}),)}, "metrics"),
    "a message": ({"raised": ErrorReport("RunFailed", f"no {SOUTH}")}, "errors"),
    "a cause": ({"raised": ErrorReport("RunFailed", "", (SOUTH,))}, "errors"),
    "a failure": ({"failures": (FailureReport("a", message=SOUTH),)}, "errors"),
    "a reason": ({"reason": f"for {SOUTH}"}, "errors"),
    "a failed cleanup": ({"cleanup_failures": (SOUTH,)}, "errors"),
    "an error's ids": ({"error_ids": {"note": SOUTH}}, "errors"),
    "a span": ({"spans": (SpanReport(SOUTH, "stage", "1", "2"),)}, "spans"),
    "a row": ({"stored": (("note", SOUTH),)}, "store"),
    "a row's key": ({"stored": ((f"of {SOUTH}", 1),)}, "store"),
    "a name of what is left": ({"still_running": (SOUTH,)}, "context"),
}


@pytest.mark.parametrize("where", LEAKS)
def test_a_value_of_another_tenant_is_found_wherever_it_is(where: str) -> None:
    fields, channel = LEAKS[where]
    leaky = Outcome("r0", "ok", **({"stages": OK} | fields))
    judgement = said("TENANT-1", BOTH, {"r0": leaky, "r1": Outcome("r1", "ok", stages=OK)})
    assert found(judgement) == [f"leak-in-{channel}"]


@pytest.mark.parametrize("where", LEAKS)
def test_a_runs_own_value_is_no_leak_wherever_it_is(where: str) -> None:
    fields, _ = LEAKS[where]
    own = Outcome("r1", "ok", **({"stages": OK} | fields))
    judgement = said("TENANT-1", BOTH, {"r0": Outcome("r0", "ok", stages=OK), "r1": own})
    assert (judgement.verdict, found(judgement)) == ("holds", [])


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_value_is_found_in_base64_whatever_stands_around_it(before: str, encode: Any) -> None:
    token = encode(f"{before}{SOUTH}?>tail".encode()).decode()
    leaky = Outcome("r0", "ok", stages={"a": StageReport("completed", f"Bearer {token}")})
    judgement = said("TENANT-1", BOTH, {"r0": leaky, "r1": Outcome("r1", "ok", stages=OK)})
    assert found(judgement) == ["leak-in-outputs"]


@pytest.mark.parametrize(
    ("kind", "detail", "channel"),
    [
        ("input", ("marker", SOUTH), "context"),
        ("identity", ("stage", {"tenant": "north", "user": SOUTH}), "context"),
        ("context", {"inputs": {"marker": SOUTH}}, "context"),
        ("read", ("a", "value", [SOUTH]), "outputs"),
        ("consume", SOUTH, "outputs"),
        ("deliver.end", (SOUTH, 3), "events"),
        ("layer.enter", SOUTH, "context"),
        ("some kind of later days", {"deep": [{SOUTH: None}]}, "context"),
    ],
)
def test_a_value_that_reached_code_of_another_tenant_is_found(
    kind: str, detail: Any, channel: str
) -> None:
    judgement = said("TENANT-1", beside(lived("r0", (kind, detail)), lived("r1")))
    assert found(judgement) == [f"leak-in-{channel}"]
    assert len(judgement.violations[0].at) == 1


def test_a_value_that_reached_a_child_run_of_another_tenant_is_found() -> None:
    rows = [*BOTH, ("r0/child", "b", "input", ("marker", SOUTH))]
    assert found(said("TENANT-1", rows)) == ["leak-in-context"]


def test_one_marker_that_begins_another_is_told_from_it() -> None:
    runs = (
        RunSpec("r0", "north", inputs={"marker": "marker-1"}),
        RunSpec("r1", "south", inputs={"marker": "marker-10"}),
    )

    def judge(text: str, run: str) -> list[str]:
        outcomes = {one.id: Outcome(one.id, "ok", stages=OK) for one in runs}
        outcomes[run] = Outcome(run, "ok", stages={"a": StageReport("completed", text)})
        return found(said("TENANT-1", BOTH, outcomes, plan=Plan(runs=runs)))

    assert judge("for marker-1", "r0") == judge("for marker-10", "r1") == []
    assert judge("for marker-10", "r0") == ["leak-in-outputs"]


def test_what_the_program_itself_says_is_no_leak() -> None:
    spoken = program("p", stage("a", given(), ok("a word like marker-south-42 of all")))
    outcome = Outcome("r0", "ok", stages={"a": StageReport("completed", f"a word like {SOUTH}")})
    outcomes = {"r0": outcome, "r1": Outcome("r1", "ok", stages=OK)}
    assert found(said("TENANT-1", BOTH, outcomes, of=spoken)) == []


def test_a_value_that_both_tenants_were_given_is_no_secret() -> None:
    runs = tuple(
        RunSpec(one.id, one.tenant, inputs=dict(one.inputs) | {"model": "the-same-model"})
        for one in RUNS
    )
    outcomes = {
        one.id: Outcome(one.id, "ok", stages={"a": StageReport("completed", "the-same-model")})
        for one in runs
    }
    judgement = said("TENANT-1", BOTH, outcomes, plan=Plan(runs=runs))
    assert (judgement.verdict, found(judgement)) == ("holds", [])


def test_what_an_attack_saw_is_judged_as_an_attack_only() -> None:
    seen = ("trespass", ("read_all", "south", False, [SOUTH], 0))
    rows = beside(lived("r0", seen), lived("r1"))
    assert (found(said("TENANT-1", rows)), found(said("TENANT-3", rows))) == (
        [],
        ["foreign-rows-read"],
    )


def test_runs_of_one_tenant_have_no_secrets_and_are_kept_apart_all_the_same() -> None:
    plan = Plan(runs=tuple(RunSpec(one.id, "north", inputs=one.inputs) for one in RUNS))
    mixed = {
        "r0": Outcome("r0", "ok", stages={"a": StageReport("completed", SOUTH)}),
        "r1": Outcome("r1", "ok", stages=OK),
    }
    assert said("TENANT-1", BOTH, mixed, plan=plan).verdict == "untested"
    assert found(said("TENANT-4", BOTH, mixed, plan=plan)) == ["mixed-in-outputs"]
    rows = {
        "r0": Outcome("r0", "ok", stages=OK, stored=(("note", SOUTH),)),
        "r1": Outcome("r1", "ok", stages=OK),
    }
    assert found(said("TENANT-4", BOTH, rows, plan=plan)) == []


@pytest.mark.parametrize("place", ["identity", "event", "log", "error", "metric"])
def test_the_name_of_another_tenant_is_a_violation(place: str) -> None:
    ids = {"tenant": "south"}
    more = [("identity", ("stage", ids))] if place == "identity" else []
    fields: dict[str, Any] = {
        "event": {"event_reports": (EventReport("e", 1, ids),)},
        "log": {"logs": (LogReport("m", ids),)},
        "error": {"error_ids": ids},
        "metric": {"metrics": (MetricReport("m", 1.0, ids),)},
    }.get(place, {})
    outcomes = {"r0": Outcome("r0", "ok", stages=OK, **fields), "r1": Outcome("r1", "ok")}
    rows = beside(lived("r0", *more), lived("r1"))
    assert found(said("TENANT-1", rows, outcomes)) == ["wrong-tenant"]


def test_an_id_that_is_no_tenant_of_the_plan_is_left_alone() -> None:
    known = ("identity", ("stage", {"tenant": "3f2a-some-uuid"}))
    judgement = said("TENANT-1", beside(lived("r0", known), lived("r1")))
    assert (judgement.verdict, found(judgement)) == ("holds", [])


# TENANT-2: explained by its own history, or not.

BREAKER = Layer("circuit_breaker", "b", ("a",), options={"threshold": 2})
LIMIT = Layer("rate_limit", "l", ("a",), options={"limit": 2, "window_s": 10})
ONCE = Layer("idempotency", "i", ("a",), options={"key": "k"})
DENIED = {"a": StageReport("failed", error="CircuitOpen")}


def run_of(number: int, tenant: str) -> RunSpec:
    return RunSpec(f"r{number}", tenant)


def refused(run: str) -> Rows:
    return [(run, "", "run.begin", None), (run, "", "run.end", "returned")]


def judge_layers(layer: Layer, history: list[tuple[str, str]]) -> Judgement:
    """Judge runs in order, each (tenant, "ok", "fail", "refused" or "cached")."""
    runs = tuple(run_of(i, tenant) for i, (tenant, _) in enumerate(history))
    rows: Rows = []
    outcomes: dict[str, Outcome] = {}
    for spec, (_, how) in zip(runs, history, strict=True):
        if how in ("refused", "cached"):
            rows += refused(spec.id)
        else:
            rows += lived(spec.id, how="ok" if how == "ok" else "raise:OSError")
        report = DENIED if how == "refused" else OK
        if how == "fail":
            report = {"a": StageReport("failed", error="OSError")}
        status = "ok" if how in ("ok", "cached") else "failed"
        outcomes[spec.id] = Outcome(spec.id, status, stages=report)
    return said("TENANT-2", rows, outcomes, plan=Plan(runs=runs, layers=(layer,)))


@pytest.mark.parametrize(
    ("layer", "history", "shapes"),
    [
        (BREAKER, "north fail, north fail, north refused, south ok", []),
        (BREAKER, "north fail, north fail, south refused",
         ["refused-for-another-circuit-breaker"]),
        (BREAKER, "north fail, north fail, south fail, south refused",
         ["refused-for-another-circuit-breaker"]),
        # Nobody was let run after a failure of their own: it may be that one is enough here.
        (BREAKER, "north fail, south fail, south refused", []),
        (BREAKER, "south fail, north fail, south fail, south refused, north ok", []),
        # It opens one failure too early, for each tenant by itself: not a matter of tenants.
        (BREAKER, "north fail, north refused, south fail, south refused", []),
        (LIMIT, "north ok, north ok, north refused, south ok", []),
        (LIMIT, "north ok, north ok, south refused", ["refused-for-another-rate-limit"]),
        (LIMIT, "north ok, south ok, south refused", ["refused-for-another-rate-limit"]),
        (ONCE, "north ok, north cached, south ok, south cached", []),
        (ONCE, "north ok, south cached", ["output-of-another-tenant"]),
    ],
)  # fmt: skip
def test_a_refusal_has_to_be_explained_by_the_tenants_own_history(
    layer: Layer, history: str, shapes: list[str]
) -> None:
    steps = [tuple(one.split()) for one in history.split(", ")]
    judgement = judge_layers(layer, steps)  # type: ignore[arg-type]
    assert (judgement.verdict, found(judgement)) == ("violated" if shapes else "holds", shapes)


def test_with_one_tenant_there_is_no_other_to_suffer_from() -> None:
    steps = [("north", "fail"), ("north", "refused")]
    assert judge_layers(BREAKER, steps).verdict == "untested"


# TENANT-3: the store.


@pytest.mark.parametrize(
    ("answer", "shapes"),
    [
        ((True, [], 0), []),
        ((False, [SOUTH], 0), ["foreign-rows-read"]),
        ((True, ["key k exists"], 0), ["foreign-rows-read"]),
        ((False, [], 2), ["foreign-rows-changed"]),
        ((False, [], 0), ["not-refused"]),
    ],
)
def test_an_attack_sees_nothing_and_changes_nothing(
    answer: tuple[bool, list[str], int], shapes: list[str]
) -> None:
    refused_, seen, changed = answer
    tried = ("trespass", ("some_way", "south", refused_, seen, changed))
    assert found(said("TENANT-3", beside(lived("r0", tried), lived("r1")))) == shapes


@pytest.mark.parametrize(
    ("rows", "shapes"),
    [
        ((("k", 1),), []),
        ((("k", 2),), []),
        ((), ["row-lost"]),
        ((("k", 3),), ["row-foreign"]),
        ((("k", 1), ("other", 1)), ["row-foreign"]),
    ],
)
def test_a_tenant_finds_what_its_own_runs_put_there(
    rows: tuple[tuple[str, Any], ...], shapes: list[str]
) -> None:
    runs = (*RUNS, RunSpec("r2", "north", inputs={"marker": "marker-third-run"}))
    outcomes = {one.id: Outcome(one.id, "ok", stages=OK) for one in runs}
    outcomes["r0"] = Outcome("r0", "ok", stages=OK, stored=rows)
    lives = beside(
        lived("r0", ("store", ("k", 1))),
        lived("r1", ("store", ("k", 3))),
        lived("r2", ("store", ("k", 2))),
    )
    assert found(said("TENANT-3", lives, outcomes, plan=Plan(runs=runs))) == shapes


def test_a_row_that_was_never_taken_need_not_be_there() -> None:
    outcomes = {"r0": Outcome("r0", "failed", stored=()), "r1": Outcome("r1", "ok", stages=OK)}
    rows = beside(lived("r0", ("store", ("k", 1)), how="raise:StoreRefused"), lived("r1"))
    assert said("TENANT-3", rows, outcomes).verdict == "untested"


# TENANT-4: runs that spoil each other.


def test_a_calm_run_that_is_spoilt_beside_a_cancelled_one_is_a_violation() -> None:
    plan = Plan(runs=RUNS, cancels=(Cancel(run="r1", at_s=0.0),))
    hurt = lived("r0", ("interrupt", None), how="cancelled")
    cancelled = lived("r1", ("interrupt", None), how="cancelled", end="CancelledError")
    cancelled.insert(2, ("r1", "", "cancel.sent", (0, True)))
    outcomes = {
        "r0": Outcome("r0", "cancelled", stages={"a": StageReport("cancelled")}),
        "r1": Outcome("r1", "cancelled", raised=ErrorReport("CancelledError")),
    }
    judgement = said("TENANT-4", beside(hurt, cancelled), outcomes, plan=plan)
    assert found(judgement) == ["trouble-of-another-run"]
    fine = {**outcomes, "r0": Outcome("r0", "ok", stages=OK)}
    judgement = said("TENANT-4", beside(lived("r0"), cancelled), fine, plan=plan)
    assert (judgement.verdict, found(judgement)) == ("holds", [])


def test_an_engine_that_fails_every_run_alike_does_not_mix_them_up() -> None:
    outcomes = {one.id: Outcome(one.id, "failed", stages={}) for one in RUNS}
    assert found(said("TENANT-4", BOTH, outcomes)) == []


@pytest.mark.parametrize("how", ["reported", "read"])
def test_an_output_of_another_run_is_a_violation_also_without_markers(how: str) -> None:
    plan = Plan(runs=(RunSpec("r0"), RunSpec("r1")))
    more: list[tuple[str, Any]] = [("returned", 10)]
    if how == "read":
        more.append(("read", ("a", "value", 11)))
    outcomes = {
        "r0": Outcome(
            "r0", "ok", stages={"a": StageReport("completed", 11 if how != "read" else 10)}
        ),
        "r1": Outcome("r1", "ok", stages={"a": StageReport("completed", 11)}),
    }
    rows = beside(lived("r0", *more), lived("r1", ("returned", 11)))
    assert found(said("TENANT-4", rows, outcomes, plan=plan)) == ["output-of-another-run"]
    lonely = {**outcomes, "r0": Outcome("r0", "ok", stages={"a": StageReport("completed", 99)})}
    if how != "read":  # wrong, but not another run's: that is not this clause's
        assert found(said("TENANT-4", rows, lonely, plan=plan)) == []


def test_an_input_of_another_run_is_a_violation() -> None:
    plan = Plan(runs=(RunSpec("r0", inputs={"n": 1}), RunSpec("r1", inputs={"n": 2})))
    rows = beside(lived("r0", ("input", ("n", 2))), lived("r1", ("input", ("n", 2))))
    assert found(said("TENANT-4", rows, plan=plan)) == ["input-of-another-run"]


def test_runs_one_after_the_other_do_not_put_this_to_the_test() -> None:
    assert said("TENANT-4", [*lived("r0"), *lived("r1")]).verdict == "untested"


def test_an_account_of_numbers_is_searched_and_holds_nothing() -> None:
    outcome = Outcome("r0", "ok", stages=OK, sink=SinkReport(3, 3, 0, 0, 100))
    judgement = said("TENANT-1", BOTH, {"r0": outcome, "r1": Outcome("r1", "ok", stages=OK)})
    assert (judgement.verdict, found(judgement)) == ("holds", [])


@pytest.mark.parametrize(("before", "shapes"), [
    ("south fail, south fail", []),
    ("north fail, north fail", ["refused-for-another-circuit-breaker"]),
])  # fmt: skip
def test_a_stage_that_is_called_completed_and_did_not_run_was_refused_too(
    before: str, shapes: list[str]
) -> None:
    steps = [tuple(one.split()) for one in f"{before}, west ok, south cached".split(", ")]
    assert found(judge_layers(BREAKER, steps)) == shapes  # type: ignore[arg-type]


def test_a_run_that_the_engines_own_limit_ended_is_not_spoilt_by_one_that_was_denied() -> None:
    plan = Plan(runs=RUNS, layers=(Layer("deny", "guard", runs=("r1",)),))
    rows = beside(
        lived("r0", ("interrupt", None), how="cancelled"),
        [
            ("r1", "", "run.begin", None),
            ("r1", "a", "layer.deny", "guard"),
            ("r1", "", "run.end", "returned"),
        ],
    )
    outcomes = {
        "r0": Outcome("r0", "failed", stages={"a": StageReport("failed")}),
        "r1": Outcome("r1", "failed", stages={"a": StageReport("failed")}),
    }

    def accused(limit_s: float | None) -> list[str]:
        facts = {"default_stage_timeout_s": limit_s}
        return found(said("TENANT-4", rows, outcomes, plan=plan, facts=facts))

    assert accused(None) == ["trouble-of-another-run"]
    assert accused(0.001) == []  # the rows are further apart
