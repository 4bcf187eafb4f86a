"""Reports as a whole: their sections, their bytes, and what happens with little or bad data."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from harness.report import render_run
from tests.report import fixture
from tests.report.fixture import METADATA, STAGEFLOW, clause, unit, witness, write_campaign

SNAPSHOTS = Path(__file__).parent / "snapshots"
# To take new snapshots: DAGSTORM_SNAPSHOTS=write python -m pytest tests/report/test_render.py
WRITE = os.environ.get("DAGSTORM_SNAPSHOTS") == "write"

SECTIONS = [
    "## Executive Summary",
    "### Key Metrics",
    "### Verdict",
    "## 1. Research Summary",
    "### 1.1 Industry Context",
    "### 1.2 Technical Context",
    "### 1.3 How stageflow@0.5.1 Does It",
    "### 1.4 Hypotheses",
    "## 2. Environment Simulation",
    "### 2.1 Industry Persona",
    "### 2.2 Stages and Mocks",
    "### 2.3 Faults Injected",
    "## 3. Test Results",
    "### 3.1 Test Execution Summary",
    "### 3.2 Detailed Results",
    "### 3.3 Timelines of Failed Tests",
    "## 4. Findings",
    "### 4.1 Bugs",
    "### 4.2 DX Issues",
    "### 4.3 Improvements",
    "### 4.4 Strengths",
    "## 5. Detailed Analysis",
    "### BUG-001: Resources are not released",
    "### BUG-002: Default title of CLEAN-2",
    "## 6. Developer Experience",
    "### 6.1 Scores",
    "### 6.2 Rules for Probed Facts",
    "## 7. Recommendations",
    "### Immediate (P0)",
    "### Short-Term (P1)",
    "### Long-Term (P2)",
    "## 8. Claims Review",
    "## 9. Artifacts",
    "## Conclusion",
]


def render(folder: Path, **replaced: Any) -> str:
    write_campaign(folder, **replaced)
    render_run(folder)
    return (folder / "missions" / "DAG-009.md").read_text(encoding="utf-8")


def of_one_engine(**more: Any) -> dict[str, Any]:
    return {
        "units": [u for u in fixture.units() if u["engine"] == "stageflow"],
        "engines": fixture.engines()[:1],
        **more,
    }


def headings(page: str) -> list[str]:
    return re.findall(r"^#{2,3} .*$", page, re.MULTILINE)


@pytest.mark.parametrize(
    "name",
    [
        "missions/DAG-009.md",
        "tiers/1.md",
        "executive.md",
        "summary.md",
        "results.jsonl",
        "index.html",
        "pictures/BUG-001.svg",
        "dagstorm.sarif",
        "junit.xml",
        "findings.csv",
        "dagstorm.prom",
    ],
)
def test_snapshot(tmp_path: Path, name: str) -> None:
    render(tmp_path)
    page = (tmp_path / name).read_text(encoding="utf-8")
    kept = SNAPSHOTS / name.replace("tiers/", "tier-").rsplit("/", 1)[-1]
    if WRITE:
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(page, encoding="utf-8")
    assert page == kept.read_text(encoding="utf-8")


def test_a_report_of_one_engine_has_every_section_in_order(tmp_path: Path) -> None:
    assert headings(render(tmp_path, **of_one_engine())) == SECTIONS


def test_several_engines_have_a_chapter_each(tmp_path: Path) -> None:
    page = render(tmp_path)
    assert re.findall(r"^# .*$", page, re.MULTILINE) == [
        "# Mission Report: DAG-009 - Stage timeout and cancellation propagation",
        "# stageflow@0.5.1",
        "# reference@0.1.0",
    ]
    assert "> **Engines**: stageflow@0.5.1, reference@0.1.0  \n" in page
    assert page.count("## 9. Artifacts") == 2


def test_rendering_again_gives_the_same_bytes(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    first = {p: p.read_bytes() for p in render_run(tmp_path)}
    second = {p: p.read_bytes() for p in render_run(tmp_path)}
    assert first == second
    assert sorted(str(p.relative_to(tmp_path)) for p in first) == [
        "dagstorm.prom",
        "dagstorm.sarif",
        "executive.md",
        "findings.csv",
        "index.html",
        "junit.xml",
        "missions/DAG-009.md",
        "pictures/BUG-001.svg",
        "pictures/BUG-002.svg",
        "pictures/risk-1.svg",
        "summary.md",
        "tiers/1.md",
    ]
    assert list(tmp_path.rglob("*.part")) == []


def test_a_campaign_that_ran_nothing_says_so_everywhere(tmp_path: Path) -> None:
    page = render(tmp_path, units=[], engines=[])
    assert "No engine was run, so this report has no chapter and nothing was measured." in page
    assert "| no engine was run | — | — | — |" in page
    page = render(tmp_path / "b", units=[], engines=fixture.engines()[:1])
    empty = [
        "No scenario of this mission was run on this engine, so no stages were built.",
        "No mocks were used.",
        "No faults were injected from outside the programs.",
        "No test failed, so there is no timeline.",
        "No bug was found.",
        "No clause held in every scenario that judges it.",
        "There is no finding of critical or high severity.",
        "Nothing was judged, so nothing can be said of this engine.",
    ]
    assert [line for line in empty if line not in page] == []
    assert "**INCOMPLETE**" in page


def test_a_campaign_without_missions_has_a_summary(tmp_path: Path) -> None:
    write_campaign(tmp_path, missions=[])
    written = [p for p in render_run(tmp_path) if p.suffix == ".md"]
    assert [p.name for p in written] == ["executive.md", "summary.md"]
    assert "| no mission was run | — | — | — |" in (tmp_path / "summary.md").read_text("utf-8")


def test_whether_the_run_was_interrupted_is_read_from_run_json(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    (tmp_path / "run.json").write_text('{"status": "interrupted", "seed": 999}', "utf-8")
    render_run(tmp_path)
    page = (tmp_path / "missions" / "DAG-009.md").read_text(encoding="utf-8")
    assert "> **Status**: INTERRUPTED" in page
    assert "> **Seed**: 4711" in page


def test_what_a_run_did_not_record_is_said_to_be_so(tmp_path: Path) -> None:
    page = render(tmp_path, metadata={"run_id": "r"})
    assert "> **Seed**: not recorded" in page


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "findings.json: not valid JSON"),
        ("[]", "not a findings file; run the campaign again"),
        ("{}", "not a findings file; run the campaign again"),
    ],
)
def test_data_that_cannot_be_read_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "findings.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)):
        render_run(tmp_path)


def test_a_mission_id_cannot_lead_out_of_the_run_directory(tmp_path: Path) -> None:
    missions = [{**fixture.missions()[0], "id": "../../out"}]
    write_campaign(tmp_path / "run", missions=missions)
    with pytest.raises(ValueError, match="cannot name a file"):
        render_run(tmp_path / "run")
    assert list(tmp_path.rglob("*.md")) == []


HOSTILE = (
    "</td><script>alert(1)</script> | ![x](http://h/x.png) `code` ``` \u202egnp.exe\u202c "
    "\x1b[31m {{ 7*7 }} {% raw %} \n\n# Heading\n| a | b |\n---\n<!-- " + "long " * 2000
)


def hostile_campaign() -> dict[str, Any]:
    """Put hostile text wherever an engine can put any."""
    name = HOSTILE[:100]
    shown = fixture.program(fixture.stage(name, {"op": "call", "tool": name, "seconds": 9}))
    journal = [
        [0.0, "r0", name, "stage.start", None],
        [0.0, "r0", name, "call.begin", [name, 1]],
        [1.0, "r0", name, "stage.end", f"raise:{HOSTILE}"],
    ]
    seen = witness(
        "CLEAN-1",
        "not-released",
        1,
        2,
        expected=HOSTILE,
        actual=HOSTILE,
        stage=name,
        location=f"{HOSTILE}:3 {HOSTILE}",
        figures={HOSTILE: HOSTILE},
        journal=journal,
        at=[0, 1, 2],
    )
    row = unit(
        STAGEFLOW,
        "timeouts/simple_timeout",
        "fail",
        reason=HOSTILE,
        program=shown,
        figures={HOSTILE: HOSTILE},
        clauses={"CLEAN-1": clause("fail", 2, 1, figures={HOSTILE: 3}, reason=HOSTILE)},
        witnesses=[seen],
    )
    lacking = unit(
        STAGEFLOW,
        "timeouts/heartbeat",
        "unsupported",
        reason=HOSTILE,
        clauses_judged=["TIME-9"],
        missing={"heartbeat": HOSTILE},
    )
    engine = {
        **fixture.engines()[0],
        "missing": {"heartbeat": HOSTILE, "checkpoint": HOSTILE},
        "facts": {"hello_lines": HOSTILE, "validates_graph": {HOSTILE: False}},
        "semantics": {"TIME-4": HOSTILE},
    }
    return {"units": [row, lacking], "engines": [engine]}


def outside_of_code(page: str) -> str:
    """Return a page without its fenced blocks and inline code."""
    page = re.sub(r"^(`{3,}).*?^\1$", "", page, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(?<![`\\])(`+)(?!`)(?:(?!\1(?!`)).)*(?<!`)\1(?!`)", "", page)


def test_hostile_texts_change_neither_structure_nor_markup(tmp_path: Path) -> None:
    page = render(tmp_path, **hostile_campaign())
    titles = [h for h in SECTIONS if not h.startswith("### BUG-002")]
    assert headings(outside_of_code(page)) == titles
    rest = outside_of_code(page)
    ours = {"<details>", "<summary>", "</summary>", "</details>"}
    assert set(re.findall(r"<[^>\n]*>?", rest)) <= ours
    ours = r"!\[Timeline of BUG-[0-9]+: [a-z, ]+\]\(\.\./pictures/BUG-[0-9]+\.svg\)"
    assert len(re.findall(ours, rest)) == 1
    assert re.findall(r"(?<!\\)!?(?<!\\)\[[^\]]*\]\(", re.sub(ours, "", rest)) == []
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", page)
    assert max(len(line) for line in page.splitlines()) < 12_000


def test_hostile_texts_leave_every_table_its_columns(tmp_path: Path) -> None:
    rest = outside_of_code(render(tmp_path, **hostile_campaign()))
    tables = re.findall(r"(?:^\|.*\|$\n)+", rest, re.MULTILINE)
    assert len(tables) > 15
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table[:300]


def test_hostile_texts_are_kept_in_the_data(tmp_path: Path) -> None:
    render(tmp_path, **hostile_campaign())
    found = json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["findings"]
    assert found[0]["expected"].startswith(HOSTILE[:200])
    assert METADATA["run_id"] == found[0]["first_seen"] == found[0]["last_seen"]
