"""The registry's findings as tables: CSV for spreadsheets, Markdown for people."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from datetime import date
from typing import Any

from harness.findings.known import Known
from harness.report.escape import cell

__all__ = ["COLUMNS", "as_csv", "as_markdown", "row_of"]

COLUMNS = (
    "id",
    "status",
    "kind",
    "severity",
    "clause",
    "title",
    "engine",
    "versions",
    "resolved_versions",
    "first_seen",
    "last_seen",
    "occurrences",
    "confirmation",
    "component",
    "waived_until",
    "reason",
    "fingerprint",
)
SHOWN = ("id", "status", "severity", "clause", "engine", "versions", "title", "last_seen", "reason")


def row_of(one: Known, today: date) -> dict[str, Any]:
    """Return one finding as a row of plain values."""
    decision = one.decision if one.decision and one.decision.holds(today) else None
    shows = [v for v in one.seen_on() if one.versions[v].shows]
    gone = [v for v in one.seen_on() if one.versions[v].state == "resolved"]
    return {
        "id": one.id,
        "status": one.status(today),
        "kind": one.kind,
        "severity": one.severity,
        "clause": one.clause,
        "title": one.title,
        "engine": one.engine,
        "versions": ", ".join(v for v in shows if v),
        "resolved_versions": ", ".join(v for v in gone if v),
        "first_seen": one.first_seen,
        "last_seen": one.last_seen,
        "occurrences": one.occurrences,
        "confirmation": one.entry.get("confirmation") or "",
        "component": one.entry.get("component") or "",
        "waived_until": decision.until if decision else "",
        "reason": decision.reason if decision else "",
        "fingerprint": one.fingerprint,
    }


def as_csv(found: Iterable[Known], today: date) -> str:
    """Return a CSV page; no text in it can be taken for a formula."""
    page = io.StringIO()
    table = csv.DictWriter(page, COLUMNS, lineterminator="\n")
    table.writeheader()
    for one in found:
        table.writerow({k: _harmless(v) for k, v in row_of(one, today).items()})
    return page.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def as_markdown(found: Iterable[Known], today: date) -> str:
    """Return a Markdown table."""
    lines = [
        "| " + " | ".join(name.replace("_", " ").capitalize() for name in SHOWN) + " |",
        "|" + "|".join("---" for _ in SHOWN) + "|",
    ]
    for one in found:
        row = row_of(one, today)
        lines.append("| " + " | ".join(cell(row[name]) for name in SHOWN) + " |")
    return "\n".join(lines) + "\n"
