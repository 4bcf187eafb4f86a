"""index.html: one file for people, which needs no network, no server and, to be read, no script.

The page has a limit of size. Pictures are put in as long as they fit, those of the gravest
findings first; the rest is linked. Texts are cut with a note of their length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from harness.report.charts import (
    bars,
    drop_rows,
    latency_rows,
    phase_bars,
    trend_rows,
)
from harness.report.notes import shown
from harness.report.pictures import FILE_NAME, risk_svg, svg, timeline_svg
from harness.report.resources import read_resources, resource_rows, resource_shapes

__all__ = ["LIMIT_BYTES", "LIMIT_FINDINGS", "change_of", "index_page"]

Row = Mapping[str, Any]

LIMIT_BYTES = 1_900_000
LIMIT_FINDINGS = 2_000
# What is tried in turn until the page is small enough: characters of all pictures of findings
# together, and of each text of a finding.
SIZES = ((600_000, 400), (100_000, 160), (0, 60))
SEVERITIES = ("critical", "high", "medium", "low", "info")
KINDS = ("bug", "dx", "improvement", "strength")
CHANGES = ("new", "came back", "unchanged")
SECTIONS = (
    ("summary", "Summary"),
    ("changes", "Since the last run"),
    ("findings", "Findings"),
    ("matrix", "Engines and clauses"),
    ("risk", "Risk"),
    ("charts", "Latency and drops"),
)
ORDER_SECTION = ("order", "Leans on asyncio's order")
ORDERS = (
    ("change", "new first"),
    ("severity", "severity"),
    ("id", "id"),
    ("clause", "clause"),
    ("rate", "frequency"),
)


def index_page(
    env: jinja2.Environment,
    document: Row,
    run: Row,
    results: Sequence[Row],
    folder: Path,
    *,
    changes: Row | None,
    history: Row | None,
    notes: Sequence[Row] | None = None,
) -> str:
    """Return the page of a run.

    Args:
        document: what findings.json holds.
        run: facts of the run as texts.
        results: the rows of results.jsonl.
        folder: the run directory, for metrics.csv.
        changes, history: what the registry recorded, None where it recorded nothing.
        notes: what the order tier noted, None where it was not run.
    """
    page = ""
    for pictures_max, text_max in SIZES:
        cards = _cards(env, document["findings"], folder, changes, pictures_max)
        page = _page(
            env,
            document,
            run,
            results,
            folder,
            changes=changes,
            history=history,
            notes=notes,
            cards=cards,
            text_max=text_max,
        )
        if len(page.encode("utf-8", "replace")) <= LIMIT_BYTES:
            break
    return page


def _page(
    env: jinja2.Environment,
    document: Row,
    run: Row,
    results: Sequence[Row],
    folder: Path,
    *,
    changes: Row | None,
    history: Row | None,
    notes: Sequence[Row] | None,
    cards: Sequence[Row],
    text_max: int,
) -> str:
    metadata = document["metadata"]
    executive = metadata["executive"]
    decisions = {c["label"]: c["decision"] for c in executive["chapters"]}
    matrix = metadata["conformance"]
    semantics = {e["label"]: e["semantics"] for e in metadata["engines"]}
    return env.get_template("index.html.j2").render(
        run=run,
        sections=SECTIONS if notes is None else (*SECTIONS, ORDER_SECTION),
        order=None if notes is None else shown(notes),
        totals=metadata["totals"],
        engines=[
            {
                **row,
                "decision": decisions[row["label"]],
                "verdicts": {k: n for k, n in row["verdicts"].items() if n},
                "bugs": {k: row["bugs"][k] for k in SEVERITIES if row["bugs"].get(k)} or "none",
            }
            for row in metadata["totals"]["engines"]
        ],
        missions=metadata["missions"],
        tiers=metadata["tiers"],
        changes=changes,
        trend=_trend(env, history),
        cards=cards,
        text_max=text_max,
        cards_left_out=len(document["findings"]) - len(cards),
        filters=_filters([card["finding"] for card in cards], changes),
        orders=ORDERS,
        matrix={
            **matrix,
            "lines": [
                {**one, "cells": [_cell(row, i, semantics) for row in matrix["rows"]]}
                for i, one in enumerate(metadata["clauses"])
            ],
        },
        rules=executive["rules"],
        risk=[
            {
                "label": chapter["label"],
                "rows": chapter["risks"],
                "svg": risk_svg(env, chapter, f"risk-{i}", standalone=False),
                "phases": _bars(env, f"phases-{i}", "Phases", phase_bars(chapter["phases"])),
            }
            for i, chapter in enumerate(executive["chapters"])
        ],
        latency=_latency(env, folder),
        drops=_drops(env, results),
        resources=_resources(env, folder),
    )


def _cell(row: Row, i: int, semantics: Mapping[str, Row]) -> dict[str, Any]:
    """Return a cell of the matrix, which says where a violation is the engine's documented way."""
    cell = row["cells"][i]
    told = cell["clause"] in semantics.get(row["label"], {})
    return {**cell, "documented": told and cell["verdict"] == "fail" and not cell["findings"]}


def change_of(finding: str, changes: Row | None) -> str:
    """Return new, came back or unchanged; "" where nothing was compared."""
    if changes is None:
        return ""
    for name, word in (("new", "new"), ("regressed", "came back"), ("unchanged", "unchanged")):
        if finding in changes[name]:
            return word
    return ""


def _cards(
    env: jinja2.Environment,
    findings: Sequence[Row],
    folder: Path,
    changes: Row | None,
    pictures_max: int,
) -> list[dict[str, Any]]:
    cards: list[dict[str, Any]] = []
    spent = 0
    ranks = {word: i for i, word in enumerate(("new", "came back", "", "unchanged"))}
    ordered = sorted(
        findings[:LIMIT_FINDINGS],
        key=lambda f: (KINDS.index(f["kind"]), ranks[change_of(f["id"], changes)]),
    )
    # The gravest get their pictures first, whatever the order on the page.
    pictures: dict[str, str] = {}
    for one in sorted(ordered, key=lambda f: SEVERITIES.index(f["severity"])):
        drawn = timeline_svg(env, one, standalone=False)
        spent += len(drawn)
        if spent > pictures_max:
            break
        pictures[one["id"]] = drawn
    for place, one in enumerate(ordered):
        if not FILE_NAME.fullmatch(one["id"]):
            raise ValueError(f"finding id {one['id']!r} cannot name an element of a page")
        trace = f"traces/{one['id']}.json"
        change = change_of(one["id"], changes)
        pictured = bool((one.get("reproduction") or {}).get("picture"))
        rate = one["evidence"]["rate"] if one["kind"] == "bug" else None
        cards.append(
            {
                "finding": one,
                "change": change,
                "trace": trace if (folder / trace).is_file() else "",
                "picture": pictures.get(one["id"], ""),
                "elsewhere": f"pictures/{one['id']}.svg"
                if pictured and one["id"] not in pictures
                else "",
                "sort": (
                    ("change", f"{place:05}"),
                    ("severity", str(SEVERITIES.index(one["severity"]))),
                    ("id", one["id"]),
                    ("clause", one["clause"] or "~"),
                    ("rate", "9" if rate is None else f"{1 - rate:.6f}"),
                ),
            }
        )
    return cards


def _filters(findings: Sequence[Row], changes: Row | None) -> list[tuple[str, str, list[str]]]:
    def seen(name: str) -> list[str]:
        return sorted({str(f[name]) for f in findings if f[name]})

    return [
        ("kind", "Kind", [k for k in KINDS if k in seen("kind")]),
        ("severity", "Severity", [s for s in SEVERITIES if s in seen("severity")]),
        ("engine", "Engine", seen("engine")),
        ("clause", "Clause", seen("clause")),
        ("status", "Status", seen("status")),
        ("change", "Change", list(CHANGES) if changes else []),
    ]


def _bars(env: jinja2.Environment, ref: str, title: str, shapes: Row) -> str:
    return svg(env, "bars.svg.j2", ref, title, shapes)


def _trend(env: jinja2.Environment, history: Row | None) -> dict[str, Any]:
    rows = trend_rows(history)
    drawn = bars([(str(r["run_id"]), 0, r["bugs"], f"{r['bugs']} bugs") for r in rows])
    return {"rows": rows, "svg": _bars(env, "trend", "Bugs of the last runs", drawn)}


def _latency(env: jinja2.Environment, folder: Path) -> dict[str, Any]:
    rows = latency_rows(folder)
    drawn = bars(
        [
            (f"{r['label']} {name}", 0, r[f"{name}_s"], f"{r[f'{name}_s']:g} s")
            for r in rows
            for name in ("p50", "p95", "p99")
        ]
    )
    return {"rows": rows, "svg": _bars(env, "latency", "Percentiles of run durations", drawn)}


def _resources(env: jinja2.Environment, folder: Path) -> dict[str, Any] | None:
    data = read_resources(folder)
    if data is None:
        return None
    shapes = resource_shapes(data)
    return {
        "every_s": data["every_s"],
        "shapes": shapes,
        "svg": svg(env, "resources.svg.j2", "resources", "Memory and CPU of workers", shapes),
        "rows": resource_rows(data["rows"]),
        "growth_rule": data["growth_rule"],
        "growth": [
            {
                "label": f"{one['engine']}@{one['engine_version']}".rstrip("@"),
                "scenario": one["scenario"],
                "runs": one["runs"],
                "leaks": one["why"] or ", ".join(one["leaks"]) or "none",
                "growth": "not measured"
                if one["memory_growth_mb"] is None
                else f"{one['memory_growth_mb']:g}",
                "slopes": ", ".join(f"{v['per_run']:g} {v['unit']}" for v in one["verdicts"]),
            }
            for one in data["growth"]
        ],
    }


def _drops(env: jinja2.Environment, results: Sequence[Row]) -> dict[str, Any]:
    rows = drop_rows(results)
    drawn = bars(
        [
            (f"{r['label']} {name}", 0, r[f"events_{name}"], str(r[f"events_{name}"]))
            for r in rows
            for name in ("offered", "dropped")
        ]
    )
    return {"rows": rows, "svg": _bars(env, "drops", "Events offered and dropped", drawn)}
