"""faults.json and faults.md: what an engine was put through on a real machine, and how it held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.findings import write_whole
from harness.report.escape import as_json, cell, code, prose

__all__ = ["FAULTS_SCHEMA", "write_faults"]

FAULTS_SCHEMA = 1
SHOWN = (
    *("engine", "engine_version", "lab", "scenario", "title", "purpose", "verdict", "reason"),
    *("runs", "violations", "figures", "clauses", "missing", "remarks", "notes", "seed"),
    *("duration_s", "samples"),
)


def write_faults(
    folder: Path, units: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]
) -> list[Path]:
    """Write both files, whole or not at all, and return their paths."""
    rows = [
        {k: unit.get(k) for k in SHOWN}
        | {
            "violated": [
                {k: w[k] for k in ("clause", "shape", "stage", "expected", "actual", "violations")}
                for w in unit["witnesses"]
            ]
        }
        for unit in units
    ]
    data = {"schema_version": FAULTS_SCHEMA, "metadata": dict(metadata), "faults": rows}
    return [
        write_whole(folder / "faults.json", as_json(data) + "\n"),
        write_whole(folder / "faults.md", _page(rows, metadata)),
    ]


def _page(rows: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any]) -> str:
    lines = [
        f"# Faults: {prose(metadata['run_id'])}",
        "",
        f"Status {prose(metadata['status'])}, seed {prose(metadata['seed'])}. "
        f"Again: {code(metadata['command'])}",
        "",
        "| engine | fault | lab | verdict | trials | violating | clauses |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        clauses = ", ".join(f"{c} {r['verdict']}" for c, r in (row["clauses"] or {}).items())
        cells = [_engine(row), row["scenario"], row["lab"], row["verdict"], row["runs"]]
        cells += [row["violations"], clauses]
        lines.append("| " + " | ".join(cell(c) for c in cells) + " |")
    for row in rows:
        lines += ["", f"## {prose(row['title'])}: {prose(_engine(row))}", "", prose(row["purpose"])]
        lines += ["", f"Verdict: **{prose(row['verdict'])}**{_because(row)}"]
        counted = [f"{name} {value}" for name, value in (row["figures"] or {}).items()]
        lines += ["", f"Counted: {prose(', '.join(counted) or 'nothing')}."]
        lines += [f"- {prose(remark)}" for remark in row["remarks"] or ()]
        lines += [
            f"- {prose(v['clause'])} in {v['violations']} trials: expected {prose(v['expected'])}; "
            f"{prose(v['actual'])}"
            for v in row["violated"]
        ]
        lines += [f"- {prose(c)}: {prose(why)}" for c, why in (row["missing"] or {}).items()]
    return "\n".join(lines) + "\n"


def _engine(row: Mapping[str, Any]) -> str:
    version = row["engine_version"]
    return f"{row['engine']}@{version}" if version else str(row["engine"])


def _because(row: Mapping[str, Any]) -> str:
    return f" ({prose(row['reason'])})" if row["reason"] else ""
