"""index.html as a document: what any parser sees, whatever an engine said."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from harness.report import render_run
from harness.report.charts import drop_rows, latency_rows
from harness.report.page import LIMIT_BYTES, LIMIT_FINDINGS, SIZES
from tests.report import hostile
from tests.report.fixture import write_campaign

VOID = {"meta", "link", "br", "img", "input", "hr", "path", "rect", "circle"}
CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'"
)


class Document(HTMLParser):
    """The elements of a page with their attributes, and whether they are well nested."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.badly_nested: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.badly_nested.append(tag)

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


def render(folder: Path, **replaced: Any) -> Document:
    write_campaign(folder, **replaced)
    render_run(folder, formats=("html",))
    return Document((folder / "index.html").read_text(encoding="utf-8"))


CAMPAIGNS = {
    "usual": dict,
    "hostile": hostile.campaign,
    "empty": lambda: {"units": [], "engines": []},
    "without missions": lambda: {"missions": []},
}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_the_page_is_whole_and_stands_alone(tmp_path: Path, name: str) -> None:
    page = render(tmp_path, **CAMPAIGNS[name]())
    assert page.badly_nested == []
    assert page.open == []
    assert [i for i, n in Counter(page.values("id")).items() if n > 1] == []
    assert page.values("src") == []
    known = set(page.values("id"))
    targets = page.values("href")
    assert [t for t in targets if t.startswith("#") and t[1:] not in known] == []
    # A colon before the first slash would be a scheme; a link's target is a file beside the page.
    assert [t for t in targets if ":" in t.split("/")[0] and t != "data:,"] == []
    assert [n for _, attrs in page.elements for n in attrs if n.startswith("on")] == []
    assert ("meta", {"http-equiv": "Content-Security-Policy", "content": CSP}) in page.elements
    assert sum(tag == "script" for tag, _ in page.elements) == 1


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_controls_have_labels_and_pictures_have_names(tmp_path: Path, name: str) -> None:
    page = render(tmp_path, **CAMPAIGNS[name]())
    labelled = {attrs.get("for") for tag, attrs in page.elements if tag == "label"}
    controls = [a["id"] for tag, a in page.elements if tag in ("input", "select")]
    assert len(controls) == 8
    assert set(controls) <= labelled
    known = set(page.values("id"))
    for names in page.values("aria-labelledby"):
        assert set(names.split()) <= known
    assert all("aria-labelledby" in a for tag, a in page.elements if tag == "svg")
    tables = sum(tag == "table" for tag, _ in page.elements)
    assert tables == sum(tag == "caption" for tag, _ in page.elements) > 0
    assert all(a.get("scope") in ("col", "row") for tag, a in page.elements if tag == "th")


def test_hostile_texts_are_text(tmp_path: Path) -> None:
    text = " ".join(render(tmp_path, **hostile.campaign()).text)
    for piece in hostile.PIECES[:6]:
        assert " ".join(piece.split()) in text
    assert re.search(r"\[cut; [0-9]{4,} characters\]", text), "the length of what was cut is told"
    assert not set(text) & set("\u202e\u202c\u2066\ufeff\x00\x1b\x08")


@pytest.mark.parametrize("kind", ["usual", pytest.param("hostile", marks=pytest.mark.slow)])
def test_five_hundred_findings_stay_under_two_megabytes(tmp_path: Path, kind: str) -> None:
    write_campaign(tmp_path, **CAMPAIGNS[kind]())
    path = tmp_path / "findings.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["findings"] = hostile.many(document["findings"], 500)
    path.write_text(json.dumps(document), encoding="utf-8")
    (page,) = [p for p in render_run(tmp_path, formats=("html",)) if p.name == "index.html"]
    assert page.stat().st_size <= LIMIT_BYTES < 2_000_000
    text = page.read_text(encoding="utf-8")
    assert text.count("<article") == 500
    drawn = text.count('aria-labelledby="p-BUG-')
    assert drawn + text.count("the page's limit of size is reached") == 500
    assert (tmp_path / "pictures" / "BUG-500.svg").exists()
    assert SIZES[0][0] < LIMIT_BYTES


def test_more_findings_than_the_page_takes_are_said_to_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert LIMIT_FINDINGS >= 500
    monkeypatch.setattr("harness.report.page.LIMIT_FINDINGS", 30)
    write_campaign(tmp_path)
    path = tmp_path / "findings.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    (small, *_) = [f for f in document["findings"] if f["kind"] == "strength"]
    document["findings"] = [{**small, "id": f"STR-{i + 1:03}"} for i in range(37)]
    path.write_text(json.dumps(document), encoding="utf-8")
    render_run(tmp_path, formats=("html",))
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "7 more findings are in findings.json" in text


def test_a_datum_that_changes_changes_what_the_page_says(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    path = tmp_path / "findings.json"
    said = "violated in 50 of 80 runs"
    render_run(tmp_path, formats=("html",))
    assert said in (tmp_path / "index.html").read_text(encoding="utf-8")
    document = json.loads(path.read_text(encoding="utf-8"))
    document["findings"][0]["evidence"]["violations"] = 49
    path.write_text(json.dumps(document), encoding="utf-8")
    render_run(tmp_path, formats=("html",))
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert said not in page
    assert "violated in 49 of 80 runs" in page


CHANGES: dict[str, Any] = {
    "schema_version": 1,
    "against": "run-7",
    "new": ["BUG-002"],
    "regressed": ["DX-001"],
    "unchanged": ["BUG-001"],
    "resolved": [
        {
            "id": "BUG-009",
            "title": "Gone <b>now</b>",
            "clause": "TIME-1",
            "engine": "stageflow",
            "versions": ["0.5.1"],
            "by_run": "run-8",
        }
    ],
    "waived": [{"id": "BUG-001", "reason": "known & accepted", "until": "2026-12-01"}],
}
HISTORY: dict[str, Any] = {
    "schema_version": 1,
    "runs": [
        {
            "run_id": f"run-{i}",
            "started_at": "2026-01-01T00:00:00Z",
            "profile": "nightly",
            "seed": i,
            "engines": [{"name": "stageflow", "version": "0.5.1", "verdicts": {"pass": 3}}],
            "bugs": {"critical": 0, "high": i, "medium": 1, "low": 0, "info": 0},
            "new": 1,
            "resolved": 0,
            "regressed": 0,
        }
        for i in range(1, 4)
    ],
}


def test_what_the_registry_recorded_is_told(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    (tmp_path / "changes.json").write_text(json.dumps(CHANGES), "utf-8")
    (tmp_path / "history.json").write_text(json.dumps(HISTORY), "utf-8")
    render_run(tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert page.index('id="BUG-002"') < page.index('id="BUG-001"'), "new first"
    assert "Gone &lt;b&gt;now&lt;/b&gt;" in page
    assert "known &amp; accepted (until 2026-12-01)" in page
    assert "4 bugs" in page  # run-3: three high, one medium
    executive = (tmp_path / "executive.md").read_text(encoding="utf-8")
    assert "| Came back | DX-001 |" in executive
    assert "| run-3 | 2026-01-01T00:00:00Z | nightly | 3 |" in executive
    assert "Compared with run-7." in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_a_trace_is_linked_where_there_is_one(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    render_run(tmp_path)
    assert "traces/" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    (tmp_path / "traces").mkdir()
    (tmp_path / "traces" / "BUG-001.json").write_text("{}", "utf-8")
    render_run(tmp_path)
    assert 'href="traces/BUG-001.json"' in (tmp_path / "index.html").read_text(encoding="utf-8")
    mission = (tmp_path / "missions" / "DAG-009.md").read_text(encoding="utf-8")
    assert "| Trace of BUG-001 | `traces/BUG-001.json` |" in mission
    assert "Trace of BUG-002" not in mission


def test_events_are_charted_only_where_both_were_counted() -> None:
    def row(*figures: dict[str, int], version: str = "1") -> dict[str, Any]:
        clauses = {f"EVENT-{i}": {"figures": one} for i, one in enumerate(figures, 1)}
        return {"engine": "e", "engine_version": version, "clauses": clauses}

    offered, dropped = {"events_offered": 100}, {"events_dropped": 30}
    rows = [row(offered, dropped), row(offered, dropped), row(offered), row({}, dropped)]
    assert drop_rows([*rows, row(offered, version="2")]) == [
        {"label": "e@1", "scenarios": 2, "events_offered": 200, "events_dropped": 60}
    ]
    assert drop_rows([]) == []


def test_percentiles_are_those_of_the_samples(tmp_path: Path) -> None:
    lines = [f"e,1.0,sim,{n}" for n in range(101)] + ["e,1.0,live,7", "e,1.0,sim,"]
    page = "\n".join(["engine,engine_version,lab,virtual_s", *lines])
    (tmp_path / "metrics.csv").write_text(page, "utf-8")
    told = [
        (r["label"], r["lab"], r["runs"], r["p50_s"], r["p95_s"], r["p99_s"], r["max_s"])
        for r in latency_rows(tmp_path)
    ]
    assert told == [
        ("e@1.0", "live", 1, 7.0, 7.0, 7.0, 7.0),
        ("e@1.0", "sim", 101, 50.0, 95.0, 99.0, 100.0),
    ]


def test_where_nothing_was_compared_nothing_is_called_new(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    changes = {**CHANGES, "against": None}
    (tmp_path / "changes.json").write_text(json.dumps(changes), "utf-8")
    render_run(tmp_path)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "No earlier run was recorded to compare with." in text
    assert 'data-change="new"' not in text
    assert "baselineState" not in (tmp_path / "dagstorm.sarif").read_text(encoding="utf-8")


def test_without_a_record_no_trend_is_claimed(tmp_path: Path) -> None:
    text = " ".join(render(tmp_path).text)
    assert "No history was recorded, so there is no trend." in text
    assert "No earlier run was recorded to compare with." in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("changes.json", "[]", "schema_version is not 1"),
        ("changes.json", '{"schema_version": 1, "new": 3}', "new is not a list"),
        ("history.json", '{"schema_version": 2}', "schema_version is not 1"),
        ("results.jsonl", "{}\n{", "line 2 is not valid JSON"),
    ],
)
def test_a_record_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    write_campaign(tmp_path)
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(ValueError, match=message):
        render_run(tmp_path)


# What the page takes for a word of its own: the published schema allows no other value.
WORDS = {"id", "kind", "severity", "priority", "effort", "verdict", "shape", "fingerprint"}


def spoilt(data: Any, key: str = "") -> Any:
    """Return data with markup before every text that the schema does not fix."""
    if isinstance(data, dict):
        return {name: spoilt(value, name) for name, value in data.items()}
    if isinstance(data, list):
        return [spoilt(value, key) for value in data]
    if isinstance(data, str) and key not in WORDS and data:
        return f"{hostile.PIECES[0]}{hostile.PIECES[2]}{data}"
    return data


def test_no_text_of_the_data_is_trusted(tmp_path: Path) -> None:
    write_campaign(tmp_path)
    path = tmp_path / "findings.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    document["findings"] = spoilt(document["findings"])
    for name in ("run", "clauses", "missions", "tiers"):
        document["metadata"][name] = spoilt(document["metadata"][name])
    path.write_text(json.dumps(document), encoding="utf-8")
    changes = {**spoilt(CHANGES), "schema_version": 1}
    (tmp_path / "changes.json").write_text(json.dumps(changes), "utf-8")
    history = {**spoilt(HISTORY), "schema_version": 1}
    (tmp_path / "history.json").write_text(json.dumps(history), "utf-8")
    written = render_run(tmp_path, formats=("html", "sarif", "junit", "csv", "prom"))
    pages = [p for p in written if p.suffix in (".html", ".svg")]
    assert len(pages) == 4
    for one in pages:
        page = Document(one.read_text(encoding="utf-8"))
        assert page.badly_nested == []
        assert sum(tag == "script" for tag, _ in page.elements) == (one.suffix == ".html")
        assert [n for _, attrs in page.elements for n in attrs if n.startswith("on")] == []
        if not one.name.startswith("risk-"):  # it shows no text but ids
            assert hostile.PIECES[0] in " ".join(page.text)
