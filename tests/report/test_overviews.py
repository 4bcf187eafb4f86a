"""Tier and executive reports: their sections, and that each figure comes from its own datum."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.report import render_run
from tests.report import hostile
from tests.report.fixture import write_campaign
from tests.report.test_render import headings, of_one_engine, outside_of_code

EXECUTIVE = [
    "## Since the Last Run",
    "## Executive Summary",
    "## Critical Findings",
    "### BUG-001: Resources are not released",
    "### BUG-002: Default title of CLEAN-2",
    "## Code Evidence Review",
    "## Risk Matrix",
    "## Readiness Timeline",
    "## Go/No-Go Matrix",
    "## Industry Exposure",
    "## Success Criteria",
    "## Continuous Testing Plan",
    "## Next Steps",
    "## Rules",
]
AREA = ["### What Works: Current Guarantees", "### Gaps", "### Implications"]
AREA += ["### Recommended Actions"]
TIER = [
    "## Scope",
    *["## Context and State Management (CORE)", *AREA],
    *["## DAG Execution and Scheduling (DAG)", *AREA],
    *["## Stage Contract Enforcement (CONTRACT)", *AREA],
    *["## Further Clauses and Developer Experience", *AREA],
    "## Overall Assessment",
    "## Recommended Next Missions",
    "## Verdict",
]
# In the data for the pictures, or printed as a word.
NOT_PRINTED = {"effort_rank"}


def page(folder: Path, name: str, **replaced: Any) -> str:
    write_campaign(folder, **replaced)
    render_run(folder, formats=("md",))
    return (folder / name).read_text(encoding="utf-8")


def test_the_executive_report_has_every_section(tmp_path: Path) -> None:
    assert headings(page(tmp_path, "executive.md", **of_one_engine())) == EXECUTIVE


def test_the_tier_report_has_every_section(tmp_path: Path) -> None:
    assert headings(page(tmp_path, "tiers/1.md", **of_one_engine())) == TIER


def test_what_only_people_know_is_left_to_them(tmp_path: Path) -> None:
    text = page(tmp_path, "executive.md", **of_one_engine())
    assert text.count("**Business impact**: *[to be supplied by a human]*") == 3
    assert "Staff, start and gates: *[to be supplied by a human]*" in text


def test_a_picture_that_is_shown_is_there(tmp_path: Path) -> None:
    shown = re.findall(r"\]\(([^)]+\.svg)\)", page(tmp_path, "executive.md"))
    assert shown == ["pictures/risk-1.svg"]
    assert (tmp_path / shown[0]).is_file()
    mission = (tmp_path / "missions" / "DAG-009.md").read_text(encoding="utf-8")
    shown = re.findall(r"\]\(([^)]+\.svg)\)", mission)
    assert shown == ["../pictures/BUG-001.svg", "../pictures/BUG-002.svg"]
    assert all((tmp_path / "missions" / name).is_file() for name in shown)


def test_links_of_a_tier_lead_to_its_missions(tmp_path: Path) -> None:
    (target,) = re.findall(r"\]\(([^)]+\.md)\)", page(tmp_path, "tiers/1.md"))
    assert (tmp_path / "tiers" / target).is_file()


def numbers(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from numbers(value, (*path, key))
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from numbers(value, (*path, i))
    elif isinstance(data, (int, float)) and not isinstance(data, bool):
        yield path


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("executive.md", ("executive", "chapters", 0)),
        ("tiers/1.md", ("tiers", 0, "chapters", 0, "counts")),
        ("tiers/1.md", ("tiers", 0, "chapters", 0, "next_missions")),
        ("tiers/1.md", ("tiers", 0, "chapters", 0, "missions")),
    ],
)
def test_each_figure_is_printed_from_its_own_datum(
    tmp_path: Path, name: str, where: tuple[Any, ...]
) -> None:
    before = page(tmp_path, name)
    path = tmp_path / "findings.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    part = document["metadata"]
    for key in where:
        part = part[key]
    planted = {}
    for number, place in enumerate(list(numbers(part)), 77001):
        if place[-1] in NOT_PRINTED:
            continue
        at = part
        for key in place[:-1]:
            at = at[key]
        # A count of nothing may hide its row, so only numbers that are there are replaced.
        if at[place[-1]]:
            at[place[-1]] = number
            planted[str(number)] = place
    path.write_text(json.dumps(document), encoding="utf-8")
    render_run(tmp_path, formats=("md",))
    after = (tmp_path / name).read_text(encoding="utf-8")
    assert len(planted) > 1
    assert {n: p for n, p in planted.items() if n not in after} == {}
    assert not any(n in before for n in planted)


@pytest.mark.parametrize("name", ["executive.md", "tiers/1.md", "summary.md"])
def test_hostile_texts_change_no_table_and_bring_no_markup(tmp_path: Path, name: str) -> None:
    text = page(tmp_path, name, **hostile.campaign())
    rest = outside_of_code(text)
    assert re.findall(r"<[^>\n]*>?", rest) == []
    assert re.findall(r"(?<!\\)!?(?<!\\)\[x\]\(", rest) == []
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]", text)
    tables = re.findall(r"(?:^\|.*\|$\n)+", rest, re.MULTILINE)
    assert tables
    for table in tables:
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(widths) == 1, table[:300]
    assert max(len(line) for line in text.splitlines()) < 12_000
