"""A load's checks as findings: which clause, which shape, what is known again, what is claimed."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from harness import findings
from harness.cli import main
from harness.contract.clauses import CLAUSES
from harness.lab.load.evidence import Evidence, Window
from harness.lab.load.judge import Broken, Check, judge
from harness.lab.load.rows import clauses_of_load, unit_rows
from harness.lab.load.workers import workers_told
from tests.load.test_judge import ran, record

ABLE = ("concurrent_runs", "delivery_count", "event_queue", "events", "run_inputs")


def result(*checks: Check, offered: tuple[str, ...] = ABLE, seed: int = 1) -> dict[str, Any]:
    """Return what a load comes to, as far as rows are made from it."""
    return {
        "engine": "made-up",
        "engine_version": "1.0",
        "about": {"capabilities": list(offered)},
        "plan": {"seed": seed},
        "stats": {"runs": 40},
        "duration_s": 3.0,
        "checks": [dataclasses.asdict(check) for check in checks],
    }


def of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the findings of rows, as plain data."""
    engines = [{"name": "made-up", "version": "1.0", "capabilities": list(ABLE)}]
    campaign = findings.Campaign(rows, engines, clauses_of_load(), seen="one")
    return [f.to_json() for f in findings.findings_of(campaign)]


def judged(*pairs: tuple[dict[str, Any], dict[str, Any]], **stats: Any) -> list[Check]:
    evidence = Evidence(
        [one for one, _ in pairs],
        [one for _, one in pairs],
        stats,
        failing="failing",
        windows=(Window(0.0, 1.0),),
    )
    return judge(evidence, error_budget=0.01)


def pairs(*broken: dict[str, Any], good: int = 8) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(record(n), ran(n)) for n in range(good)] + [
        (record(good + n, **one.get("record", {})), ran(good + n, **one.get("ran", {})))
        for n, one in enumerate(broken)
    ]


FOREIGN = "dgm00000000000000ff"


@pytest.mark.parametrize(
    ("broken", "stats", "expected"),
    [
        ({"record": {"foreign": [FOREIGN]}}, {}, ("TENANT-1", "leak-under-load", "critical")),
        ({"ran": {"tenants": ["dgt2"]}}, {}, ("TENANT-1", "leak-under-load", "critical")),
        ({"record": {"own": False}}, {}, ("LOAD-2", "output-lost", "high")),
        ({}, {"open_runs": 2}, ("LOAD-2", "run-never-ended", "high")),
        ({"ran": {"executions": {"fetch": 2}}}, {}, ("LOAD-3", "stage-ran-twice", "high")),
        ({}, {"strays": 1}, ("LOAD-3", "stage-after-its-run", "high")),
        ({"ran": {"delivered": 1}}, {}, ("EVENT-1", "unaccounted-under-load", "high")),
        (
            {"ran": {"ends": {}}},
            {},
            ("GRAPH-5", "completed-without-running-under-load", "critical"),
        ),
        ({"ran": {"ends": {"fetch": "cancelled"}}}, {}, ("PART-4", "completed-under-load", "high")),
        ({"record": {"run_status": "failed"}}, {}, ("LOAD-4", "", "high")),
    ],
)
def test_what_breaks_a_check_is_one_bug_of_one_clause(
    broken: dict[str, Any], stats: dict[str, Any], expected: tuple[str, str, str]
) -> None:
    rows = unit_rows(result(*judged(*pairs(broken), **stats)), None)
    bugs = [f for f in of(rows) if f["kind"] == "bug"]
    assert [(f["clause"], f["shape"], f["severity"]) for f in bugs] == [expected]
    (bug,) = bugs
    assert bug["confirmation"] == "live_only"
    assert bug["fingerprint"] == findings.fingerprint(
        "bug", *expected[:1], "made-up", "", bug["shape"]
    )
    assert bug["title"] == clauses_of_load()[expected[0]].title[expected[1]]
    assert 0 < bug["evidence"]["rate"] <= 1
    assert bug["reproduction"]["program"]["name"] == "main"


def test_a_load_that_went_well_has_no_bug_and_claims_only_what_it_put_to_the_test() -> None:
    rows = unit_rows(result(*judged(*pairs())), None)
    found = of(rows)
    assert {f["kind"] for f in found} <= {"strength", "improvement"}
    strengths = {f["clause"] for f in found if f["kind"] == "strength"}
    assert strengths == {"TENANT-1", "EVENT-1", "LOAD-2", "LOAD-3", "LOAD-4"}


def test_an_engine_without_a_figure_of_deliveries_is_held_to_telling_what_is_dropped() -> None:
    offered = tuple(c for c in ABLE if c != "delivery_count")
    lost = judged(*pairs({"ran": {"delivered": 1}}))
    (row,) = [r for r in unit_rows(result(*lost, offered=offered), None) if r["violations"]]
    assert (list(row["clauses"]), row["clauses_judged"]) == (["EVENT-2"], [])
    (row,) = [
        r
        for r in unit_rows(result(*judged(*pairs()), offered=offered), None)
        if r["scenario"] == "load/events"
    ]
    assert (row["verdict"], row["clauses"]) == ("pass", {})


def test_the_same_runs_count_once_however_many_checks_look_at_them() -> None:
    rows = unit_rows(result(*judged(*pairs())), None)
    assert findings.campaign.runs_made(rows) == 40


def test_what_is_seen_of_a_process_is_gone_after_a_load_as_long_and_a_share_after_enough() -> None:
    kept = Check("memory", "fail", "r", "a", clause="LOAD-5", broken=(Broken("memory-kept", 1),))
    whole, share = unit_rows(result(kept, judged(*pairs())[0]), None)
    assert ("runs_asked" in whole, whole["runs"]) == (False, 40)
    assert share["runs_asked"] == 0


def test_every_shape_that_a_load_names_has_a_title() -> None:
    for clause in clauses_of_load().values():
        assert all(clause.title.values())
    assert not set(CLAUSES) & {c for c in clauses_of_load() if c.startswith("LOAD-")}


def worker(**more: Any) -> dict[str, Any]:
    return {"name": "w", "records": 5, "noted": 5, "behind_s": 0.01, **more}


@pytest.mark.parametrize(
    ("workers", "verdict"),
    [
        ([worker(), worker()], "pass"),
        ([worker(), worker(records=4)], "inconclusive"),
        ([worker()], "inconclusive"),
        ([], "inconclusive"),
    ],
)
def test_workers_that_have_not_told_all_leave_it_open(workers: Any, verdict: str) -> None:
    assert workers_told(2, workers).verdict == verdict


def test_a_load_is_new_once_and_known_after_that(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command to the registry, with a load that is made up."""
    told = judged(*pairs({"ran": {"ends": {}}}))

    def made(_engine: Any, plan: Any, _folder: Path, _say: Any) -> dict[str, Any]:
        about = {"capabilities": list(ABLE), "missing": {}, "facts": {}, "semantics": {}}
        cost = {"echo_direct": {"count": 1, "p50_ms": 1.0}, "proxy_adds_ms": 1.0}
        cost["echo_through_proxy"] = cost["echo_direct"]
        faults = {"words": "none"}
        users = {"users": 5, "time_s": 2.0, "rate": None}
        return {
            **result(*told),
            "about": about,
            "status": "completed",
            "overhead": cost,
            "plan": {"seed": plan.seed, "objective": None, "faults": faults, "users": users},
        }

    monkeypatch.setattr("harness.commands.load.run_load", made)
    registry = str(tmp_path / "registry.sqlite3")
    words = ["load", "--engine", "reference", "--fail-on", "new", "--registry", registry]
    codes = [main([*words, "--quiet", "--out", str(tmp_path / name)]) for name in "ab"]
    assert codes == [1, 0]
    said = capsys.readouterr().out
    assert "BUG-001  critical  GRAPH-5   Under load a stage that did not run" in said
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert "0 new, 0 regressed, 1 unchanged" in capsys.readouterr().out
    assert main(["findings", "list", "--registry", registry]) == 0
    assert "seen 2x" in capsys.readouterr().out
    document = json.loads((tmp_path / "b" / "findings.json").read_text("utf-8"))
    assert findings.faults_of(document) == []
    (bug,) = [f for f in document["findings"] if f["kind"] == "bug"]
    assert bug["confirmation_note"] == (
        "Seen on a real machine, under load; again: dagstorm load --engine reference --users 50 "
        "--time 60s --seed 1"
    )
    for name in ("index.html", "dagstorm.sarif", "junit.xml", "executive.md"):
        assert "GRAPH-5" in (tmp_path / "b" / name).read_text("utf-8"), name
    assert "dagstorm replay" not in (tmp_path / "b" / "executive.md").read_text("utf-8")
