"""Exhaustive injection leaves no point out, and catches what only one point shows."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.engine.broken import CATALOGUE
from harness.engine.run import Run
from harness.kernel.laboratory import Laboratory
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.port import StagePort
from harness.kernel.program import Program
from harness.lab.search.finder import Finder
from harness.lab.search.points import inject_all, injections, points_unit
from mocks.tools import simulated_tool
from scenarios.notation import (
    acquire,
    call,
    cleanup,
    ok,
    program,
    sleep,
    stage,
    subpipeline,
    using,
)


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


DIAMOND = program(
    "diamond",
    stage("read", acquire("file", 0.1), sleep(0.2), ok("read")),
    stage("left", cleanup("lock", 0.1), cleanup("socket", 0.1), sleep(0.3), ok(1), needs="read"),
    stage("right", using("pool", call("bank", 0.2, holds=True, cleanup_s=0.1)), needs="read"),
    stage("join", ok("done"), needs="left right"),
)


CHILD = program(
    "child",
    stage("x", acquire("row", 0.1), sleep(0.2), ok("x")),
    stage("y", sleep(0.1), ok("y"), needs="x"),
)
PARENT = program(
    "parent",
    stage("calls", acquire("lock", 0.1), subpipeline(CHILD), ok("calls")),
    stage("last", ok("last"), needs="calls"),
)
WAYS = (
    "the caller's deadline expires at",
    "the caller's asyncio.timeout expires at",
    "the caller's asyncio.wait_for gives up at",
    "another task of the caller's task group fails at",
)


def lab(subject: str = "reference") -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def test_every_point_every_stage_and_every_call_has_its_injections() -> None:
    subject = lab()
    clean = subject.run(DIAMOND, Plan())
    found = list(injections(DIAMOND, Plan(), clean, subject.info.capabilities))
    labels = [one.label for one in found]
    assert len(set(labels)) == len(labels)
    once = {
        one.cancel_point for one in found if one.label.startswith("the caller cancels at point")
    }
    assert once == set(range(1, clean.points + 1))
    kinds = Counter(" ".join(label.split()[:2]) for label in labels)
    steps = sum(len(one.steps) + 1 for one in DIAMOND.stages)
    assert sum(n for kind, n in kinds.items() if kind.startswith("stage ")) == 3 * steps
    assert kinds["call 1"] == 6
    assert {one.label for one in found if one.label.startswith("a stage beside fails at 0 s")}
    instants = sum(label.endswith("for all stages") for label in labels)
    for way in WAYS:
        assert sum(label.startswith(way) for label in labels) == instants + (way != WAYS[0]) > 3


def test_the_task_of_each_stage_is_cancelled_at_each_point_at_which_it_is_under_way() -> None:
    subject = lab()
    plan = Plan(cancels=(Cancel(at_s=0.1),))
    clean = subject.run(PARENT, Plan())
    found = [
        (one.plan.cancels[0], one)
        for one in injections(PARENT, plan, clean, subject.info.capabilities)
        if one.label.startswith("the task of stage")
    ]
    sent = []
    for cancel, one in found:
        record = subject.run(one.program, one.plan, cancel_point=one.cancel_point)
        sent += [
            (e.run, e.stage, one.cancel_point)
            for e in record.journal.of("cancel.stage")
            if e.detail == (0, True)
        ]
        assert sent[-1] == (cancel.run, cancel.stage, one.cancel_point)
        assert record.outcomes["r0"].status == "failed"
        assert record.outcomes["after"].status == "ok"
    assert Counter(one[:2] for one in sent) == {
        key: last - first + 1
        for key, (first, last) in clean.stage_points.items()
        if last >= first  # the one that never awaits is never under way
    }
    assert set(clean.stage_points) == {
        ("r0", "calls"),
        ("r0", "last"),
        ("r0/child", "x"),
        ("r0/child", "y"),
    }


@pytest.mark.parametrize("name", ["self-cancel-success", "self-cancel-skipped"])
def test_an_engine_that_a_cancelled_stage_confuses_is_caught(name: str) -> None:
    finder = Finder(lab(f"broken:{name}"), kept_to=["CANCEL-8"])
    clean = finder.lab.run(DIAMOND, Plan())
    for one in injections(DIAMOND, Plan(), clean, finder.lab.info.capabilities):
        if one.label.startswith("the task of stage"):
            finder.run(one.program, one.plan, cancel_point=one.cancel_point, label=one.label)
    assert {key[0] for key in finder.found} == {"CANCEL-8"}


def test_a_stage_that_runs_in_its_callers_task_is_not_cancelled_without_the_caller() -> None:
    subject = lab()

    class Inline:
        """Runs its first stage where it stands."""

        info, package = subject.adapter.info, subject.info.package

        def build(self, program: Program, plan: Plan, bodies: Any) -> Any:
            return bodies.body("a")

        async def run(self, native: Any, spec: RunSpec, plan: Plan) -> Outcome:
            await native(StagePort(spec.id))
            return Outcome(spec.id, "ok")

    one = program("one", stage("a", sleep(0.1), ok("a")))
    plan = Plan(cancels=(Cancel(target="stage", stage="a", at_s=0.05),))
    record = Laboratory(Inline(), simulated_tool).run(one, plan)  # type: ignore[arg-type]
    assert [e.detail for e in record.journal.of("cancel.stage")] == [(0, False)]
    assert record.outcomes["r0"].status == "ok"


@pytest.mark.parametrize(
    ("by", "told"), [("timeout", "TimeoutError"), ("wait_for", "TimeoutError"), ("group", "Beside")]
)
def test_the_callers_own_deadline_ends_a_run_and_is_told_to_the_caller(by: str, told: str) -> None:
    plan = Plan(cancels=(Cancel(at_s=0.3, by=by),))
    record = lab().run(DIAMOND, plan)
    noted = [(e.at_s, e.kind, e.detail) for e in record.journal if e.stage == ""]
    assert noted == [
        (0.0, "run.begin", None),
        (0.3, "cancel.sent", (0, True)),
        (noted[-1][0], "run.end", "CancelledError"),
        (noted[-1][0], "caller.end", (by, told)),
    ]
    assert record.outcomes["r0"].status == "cancelled"
    assert record.leaks == ()


@pytest.mark.parametrize("by", ["timeout", "wait_for", "group"])
def test_a_deadline_that_comes_after_the_end_changes_nothing(by: str) -> None:
    record = lab().run(DIAMOND, Plan(cancels=(Cancel(at_s=9.0, by=by),)))
    assert record.outcomes["r0"].status == "ok"
    assert record.journal.of("cancel.sent") == []
    assert [e.detail for e in record.journal.of("caller.end")] == [(by, "returned")]
    assert record.leaks == ()


def test_an_engine_that_leaves_its_caller_a_cancel_more_is_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = Run._caller_cancelled

    def cancelled_once_more(self: Run, exc: asyncio.CancelledError) -> None:
        first = self._caller_cancel is None
        found(self, exc)
        if first:
            current = asyncio.current_task()
            assert current is not None
            current.cancel()

    monkeypatch.setattr(Run, "_caller_cancelled", cancelled_once_more)
    finder = Finder(lab())
    finder.run(DIAMOND, Plan(cancels=(Cancel(at_s=0.3, by="timeout"),)))
    assert [key[:2] for key in finder.found] == [("CANCEL-3", "deadline-lost")]


def test_cancels_of_the_plan_make_room_for_those_of_the_search() -> None:
    subject = lab()
    clean = subject.run(DIAMOND, Plan())
    plan = Plan(cancels=(Cancel(at_s=0.1),))
    for one in injections(DIAMOND, plan, clean, subject.info.capabilities):
        assert plan.cancels[0] not in one.plan.cancels or one.label.startswith("the caller's")


def test_the_reference_engine_takes_everything_that_cuts_in() -> None:
    row = points_unit(lab(), DIAMOND, Plan())
    assert (row["verdict"], row["reason"], row["witnesses"]) == ("pass", "", [])
    assert row["runs"] > 250
    assert row["clauses"]["CANCEL-3"]["verdict"] == "pass"
    assert row["clauses"]["CLEAN-2"]["exercised"] > 100


def test_what_needs_more_than_the_engine_offers_is_unsupported() -> None:
    subject = lab()
    poor = subject.info.capabilities - {"cleanup_registry"}
    object.__setattr__(subject.info, "capabilities", poor)
    row = points_unit(subject, DIAMOND, Plan())
    assert (row["verdict"], row["reason"]) == ("unsupported", "needs cleanup_registry")
    assert row["runs"] == 0


CAUGHT = (
    "caller-cancel-lost-in-cleanup",
    "second-cancel-abandons",
    "cleanup-cut-by-cancel",
    "stage-cancelled-again",
    "self-cancel-success",
    "cleanup-not-on-timeout",
    "cleanup-one-a-stage",
)


@pytest.mark.parametrize("name", CAUGHT)
def test_a_defect_of_cancels_or_cleanups_is_caught(name: str) -> None:
    breaks = CATALOGUE[name].breaks
    finder = Finder(lab(f"broken:{name}"), kept_to=breaks)
    inject_all(finder, DIAMOND, Plan(), until=lambda: bool(finder.found))
    assert {key[0] for key in finder.found} & set(breaks)


def test_an_injection_that_the_budget_ends_is_not_called_exhaustive() -> None:
    row = points_unit(lab(), DIAMOND, Plan(), budget_s=0.0)
    why = "the budget ended it before every injection was made"
    assert (row["verdict"], row["reason"], row["runs"]) == ("inconclusive", why, 1)
    assert row["figures"]["cut_short"] == 1


def test_points_beyond_the_limit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.lab.search.points.POINTS_MAX", 3)
    one = program("one", stage("a", sleep(0.1), ok("a")))
    row = points_unit(lab(), one, Plan())
    left_out = row["figures"]["points"] - 3
    assert left_out > 0
    assert row["reason"] == f"{left_out} points and 0 instants were left out: too many"


def test_after_a_cancel_of_the_caller_the_same_pipeline_is_run_again() -> None:
    subject = lab()
    clean = subject.run(DIAMOND, Plan())
    again = 0
    for one in injections(DIAMOND, Plan(), clean, subject.info.capabilities):
        if one.label.startswith("the caller's deadline"):
            assert [spec.id for spec in one.plan.runs] == ["r0", "after"]
            assert subject.run(one.program, one.plan).outcomes["after"].status == "ok"
            again += 1
    assert again > 3
