"""findings.csv: one row per finding, for spreadsheets.

A spreadsheet runs a cell that begins like a formula, and what an engine said is not to be run:
such a text is given an apostrophe, as spreadsheets themselves mark text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.report.escape import shown

__all__ = ["COLUMNS", "findings_table"]

Row = Mapping[str, Any]

COLUMNS = (
    "id",
    "kind",
    "type",
    "severity",
    "priority",
    "status",
    "change",
    "title",
    "clause",
    "engine",
    "engine_versions",
    "component",
    "location",
    "frequency",
    "violations",
    "exercised",
    "rate",
    "confirmation",
    "effort",
    "missions",
    "scenarios",
    "expected",
    "actual",
    "fingerprint",
    "first_seen",
    "last_seen",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def findings_table(findings: Sequence[Row], change: Any) -> str:
    """Return the CSV; `change` says of an id what became of it since the last run."""
    # Half a second of import that `dagstorm --help` should not pay.
    import pandas as pd

    rows = []
    for one in findings:
        row: dict[str, Any] = {name: one.get(name) for name in COLUMNS}
        row |= {name: one["evidence"][name] for name in ("violations", "exercised", "rate")}
        row["effort"] = (one.get("recommendation") or {}).get("effort")
        row["change"] = change(one["id"])
        for name in ("engine_versions", "missions", "scenarios"):
            row[name] = " ".join(v for v in one[name] if v)
        rows.append({name: _cell(value) for name, value in row.items()})
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    page: str = frame.to_csv(index=False, lineterminator="\n")
    return page


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = shown(value, 2_000)
    return f"'{text}" if text.startswith(_FORMULA) else text
