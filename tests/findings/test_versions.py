"""The versions table: each cell from what was run on that version, nothing inferred."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings.versions import changes_of, version_tables

VERSIONS = ("0.9.0", "0.10.0", "1.0.0")


def finding(*seen: tuple[str, int], scenario: str = "pack/one") -> dict[str, Any]:
    measured = [
        {"scenario": scenario, "engine_version": v, "exercised": 9, "violations": n}
        for v, n in seen
    ]
    return {
        "id": "BUG-001",
        "kind": "bug",
        "clause": "TIME-1",
        "severity": "high",
        "title": "It is late",
        "engine": "some",
        "evidence": {"measured": measured},
    }


def result(version: str, verdict: str, scenario: str = "pack/one") -> dict[str, Any]:
    row = {"verdict": verdict, "exercised": 9, "violations": 2 * (verdict == "fail")}
    return {
        "engine": "some",
        "engine_version": version,
        "scenario": scenario,
        "verdict": verdict,
        "clauses": {"TIME-1": row},
    }


def table(findings: list[Any], results: list[Any], missions: Any = ()) -> dict[str, Any]:
    # In the order of texts, not of releases.
    engines = [{"name": "some", "version": v} for v in sorted(VERSIONS)]
    document = {"metadata": {"engines": engines, "missions": missions}, "findings": findings}
    (only,) = version_tables(document, results)
    return only


def verdicts(row: dict[str, Any]) -> list[str]:
    return [cell["verdict"] for cell in row["cells"]]


def test_versions_stand_in_the_order_of_releases() -> None:
    assert table([], [])["versions"] == list(VERSIONS)


def test_a_finding_that_came_and_went() -> None:
    results = [result("0.9.0", "pass"), result("0.10.0", "fail"), result("1.0.0", "pass")]
    (row,) = table([finding(("0.10.0", 2))], results)["findings"]
    assert verdicts(row) == ["pass", "fail", "pass"]
    assert row["says"] == "came with 0.10.0, gone with 1.0.0"


def test_a_clause_violated_in_another_way_is_told_apart() -> None:
    results = [result(v, "fail") for v in VERSIONS]
    (row,) = table([finding(("1.0.0", 2))], results)["findings"]
    assert verdicts(row) == ["otherwise", "otherwise", "fail"]
    assert row["says"] == "came with 1.0.0"


@pytest.mark.parametrize("verdict", ["blocked", "inconclusive", "unsupported", "error"])
def test_what_decided_nothing_is_no_pass_and_no_change(verdict: str) -> None:
    results = [result("0.9.0", "fail"), result("0.10.0", verdict), result("1.0.0", "fail")]
    (row,) = table([finding(("0.9.0", 2), ("1.0.0", 2))], results)["findings"]
    assert verdicts(row) == ["fail", verdict, "fail"]
    assert row["changes"] == []
    assert row["says"] == "on every decided version, 0.9.0 to 1.0.0"


def test_a_pass_of_another_scenario_says_nothing() -> None:
    results = [result("0.9.0", "pass", "pack/other"), result("1.0.0", "fail")]
    (row,) = table([finding(("1.0.0", 2))], results)["findings"]
    assert verdicts(row) == ["not run", "not run", "fail"]


def test_a_swarm_that_saw_nothing_says_nothing() -> None:
    swarm = "search/swarm-0000"
    results = [result(v, "pass", swarm) for v in VERSIONS]
    (row,) = table([finding(("1.0.0", 2), scenario=swarm)], results)["findings"]
    assert verdicts(row) == ["not run", "not run", "fail"]


def test_claims_have_a_verdict_on_each_version_that_was_judged() -> None:
    chapters = [
        {"engine": engine, "engine_version": v, "claims": [{"id": "C1", "says": "x", "verdict": w}]}
        for engine, v, w in (
            ("some", "0.9.0", "SUPPORTED"),
            ("some", "1.0.0", "CONTRADICTED"),
            ("other", "0.10.0", "PARTLY"),
        )
    ]
    (row,) = table([], [], [{"id": "M-1", "chapters": chapters}])["claims"]
    assert verdicts(row) == ["SUPPORTED", "not run", "CONTRADICTED"]


def test_one_version_alone_has_no_table() -> None:
    document = {
        "metadata": {"engines": [{"name": "some", "version": "1"}], "missions": []},
        "findings": [],
    }
    assert version_tables(document, []) == []


def test_changes_skip_what_was_not_decided() -> None:
    cells = [
        {"version": str(i), "verdict": v}
        for i, v in enumerate(["error", "pass", "blocked", "fail", "fail", "pass"])
    ]
    assert changes_of(cells) == [
        {"version": "3", "from": "pass", "to": "fail"},
        {"version": "5", "from": "fail", "to": "pass"},
    ]
