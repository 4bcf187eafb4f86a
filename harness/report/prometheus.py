"""dagstorm.prom: a run's counts for the node exporter's textfile collector.

The text exposition format, gauges only: a run is a state, not a counter that grows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from harness.report.escape import shown

__all__ = ["prometheus_page"]

Row = Mapping[str, Any]
Sample = tuple[Mapping[str, str], float | int]


def prometheus_page(document: Row, changes: Row | None, history: Row | None) -> str:
    """Return the samples of one run, each family with its help and type."""
    metadata = document["metadata"]
    families: list[tuple[str, str, list[Sample]]] = [
        (
            "dagstorm_run_completed",
            "1 if the run came to its end, else 0.",
            [({"profile": _text(metadata["run"].get("profile"))}, _done(metadata["run"]))],
        ),
        (
            "dagstorm_run_start_timestamp_seconds",
            "When the run began.",
            _started(metadata["run"]),
        ),
        (
            "dagstorm_results",
            "Scenarios by engine and verdict.",
            [
                ({"engine": row["label"], "verdict": verdict}, n)
                for row in metadata["totals"]["engines"]
                for verdict, n in row["verdicts"].items()
            ],
        ),
        (
            "dagstorm_runs",
            "Runs judged by engine.",
            [({"engine": row["label"]}, row["runs"]) for row in metadata["totals"]["engines"]],
        ),
        (
            "dagstorm_bugs",
            "Bugs found by engine and severity.",
            [
                ({"engine": row["label"], "severity": severity}, n)
                for row in metadata["totals"]["engines"]
                for severity, n in row["bugs"].items()
            ],
        ),
        (
            "dagstorm_findings",
            "Findings by kind.",
            [({"kind": kind}, n) for kind, n in metadata["totals"]["findings"].items()],
        ),
        (
            "dagstorm_clause_exercised_runs",
            "Runs that put a clause to the test.",
            _cells(metadata["conformance"]["rows"], "exercised"),
        ),
        (
            "dagstorm_clause_violating_runs",
            "Runs that violated a clause.",
            _cells(metadata["conformance"]["rows"], "violations"),
        ),
    ]
    if changes is not None:
        words = ("new", "regressed", "resolved", "unchanged", "waived")
        samples: list[Sample] = [({"change": word}, len(changes[word])) for word in words]
        families.append(("dagstorm_findings_changed", "Findings by what became of them.", samples))
    if history is not None:
        runs: list[Sample] = [({}, len(history["runs"]))]
        families.append(("dagstorm_history_runs", "Runs that the history holds.", runs))
    lines = []
    for name, told, samples in families:
        if samples:
            lines += [f"# HELP {name} {told}", f"# TYPE {name} gauge"]
            lines += [f"{name}{_labels(labels)} {number}" for labels, number in samples]
    return "\n".join(lines) + "\n"


def _done(run: Row) -> int:
    return int(run.get("status") == "completed")


def _started(run: Row) -> list[Sample]:
    try:
        at = datetime.fromisoformat(str(run.get("started_at", "")).replace("Z", "+00:00"))
    except ValueError:
        return []
    return [({}, int(at.timestamp()))] if at.tzinfo else []


def _cells(rows: Sequence[Row], name: str) -> list[Sample]:
    return [
        ({"engine": row["label"], "clause": cell["clause"]}, cell[name])
        for row in rows
        for cell in row["cells"]
        if cell["exercised"]
    ]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return shown(value, 120).replace("\\", "\\\\").replace('"', '\\"')
