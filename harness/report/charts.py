"""Charts of a run as shapes: the risk matrix, the phases, and bars counted from its tables.

What is drawn is also given as a table in the page, so that nobody has to measure a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.report.escape import shown

__all__ = ["bars", "drop_rows", "latency_rows", "phase_bars", "risk_shapes", "trend_rows"]

Row = Mapping[str, Any]

CELL_W, CELL_H = 150, 94
BUBBLE_ROW = 40
GRID_LEFT, GRID_TOP = 74, 8
IMPACT_MAX, LIKELIHOOD_MAX = 5, 4
LIKELIHOODS = ("rarely", "sometimes", "often", "always")
PER_CELL = 6
LIMIT_TREND = 20


def risk_shapes(risks: Sequence[Row]) -> dict[str, Any]:
    """Return the risk matrix: a cell per impact and likelihood, its bubbles set side by side."""
    cells: dict[tuple[int, int], list[Row]] = {}
    for one in risks:
        if one["likelihood"] is not None:
            cells.setdefault((one["likelihood"], one["impact"]), []).append(one)
    grid, bubbles, more = [], [], []
    for impact in range(1, IMPACT_MAX + 1):
        for likelihood in range(1, LIKELIHOOD_MAX + 1):
            x = GRID_LEFT + (likelihood - 1) * CELL_W
            y = GRID_TOP + (IMPACT_MAX - impact) * CELL_H
            heat = impact + likelihood
            level = "bad" if heat >= 7 else "orphan" if heat >= 5 else "good"
            grid.append({"x": x, "y": y, "level": level})
            found = cells.get((likelihood, impact), [])
            for i, one in enumerate(found[:PER_CELL]):
                column, row = i % 3, i // 3
                bubbles.append(
                    {
                        "x": x + 26 + column * 48,
                        "y": y + 17 + row * BUBBLE_ROW,
                        "r": 3 + 2 * (one["effort_rank"] or 1),
                        "words": one["finding"],
                        "text_y": y + 39 + row * BUBBLE_ROW,
                    }
                )
            if len(found) > PER_CELL:
                words = f"and {len(found) - PER_CELL} more"
                more.append({"x": x + CELL_W - 4, "y": y + CELL_H - 4, "words": words})
    bottom = GRID_TOP + IMPACT_MAX * CELL_H
    return {
        "width": GRID_LEFT + LIKELIHOOD_MAX * CELL_W + 6,
        "height": bottom + 34,
        "cell_width": CELL_W,
        "cell_height": CELL_H,
        "cells": grid,
        "bubbles": bubbles,
        "more": more,
        "columns": [
            {"x": GRID_LEFT + i * CELL_W + CELL_W // 2, "y": bottom + 14, "words": words}
            for i, words in enumerate(LIKELIHOODS)
        ],
        "rows": [
            {
                "x": GRID_LEFT - 8,
                "y": GRID_TOP + (IMPACT_MAX - impact) * CELL_H + CELL_H // 2,
                "words": f"impact {impact}",
            }
            for impact in range(1, IMPACT_MAX + 1)
        ],
        "axis": {"x": GRID_LEFT, "y": bottom + 28},
        "text": shown(
            "; ".join(
                f"{one['finding']} impact {one['impact']}, "
                f"{one['frequency'] or 'frequency not measured'}, effort {one['effort']}"
                for one in risks
            )
            or "no bug",
            900,
        ),
    }


def bars(rows: Sequence[tuple[str, float, float, str]]) -> dict[str, Any]:
    """Return horizontal bars; a row is (label, where it begins, where it ends, words)."""
    most = max((end for _, _, end, _ in rows), default=0) or 1
    left, right = 190, 520
    return {
        "width": 720,
        "height": 20 * len(rows) + 8,
        "rows": [
            {
                "label": shown(label, 32),
                "y": 6 + 20 * i,
                "text_y": 16 + 20 * i,
                "x": round(left + begin / most * (right - left), 1),
                "width": round(max(1.0, (end - begin) / most * (right - left)), 1),
                "words": shown(words, 40),
                "words_x": round(left + end / most * (right - left) + 6, 1),
            }
            for i, (label, begin, end, words) in enumerate(rows)
        ],
        "text": shown("; ".join(f"{label}: {words}" for label, _, _, words in rows), 900),
    }


def phase_bars(phases: Sequence[Row]) -> dict[str, Any]:
    return bars(
        [
            (one["phase"], one["begin_day"], one["end_day"], f"{one['days']:g} days")
            for one in phases
        ]
    )


def latency_rows(folder: Path) -> list[dict[str, Any]]:
    """Return, per engine, version and laboratory, percentiles of what a run took on its clock.

    Returns [] if the run kept no metrics.
    """
    # Half a second of import that `dagstorm --help` should not pay.
    import pandas as pd

    path = folder / "metrics.csv"
    if not path.is_file():
        return []
    keys = ["engine", "engine_version", "lab"]
    try:
        frame = pd.read_csv(path, dtype=dict.fromkeys(keys, str), keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as exc:
        raise ValueError(f"{path}: not a table of metrics: {exc}") from exc
    if "virtual_s" not in frame or frame.empty:
        return []
    frame["virtual_s"] = pd.to_numeric(frame["virtual_s"], errors="coerce")
    rows = []
    for (engine, version, lab), group in frame.dropna(subset=["virtual_s"]).groupby(keys):
        at = group["virtual_s"].quantile([0.5, 0.95, 0.99])
        rows.append(
            {
                "label": f"{engine}@{version}".removesuffix("@"),
                "lab": str(lab),
                "runs": len(group),
                "p50_s": round(float(at[0.5]), 6),
                "p95_s": round(float(at[0.95]), 6),
                "p99_s": round(float(at[0.99]), 6),
                "max_s": round(float(group["virtual_s"].max()), 6),
            }
        )
    return rows


def drop_rows(results: Sequence[Row]) -> list[dict[str, Any]]:
    """Return, per engine and version, events offered and dropped, as EVENT clauses counted them.

    Of scenarios in which both were counted only: elsewhere the two would not belong together.
    """
    import pandas as pd

    rows = []
    for one in results:
        figures = {
            name: row["figures"][name]
            for clause, row in one["clauses"].items()
            if clause.startswith("EVENT-")
            for name in ("events_offered", "events_dropped")
            if isinstance(row["figures"].get(name), int)
        }
        if len(figures) == 2:
            label = f"{one['engine']}@{one['engine_version']}".removesuffix("@")
            rows.append({"label": label, "scenarios": 1, **figures})
    if not rows:
        return []
    sums = pd.DataFrame(rows).groupby("label", sort=True).sum()
    return [
        {"label": str(label), **{str(name): int(row[name]) for name in sums.columns}}
        for label, row in sums.iterrows()
    ]


def trend_rows(history: Row | None) -> list[dict[str, Any]]:
    """Return the newest runs of a history, oldest first, with the bugs of each added up."""
    runs = list((history or {}).get("runs") or ())[-LIMIT_TREND:]
    return [
        {
            **{name: one.get(name) for name in ("run_id", "started_at", "profile", "seed")},
            **{name: one.get(name) for name in ("new", "resolved", "regressed")},
            "bugs": sum(n for n in (one.get("bugs") or {}).values() if isinstance(n, int)),
            "by_severity": dict(one.get("bugs") or {}),
        }
        for one in runs
    ]
