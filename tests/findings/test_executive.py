"""Matrix, criteria, risks, tiers and the executive report's data, reckoned by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.findings.criteria import CRITERIA, criteria, decision, is_of
from harness.findings.order import EFFORTS
from harness.findings.risk import DAYS, phases
from harness.findings.tiers import TIERS
from scenarios import missions
from tests.report import fixture
from tests.report.fixture import REFERENCE, STAGEFLOW, clause, unit, write_campaign


def metadata(folder: Path, **replaced: Any) -> dict[str, Any]:
    write_campaign(folder, **replaced)
    document = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = document["metadata"]
    return found


def chapter(data: dict[str, Any], label: str = "stageflow@0.5.1") -> dict[str, Any]:
    (found,) = [c for c in data["executive"]["chapters"] if c["label"] == label]
    return dict(found)


def judged(verdicts: dict[str, str]) -> list[dict[str, Any]]:
    rows = [{"clause": c, "verdict": v, "findings": []} for c, v in verdicts.items()]
    return criteria(rows, {one.id: one.severity for one in CLAUSES.values()})


def states(verdicts: dict[str, str]) -> dict[str, str]:
    return {row["criterion"]: row["state"] for row in judged(verdicts)}


def test_every_clause_belongs_to_a_criterion_and_every_member_is_a_clause() -> None:
    assert [c for c in CLAUSES if not any(is_of(c, members) for _, members in CRITERIA)] == []
    for _, members in CRITERIA:
        for member in members:
            assert any(is_of(c, (member,)) for c in CLAUSES), member


def test_every_mission_belongs_to_a_tier() -> None:
    assert [m for m in missions() if not any(m in tier.missions for tier in TIERS)] == []


def test_a_criterion_passes_only_if_each_of_its_clauses_was_judged_and_held() -> None:
    whole = {"GRAPH-1": "pass", "GRAPH-2": "pass", "GRAPH-3": "pass"}
    assert states(whole)["Architecture"] == "PASS"
    assert states({**whole, "GRAPH-1": "unsupported"})["Architecture"] == "PARTIAL"
    assert states({**whole, "GRAPH-1": "inconclusive"})["Architecture"] == "PARTIAL"
    assert states({**whole, "GRAPH-1": "fail"})["Architecture"] == "NEEDS FIX"
    del whole["GRAPH-1"]  # the campaign did not include it
    assert states(whole)["Architecture"] == "PARTIAL"
    assert states({})["Architecture"] == "UNKNOWN"
    assert states({"CTX-1": "fail"})["API Design"] == "PARTIAL"  # of medium severity


@pytest.mark.parametrize(
    ("verdicts", "severities", "status", "expected"),
    [
        (dict.fromkeys(CLAUSES, "pass"), [], "completed", "GO"),
        (dict.fromkeys(CLAUSES, "pass"), [], "interrupted", "UNDECIDED"),
        (dict.fromkeys(CLAUSES, "pass"), ["low"], "completed", "GO WITH CONCERNS"),
        (
            dict.fromkeys(CLAUSES, "pass") | {"TIME-9": "unsupported"},
            [],
            "completed",
            "GO WITH CONCERNS",
        ),
        (
            dict.fromkeys(CLAUSES, "pass") | {"TIME-1": "fail"},
            ["high"],
            "completed",
            "CONDITIONAL GO",
        ),
        (dict.fromkeys(CLAUSES, "pass") | {"CANCEL-3": "fail"}, ["critical"], "completed", "NO-GO"),
        ({c: "pass" for c in CLAUSES if c != "GRAPH-4"}, [], "completed", "UNDECIDED"),
        ({}, [], "completed", "UNDECIDED"),
    ],
)
def test_the_decision(
    verdicts: dict[str, str], severities: list[str], status: str, expected: str
) -> None:
    assert decision(judged(verdicts), severities, status)["verdict"] == expected


def test_a_cell_of_the_matrix_is_the_worst_that_any_scenario_gave(tmp_path: Path) -> None:
    rows = [
        unit(
            STAGEFLOW, "timeouts/simple_timeout", "pass", clauses={"TIME-1": clause("pass", 4, 0)}
        ),
        unit(
            STAGEFLOW,
            "timeouts/resource_cleanup",
            "inconclusive",
            clauses={"TIME-1": clause("inconclusive", 0, 0)},
        ),
        unit(
            STAGEFLOW,
            "timeouts/zero_timeout",
            "fail",
            clauses={"TIME-5": clause("fail", 3, 2), "TIME-6": clause("pass", 3, 0)},
        ),
        unit(STAGEFLOW, "timeouts/heartbeat", "unsupported", clauses_judged=["TIME-6"], runs=0),
        unit(
            REFERENCE, "timeouts/simple_timeout", "pass", clauses={"TIME-1": clause("pass", 7, 0)}
        ),
    ]
    found = metadata(tmp_path, units=rows)["conformance"]["rows"]
    told = {
        row["label"]: {
            c["clause"]: (c["verdict"], c["scenarios"], c["exercised"], c["violations"])
            for c in row["cells"]
        }
        for row in found
    }
    assert told == {
        "stageflow@0.5.1": {
            "TIME-1": ("inconclusive", 2, 4, 0),
            "TIME-5": ("fail", 1, 3, 2),
            "TIME-6": ("pass", 2, 3, 0),
        },
        "reference@0.1.0": {
            "TIME-1": ("pass", 1, 7, 0),
            "TIME-5": ("not judged", 0, 0, 0),
            "TIME-6": ("not judged", 0, 0, 0),
        },
    }


def test_a_bug_stands_where_severity_risk_and_measured_rate_put_it(tmp_path: Path) -> None:
    found = {row["finding"]: row for row in chapter(metadata(tmp_path))["risks"]}
    assert {i: (r["impact"], r["likelihood"], r["frequency"]) for i, r in found.items()} == {
        "BUG-001": (3, 3, "often"),  # high; 50 of 80
        "BUG-002": (3, 2, "sometimes"),  # high; 1 of 40
    }


def test_a_bug_that_no_run_of_this_version_measured_is_not_placed(tmp_path: Path) -> None:
    rows = [u for u in fixture.units() if u["engine"] == "stageflow"]
    for row in rows:
        for one in row["witnesses"]:
            one["exercised"] = one["violations"] = 0
    for one in chapter(metadata(tmp_path, units=rows))["risks"]:
        assert (one["likelihood"], one["frequency"]) == (None, None)


def test_phases_follow_one_another_and_a_shared_remedy_counts_once() -> None:
    one = {"effort": "small", "findings": ["BUG-001", "BUG-002"]}
    found = phases({"P0": [one, {**one, "effort": "trivial"}], "P1": [], "P2": [one]})
    assert [(p["phase"], p["days"], p["begin_day"], p["end_day"]) for p in found] == [
        ("P0", 2.5, 0, 2.5),
        ("P1", 0, 2.5, 2.5),
        ("P2", 2, 2.5, 4.5),
    ]
    assert tuple(DAYS) == EFFORTS


def test_an_engine_is_exposed_where_a_grave_bug_belongs_to_the_mission(tmp_path: Path) -> None:
    data = metadata(tmp_path)
    assert [(e["exposure"], e["findings"]) for e in chapter(data)["exposure"]] == [
        ("exposed", ["BUG-001", "BUG-002"])
    ]
    (other,) = chapter(data, "reference@0.1.0")["exposure"]
    assert (other["verdict"], other["exposure"], other["findings"]) == (
        "INCOMPLETE",
        "not known",
        [],
    )


def test_success_criteria_are_ticked_only_when_met(tmp_path: Path) -> None:
    done = {one["text"]: one["done"] for one in chapter(metadata(tmp_path))["success"]}
    assert done["DAG-009: all of its tests pass"] is False
    assert done["No bug of critical or high severity is open"] is False
    held = [u for u in fixture.units() if u["engine"] == "reference"]
    plan = fixture.missions()
    plan[0]["tests"].pop("no_timeout")
    data = metadata(tmp_path / "b", units=held, missions=plan)
    done = {one["text"]: one["done"] for one in chapter(data, "reference@0.1.0")["success"]}
    assert done["DAG-009: all of its tests pass"] is True
    assert done["No bug of critical or high severity is open"] is True
    assert done["Timeouts: every clause is judged and holds"] is False


def test_a_tier_says_what_holds_what_does_not_and_what_to_run_next(tmp_path: Path) -> None:
    (tier,) = metadata(tmp_path)["tiers"]
    assert (tier["id"], tier["missions"]) == ("1", ["DAG-009"])
    assert "REDRIVE" in tier["not_run"]
    first = tier["chapters"][0]
    assert first["counts"] == {"clauses": 8, "held": 2, "violated": 2, "not_judged": 4}
    assert first["gaps"] == ["BUG-001", "BUG-002"]
    dag = first["areas"][1]
    assert dag["title"].startswith("DAG Execution")
    assert [c["clause"] for c in dag["clauses"] if c["verdict"] == "fail"] == ["CLEAN-1", "CLEAN-2"]
    (again,) = first["next_missions"]
    assert (again["mission"], again["passed"], again["tests"]) == ("DAG-009", 1, 8)
    assert again["after"] == ["BUG-001", "BUG-002"]


def test_a_mission_of_no_tier_is_reported_in_a_last_one(tmp_path: Path) -> None:
    own = {**fixture.missions()[0], "id": "MY-OWN"}
    (tier,) = metadata(tmp_path, missions=[own])["tiers"]
    assert (tier["id"], tier["title"]) == (str(len(TIERS) + 1), "Further Missions")
    areas = tier["chapters"][0]["areas"]
    assert {c["clause"] for a in areas for c in a["clauses"]} >= {"CLEAN-1", "TIME-1"}


def test_a_passing_tier_with_a_mission_left_out_is_incomplete(tmp_path: Path) -> None:
    held = [u for u in fixture.units() if u["engine"] == "reference"]
    plan = fixture.missions()
    plan[0]["tests"].pop("no_timeout")
    (tier,) = metadata(tmp_path, units=held, missions=plan)["tiers"]
    (found,) = [c for c in tier["chapters"] if c["label"] == "reference@0.1.0"]
    assert found["missions"][0]["verdict"] == "PASS"
    assert found["verdict"] == "INCOMPLETE"
