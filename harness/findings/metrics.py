"""metrics.csv: one row per run measured, for spreadsheets, dashboards and pandas.

A unit keeps samples of its first runs only, so that a nightly campaign's file stays
readable; the counts over all runs are in results.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Row
from harness.findings.plain import number

__all__ = ["COLUMNS", "metrics_page"]

COLUMNS = ("engine", "engine_version", "lab", "pack", "scenario", "category", "seed", "run")


def metrics_page(units: Sequence[Row]) -> str:
    """Return the CSV of all samples; its header alone if there are none."""
    # Half a second of import that `dagstorm --help` should not pay.
    import pandas as pd

    rows = [_row(unit, sample) for unit in units for sample in unit.get("samples", ())]
    measured = sorted({name for row in rows for name in row} - set(COLUMNS))
    # Objects keep whole numbers whole where some rows have no such figure.
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *measured], dtype=object)
    page: str = frame.to_csv(index=False, lineterminator="\n")
    return page


def _row(unit: Row, sample: Row) -> dict[str, Any]:
    row = {name: unit[name] for name in COLUMNS if name != "run"}
    for name, value in sample.items():
        # Numbers only: a spreadsheet would run a text that begins with "=".
        if isinstance(value, (int, float)):
            row[name] = number(value)
    return row
