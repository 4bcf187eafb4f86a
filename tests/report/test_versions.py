"""The versions table as pages: well-formed whatever an engine says, the same bytes each time."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from harness.report.render import environment
from harness.report.versions import SIGNS, render_versions
from tests.findings.test_versions import VERSIONS, finding, result

HOSTILE = "</title><script>alert(1)</script> & \u202e \x00 \ud800 | `x`"


def render(folder: Path, title: str = "It is late") -> dict[str, str]:
    document = {
        "metadata": {
            "engines": [{"name": "some", "version": v} for v in VERSIONS],
            "missions": [],
        },
        "findings": [{**finding(("1.0.0", 2)), "title": title}],
    }
    results = [result("0.9.0", "pass"), result("1.0.0", "fail")]
    paths = render_versions(environment(), folder, document, results)
    return {p.name: p.read_text(encoding="utf-8") for p in paths}


def test_the_table_shows_each_verdict_by_its_sign(tmp_path: Path) -> None:
    page = render(tmp_path)["versions.md"]
    (row,) = [line for line in page.splitlines() if line.startswith("| BUG-001")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[4:7] == [SIGNS["pass"], SIGNS["not run"], SIGNS["fail"]]
    assert cells[7] == "came with 1.0.0"


def test_the_picture_is_well_formed_and_loads_nothing(tmp_path: Path) -> None:
    picture = render(tmp_path, HOSTILE)["versions-some.svg"]
    root = ElementTree.fromstring(picture)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names == {"svg", "title", "rect", "text", "g"}
    assert not any("href" in key or key.startswith("on") for e in root.iter() for key in e.attrib)
    signs = [e.text for e in root.iter() if e.get("text-anchor") == "middle"][len(VERSIONS) :]
    assert signs == [SIGNS["pass"], SIGNS["not run"], SIGNS["fail"]]


def test_hostile_text_stays_text_in_the_table(tmp_path: Path) -> None:
    page = render(tmp_path, HOSTILE)["versions.md"]
    assert "<script>" not in page
    assert len([line for line in page.splitlines() if line.startswith("| BUG-001")]) == 1


def test_the_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    assert render(tmp_path) == render(tmp_path)
