"""CORR by hand: ids that are lost, changed or mixed up, and spans that are no tree."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.kernel.outcome import (
    ErrorReport,
    EventReport,
    LogReport,
    Outcome,
    SpanReport,
    StageReport,
)
from harness.kernel.plan import Plan, RunSpec
from scenarios.notation import identify, log, ok, program, sleep, stage, subpipeline
from tests.contract.test_tenants import beside, found, lived, said

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{CALLER}-01"
PROGRAM = program("p", stage("a", identify(), log("hello"), sleep(0.1), ok("done")))
TWO = (
    RunSpec("r0", correlation="corr-0", traceparent=HEADER),
    RunSpec("r1", correlation="corr-1", traceparent=f"00-{'b' * 32}-{CALLER}-01"),
)
ONE = Plan(runs=TWO[:1])
BOTH = Plan(runs=TWO)
OK = {"a": StageReport("completed", "done")}

TREE = (
    SpanReport("a", "stage", TRACE, "a" * 16, "1" * 16),
    SpanReport("p", "run", TRACE, "1" * 16, CALLER),
)


def out(run: str = "r0", **fields: Any) -> dict[str, Outcome]:
    return {run: Outcome(run, **({"status": "ok", "stages": OK} | fields))}


def told(place: str, **ids: str) -> tuple[str, Any]:
    return ("identity", (place, ids))


@pytest.mark.parametrize("place", ["stage", "task", "thread", "subpipeline", "cleanup"])
@pytest.mark.parametrize(
    ("ids", "how"),
    [({"correlation": "corr-0"}, ""), ({}, "lost"), ({"correlation": "c"}, "changed")],
)  # fmt: skip
def test_code_in_every_place_is_told_the_id(place: str, ids: dict[str, str], how: str) -> None:
    judgement = said("CORR-1", lived("r0", told(place, **ids)), out(), plan=ONE, of=PROGRAM)
    assert found(judgement) == ([f"{how}-in-{place}"] if how else [])
    assert judgement.verdict == ("violated" if how else "holds")


@pytest.mark.parametrize("place", ["event", "log", "error"])
@pytest.mark.parametrize("kept", [True, False])
def test_what_comes_of_a_run_carries_the_id(place: str, kept: bool) -> None:
    ids = {"correlation": "corr-0"} if kept else {"run": "r0"}
    fields: dict[str, Any] = {
        "event": {"event_reports": (EventReport("e", 1, ids),)},
        "log": {"logs": (LogReport("hello", ids),)},
        "error": {"status": "failed", "raised": ErrorReport("RunFailed"), "error_ids": ids},
    }[place]
    judgement = said("CORR-1", lived("r0"), out(**fields), plan=ONE, of=PROGRAM)
    assert found(judgement) == ([] if kept else [f"lost-in-{place}"])


def test_an_error_without_any_ids_is_without_the_id() -> None:
    rows = lived("r0", how="raise:ValueError")
    fields: Any = {"status": "failed", "raised": ErrorReport("RunFailed")}
    assert found(said("CORR-1", rows, out(**fields), plan=ONE)) == ["lost-in-error"]
    fields["raised"] = ErrorReport("CancelledError")  # asyncio's own has no room for it
    assert said("CORR-1", rows, out(**fields), plan=ONE).verdict == "untested"


def test_a_log_record_that_no_handler_could_put_down_to_its_run_is_lost() -> None:
    rows = lived("r0", ("log", "one"), ("log", "two"), told("stage", correlation="corr-0"))
    kept = (LogReport("one", {"correlation": "corr-0"}),)
    assert found(said("CORR-1", rows, out(logs=kept), plan=ONE)) == ["log-record-lost"]


def test_the_id_of_another_run_is_mixed_up_and_not_lost() -> None:
    rows = beside(
        lived("r0", told("stage", correlation="corr-1")),
        lived("r1", told("stage", correlation="corr-1")),
    )
    outcomes = out() | out("r1")
    assert found(said("CORR-1", rows, outcomes, plan=BOTH)) == []
    assert found(said("CORR-3", rows, outcomes, plan=BOTH)) == ["correlation-id-of-another-run"]


def test_a_run_without_an_id_of_its_caller_is_not_judged_by_it() -> None:
    plan = Plan(runs=(RunSpec("r0"),))
    assert said("CORR-1", lived("r0", told("stage")), out(), plan=plan).verdict == "untested"


# CORR-2.


def spans(*changed: Any, without: str = "", more: tuple[SpanReport, ...] = ()) -> Any:
    """Return the good tree with fields of spans changed: (name, field, value)."""
    made = list(TREE)
    for name, field, value in changed:
        made = [replace(s, **{field: value}) if s.name == name else s for s in made]
    return tuple(s for s in made if s.name != without) + more


@pytest.mark.parametrize(
    ("made", "shapes"),
    [
        (spans(), []),
        (spans(("p", "parent", "9" * 16)), ["caller-not-parent"]),
        (spans(("p", "trace", "c" * 32), ("a", "trace", "c" * 32)), ["caller-not-parent"]),
        (spans(("a", "trace", "c" * 32)), ["trace-split"]),
        (spans(("a", "parent", CALLER)), ["stage-span-orphaned"]),
        (spans(("a", "parent", "")), ["stage-span-orphaned"]),
        (spans(without="a"), ["stage-span-missing"]),
        (spans(without="p"), ["run-span-missing"]),
        (spans(("a", "span", "1" * 16)), ["span-id-twice"]),
        (spans(("a", "span", "a" * 15)), ["malformed-id"]),
        (spans(("a", "span", "A" * 16)), ["malformed-id"]),
        (spans(("p", "trace", "0" * 32), ("a", "trace", "0" * 32)), ["malformed-id"]),
        (spans(more=(SpanReport("a", "stage", TRACE, "c" * 16, "1" * 16),)), []),
        (spans(more=(SpanReport("other", "stage", TRACE, "c" * 16, "1" * 16),)), []),
        ((), ["run-span-missing"]),
    ],
)
def test_the_spans_of_a_run_are_one_tree_under_its_callers(
    made: tuple[SpanReport, ...], shapes: list[str]
) -> None:
    assert found(said("CORR-2", lived("r0"), out(spans=made), plan=ONE, of=PROGRAM)) == shapes


@pytest.mark.parametrize(
    "header",
    [
        f"00-{TRACE}-{CALLER}-00",
        f"00-{'0' * 32}-{CALLER}-01",
        f"ff-{TRACE}-{CALLER}-01",
        f"cc-{TRACE}-{CALLER}-01-more",
        "nonsense",
    ],
)
def test_a_caller_that_names_nobody_or_wants_nothing_recorded_is_no_parent(header: str) -> None:
    plan = Plan(runs=(replace(TWO[0], traceparent=header),))
    own = spans(("p", "parent", ""))
    assert found(said("CORR-2", lived("r0"), out(spans=own), plan=plan)) == []


def test_an_unsampled_run_owes_no_spans() -> None:
    plan = Plan(runs=(replace(TWO[0], traceparent=f"00-{TRACE}-{CALLER}-00"),))
    assert said("CORR-2", lived("r0"), out(), plan=plan).verdict == "untested"


CHILD = program("child", stage("b", ok("b")))
PARENT = program("p", stage("a", subpipeline(CHILD), ok("done")))
CHILD_SPANS = (
    SpanReport("b", "stage", TRACE, "b" * 16, "c" * 16),
    SpanReport("child", "run", TRACE, "c" * 16, "a" * 16),
)


@pytest.mark.parametrize(
    ("made", "shapes"),
    [
        (CHILD_SPANS, []),
        ((), ["subpipeline-span-missing"]),
        (
            (CHILD_SPANS[0], replace(CHILD_SPANS[1], parent="1" * 16)),
            ["subpipeline-span-missing"],
        ),
        ((replace(CHILD_SPANS[0], parent="a" * 16), CHILD_SPANS[1]), ["stage-span-misplaced"]),
        ((replace(CHILD_SPANS[0], parent="f" * 16), CHILD_SPANS[1]), ["stage-span-orphaned"]),
        ((CHILD_SPANS[0], replace(CHILD_SPANS[1], parent="")), ["run-span-orphaned"]),
    ],
)
def test_a_child_run_is_under_the_stage_that_runs_it(
    made: tuple[SpanReport, ...], shapes: list[str]
) -> None:
    rows = lived("r0", ("sub.end", ("child", "ok")))
    inner = [("r0/child", "b", "stage.start", None), ("r0/child", "b", "stage.end", "ok")]
    rows[2:2] = inner
    judgement = said("CORR-2", rows, out(spans=spans(more=made)), plan=ONE, of=PARENT)
    assert found(judgement) == shapes


@pytest.mark.parametrize(
    ("ids", "shapes"),
    [
        ({"trace": TRACE, "span": "a" * 16}, []),
        ({"trace": "c" * 32, "span": "a" * 16}, ["trace-changed-in-task"]),
        ({"span": "a" * 16}, ["trace-lost-in-task"]),
        ({"trace": TRACE, "span": "1" * 16}, ["span-wrong-in-task"]),
        ({"trace": TRACE, "span": "9" * 16}, ["span-wrong-in-task"]),
    ],
)
def test_code_is_told_the_span_of_its_stage(ids: dict[str, str], shapes: list[str]) -> None:
    good = told("stage", trace=TRACE, span="a" * 16)
    rows = lived("r0", good, told("task", **ids))
    assert found(said("CORR-2", rows, out(spans=spans()), plan=ONE)) == shapes


def test_an_engine_whose_code_is_told_no_trace_anywhere_is_judged_by_its_spans() -> None:
    rows = lived("r0", told("stage"), told("task"))
    judgement = said("CORR-2", rows, out(spans=spans()), plan=ONE)
    assert (judgement.verdict, found(judgement)) == ("holds", [])


# CORR-3.


@pytest.mark.parametrize(
    ("ids", "shapes"),
    [
        ({"run": "r0", "correlation": "corr-0", "trace": TRACE}, []),
        ({"run": "r0/child"}, []),
        ({"run": "some-uuid"}, []),
        ({"run": "r1"}, ["run-id-of-another-run"]),
        ({"run": "r1/child"}, ["run-id-of-another-run"]),
        ({"trace": "b" * 32}, ["trace-id-of-another-run"]),
        ({"span": "d" * 16}, ["span-id-of-another-run"]),
    ],
)
def test_no_run_carries_an_id_of_another(ids: dict[str, str], shapes: list[str]) -> None:
    rows = beside(lived("r0", told("task", **ids)), lived("r1", told("stage", run="r1")))
    theirs = (SpanReport("p", "run", "b" * 32, "d" * 16, CALLER),)
    outcomes = out(spans=TREE) | out("r1", spans=theirs)
    assert found(said("CORR-3", rows, outcomes, plan=BOTH)) == shapes


def test_two_runs_under_one_caller_are_in_one_trace_by_right() -> None:
    plan = Plan(runs=(TWO[0], replace(TWO[1], traceparent=HEADER)))
    rows = beside(*(lived(run, told("stage", trace=TRACE, run=run)) for run in ("r0", "r1")))
    judgement = said("CORR-3", rows, out() | out("r1"), plan=plan)
    assert (judgement.verdict, found(judgement)) == ("holds", [])


def test_a_log_record_is_put_down_to_whoever_wrote_it() -> None:
    rows = beside(lived("r0", ("log", "of r0")), lived("r1", ("log", "of r1")))

    def logs(*messages: str) -> Any:
        return tuple(LogReport(one, {"run": "x"}) for one in messages)

    right = out(logs=logs("of r0")) | out("r1", logs=logs("of r1"))
    wrong = out(logs=logs("of r0", "of r1")) | out("r1", logs=logs())
    assert found(said("CORR-3", rows, right, plan=BOTH)) == []
    assert found(said("CORR-3", rows, wrong, plan=BOTH)) == ["log-record-of-another-run"]


def test_one_run_cannot_be_mixed_up() -> None:
    judgement = said("CORR-3", lived("r0", told("stage", run="r0")), out(), plan=ONE, of=PROGRAM)
    assert judgement.verdict == "untested"
