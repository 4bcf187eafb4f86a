"""What a mission report states: verdicts, hypotheses, claims, scores, tables."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings import build_findings
from harness.findings.campaign import Campaign
from harness.findings.hypotheses import claim_rows, hypothesis_rows
from harness.findings.mission import mission_reports
from harness.findings.rubric import scores
from harness.findings.verdict import mission_verdict
from tests.report import fixture
from tests.report.fixture import CLAUSES, STAGEFLOW, claim, clause, hypothesis, unit


def report() -> dict[str, Any]:
    campaign = Campaign(fixture.units(), fixture.engines(), CLAUSES, fixture.missions())
    findings = build_findings(
        fixture.units(), fixture.engines(), CLAUSES, missions=fixture.missions()
    )
    return mission_reports(campaign, findings, fixture.scenarios())[0]


def chapter(place: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = report()["chapters"][place]
    return found


@pytest.mark.parametrize(
    ("verdicts", "bugs", "expected"),
    [
        ("pass pass pass", "", "PASS"),
        ("pass pass pass", "critical", "FAIL"),
        ("pass pass blocked", "critical", "FAIL"),
        ("fail fail pass", "medium", "FAIL"),
        ("fail pass", "medium", "PASS_WITH_CONCERNS"),
        ("fail pass", "high medium", "NEEDS_WORK"),
        ("pass pass pass blocked", "high", "INCOMPLETE"),
        ("pass pass error", "", "INCOMPLETE"),
        ("pass pass not_run", "", "INCOMPLETE"),
        ("pass unsupported unsupported", "", "INCOMPLETE"),
        ("pass unsupported", "", "PASS_WITH_CONCERNS"),
        ("pass pass inconclusive", "", "PASS_WITH_CONCERNS"),
        ("pass pass", "low", "PASS_WITH_CONCERNS"),
        ("inconclusive", "", "INCOMPLETE"),
        ("", "", "INCOMPLETE"),
    ],
)
def test_the_first_rule_that_applies_gives_the_verdict(
    verdicts: str, bugs: str, expected: str
) -> None:
    tests = [{"verdict": v.replace("_", " ")} for v in verdicts.split()]
    given = mission_verdict(tests, bugs.split())
    assert given["verdict"] == expected
    assert dict(chapter()["verdict"]["rules"][0]).keys() == {"verdict", "rule"}
    assert {"verdict": expected, "rule": given["rule"]} in chapter()["verdict"]["rules"]


PASS, FAIL = clause("pass", 9, 0), clause("fail", 9, 3)
OPEN, STUCK = clause("inconclusive", 0, 0), clause("blocked", 0, 0)
NOTE = clause("note", 9, 3, reason="on purpose")


@pytest.mark.parametrize(
    ("rows", "holds_if", "expected", "of_claim"),
    [
        ([PASS, PASS], "pass", "CONFIRMED", "SUPPORTED"),
        ([FAIL, FAIL], "pass", "REJECTED", "CONTRADICTED"),
        ([PASS, FAIL], "pass", "PARTIAL", "PARTLY"),
        ([PASS, OPEN], "pass", "PARTIAL", "PARTLY"),
        ([FAIL, OPEN], "pass", "REJECTED", "NOT REPRODUCED"),
        ([FAIL, FAIL], "fail", "CONFIRMED", "SUPPORTED"),
        ([NOTE, FAIL], "fail", "CONFIRMED", "SUPPORTED"),
        ([PASS, PASS], "fail", "REJECTED", "CONTRADICTED"),
        ([PASS, FAIL], "fail", "PARTIAL", "PARTLY"),
        ([OPEN, OPEN], "fail", "NOT TESTED", "NOT REPRODUCED"),
        ([OPEN, STUCK], "pass", "BLOCKED", "NOT REPRODUCED"),
        ([], "pass", "NOT TESTED", "NOT REPRODUCED"),
    ],
)
def test_measured_verdicts_decide_hypotheses_and_claims(
    rows: list[dict[str, Any]], holds_if: str, expected: str, of_claim: str
) -> None:
    units = [
        unit(STAGEFLOW, f"p/{i}", "pass", clauses={"TIME-1": row}) for i, row in enumerate(rows)
    ]
    pairs = [(f"p/{i}", "TIME-1") for i in range(max(1, len(rows)))]
    mission = {
        "hypotheses": [{**hypothesis("H1", *pairs), "holds_if": holds_if}],
        "claims": [{**claim("BUG-1", *pairs), "holds_if": holds_if}],
    }
    engine = fixture.engines()[0]
    assert hypothesis_rows(mission, engine, units)[0]["verdict"] == expected
    assert claim_rows(mission, engine, units)[0]["verdict"] == of_claim


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("capability", "stage_timeout"), "pass"),
        (("capability", "heartbeat"), "fail"),
        (("probe", "typed"), "pass"),
        (("probe", "documented_partial_outputs"), "fail"),
        (("probe", "never_probed"), "not run"),
        (("timeouts/no_such_scenario", "TIME-1"), "not run"),
        # The row passed, but for its other clause: it says nothing of this one.
        (("timeouts/simple_timeout", "TIME-6"), "not run"),
        (("timeouts/heartbeat", "TIME-9"), "unsupported"),
        (("timeouts/stage_cancel", "CANCEL-1"), "error"),
    ],
)
def test_facts_capabilities_and_clauses_are_looked_up(pair: tuple[str, str], expected: str) -> None:
    units = [u for u in fixture.units() if u["engine"] == "stageflow"]
    mission = {"hypotheses": [hypothesis("H1", pair)]}
    (row,) = hypothesis_rows(mission, fixture.engines()[0], units)
    assert [e["verdict"] for e in row["evidence"]] == [expected]


def test_a_violation_in_either_laboratory_is_a_violation() -> None:
    units = [
        {**unit(STAGEFLOW, "p/a", "pass", clauses={"TIME-1": PASS}), "lab": "sim"},
        {**unit(STAGEFLOW, "p/a", "fail", clauses={"TIME-1": FAIL}), "lab": "live"},
    ]
    mission = {"hypotheses": [hypothesis("H1", ("p/a", "TIME-1"))]}
    assert hypothesis_rows(mission, {"name": "x"}, units)[0]["verdict"] == "REJECTED"


def test_claims_are_judged_on_their_own_engine_only() -> None:
    assert [(c["id"], c["verdict"]) for c in chapter(0)["claims"]] == [
        ("BUG-078", "SUPPORTED"),
        ("BUG-016", "CONTRADICTED"),
        ("DX-026", "SUPPORTED"),
        ("IMP-034", "SUPPORTED"),
        ("IMP-040", "NOT REPRODUCED"),
    ]
    assert chapter(1)["claims"] == []


def test_a_claim_is_judged_on_the_other_engines_of_its_package_as_well() -> None:
    mission = {"claims": [claim("BUG-1", ("capability", "heartbeat"))]}
    lacking = {"capabilities": []}
    for name, judged in (("stageflow", 1), ("stageflow-legacy", 1), ("stageflower", 0)):
        assert len(claim_rows(mission, {"name": name, **lacking}, [])) == judged


def test_what_misled_is_told_only_where_something_measured_disagrees() -> None:
    # IMP-040 has a reason, too, but nothing decided it.
    assert {c["id"]: c["why"] for c in chapter()["claims"] if c["why"]} == {
        "BUG-016": "a wrong entry point"
    }


@pytest.mark.parametrize(
    ("rows", "told"),
    [([PASS, FAIL], True), ([PASS, PASS], True), ([FAIL, OPEN], False), ([OPEN], False)],
)
def test_a_claim_that_only_lacks_evidence_has_nothing_to_explain(
    rows: list[dict[str, Any]], told: bool
) -> None:
    units = [
        unit(STAGEFLOW, f"p/{i}", "pass", clauses={"TIME-1": row}) for i, row in enumerate(rows)
    ]
    pairs = [(f"p/{i}", "TIME-1") for i in range(len(rows))]
    mission = {"claims": [{**claim("BUG-1", *pairs), "why": "it was misread"}]}
    (row,) = claim_rows(mission, fixture.engines()[0], units)
    assert row["why"] == ("it was misread" if told else "")


def test_the_execution_summary_counts_by_category() -> None:
    rows = [tuple(row.values()) for row in chapter()["execution"]]
    assert rows == [
        ("baseline", 2, 1, 0, 1, 2.0, 0.123),
        ("stress", 3, 0, 2, 1, 2.0, 0.123),
        ("chaos", 2, 0, 0, 2, 2.0, 0.123),
        ("unknown", 1, 0, 0, 1, None, None),
        ("total", 8, 1, 2, 5, 2.0, 0.123),
    ]


def test_key_metrics_are_counted() -> None:
    assert {row["metric"]: row["value"] for row in chapter()["key_metrics"]} == {
        "Total Findings": 9,
        "Bugs Found": 2,
        "DX Issues": 3,
        "Improvements": 2,
        "Strengths": 2,
        "Tests Passed": "1/8",
        "Tests Failed": 2,
        "Tests Not Judged": 5,
        "Blockers": 1,
        "Runs": 200,
        "Duration, real (s)": 0.861,
        "Duration, virtual (s)": 400.0,
    }


def test_a_blocked_test_names_the_bug_that_blocks_it() -> None:
    (test,) = [t for t in chapter()["tests"] if t["verdict"] == "blocked"]
    assert test["blocked_by"] == ["BUG-001"]


def test_alike_stages_share_a_row() -> None:
    rows = [r for r in chapter()["setting"]["stages"] if r["scenario"].endswith("t_timeouts")]
    assert [(r["stage"], r["count"], r["purpose"], r["lines"]) for r in rows] == [
        ("worker-0", 50, "sleeps 0 or 7 s", 1),
        ("bad", 1, "reports a failure", 1),
    ]


def test_what_was_not_run_simulated_nothing_and_is_named() -> None:
    found = chapter()["setting"]
    assert found["not_run"] == ["timeouts/stage_cancel", "timeouts/heartbeat"]
    run = {t["scenario"] for t in chapter()["tests"] if t["runs"]}
    assert {row["scenario"] for row in (*found["stages"], *found["faults"])} <= run


def test_only_failed_tests_have_a_timeline() -> None:
    assert [(t["test"], t["clause"], len(t["proof"])) for t in chapter()["timelines"]] == [
        ("resource_cleanup", "CLEAN-1", 2),
        ("concurrent_timeouts", "CLEAN-1", 2),
    ]


@pytest.mark.parametrize(
    ("facts", "rows", "expected"),
    [
        ({}, [], {}),
        ({"hello_lines": 10}, [], {"Discoverability": 5.0}),
        ({"hello_lines": 11}, [], {"Discoverability": 4.0}),
        ({"hello_lines": 41}, [], {"Discoverability": 1.0}),
        ({"hello_lines": "failed: x"}, [], {}),
        ({"typed": True, "public_api_documented": 0.5}, [], {"Documentation": 4.0}),
        ({}, [("PART-4", clause("fail", 8, 2))], {"Debugging": 4.0}),
        ({}, [("PART-4", clause("inconclusive", 8, 2))], {}),
        (
            {},
            [("PART-1", clause("pass", 5, 0)), ("PART-2", clause("fail", 5, 5))],
            {"Clarity": 3.0},
        ),
    ],
)
def test_scores_come_from_what_was_measured_only(
    facts: dict[str, Any], rows: list[tuple[str, Any]], expected: dict[str, float]
) -> None:
    units = [
        unit(STAGEFLOW, f"p/{i}", "pass", clauses={name: row}) for i, (name, row) in enumerate(rows)
    ]
    found = scores({"facts": facts}, units)
    given = {c["category"]: c["score"] for c in found["categories"] if c["score"] is not None}
    assert given == expected
    assert found["overall"] == (next(iter(expected.values())) if expected else None)


def test_an_engine_that_did_not_import_has_a_chapter_that_says_so() -> None:
    rows = [
        unit(("ghost", ""), "timeouts/simple_timeout", "error", clauses_judged=["TIME-1"], runs=0)
    ]
    campaign = Campaign(rows, [], CLAUSES, fixture.missions())
    (told,) = mission_reports(campaign, [], fixture.scenarios())[0]["chapters"]
    assert (told["label"], told["verdict"]["verdict"]) == ("ghost", "INCOMPLETE")
    assert {row["answer"] for row in told["implementation"]} == {"not probed"}
    assert told["conclusion"][-1] == "Nothing was judged, so nothing can be said of this engine."


def test_findings_with_one_remedy_share_a_recommendation() -> None:
    remedies = {
        priority: [(row["findings"], row["recommendation"]) for row in rows]
        for priority, rows in chapter()["recommendations"].items()
    }
    assert remedies["P0"] == [
        (["BUG-001"], "What to do about CLEAN-1."),
        (["BUG-002"], "What to do about CLEAN-2."),
    ]
    assert (["IMP-001"], "Offer heartbeats of a stage (demanded by TIME-9).") in remedies["P2"]
    row = unit(
        STAGEFLOW,
        "timeouts/simple_timeout",
        "fail",
        clauses={"TIME-1": FAIL},
        witnesses=[fixture.witness("TIME-1", shape, 3, 9) for shape in ("late", "not-ended")],
    )
    campaign = Campaign([row], [], CLAUSES, fixture.missions())
    findings = build_findings([row], [], CLAUSES, missions=fixture.missions())
    told = mission_reports(campaign, findings, fixture.scenarios())[0]["chapters"][0]
    assert [r["findings"] for r in told["recommendations"]["P0"]] == [["BUG-001", "BUG-002"]]


def test_a_witness_without_a_token_is_replayed_by_its_units() -> None:
    rows = fixture.units()
    for seen in rows[1]["witnesses"]:
        del seen["token"]
    campaign = Campaign(rows, fixture.engines(), CLAUSES, fixture.missions())
    found = build_findings(rows, fixture.engines(), CLAUSES, missions=fixture.missions())
    told = mission_reports(campaign, found, fixture.scenarios())[0]["chapters"][0]
    assert told["timelines"][0]["token"] == "token-stageflow-resource_cleanup"
    assert found[0].reproduction is not None
    assert found[0].reproduction.token == "token-stageflow-resource_cleanup"
