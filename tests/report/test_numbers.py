"""A number that no run produced cannot be printed.

Two nets: every number of a rendered report is looked up in the data, and the templates
themselves are held to print data only, with no digits and no arithmetic of their own. The
first alone would let a wrong but common number through, the second alone a wrong filter.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from harness.report import render_run
from harness.report.escape import FILTERS
from harness.report.render import environment
from tests.report.fixture import write_campaign
from tests.report.numbers import EXEMPT, NUMBER, numbers_of_report, untraceable

# Pictures are drawn by numbers of their own: places and colours.
TEMPLATES = [t for t in sorted(environment().list_templates()) if t.endswith(".md.j2")]
# Filters of Jinja that change letters, never numbers.
LETTERS = {"upper", "capitalize"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_campaign(tmp_path_factory.mktemp("run"))
    render_run(folder)
    return folder


def pages(folder: Path) -> list[Path]:
    chapters = [
        *sorted((folder / "missions").glob("*.md")),
        *sorted((folder / "tiers").glob("*.md")),
    ]
    return [*chapters, folder / "executive.md", folder / "summary.md"]


def test_every_number_of_a_report_stands_in_the_data(folder: Path) -> None:
    for path in pages(folder):
        page = path.read_text(encoding="utf-8")
        assert len(numbers_of_report(page)) > 15, "the report prints numbers at all"
        assert untraceable(page, folder) == set(), path.name


@pytest.mark.parametrize(
    "planted",
    [
        "31337",
        "| Runs | 31337 |",
        "**31337**",
        "took 313\\.37 s",
        "0.6251",
        "## 31337",
        "P31337",
        "1/31337",
        "31337ms",
        "`31337`",
    ],
)
def test_a_planted_number_is_found(folder: Path, planted: str) -> None:
    page = pages(folder)[0].read_text(encoding="utf-8")
    assert untraceable(f"{page}\n{planted}\n", folder) != set()


def test_a_number_that_was_changed_on_the_way_is_found(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "findings.json").read_text(encoding="utf-8"))
    chapter = document["metadata"]["missions"][0]["chapters"][0]
    chapter["execution"][0]["average_virtual_s"] = 98.765
    (tmp_path / "findings.json").write_text(json.dumps(document), encoding="utf-8")
    shutil.copy(folder / "results.jsonl", tmp_path)
    (page,) = [p for p in render_run(tmp_path) if p.name == "DAG-009.md"]
    assert untraceable(page.read_text(encoding="utf-8"), folder) == {"98.765"}


@pytest.mark.parametrize(
    "page", ["## 1. Research Summary", "### 4.1 Bugs", "1. first", "### Immediate (P0)"]
)
def test_what_is_exempt(page: str) -> None:
    assert numbers_of_report(page) == set()


def own_numbers(env: jinja2.Environment, source: str) -> list[str]:
    """Return what a template prints or reckons that is not from the data."""
    tree = env.parse(source)
    found = [
        number
        for data in tree.find_all(nodes.TemplateData)
        for number in NUMBER.findall(EXEMPT.sub(" ", data.data))
    ]
    arithmetic = (
        nodes.Add,
        nodes.Sub,
        nodes.Mul,
        nodes.Div,
        nodes.FloorDiv,
        nodes.Mod,
        nodes.Pow,
        nodes.Neg,
        nodes.Pos,
    )
    found += [type(node).__name__ for node in tree.find_all(arithmetic)]
    found += [
        f"|{node.name}"
        for node in tree.find_all(nodes.Filter)
        if node.name not in FILTERS and node.name not in LETTERS
    ]
    found += [
        f"loop.{node.attr}"
        for node in tree.find_all(nodes.Getattr)
        if isinstance(node.node, nodes.Name) and node.node.name == "loop"
        if node.attr not in ("first", "last")
    ]
    # A constant may be a place in a journal entry, or text, but not a number to be printed.
    places = {id(node.arg) for node in tree.find_all(nodes.Getitem)}
    found += [
        repr(node.value)
        for node in tree.find_all(nodes.Const)
        if id(node) not in places and NUMBER.search(str(node.value).removesuffix(".md.j2"))
    ]
    return found


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_prints_no_number_of_its_own(name: str) -> None:
    env = environment()
    assert env.loader is not None
    source, _, _ = env.loader.get_source(env, name)
    assert own_numbers(env, source) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("about 30 runs", ["30"]),
        ("{{ a.b * 100 }}", ["Mul", "100"]),
        ("{{ a|length }}", ["|length"]),
        ("{{ a|sum }}", ["|sum"]),
        ("{% for x in a %}{{ loop.index }}{% endfor %}", ["loop.index"]),
        ("{{ '3 of 4'|cell }}", ["'3 of 4'"]),
        ("{{ e[0]|cell }}", []),
    ],
)
def test_the_check_of_templates_can_fail(source: str, expected: list[str]) -> None:
    assert own_numbers(environment(), source) == expected


def test_there_are_templates_to_check() -> None:
    assert "mission.md.j2" in TEMPLATES
    assert len(TEMPLATES) >= 4


def test_what_is_printed_passes_a_filter_for_its_place() -> None:
    """Marks are ours, includes and macros were filtered inside; everything else is escaped."""
    env = environment()
    assert env.loader is not None
    unfiltered = set()
    for name in TEMPLATES:
        tree = env.parse(env.loader.get_source(env, name)[0])
        for output in tree.find_all(nodes.Output):
            for node in output.nodes:
                if not isinstance(node, nodes.TemplateData) and not _is_safe(node):
                    unfiltered.add(f"{name}: line {node.lineno}")
    assert unfiltered == set()


def _is_safe(node: nodes.Expr) -> bool:
    if isinstance(node, nodes.Filter):
        return node.name in FILTERS
    if isinstance(node, nodes.CondExpr):
        return _is_safe(node.expr1) and (node.expr2 is None or _is_safe(node.expr2))
    if isinstance(node, nodes.Const):
        return True
    if isinstance(node, nodes.Call):  # a macro of _finding.md.j2
        called = node.node
        return isinstance(called, nodes.Name) or (
            isinstance(called, nodes.Getattr) and getattr(called.node, "name", "") == "show"
        )
    return isinstance(node, nodes.Getattr) and node.attr == "mark"
