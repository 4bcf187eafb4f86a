"""What leans on asyncio's order stands in the reports as notes: never counted, never trusted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.report import render_run
from tests.report import hostile
from tests.report.fixture import write_campaign
from tests.report.test_page import Document

TITLE = "Leans on asyncio's order"
NOTE = {
    "engine": "stageflow",
    "engine_version": "0.5.1",
    "scenario": "timeouts/simple_timeout",
    "clause": "GRAPH-3",
    "mode": "pct",
    "hits": 3,
    "runs": 20,
    "seed": 7,
    "expected": "stage b reads 1",
    "actual": "it reads none",
    "legal": False,
    "legal_tries": 300,
    "nondeterministic": False,
}


def pages(folder: Path, notes: list[dict[str, Any]] | None) -> tuple[str, Document]:
    """Return the mission report and the page of a campaign with these notes."""
    write_campaign(folder)
    if notes is not None:
        data = json.dumps({"notes": notes})
        (folder / "notes.json").write_text(data, encoding="utf-8")
    render_run(folder, formats=("md", "html"))
    (mission,) = sorted((folder / "missions").glob("*.md"))
    page = Document((folder / "index.html").read_text(encoding="utf-8"))
    return mission.read_text(encoding="utf-8"), page


def test_a_note_is_told_with_its_hits_and_what_it_means(tmp_path: Path) -> None:
    mission, page = pages(tmp_path, [NOTE])
    section = mission.split(f"## {TITLE} (notes, not bugs)")[1]
    assert "is no bug" in section
    (row,) = [line for line in section.splitlines() if "GRAPH-3" in line]
    assert [one.strip() for one in row.strip("|").split("|")] == [
        "stageflow 0.5.1",
        "timeouts/simple\\_timeout" if "simple\\_" in row else "timeouts/simple_timeout",
        "GRAPH-3",
        "pct, seed 7",
        "3 of 20",
        "stage b reads 1",
        "it reads none",
        "300 more legal runs do not show it",
    ]
    assert ("a", {"href": "#order"}) in page.elements
    text = " ".join(" ".join(page.text).split())
    assert "Notes, not bugs." in text and "3 of 20" in text
    assert "300 more legal runs do not show it" in text


def test_a_note_changes_no_count_and_no_verdict(tmp_path: Path) -> None:
    without, _ = pages(tmp_path / "without", None)
    mission, _ = pages(tmp_path / "with", [NOTE])
    before, after = mission.split(f"## {TITLE}")
    assert before.rstrip() == without.split("\n---\n\n*")[0].rstrip()
    assert after.rstrip().endswith(without.rstrip().rsplit("\n", 1)[1])
    assert TITLE not in without
    names = ("findings.json", "summary.md", "executive.md")
    for name in names:
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_where_the_tier_showed_nothing_new_it_says_so(tmp_path: Path) -> None:
    known = {**NOTE, "legal": True, "legal_tries": 0}
    other = {**NOTE, "scenario": "elsewhere/x"}
    mission, page = pages(tmp_path, [known, other])
    assert "anything that its legal runs had not shown" in mission.split(TITLE)[1]
    assert "GRAPH-3" not in mission.split(TITLE)[1]
    assert "elsewhere/x" in " ".join(page.text)


def test_hostile_notes_are_text(tmp_path: Path) -> None:
    bad = hostile.HOSTILE[:5_000]
    told = {**NOTE, "clause": bad, "mode": bad, "expected": bad, "actual": bad}
    mission, page = pages(tmp_path, [told, {**told, "scenario": f"{bad}/x"}])
    section = mission.split(TITLE)[1]
    assert re.findall(r"(?<!\\)<[^>\n]*>?", section) == []
    table = re.findall(r"(?:^\|.*\|$\n)+", section, re.MULTILINE)[0]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert page.badly_nested == [] and page.open == []
    assert [n for _, attrs in page.elements for n in attrs if n.startswith("on")] == []
    assert sum(tag == "script" for tag, _ in page.elements) == 1


def test_notes_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    (tmp_path / "notes.json").write_text('{"notes": 7}', encoding="utf-8")
    with pytest.raises(ValueError, match="notes is not a list; run the campaign again"):
        render_run(tmp_path, formats=("md",))
