"""What a campaign's rows become as findings."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest

from harness.findings import Finding, build_findings
from harness.findings.finding import frequency_of
from harness.findings.improvements import WORDS
from harness.kernel.adapter import CAPABILITIES
from tests.report import fixture
from tests.report.fixture import CLAUSES, STAGEFLOW, clause, unit, witness

NEWER = ("stageflow", "0.10.0")


def build(units: list[dict[str, Any]], **more: Any) -> list[Finding]:
    return build_findings(units, more.pop("engines", []), CLAUSES, **more)


def failing(engine: tuple[str, str], scenario: str, *seen: dict[str, Any]) -> dict[str, Any]:
    clauses = {w["clause"]: clause("fail", w["exercised"], w["violations"]) for w in seen}
    return unit(engine, scenario, "fail", clauses=clauses, witnesses=list(seen))


def of_kind(findings: list[Finding], kind: str) -> list[Finding]:
    return [f for f in findings if f.kind == kind]


def test_the_fixture_gives_these_findings() -> None:
    found = build_findings(fixture.units(), fixture.engines(), CLAUSES, missions=fixture.missions())
    assert [(f.id, f.clause or f.shape, f.engine, f.severity) for f in found] == [
        ("BUG-001", "CLEAN-1", "stageflow", "high"),
        ("BUG-002", "CLEAN-2", "stageflow", "high"),
        ("DX-001", "public_api_documented", "stageflow", "low"),
        ("DX-002", "hello_lines", "stageflow", "low"),
        ("DX-003", "documented_partial_outputs", "stageflow", "low"),
        ("IMP-001", "TIME-9", "stageflow", "medium"),
        ("IMP-002", "checkpoint", "stageflow", "low"),
        *(
            (f"STR-{i:03}", name, engine, "info")
            for i, (name, engine) in enumerate(
                (
                    ("CANCEL-1", "reference"),
                    ("CANCEL-6", "reference"),
                    ("CLEAN-1", "reference"),
                    ("TIME-1", "stageflow"),
                    ("TIME-1", "reference"),
                    ("TIME-5", "reference"),
                    ("TIME-6", "stageflow"),
                    ("TIME-6", "reference"),
                    ("TIME-9", "reference"),
                ),
                start=1,
            )
        ),
    ]


def test_one_defect_in_two_scenarios_is_one_bug_with_sums() -> None:
    bug = build(fixture.units(), missions=fixture.missions())[0]
    assert bug.scenarios == ("timeouts/resource_cleanup", "timeouts/concurrent_timeouts")
    assert bug.mission_tests == ("DAG-009/resource_cleanup", "DAG-009/concurrent_timeouts")
    assert bug.missions == ("DAG-009",)
    assert (bug.evidence.violations, bug.evidence.exercised, bug.evidence.rate) == (50, 80, 0.625)
    assert bug.frequency == "often"
    # The clearest witness: every run of resource_cleanup violated it.
    assert bug.evidence.figures == {"done": 1, "due": 30}
    assert bug.evidence.first_seed == 0
    assert bug.component == "UnifiedStageGraph.run"
    assert bug.evidence.proof == (
        [0.0, "r0", "slow", "stage.start", None],
        [2.0, "r0", "slow", "release.cut", "lock"],
    )


def test_versions_merge_and_the_newest_tells_the_story() -> None:
    rows = [
        failing(NEWER, "p/a", witness("TIME-1", "late", 1, 10, actual="newer")),
        failing(
            STAGEFLOW, "p/a", witness("TIME-1", "late", 10, 10, location="", actual="other place")
        ),
        failing(STAGEFLOW, "p/b", witness("TIME-1", "late", 10, 10, actual="older")),
    ]
    bugs = of_kind(build(rows), "bug")
    assert sorted((b.engine_versions, b.actual) for b in bugs) == [
        (("0.5.1",), "other place"),
        (("0.5.1", "0.10.0"), "newer"),
    ]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (1.0, "always"),
        (0.999, "often"),
        (0.2, "often"),
        (0.199, "sometimes"),
        (0.02, "sometimes"),
        (0.019, "rarely"),
    ],
)
def test_frequency_is_named_by_the_measured_rate(rate: float, expected: str) -> None:
    assert frequency_of(rate) == expected


def test_a_run_that_does_not_replay_alike_is_no_defect() -> None:
    row = failing(STAGEFLOW, "p/a", witness("TIME-1", "late", 3, 10, nondeterministic=True))
    assert of_kind(build([row]), "bug") == []


def test_a_violation_by_documented_semantics_is_no_defect_and_no_strength() -> None:
    row = failing(STAGEFLOW, "p/a", witness("TIME-1", "late", 3, 10))
    row["clauses"]["TIME-1"]["verdict"] = "note"
    engine = {**fixture.engines()[0], "semantics": {"TIME-1": "on purpose"}, "facts": {}}
    assert build([row], engines=[engine]) == []


def test_a_violation_without_a_witness_is_not_lost() -> None:
    row = unit(STAGEFLOW, "p/a", "fail", clauses={"TIME-1": clause("fail", 10, 4)})
    (bug,) = build([row])
    assert (bug.clause, bug.evidence.violations, bug.actual) == (
        "TIME-1",
        4,
        "Violated in 4 of 10 runs; no witness of it was kept.",
    )


def test_a_clause_about_developer_experience_gives_a_dx_finding() -> None:
    row = failing(STAGEFLOW, "p/a", witness("CTX-1", "differs", 10, 10))
    (found,) = build([row])
    assert (found.id, found.kind, found.priority) == ("DX-001", "dx", "P1")


def test_an_undeclared_clause_is_an_error_that_names_it() -> None:
    row = failing(STAGEFLOW, "p/a", witness("CTX-1", "differs", 10, 10))
    with pytest.raises(LookupError, match="'CTX-1': judged by a unit row but not declared"):
        build_findings([row], [], {})


def test_a_confirmation_is_taken_over_by_fingerprint() -> None:
    rows = fixture.units()
    (first, second, *_) = build(rows)
    said = {"confirmation": "confirmed", "confirmation_note": "exit 1", "script": "BUG-001.py"}
    again = build(rows, confirmations={first.fingerprint: said})
    assert (again[0].confirmation, again[0].status) == ("confirmed", "confirmed")
    assert again[0].confirmation_note == "exit 1"
    assert again[0].reproduction is not None
    assert again[0].reproduction.script == "repro/BUG-001.py"
    assert (again[1].confirmation, again[1].status) == ("simulated_only", "open")
    assert [f.id for f in again[:2]] == [first.id, second.id]


def test_ids_do_not_depend_on_the_order_in_which_units_came() -> None:
    rows, shuffled = fixture.units(), fixture.units()
    random.Random(7).shuffle(shuffled)
    assert {f.id: f.fingerprint for f in build(rows)} == {
        f.id: f.fingerprint for f in build(shuffled)
    }


def test_bugs_in_one_place_and_against_one_clause_are_related() -> None:
    rows = [
        failing(
            STAGEFLOW,
            "p/a",
            witness("TIME-1", "late", 1, 1),
            witness("TIME-1", "not-ended", 1, 1, location=""),
            witness("CLEAN-1", "not-released", 1, 1),
            witness("CLEAN-2", "cut", 1, 1, location=""),
        ),
        failing(fixture.REFERENCE, "p/a", witness("CLEAN-2", "cut", 1, 1, location="")),
    ]
    found = {(f.engine, f.clause, f.shape): f for f in build(rows)}
    ids = {f.id: key for key, f in found.items()}
    related = {key: sorted(ids[other] for other in f.related) for key, f in found.items()}
    late, not_ended = ("stageflow", "TIME-1", "late"), ("stageflow", "TIME-1", "not-ended")
    released = ("stageflow", "CLEAN-1", "not-released")
    here, there = ("stageflow", "CLEAN-2", "cut"), ("reference", "CLEAN-2", "cut")
    assert related == {
        late: [released, not_ended],
        not_ended: [late],
        released: [late],
        here: [there],
        there: [here],
    }


def test_what_broke_in_the_same_line_is_related_before_what_broke_the_same_clause() -> None:
    here, there = "stageflow/pipeline/dag.py:276 Graph.run", "stageflow/pipeline/dag.py:9 Graph.run"
    rows = [
        failing(
            STAGEFLOW,
            "p/a",
            witness("TIME-1", "late", 1, 1, location=here),
            witness("TIME-1", "not-ended", 1, 1, location=""),
            witness("CLEAN-1", "not-released", 1, 1, location=here),
            witness("CLEAN-2", "cut", 1, 1, location=there),
        ),
        failing(fixture.REFERENCE, "p/a", witness("TIME-1", "late", 1, 1, location=here)),
    ]
    found = build(rows)
    ids = {f.id: (f.engine, f.shape) for f in found}
    late = next(f for f in found if (f.engine, f.shape) == ("stageflow", "late"))
    assert [ids[other] for other in late.related] == [
        ("stageflow", "not-released"),
        ("reference", "late"),
        ("stageflow", "not-ended"),
        ("stageflow", "cut"),
    ]


def test_a_missing_capability_is_one_improvement_however_often_it_was_missed() -> None:
    rows = [
        unit(
            engine,
            f"p/{name}",
            "unsupported",
            clauses_judged=["TIME-9"],
            missing={"heartbeat": "no such name"},
        )
        for engine in (STAGEFLOW, NEWER)
        for name in "ab"
    ]
    (found,) = build(rows)
    assert (found.id, found.engine_versions, found.shape) == (
        "IMP-001",
        ("0.5.1", "0.10.0"),
        "heartbeat",
    )
    assert found.mission_tests == ("DAG-009/a", "DAG-009/b")
    assert found.description == "no such name. Not judged for lack of it: TIME-9."


def test_a_clause_that_could_not_be_judged_names_the_capability_it_needs() -> None:
    row = unit(
        STAGEFLOW,
        "p/a",
        "pass",
        clauses={"TIME-1": clause("pass", 5, 0), "TIME-9": clause("unsupported", 0, 0)},
    )
    found = build([row], engines=fixture.engines()[:1])
    assert [f.shape for f in of_kind(found, "improvement")] == ["heartbeat"]


def test_a_capability_that_nobody_needed_or_asked_for_is_no_improvement() -> None:
    found = build([], engines=fixture.engines(), missions=fixture.missions())
    # "retry" is missing as well, but no scenario and no mission has anything to do with it.
    assert {f.shape for f in of_kind(found, "improvement")} == {"checkpoint", "heartbeat"}


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([], ["TIME-1"]),
        ([unit(STAGEFLOW, "p/b", "pass", clauses={"TIME-1": clause("pass", 3, 0)})], ["TIME-1"]),
        ([unit(STAGEFLOW, "p/b", "fail", clauses={"TIME-1": clause("fail", 3, 1)})], []),
        (
            [unit(STAGEFLOW, "p/b", "pass", clauses={"TIME-1": clause("inconclusive", 0, 0)})],
            [],
        ),
        ([unit(STAGEFLOW, "p/b", "pass", clauses={"TIME-1": clause("pass", 0, 0)})], []),
        ([unit(STAGEFLOW, "p/b", "error", clauses_judged=["TIME-1"])], []),
        ([unit(STAGEFLOW, "p/b", "unsupported", clauses_judged=["TIME-1"])], ["TIME-1"]),
        # Another version's failure does not take the strength from this one.
        ([unit(NEWER, "p/a", "fail", clauses={"TIME-1": clause("fail", 3, 3)})], ["TIME-1"]),
    ],
)
def test_a_strength_takes_a_pass_in_every_scenario_that_could_run(
    others: list[dict[str, Any]], expected: list[str]
) -> None:
    first = unit(
        STAGEFLOW, "p/a", "pass", clauses={"TIME-1": clause("pass", 5, 0, figures={"due": 5})}
    )
    found = of_kind(build([first, *others]), "strength")
    assert [f.clause for f in found] == expected
    assert all(f.engine_versions == ("0.5.1",) for f in found)


def test_a_strength_sums_its_figures_over_scenarios() -> None:
    rows = [
        unit(
            STAGEFLOW,
            f"p/{name}",
            "pass",
            clauses={"TIME-1": clause("pass", 5, 0, figures={"due": 5, "note": "text"})},
        )
        for name in "ab"
    ]
    (found,) = build(rows)
    assert found.evidence.figures == {"due": 10}
    assert (found.evidence.exercised, found.evidence.violations) == (10, 0)


def test_a_fact_that_was_not_probed_gives_no_finding() -> None:
    for facts in ({}, {"typed": None}, {"typed": "failed: ImportError"}, {"hello_lines": "9"}):
        assert build([], engines=[{**fixture.engines()[0], "facts": facts}]) == []


def test_dx_of_two_versions_says_what_each_of_them_gave() -> None:
    engines = [
        {**fixture.engines()[0], "version": version, "facts": {"hello_lines": lines}}
        for version, lines in (("1.2.0", 21), ("0.5.1", 30), ("0.9.0", 12))
    ]
    (found,) = build([], engines=engines)
    assert found.engine_versions == ("0.5.1", "1.2.0")
    assert [(m["engine_version"], m["figures"]) for m in found.evidence.measured] == [
        ("0.5.1", {"hello_lines": 30}),
        ("1.2.0", {"hello_lines": 21}),
    ]


def test_the_gravest_severity_of_merged_witnesses_counts() -> None:
    rows = [
        failing(STAGEFLOW, "p/a", witness("TIME-1", "late", 9, 9)),
        failing(STAGEFLOW, "p/b", witness("TIME-1", "late", 1, 9, severity="critical")),
    ]
    (bug,) = build(rows)
    assert (bug.severity, bug.priority) == ("critical", "P0")


def test_a_sweeps_witness_is_reproduced_with_its_own_plan() -> None:
    plan = {"version": 1, "cancels": [{"at_point": 17}]}
    (bug,) = build([failing(STAGEFLOW, "p/a", witness("TIME-1", "late", 1, 9, plan=plan))])
    assert bug.reproduction is not None
    assert bug.reproduction.plan == plan


def test_findings_are_values_that_cannot_be_changed() -> None:
    bug = build(fixture.units())[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        bug.severity = "low"  # type: ignore[misc]


def test_every_capability_has_a_name_for_sentences() -> None:
    assert WORDS.keys() == CAPABILITIES.keys()
