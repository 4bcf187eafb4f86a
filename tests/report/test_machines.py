"""What machines read: SARIF, JUnit, CSV, Prometheus and the job's summary page.

A SARIF log is held to the schema that OASIS publishes for 2.1.0 (`data/`, without its prose), and
to rules of the specification that a schema cannot say.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import jsonschema
import pytest

from harness.report import append_job_summary, render_run
from harness.report.job_summary import LIMIT_BYTES, NOTE
from harness.report.table import COLUMNS
from tests.report import hostile
from tests.report.fixture import write_campaign
from tests.report.test_page import CHANGES, HISTORY

CAMPAIGNS = {
    "usual": dict,
    "hostile": hostile.campaign,
    "empty": lambda: {"units": [], "engines": []},
}
DATA = Path(__file__).parent / "data"
PUBLISHED = Path(__file__).parents[2] / "reports"
SCHEMA = json.loads((DATA / "sarif-schema-2.1.0.json").read_text(encoding="utf-8"))


def render(folder: Path, name: str = "usual", *, compared: bool = False) -> Path:
    write_campaign(folder, **CAMPAIGNS[name]())
    if compared:
        (folder / "changes.json").write_text(json.dumps(CHANGES), "utf-8")
        (folder / "history.json").write_text(json.dumps(HISTORY), "utf-8")
    render_run(folder, formats=("sarif", "junit", "csv", "prom"))
    return folder


def findings(folder: Path) -> list[dict[str, Any]]:
    document = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = document["findings"]
    return found


# SARIF


def sarif(folder: Path) -> dict[str, Any]:
    log: dict[str, Any] = json.loads((folder / "dagstorm.sarif").read_text(encoding="utf-8"))
    return log


def faults_of_sarif(log: dict[str, Any]) -> list[str]:
    """Return what breaks the specification (sections of SARIF 2.1.0), for what dagstorm writes."""
    faults = []

    def check(holds: bool, said: str) -> None:
        if not holds:
            faults.append(said)

    def only(one: dict[str, Any], names: str, where: str) -> None:
        unknown = one.keys() - set(names.split())
        check(not unknown, f"{where}: unknown {sorted(unknown)}")

    def is_text(one: Any, where: str) -> None:
        check(
            isinstance(one, dict) and isinstance(one.get("text"), str) and bool(one["text"]),
            f"{where}: no text",
        )

    only(log, "$schema version runs", "log")
    check(log.get("version") == "2.1.0", "3.13.2 version")
    check(isinstance(log.get("runs"), list), "3.13.4 runs")
    for run in log["runs"]:
        only(
            run,
            "tool automationDetails invocations columnKind originalUriBaseIds results",
            "run",
        )
        driver = run["tool"]["driver"]
        only(driver, "name version rules", "driver")
        check(isinstance(driver["name"], str) and driver["name"] != "", "3.19.8 name")
        rules = driver["rules"]
        ids = [rule["id"] for rule in rules]
        check(len(set(ids)) == len(ids), "3.19.23 rules are unique")
        levels = ("none", "note", "warning", "error")
        for rule in rules:
            only(
                rule,
                "id shortDescription fullDescription help defaultConfiguration properties",
                "rule",
            )
            is_text(rule["shortDescription"], "3.49.9 shortDescription")
            is_text(rule["fullDescription"], "3.49.10 fullDescription")
            check(rule["defaultConfiguration"]["level"] in levels, "3.50.3 level")
            tags = rule["properties"]["tags"]
            check(len(set(tags)) == len(tags), "3.8.2 tags are unique")
        check(run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints"), "3.14.27 columnKind")
        for one in run["invocations"]:
            only(one, "executionSuccessful startTimeUtc endTimeUtc commandLine", "invocation")
            check(isinstance(one.get("executionSuccessful"), bool), "3.20.14 executionSuccessful")
            for name in ("startTimeUtc", "endTimeUtc"):
                said = one.get(name, "2026-01-01T00:00:00Z")
                pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
                check(re.fullmatch(pattern, said) is not None, f"3.9 {name}")
        for base in run["originalUriBaseIds"].values():
            check(str(base.get("uri", "/")).endswith("/"), "3.14.14 a base ends in a slash")
        states = [("baselineState" in r, "suppressions" in r) for r in run["results"]]
        check(len(set(states)) <= 1, "3.27.23, 3.27.24: on all results or on none")
        for result in run["results"]:
            only(
                result,
                "ruleId ruleIndex level message locations partialFingerprints properties "
                "baselineState suppressions",
                "result",
            )
            check(ids[result["ruleIndex"]] == result["ruleId"], "3.27.6 ruleIndex")
            check(result["level"] in levels, "3.27.10 level")
            is_text(result["message"], "3.27.11 message")
            check(
                all(isinstance(v, str) for v in result["partialFingerprints"].values()),
                "3.27.17 fingerprints are strings",
            )
            check(
                result.get("baselineState", "new") in ("new", "unchanged", "updated", "absent"),
                "3.27.24 baselineState",
            )
            for one in result.get("suppressions", ()):
                check(one["kind"] in ("inSource", "external"), "3.35.2 kind")
            for place in result["locations"]:
                only(place, "physicalLocation logicalLocations", "location")
                if "physicalLocation" in place:
                    where = place["physicalLocation"]["artifactLocation"]
                    split = urlsplit(where["uri"])
                    check(not (split.scheme or split.netloc), "3.4.4 relative to its base")
                    check(not where["uri"].startswith("/"), "3.4.4 relative to its base")
                    check(where["uri"].isascii(), "3.10.1 a URI is ASCII")
                    check(where["uriBaseId"] in run["originalUriBaseIds"], "3.4.4 uriBaseId")
                    check(place["physicalLocation"]["region"]["startLine"] >= 1, "3.30.5 line")
                for one in place["logicalLocations"]:
                    check(one["fullyQualifiedName"] != "", "3.33.5 name")
    return faults


def schema_faults(log: dict[str, Any]) -> list[str]:
    validator = jsonschema.validators.validator_for(SCHEMA)(SCHEMA)
    return [error.message for error in validator.iter_errors(log)]


@pytest.mark.parametrize("compared", [False, True])
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_sarif_obeys_the_specification(tmp_path: Path, name: str, compared: bool) -> None:
    log = sarif(render(tmp_path, name, compared=compared))
    assert faults_of_sarif(log) == []
    assert schema_faults(log) == []


@pytest.mark.parametrize(
    "path", sorted(PUBLISHED.glob("*/dagstorm.sarif")), ids=lambda p: p.parent.name
)
def test_published_sarif_obeys_the_specification(path: Path) -> None:
    log = json.loads(path.read_text(encoding="utf-8"))
    assert log["runs"][0]["results"]
    assert faults_of_sarif(log) == []
    assert schema_faults(log) == []


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda r: r["tool"]["driver"].update(name=1), "1 is not of type 'string'"),
        (
            lambda r: r["results"][0].update(level="high"),
            "'high' is not one of ['none', 'note', 'warning', 'error']",
        ),
        (
            lambda r: r.update(bugs=[]),
            "Additional properties are not allowed ('bugs' was unexpected)",
        ),
        (lambda r: r.pop("tool"), "'tool' is a required property"),
    ],
)
def test_the_published_schema_can_fail(tmp_path: Path, spoil: Any, expected: str) -> None:
    log = sarif(render(tmp_path))
    spoil(log["runs"][0])
    assert schema_faults(log) == [expected]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda r: r["tool"]["driver"].update(name=""), "3.19.8 name"),
        (lambda r: r["results"][0].update(ruleIndex=1), "3.27.6 ruleIndex"),
        (lambda r: r["results"][0].update(level="high"), "3.27.10 level"),
        (lambda r: r["results"][0].update(message={"text": ""}), "3.27.11 message: no text"),
        (
            lambda r: r["results"][0].update(baselineState="new"),
            "3.27.23, 3.27.24: on all results or on none",
        ),
        (lambda r: r["invocations"][0].update(startTimeUtc="today"), "3.9 startTimeUtc"),
        (lambda r: r.update(bugs=[]), "run: unknown ['bugs']"),
    ],
)
def test_the_check_of_sarif_can_fail(tmp_path: Path, spoil: Any, expected: str) -> None:
    log = sarif(render(tmp_path))
    spoil(log["runs"][0])
    assert faults_of_sarif(log) == [expected]


def test_a_result_names_clause_place_and_fingerprint(tmp_path: Path) -> None:
    render(tmp_path)
    (run,) = sarif(tmp_path)["runs"]
    first = run["results"][0]
    bug = findings(tmp_path)[0]
    assert first["ruleId"] == "CLEAN-1"
    assert first["level"] == "error"
    assert first["partialFingerprints"] == {"dagstorm/v1": bug["fingerprint"]}
    assert first["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "stageflow/pipeline/dag.py", "uriBaseId": "ENGINE"},
        "region": {"startLine": 276},
    }
    kinds = {f["id"]: f["kind"] for f in findings(tmp_path)}
    told = [result["properties"]["id"] for result in run["results"]]
    assert told == [i for i, kind in kinds.items() if kind in ("bug", "dx")]


def test_a_waived_finding_is_suppressed_and_a_known_one_unchanged(tmp_path: Path) -> None:
    (run,) = sarif(render(tmp_path, compared=True))["runs"]
    known, new = run["results"][:2]
    assert known["baselineState"] == "unchanged"
    assert known["suppressions"] == [{"kind": "external", "justification": "known & accepted"}]
    assert new["baselineState"] == "new"
    assert new["suppressions"] == []


def test_a_hostile_path_stays_a_path(tmp_path: Path) -> None:
    (run,) = sarif(render(tmp_path, "hostile"))["runs"]
    places = [r["locations"][0].get("physicalLocation") for r in run["results"]]
    uris = [p["artifactLocation"]["uri"] for p in places if p]
    assert all(re.fullmatch(r"[A-Za-z0-9._/%~-]+", uri) for uri in uris)
    assert [u for u in uris if unquote(u).startswith("/")] == []


# JUnit


def junit(folder: Path) -> ET.Element:
    return ET.fromstring((folder / "junit.xml").read_bytes())


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_junit_has_the_form_that_its_readers_share(tmp_path: Path, name: str) -> None:
    root = junit(render(tmp_path, name))
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        cases = suite.findall("testcase")
        counted = {
            "tests": len(cases),
            "failures": len(suite.findall("testcase/failure")),
            "errors": len(suite.findall("testcase/error")),
            "skipped": len(suite.findall("testcase/skipped")),
        }
        assert {name: int(suite.attrib[name]) for name in counted} == counted
        assert float(suite.attrib["time"]) >= 0
        assert [c.tag for c in suite] == ["properties", *["testcase"] * len(cases)]
        for case in cases:
            assert case.attrib.keys() == {"classname", "name", "time"}
            assert [c.tag for c in case] in ([], ["failure"], ["error"], ["skipped"])
        assert len({(c.get("classname"), c.get("name")) for c in cases}) == len(cases)
    for total in ("tests", "failures", "errors", "skipped"):
        assert int(root.attrib[total]) == sum(int(s.attrib[total]) for s in root)


def test_a_case_per_scenario_and_only_passes_pass(tmp_path: Path) -> None:
    root = junit(render(tmp_path))
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").split("\n")
    results = [json.loads(line) for line in lines if line]
    passed = {c.get("name") for c in root.iter("testcase") if len(c) == 0}
    assert len(list(root.iter("testcase"))) == len(results)
    assert len([c for c in root.iter("testcase") if len(c) == 0]) == sum(
        r["verdict"] == "pass" for r in results
    )
    assert passed
    words = [s.attrib["message"].split(":")[0] for s in root.iter("skipped")]
    assert sorted(words) == ["blocked", "inconclusive", "unsupported"]
    (failure, *_) = root.iter("failure")
    assert "BUG-001 high CLEAN-1: Resources are not released" in (failure.text or "")


def test_junit_holds_no_character_that_xml_forbids(tmp_path: Path) -> None:
    page = (render(tmp_path, "hostile") / "junit.xml").read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", page)
    assert "<script>" not in page
    (failure,) = ET.fromstring(page).iter("failure")
    assert hostile.PIECES[0] in failure.attrib["message"]


# CSV


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_table_has_a_row_per_finding(tmp_path: Path, name: str) -> None:
    page = (render(tmp_path, name) / "findings.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(io.StringIO(page)))
    assert page.split("\n", 1)[0] == ",".join(COLUMNS)
    assert [row["id"] for row in rows] == [f["id"] for f in findings(tmp_path)]
    assert [c for row in rows for c in row.values() if c.startswith(("=", "+", "@", "\t"))] == []


def test_a_text_that_a_spreadsheet_would_run_is_marked_as_text(tmp_path: Path) -> None:
    formula = "=HYPERLINK(1)"
    write_campaign(tmp_path)
    path = tmp_path / "findings.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["findings"][0]["actual"] = formula
    path.write_text(json.dumps(document), "utf-8")
    render_run(tmp_path, formats=("csv",))
    page = (tmp_path / "findings.csv").read_text(encoding="utf-8")
    assert next(csv.DictReader(io.StringIO(page)))["actual"] == f"'{formula}"


# Prometheus

SAMPLE = re.compile(
    r'(?P<name>[a-z_]+)(?:\{(?P<labels>(?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? '
    r"(?P<value>-?[0-9]+(?:\.[0-9]+)?)"
)


@pytest.mark.parametrize("compared", [False, True])
@pytest.mark.parametrize("name", CAMPAIGNS)
def test_prometheus_text_has_its_format(tmp_path: Path, name: str, compared: bool) -> None:
    page = (render(tmp_path, name, compared=compared) / "dagstorm.prom").read_text("utf-8")
    typed: list[str] = []
    seen: set[str] = set()
    assert page.endswith("\n")
    for line in page[:-1].split("\n"):
        if line.startswith("# TYPE "):
            typed.append(line.split()[2])
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match is not None, line
            assert match["name"] == typed[-1], "a family's samples stand together"
            assert line.rsplit(" ", 1)[0] not in seen
            seen.add(line.rsplit(" ", 1)[0])
    assert len(set(typed)) == len(typed)


def test_prometheus_counts_are_the_data_s(tmp_path: Path) -> None:
    page = (render(tmp_path, compared=True) / "dagstorm.prom").read_text("utf-8")
    lines = page.split("\n")
    assert 'dagstorm_run_completed{profile="default"} 1' in lines
    assert 'dagstorm_results{engine="stageflow@0.5.1",verdict="fail"} 2' in lines
    exercised = 'dagstorm_clause_exercised_runs{engine="stageflow@0.5.1",clause="CLEAN-1"} 80'
    violating = 'dagstorm_clause_violating_runs{engine="stageflow@0.5.1",clause="CLEAN-1"} 50'
    assert exercised in lines
    assert violating in lines
    assert 'dagstorm_findings_changed{change="new"} 1' in lines
    assert "dagstorm_run_start_timestamp_seconds 1768811400" in lines


# The job's summary page


def test_the_summary_is_appended_where_github_says(tmp_path: Path) -> None:
    render_run(write_campaign(tmp_path), formats=("md",))
    page = tmp_path / "step.md"
    page.write_text("before\n", "utf-8")
    assert append_job_summary(tmp_path, {"GITHUB_STEP_SUMMARY": str(page)}) == page
    summary = (tmp_path / "summary.md").read_text("utf-8")
    assert page.read_text("utf-8") == "before\n" + summary


def test_without_the_variable_nothing_is_written(tmp_path: Path) -> None:
    assert append_job_summary(tmp_path, {}) is None
    assert append_job_summary(tmp_path, {"GITHUB_STEP_SUMMARY": ""}) is None
    assert list(tmp_path.iterdir()) == []


def test_a_summary_that_github_would_refuse_is_cut_between_lines(tmp_path: Path) -> None:
    (tmp_path / "summary.md").write_text("| a | ü |\n" * 200_000, "utf-8")
    page = tmp_path / "step.md"
    append_job_summary(tmp_path, {"GITHUB_STEP_SUMMARY": str(page)})
    text = page.read_text("utf-8")
    assert len(text.encode("utf-8")) <= LIMIT_BYTES
    assert text.endswith(NOTE)
    assert set(text.removesuffix(NOTE).split("\n")) == {"| a | ü |", ""}
