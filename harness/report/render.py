"""From a run directory's data to its Markdown, and from nothing else.

Templates print; they do not reckon. They are given what findings.json holds, and a name
that is not in the data is an error, never a blank.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jinja2

from harness.findings import write_whole
from harness.report.escape import FILTERS
from harness.report.versions import render_versions

__all__ = ["environment", "render_mission", "render_run"]

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def environment() -> jinja2.Environment:
    """Return the templates' environment: strict, no automatic escaping, filters instead."""
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


def render_run(run_dir: Path | str) -> list[Path]:
    """Write every report of a run from its data alone, and return the paths.

    Raises:
        FileNotFoundError: if a data file is not there.
        ValueError: if one cannot be read as what it should be.
    """
    folder = Path(run_dir)
    document = _load(folder / "findings.json")
    if not isinstance(document, dict) or "metadata" not in document:
        raise ValueError(f"{folder / 'findings.json'}: not a findings file; run the campaign again")
    run = document["metadata"]["run"]
    if (folder / "run.json").exists():
        # Whether a run came to its end is known only after findings.json was written. Nothing
        # else is taken from there, so that every number of a report stands in the findings.
        run = {**run, "status": _load(folder / "run.json").get("status", run.get("status"))}
    env = environment()
    written = []
    for mission in document["metadata"]["missions"]:
        if not _FILE_NAME.fullmatch(mission["id"]):
            raise ValueError(f"mission id {mission['id']!r} cannot name a file")
        page = render_mission(env, document, mission, run)
        written.append(write_whole(folder / "missions" / f"{mission['id']}.md", page))
    summary = env.get_template("summary.md.j2").render(
        run=_run_facts(run), metadata=document["metadata"], findings=document["findings"]
    )
    written.append(write_whole(folder / "summary.md", summary))
    return [*written, *render_versions(env, folder, document, _results(folder))]


def render_mission(
    env: jinja2.Environment, document: dict[str, Any], mission: dict[str, Any], run: dict[str, Any]
) -> str:
    """Return one mission's report."""
    page = env.get_template("mission.md.j2").render(
        run=_run_facts(run),
        mission=mission,
        findings={one["id"]: one for one in document["findings"]},
    )
    # Branches not taken leave blank lines behind; one is enough anywhere in Markdown.
    return re.sub(r"\n{3,}", "\n\n", page)


def _run_facts(run: dict[str, Any]) -> dict[str, str]:
    """Return the facts of a header block as texts, "not recorded" for what is missing."""
    names = ("run_id", "seed", "profile", "started_at", "status", "dagstorm_version")
    facts = {name: run.get(name) for name in (*names, "python_version", "platform")}
    return {k: "not recorded" if v is None or v == "" else str(v) for k, v in facts.items()}


def _results(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of results.jsonl.

    Raises:
        ValueError: if a line is not a row.
    """
    path = folder / "results.jsonl"
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as exc:
            raise ValueError(f"{path}: not valid JSON (line {number}): {exc.msg}") from exc
    return rows


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as exc:
        raise ValueError(f"{path}: not valid JSON (line {exc.lineno}): {exc.msg}") from exc
