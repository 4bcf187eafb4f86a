"""From a run directory's data to its reports, and from nothing else.

Templates of Markdown print; they do not reckon. They are given what findings.json holds, and a
name that is not in the data is an error, never a blank. The same data gives the same bytes: no
clock, no locale and no order of sets comes in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from harness.findings import write_whole
from harness.report import notes as leaning
from harness.report.escape import FILTERS
from harness.report.junit import junit_page
from harness.report.page import change_of, index_page
from harness.report.pictures import FILE_NAME, pages, risk_svg, timeline_svg
from harness.report.prometheus import prometheus_page
from harness.report.sarif import sarif_log
from harness.report.table import findings_table
from harness.report.versions import render_versions

__all__ = ["FORMATS", "Data", "environment", "read_run", "render_mission", "render_run"]

FORMATS = ("md", "html", "sarif", "junit", "csv", "prom")
NEEDED = ("run", "totals", "missions", "clauses", "conformance", "tiers", "executive")


@dataclass(frozen=True, slots=True)
class Data:
    """All that a report is rendered from.

    Attributes:
        document: findings.json.
        run: what run.json says of the run, or else findings.json.
        results: the rows of results.jsonl, none if the file is not there.
        changes, history: what the registry recorded, None where it recorded nothing.
        notes: what the order tier noted, None where it was not run.
    """

    folder: Path
    document: dict[str, Any]
    run: dict[str, Any]
    results: list[dict[str, Any]]
    changes: dict[str, Any] | None
    history: dict[str, Any] | None
    notes: list[dict[str, Any]] | None = None


def environment() -> jinja2.Environment:
    """Return the Markdown templates' environment: strict, with a filter for each place."""
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("harness.report"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # that would be HTML's; each value passes a filter for its place
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.filters.update(FILTERS)
    return env


def read_run(run_dir: Path | str) -> Data:
    """Return the data of a run directory.

    Raises:
        FileNotFoundError: if findings.json is not there.
        ValueError: if a file cannot be read as what it should be.
    """
    folder = Path(run_dir)
    path = folder / "findings.json"
    document = _load(path)
    if not isinstance(document, dict) or not isinstance(document.get("metadata"), dict):
        raise ValueError(f"{path}: not a findings file; run the campaign again")
    lacking = [name for name in NEEDED if name not in document["metadata"]]
    if lacking:
        raise ValueError(
            f"{path}: no {lacking[0]!r} in its metadata, so an older dagstorm wrote it; "
            "run the campaign again"
        )
    run = document["metadata"]["run"]
    if (folder / "run.json").exists():
        # Whether a run came to its end is known only after findings.json was written. Nothing
        # else is taken from there, so that every number of a report stands in the findings.
        run = {**run, "status": _load(folder / "run.json").get("status", run.get("status"))}
    return Data(
        folder,
        document,
        run,
        _lines(folder / "results.jsonl"),
        _recorded(folder / "changes.json", ("new", "regressed", "unchanged", "resolved", "waived")),
        _recorded(folder / "history.json", ("runs",)),
        _noted(folder / "notes.json"),
    )


def render_run(
    run_dir: Path | str, *, formats: tuple[str, ...] = FORMATS, mission: str | None = None
) -> list[Path]:
    """Write the reports of a run from its data alone, and return their paths.

    Args:
        formats: of `FORMATS`; all by default.
        mission: only this mission's Markdown.

    Raises:
        FileNotFoundError: if findings.json is not there.
        ValueError: if a data file cannot be read as what it should be, or has no such mission.
    """
    data = read_run(run_dir)
    if mission is not None:
        known = [one["id"] for one in data.document["metadata"]["missions"]]
        if mission not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"mission {mission!r} is not in this run; there are: {names}")
    drawing = pages()
    written: list[Path] = []
    if "md" in formats:
        written += _markdown(data, drawing, mission)
    if mission is not None:
        return written
    folder, document, run = data.folder, data.document, _run_facts(data.run)
    if "html" in formats:
        page = index_page(
            drawing,
            document,
            run,
            data.results,
            folder,
            changes=data.changes,
            history=data.history,
            notes=data.notes,
        )
        if "md" not in formats:
            written += list(_pictures(data, drawing).values())
        written.append(write_whole(folder / "index.html", _encodable(page)))
    if "sarif" in formats:
        log = json.dumps(sarif_log(document, data.changes), indent=1, ensure_ascii=False)
        written.append(write_whole(folder / "dagstorm.sarif", _encodable(log) + "\n"))
    if "junit" in formats:
        xml = junit_page(run, data.results, document["findings"])
        written.append(write_whole(folder / "junit.xml", xml))
    if "csv" in formats:
        table = findings_table(document["findings"], lambda id: change_of(id, data.changes))
        written.append(write_whole(folder / "findings.csv", table))
    if "prom" in formats:
        page = prometheus_page(document, data.changes, data.history)
        written.append(write_whole(folder / "dagstorm.prom", page))
    return written


def _markdown(data: Data, drawing: jinja2.Environment, mission: str | None) -> list[Path]:
    env = environment()
    folder, document, run = data.folder, data.document, _run_facts(data.run)
    metadata = document["metadata"]
    findings = {one["id"]: one for one in document["findings"]}
    pictures = _pictures(data, drawing)
    written = list(pictures.values())
    names = {key: path.name for key, path in pictures.items()}
    for one in metadata["missions"]:
        if mission in (None, one["id"]):
            page = render_mission(
                env,
                document,
                one,
                data.run,
                pictures=names,
                traces=_traces(data),
                notes=data.notes,
            )
            written.append(write_whole(folder / "missions" / f"{_named(one['id'])}.md", page))
    if mission is not None:
        return written
    for tier in metadata["tiers"]:
        page = env.get_template("tier.md.j2").render(run=run, tier=tier, findings=findings)
        written.append(write_whole(folder / "tiers" / f"{_named(tier['id'])}.md", _tidy(page)))
    page = env.get_template("executive.md.j2").render(
        run=run,
        executive=metadata["executive"],
        findings=findings,
        changes=data.changes,
        history=data.history,
        pictures={
            label: f"pictures/{names[f'risk {label}']}" if f"risk {label}" in names else ""
            for label in (c["label"] for c in metadata["executive"]["chapters"])
        },
    )
    written.append(write_whole(folder / "executive.md", _tidy(page)))
    page = env.get_template("summary.md.j2").render(
        run=run, metadata=metadata, findings=document["findings"], changes=data.changes
    )
    written.append(write_whole(folder / "summary.md", _tidy(page)))
    return [*written, *render_versions(env, folder, document, data.results)]


def _pictures(data: Data, drawing: jinja2.Environment) -> dict[str, Path]:
    """Write the pictures that Markdown shows; return finding id, or `risk <label>`, -> path."""
    written: dict[str, Path] = {}
    folder = data.folder / "pictures"
    for one in data.document["findings"]:
        svg = timeline_svg(drawing, one, standalone=True)
        if svg:
            path = folder / f"{_named(one['id'])}.svg"
            written[one["id"]] = write_whole(path, _encodable(svg))
    for number, chapter in enumerate(data.document["metadata"]["executive"]["chapters"], 1):
        if chapter["risks"]:
            # An engine's label may hold anything, so the file is named by its place.
            svg = risk_svg(drawing, chapter, "risk", standalone=True)
            path = folder / f"risk-{number}.svg"
            written[f"risk {chapter['label']}"] = write_whole(path, _encodable(svg))
    return written


def render_mission(
    env: jinja2.Environment,
    document: dict[str, Any],
    mission: dict[str, Any],
    run: dict[str, Any],
    *,
    pictures: Mapping[str, str] | None = None,
    traces: Mapping[str, str] | None = None,
    notes: list[dict[str, Any]] | None = None,
) -> str:
    """Return one mission's report; `pictures` and `traces` name files of findings, `notes` are
    those of the order tier, None where it was not run."""
    page = env.get_template("mission.md.j2").render(
        run=_run_facts(run),
        mission=mission,
        findings={one["id"]: one for one in document["findings"]},
        pictures=pictures or {},
        traces=traces or {},
        order=None if notes is None else leaning.shown(leaning.of_pack(notes, mission["pack"])),
        tier=next(
            (t for t in document["metadata"]["tiers"] if mission["id"] in t["missions"]), None
        ),
    )
    return _tidy(page)


def _traces(data: Data) -> dict[str, str]:
    """Return finding id -> its trace's path, for the traces that are there."""
    paths = {one["id"]: f"traces/{one['id']}.json" for one in data.document["findings"]}
    return {id: path for id, path in paths.items() if (data.folder / path).is_file()}


def _tidy(page: str) -> str:
    """Leave one blank line where branches not taken left several; more mean nothing in Markdown."""
    return re.sub(r"\n{3,}", "\n\n", page)


def _named(name: str) -> str:
    if not FILE_NAME.fullmatch(name):
        raise ValueError(f"id {name!r} cannot name a file")
    return name


def _encodable(page: str) -> str:
    """Return a page that UTF-8 can hold, whatever came out of an engine."""
    return page.encode("utf-8", "replace").decode("utf-8")


def _run_facts(run: dict[str, Any]) -> dict[str, str]:
    """Return the facts of a header block as texts, "not recorded" for what is missing."""
    names = ("run_id", "seed", "profile", "started_at", "status", "dagstorm_version")
    facts = {name: run.get(name) for name in (*names, "python_version", "platform")}
    return {k: "not recorded" if v is None or v == "" else str(v) for k, v in facts.items()}


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as exc:
        raise ValueError(f"{path}: not valid JSON (line {exc.lineno}): {exc.msg}") from exc
    except UnicodeDecodeError as exc:
        raise ValueError(f"{path}: not UTF-8 text; run the campaign again") from exc


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as exc:
                raise ValueError(f"{path}: line {number} is not valid JSON: {exc.msg}") from exc
    return rows


def _noted(path: Path) -> list[dict[str, Any]] | None:
    """Return what the order tier noted, or None if it was not run."""
    if not path.exists():
        return None
    data = _load(path)
    if not isinstance(data, dict) or not isinstance(data.get("notes"), list):
        raise ValueError(f"{path}: notes is not a list; run the campaign again")
    return list(data["notes"])


def _recorded(path: Path, needed: tuple[str, ...]) -> dict[str, Any] | None:
    """Return what the registry wrote beside the run, or None if it wrote nothing."""
    if not path.exists():
        return None
    data = _load(path)
    if not isinstance(data, dict) or data.get("schema_version") != 1:
        raise ValueError(f"{path}: schema_version is not 1; run the campaign again")
    if "against" in data and data["against"] is None:
        return None  # nothing was compared, so nothing is new and nothing is gone
    for name in needed:
        if not isinstance(data.get(name), list):
            raise ValueError(f"{path}: {name} is not a list; run the campaign again")
    return data
