"""Exhaustive injection leaves no point out, and catches what only one point shows."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.adapters.reference import Adapter
from harness.engine.broken import CATALOGUE
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.lab.search.finder import Finder
from harness.lab.search.points import inject_all, injections, points_unit
from mocks.tools import simulated_tool
from scenarios.notation import acquire, call, cleanup, ok, program, sleep, stage, using


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
    assert sum(label.endswith("for all stages") for label in labels) == kinds["the caller's"] > 3


def test_cancels_of_the_plan_make_room_for_those_of_the_search() -> None:
    from harness.kernel.plan import Cancel

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
