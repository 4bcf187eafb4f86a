"""What a campaign's processes held: from resources.csv and resources.json to lines over time.

The samples are of the machine and of the moment, so nothing here is judged; windows in which a
fault was at work are shaded, so that what happened in them can be told from what did not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.report.escape import shown

__all__ = ["read_resources", "resource_rows", "resource_shapes"]

WIDTH, LEFT, RIGHT = 720, 52, 704
PANEL_PX, GAP_PX, TOP_PX = 96, 34, 20
# More lines cannot be told from each other, and more points not be seen.
WORKERS_MAX, POINTS_MAX, WINDOWS_MAX = 12, 240, 60
MIB = 1 << 20
# Told apart on light and on dark ground.
COLOURS = ("#3b82c4", "#c2710c", "#2f9e6b", "#a05cd0", "#d0475f", "#8a8f1f")
COUNTED = ("descriptors", "threads", "sockets")
COLUMNS = ("at_s", "process", "rss_bytes", "cpu_s", "switches", *COUNTED)

Row = Mapping[str, Any]


def read_resources(folder: Path) -> dict[str, Any] | None:
    """Return a run's resources.json with its `rows`, or None if it measured none.

    Raises:
        ValueError: if a file cannot be read as what it should be.
    """
    told, table = folder / "resources.json", folder / "resources.csv"
    if not told.is_file() or not table.is_file():
        return None
    # Half a second of import that `dagstorm --help` should not pay.
    import pandas as pd

    try:
        data: dict[str, Any] = json.loads(told.read_text("utf-8"))
        data["began_s"], data["windows"], data["growth"], data["growth_rule"], data["every_s"]
        frame = pd.read_csv(table, dtype={"process": str}, keep_default_na=False)
        data["rows"] = frame[list(COLUMNS)].to_dict("records")
    except (ValueError, KeyError, TypeError) as exc:
        raise ValueError(f"{told}: not what a run writes: {exc}; run the campaign again") from exc
    return data


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _workers(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["process"], []).append(row)
    return found


def _engine(process: str) -> str:
    return process.rpartition(" #")[0] or process


def resource_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return a row for each engine: its workers, and the most that one of them held."""
    engines: dict[str, list[list[Row]]] = {}
    for process, mine in _workers(rows).items():
        engines.setdefault(_engine(process), []).append(mine)
    return [
        {
            "label": label,
            "workers": len(workers),
            "samples": sum(len(mine) for mine in workers),
            "rss_mib": round(max(r["rss_bytes"] for mine in workers for r in mine) / MIB, 1),
            "cpu_s": round(sum(mine[-1]["cpu_s"] for mine in workers), 1),
            "switches": sum(int(mine[-1]["switches"]) for mine in workers),
            **{name: max(int(r[name]) for mine in workers for r in mine) for name in COUNTED},
        }
        for label, workers in engines.items()
    ]


def resource_shapes(data: Row) -> dict[str, Any]:
    """Return two panels with time across: memory and processor of each worker."""
    workers = sorted(_workers(data["rows"]).items(), key=lambda one: -len(one[1]))
    drawn = sorted(workers[:WORKERS_MAX], key=lambda one: one[1][0]["at_s"])
    began_s = data["began_s"]
    span_s = max([1.0, *(mine[-1]["at_s"] - began_s for _, mine in drawn)])
    labels = list(dict.fromkeys(_engine(process) for process, _ in workers))

    def x_of(at_s: float) -> float:
        share = min(max((at_s - began_s) / span_s, 0.0), 1.0)
        return round(float(LEFT + (RIGHT - LEFT) * share), 1)

    panels = []
    for number, (title, read) in enumerate((("memory, MiB", _memory), ("CPU, %", _load))):
        top = TOP_PX + number * (PANEL_PX + GAP_PX)
        series = [(process, read(mine)) for process, mine in drawn]
        highest = max([1.0, *(value for _, points in series for _, value in points)])
        panels.append(
            {
                "title": title,
                "top": top,
                "bottom": top + PANEL_PX,
                "title_y": top - 6,
                "highest_y": top + 8,
                "axis_y": top + PANEL_PX + 12,
                "highest": f"{highest:.4g}",
                "lines": [
                    {
                        "name": shown(process, 60),
                        "colour": _colour(labels.index(_engine(process))),
                        "points": " ".join(
                            f"{x_of(at_s)},{top + PANEL_PX * (1 - value / highest):.1f}"
                            for at_s, value in points
                        ),
                    }
                    for process, points in series
                    if points
                ],
            }
        )
    legend_y = TOP_PX + 2 * (PANEL_PX + GAP_PX)
    return {
        "width": WIDTH,
        "height": legend_y + 14 * len(labels[:WORKERS_MAX]) + 4,
        "left": LEFT,
        "right": RIGHT,
        "panel_px": PANEL_PX,
        "span": f"{span_s:.0f} s",
        "panels": panels,
        "shades": [
            {
                "x": x_of(one["begin_s"]),
                "width": max(1.0, round(x_of(one["end_s"]) - x_of(one["begin_s"]), 1)),
                "what": shown(one["what"], 120),
            }
            for one in data["windows"][:WINDOWS_MAX]
        ],
        "legend": [
            {"colour": _colour(i), "y": legend_y + 14 * i, "words": shown(label, 60)}
            for i, label in enumerate(labels[:WORKERS_MAX])
        ],
        "left_out": max(0, len(workers) - WORKERS_MAX),
        "text": shown(
            "; ".join(
                f"{r['label']}: {r['workers']} workers, at most {r['rss_mib']} MiB"
                for r in resource_rows(data["rows"])
            )
            or "no samples",
            900,
        ),
    }


def _thin(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return points[:: max(1, -(-len(points) // POINTS_MAX))]


def _memory(mine: Sequence[Row]) -> list[tuple[float, float]]:
    return _thin([(row["at_s"], row["rss_bytes"] / MIB) for row in mine])


def _load(mine: Sequence[Row]) -> list[tuple[float, float]]:
    """Return processor time between two samples, in percent of one processor."""
    return _thin(
        [
            (after["at_s"], 100 * max(0.0, after["cpu_s"] - before["cpu_s"]) / passed_s)
            for before, after in pairwise(mine)
            if (passed_s := after["at_s"] - before["at_s"]) > 0
        ]
    )
