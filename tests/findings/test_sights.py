"""Many failing runs, one finding: what brings sights together, and which one tells the story."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.findings import Campaign, Finding, findings_of, witnesses_to_confirm
from tests.findings.test_build import failing
from tests.report import fixture
from tests.report.fixture import CLAUSES, STAGEFLOW, witness

RUN = "stageflow/pipeline/dag.py:276 UnifiedStageGraph.run"
ELSEWHERE = "stageflow/pipeline/dag.py:984 UnifiedStageGraph._run_stage"
SMALL = fixture.program(fixture.stage("a", {"op": "sleep", "seconds": 1}))
TOOK = {"before": {"stages": 4}, "after": {"stages": 1}, "tries": 9, "ended": "smallest"}


def campaign(units: list[dict[str, Any]], **more: Any) -> Campaign:
    return Campaign(units, [], CLAUSES, **more)


def bugs(one: Campaign) -> list[Finding]:
    return [f for f in findings_of(one) if f.kind == "bug"]


def two_places() -> list[dict[str, Any]]:
    return [
        failing(STAGEFLOW, "p/a", witness("CLEAN-1", "not-released", 4, 10, token="a")),
        failing(
            STAGEFLOW,
            "p/b",
            witness("CLEAN-1", "not-released", 1, 10, token="b", location=ELSEWHERE),
        ),
    ]


def small(location: str, **more: Any) -> dict[str, Any]:
    return {
        "program": SMALL,
        "plan": {"version": 1},
        "location": location,
        "actual": "the smallest run",
        "token": "small",
        "shrunk": TOOK,
        **more,
    }


def test_sights_in_two_places_are_two_findings_until_they_are_shrunk() -> None:
    found = bugs(campaign(two_places()))
    assert sorted(f.component for f in found) == [
        "UnifiedStageGraph._run_stage",
        "UnifiedStageGraph.run",
    ]


def test_sights_whose_smallest_runs_break_in_one_place_are_one_finding() -> None:
    units = two_places()
    (first,) = (f for f in bugs(campaign(units)) if f.component.endswith("_run_stage"))
    (only,) = bugs(campaign(units, smallest={first.fingerprint: small(RUN)}))
    assert only.component == "UnifiedStageGraph.run"
    assert only.scenarios == ("p/a", "p/b")
    # The violations of each scenario are counted once, however its witness was shrunk.
    assert (only.evidence.violations, only.evidence.exercised) == (5, 20)
    assert only.reproduction is not None
    assert (only.actual, only.reproduction.token) == ("the smallest run", "small")
    assert only.reproduction.program == SMALL
    assert only.reproduction.shrunk == TOOK


def test_smallest_runs_that_break_elsewhere_stay_findings_of_their_own() -> None:
    units = two_places()
    smallest = {f.fingerprint: small(f.location, token=f.component) for f in bugs(campaign(units))}
    assert len(bugs(campaign(units, smallest=smallest))) == 2


def test_what_could_not_be_shrunk_says_why_and_stays_as_it_was_seen() -> None:
    units = two_places()[:1]
    (seen,) = bugs(campaign(units))
    why = {"ended": "not shrunk", "why": "the time for it was over (60 s for all)"}
    (only,) = bugs(campaign(units, smallest={seen.fingerprint: {"shrunk": why}}))
    assert only.reproduction is not None and seen.reproduction is not None
    assert only.reproduction.shrunk == why
    assert only.reproduction.token == seen.reproduction.token
    assert only.fingerprint == seen.fingerprint


def test_the_story_is_told_by_the_run_whose_script_showed_it() -> None:
    units = two_places()[:1]
    (seen,) = bugs(campaign(units))
    smallest = {seen.fingerprint: small(RUN)}
    said = {"confirmation": "confirmed", "confirmation_note": "x", "script": "", "token": "a"}
    (only,) = bugs(campaign(units, smallest=smallest, confirmations={seen.fingerprint: said}))
    assert only.reproduction is not None
    assert (only.reproduction.token, only.reproduction.program) == ("a", units[0]["program"])
    assert only.actual == units[0]["witnesses"][0]["actual"]


CLEARER: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("one with a script", {"scripted": True}, {"scripted": False}),
    (
        "one that says when the cancel comes",
        {"plan": {"cancels": [{"at_s": 1.0}]}},
        {"plan": {"cancels": [{"at_point": 9}]}},
    ),
    ("one with fewer runs", {"plan": {"runs": [{}]}}, {"plan": {"runs": [{}, {}]}}),
    ("one that shows it oftener", {}, {"violations": 1}),
    ("a smaller program", {"program": SMALL}, {"program": fixture.SLOW}),
]


@pytest.mark.parametrize(("why", "clear", "other"), CLEARER, ids=[c[0] for c in CLEARER])
def test_which_witness_comes_first(why: str, clear: dict[str, Any], other: dict[str, Any]) -> None:
    def sight(scenario: str, **more: Any) -> dict[str, Any]:
        base = {"scripted": True, "token": scenario, "plan": {}, "program": SMALL}
        seen = witness("CLEAN-1", "not-released", 9, 10)
        return failing(STAGEFLOW, scenario, {**seen, **base, **more})

    # The name of the other scenario comes first, so that nothing but the reason decides.
    units = [sight("p/a", **other), sight("p/b", **clear)]
    (told,) = witnesses_to_confirm(campaign(units)).values()
    assert [w["token"] for w in told] == ["p/b", "p/a"], why


def test_at_most_three_witnesses_are_told_the_smallest_run_first() -> None:
    units = [
        failing(STAGEFLOW, f"p/{i}", witness("CLEAN-1", "not-released", 9, 10, token=f"t{i}"))
        for i in range(6)
    ]
    (seen,) = bugs(campaign(units))
    (told,) = witnesses_to_confirm(
        campaign(units, smallest={seen.fingerprint: small(RUN)})
    ).values()
    assert [w["token"] for w in told] == ["small", "t0", "t1"]
    assert told[0]["engine"] == "stageflow@0.5.1"
    assert (told[0]["clause"], told[0]["program"]) == ("CLEAN-1", SMALL)


def test_the_order_in_which_units_came_changes_nothing() -> None:
    units = [
        failing(
            STAGEFLOW,
            f"p/{i}",
            witness("CLEAN-1", "not-released", 9, 10, token=f"t{i}", location=place),
        )
        for i, place in enumerate([RUN, ELSEWHERE] * 3)
    ]
    shuffled = units.copy()
    random.Random(3).shuffle(shuffled)
    assert witnesses_to_confirm(campaign(units)) == witnesses_to_confirm(campaign(shuffled))


def in_live(scenario: str, shape: str = "not-released") -> dict[str, Any]:
    seen = witness("CLEAN-1", shape, 6, 6, token="live", location=ELSEWHERE)
    return {**failing(STAGEFLOW, scenario, seen), "lab": "live"}


@pytest.mark.parametrize(
    ("live", "found"),
    [
        (in_live("p/a"), [("simulated_only", {"sim", "live"})]),
        (in_live("p/b"), [("simulated_only", {"sim"}), ("live_only", {"live"})]),
        (in_live("p/a", "cut"), [("simulated_only", {"sim"}), ("live_only", {"live"})]),
    ],
)
def test_what_both_laboratories_saw_of_one_scenario_is_one_defect(
    live: dict[str, Any], found: list[tuple[str, set[str]]]
) -> None:
    simulated = failing(STAGEFLOW, "p/a", witness("CLEAN-1", "not-released", 4, 10, token="a"))
    for units in ([simulated, live], [live, simulated]):
        told = [(b.confirmation, {m["lab"] for m in b.evidence.measured}) for b in bugs_in(units)]
        assert sorted(told, key=str) == sorted(found, key=str)
        assert {b.reproduction.token for b in bugs_in(units) if b.reproduction} <= {"a", "live"}
        (one,) = [b for b in bugs_in(units) if b.confirmation == "simulated_only"]
        assert one.reproduction is not None and one.reproduction.token == "a"


def bugs_in(units: list[dict[str, Any]]) -> list[Finding]:
    return bugs(campaign(units))
