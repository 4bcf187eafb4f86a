"""Figures that a threshold can be set on, each with what it is measured from.

A figure is worked out for each engine and version of a run. One that no run measured is
`inconclusive`: a threshold that nothing was held against has not been kept.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.findings.campaign import Row, engine_label

__all__ = ["FIGURES", "MEMORY_GROWTH", "METRICS", "Threshold", "hold"]

# metrics.<column> is the 99th percentile of any column of metrics.csv.
METRICS = "metrics."
MEMORY_GROWTH = "memory_growth_mb"
BROKEN = "broken:"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound on a figure.

    Attributes:
        figure: a name in FIGURES, or metrics.<column>.
        low, high: bounds that still hold, or None.
        engine: a name, or name@version; "" for every engine.
        scenario: pattern such as event_overflow/*, "" for every scenario.
        required: the gate fails also if nothing was measured.
    """

    figure: str
    low: float | None = None
    high: float | None = None
    engine: str = ""
    scenario: str = ""
    required: bool = False


def hold(
    thresholds: Iterable[Threshold], units: Sequence[Row], growth: Sequence[Row] = ()
) -> list[dict[str, Any]]:
    """Return one row per threshold and engine: figure, value, bounds, pass, fail or inconclusive.

    Args:
        units: the campaign's rows, with their samples.
        growth: a row for each engine that was measured by repeated runs: engine, engine_version,
            scenario, memory_growth_mb (None if it could not be measured).
    """
    return [
        row
        for one in thresholds
        for row in _hold(one, growth if one.figure == MEMORY_GROWTH else units)
    ]


def _hold(one: Threshold, units: Sequence[Row]) -> list[dict[str, Any]]:
    mine = [
        u
        for u in units
        if (not one.engine or one.engine in (u["engine"], _label(u)))
        and (not one.scenario or fnmatch.fnmatchcase(u["scenario"], one.scenario))
    ]
    groups: dict[str, list[Row]] = {}
    for unit in mine:
        groups.setdefault("" if one.figure == "detection_rate" else _label(unit), []).append(unit)
    measure, source = _measure(one.figure)
    rows = []
    for label, group in groups.items():
        value = measure(group)
        if value is not None:
            kept = (one.low is None or value >= one.low) and (one.high is None or value <= one.high)
            rows.append(_row(one, label, source, round(value, 6), "pass" if kept else "fail"))
    return rows or [_row(one, one.engine, source, None, "inconclusive")]


def _row(
    one: Threshold, engine: str, source: str, value: float | None, verdict: str
) -> dict[str, Any]:
    return {
        "figure": one.figure,
        "engine": engine,
        "scenario": one.scenario,
        "min": one.low,
        "max": one.high,
        "value": value,
        "verdict": verdict,
        "required": one.required,
        "measured_from": source,
    }


def _label(unit: Row) -> str:
    return engine_label(unit["engine"], unit["engine_version"])


Measure = Callable[[Sequence[Row]], "float | None"]


def _measure(figure: str) -> tuple[Measure, str]:
    if figure.startswith(METRICS):
        column = figure.removeprefix(METRICS)
        return lambda units: _p99(units, column), f"99th percentile of {column} in metrics.csv"
    return FIGURES[figure]


def _p99(units: Sequence[Row], column: str) -> float | None:
    values = sorted(
        float(sample[column])
        for unit in units
        for sample in unit.get("samples", ())
        if isinstance(sample.get(column), (int, float)) and math.isfinite(sample[column])
    )
    return values[math.ceil(0.99 * len(values)) - 1] if values else None


def _grown(rows: Sequence[Row]) -> float | None:
    values = [float(r[MEMORY_GROWTH]) for r in rows if r[MEMORY_GROWTH] is not None]
    return max(values, default=None)


def _share(units: Sequence[Row], part: Sequence[str], whole: Sequence[str]) -> float | None:
    """Return the sum of one figure over that of another, of rows that judged both clauses."""
    above = below = 0.0
    for unit in units:
        clauses: Mapping[str, Any] = unit["clauses"]
        if part[0] in clauses and whole[0] in clauses:
            above += float(clauses[part[0]]["figures"].get(part[1], 0))
            below += float(clauses[whole[0]]["figures"].get(whole[1], 0))
    return above / below if below else None


def _detected(units: Sequence[Row]) -> float | None:
    """Return the share of the engines that are broken on purpose in which anything failed."""
    broken = {u["engine"] for u in units if u["engine"].startswith(BROKEN) and u["runs"]}
    failing = {u["engine"] for u in units if u["verdict"] == "fail"}
    return len(broken & failing) / len(broken) if broken else None


FIGURES: Mapping[str, tuple[Measure, str]] = {
    "drop_rate": (
        lambda units: _share(units, ("EVENT-2", "events_dropped"), ("EVENT-1", "events_offered")),
        "EVENT-2 events_dropped of EVENT-1 events_offered, in scenarios that judge both",
    ),
    "cleanup_share": (
        lambda units: _share(units, ("CLEAN-1", "released"), ("CLEAN-1", "acquired")),
        "CLEAN-1 released of acquired",
    ),
    "p99_latency_s": (
        lambda units: _p99(units, "virtual_s"),
        "99th percentile of virtual_s in metrics.csv: whole runs, on the simulated clock",
    ),
    "detection_rate": (
        _detected,
        "engines broken on purpose in which a scenario failed, of those that were run",
    ),
    MEMORY_GROWTH: (
        _grown,
        "growth of a worker's resident memory over repeated runs after a warm-up, in MB, "
        "as resources.json says",
    ),
}
