"""The versions table: where each finding came and went, in Markdown and as a picture.

Written where a run had an engine in two versions or more, from findings.json and
results.jsonl alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from harness.findings import version_tables, write_whole

__all__ = ["COLOURS", "SIGNS", "render_versions"]

# A sign beside each colour: the picture must be readable without seeing colours.
SIGNS: Mapping[str, str] = {
    "fail": "F",
    "otherwise": "o",
    "pass": "✓",
    "blocked": "b",
    "inconclusive": "?",
    "unsupported": "–",
    "error": "e",
    "not run": "·",
}
COLOURS: Mapping[str, str] = {
    "fail": "#c62828",
    "otherwise": "#ef6c00",
    "pass": "#2e7d32",
    "blocked": "#6d4c41",
    "inconclusive": "#757575",
    "unsupported": "#bdbdbd",
    "error": "#455a64",
    "not run": "#eeeeee",
}
CELL_PX, ROW_PX, LABEL_PX, HEAD_PX, MARGIN_PX = 46, 20, 300, 26, 10
TITLE_MAX = 38


def render_versions(
    env: jinja2.Environment,
    folder: Path,
    document: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
) -> list[Path]:
    """Write versions.md and one picture an engine; nothing where no engine has two versions."""
    tables = version_tables(document, results)
    if not tables:
        return []
    written = []
    for table in tables:
        table["picture"] = f"versions-{table['engine']}.svg"
        page = env.get_template("versions.svg.j2").render(_layout(table))
        written.append(write_whole(folder / table["picture"], page))
    page = env.get_template("versions.md.j2").render(tables=tables, signs=SIGNS)
    return [*written, write_whole(folder / "versions.md", page)]


def _layout(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return where everything of the picture stands, in pixels."""
    versions, rows = table["versions"], table["findings"]
    width = 2 * MARGIN_PX + LABEL_PX + CELL_PX * len(versions)
    top = MARGIN_PX + HEAD_PX
    return {
        "engine": table["engine"],
        "width": width,
        "height": top + ROW_PX * len(rows) + 2 * ROW_PX,
        "heads": [
            {"x": _left(i) + CELL_PX // 2, "y": top - 8, "text": v} for i, v in enumerate(versions)
        ],
        "rows": [
            {
                "y": top + ROW_PX * n,
                "text_y": top + ROW_PX * n + 14,
                "label": f"{row['id']} {row['clause']}",
                "title": row["title"],
                "short": _short(row["title"]),
                "cells": [
                    {
                        "x": _left(i),
                        "text_x": _left(i) + CELL_PX // 2,
                        "verdict": cell["verdict"],
                        "version": cell["version"],
                        "sign": SIGNS[cell["verdict"]],
                        "colour": COLOURS[cell["verdict"]],
                        "ink": "#222222"
                        if cell["verdict"] in ("unsupported", "not run")
                        else "#ffffff",
                    }
                    for i, cell in enumerate(row["cells"])
                ],
            }
            for n, row in enumerate(rows)
        ],
        "legend": _legend(rows),
        "legend_y": top + ROW_PX * len(rows) + ROW_PX,
        "margin": MARGIN_PX,
        "cell": CELL_PX - 2,
        "row_px": ROW_PX - 2,
        "label_x": MARGIN_PX + 130,
    }


def _left(column: int) -> int:
    return MARGIN_PX + LABEL_PX + CELL_PX * column


def _short(title: str) -> str:
    return title if len(title) <= TITLE_MAX else title[: TITLE_MAX - 1].rstrip() + "…"


def _legend(rows: Iterable[Mapping[str, Any]]) -> str:
    used = {cell["verdict"] for row in rows for cell in row["cells"]}
    return "   ".join(f"{SIGNS[v]} {v}" for v in SIGNS if v in used)
