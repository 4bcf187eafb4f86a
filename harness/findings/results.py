"""Rows of results.jsonl: the verdicts that everything else is counted from.

The same seed gives the same bytes on any machine, `duration_s` excepted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Row
from harness.findings.order import by_version
from harness.findings.plain import plain, to_line

__all__ = ["VERDICTS", "note_rows", "result_row", "results_page", "sorted_units"]

VERDICTS = ("pass", "fail", "inconclusive", "unsupported", "blocked", "error")


def result_row(unit: Row) -> dict[str, Any]:
    """Return the row that is published for one scenario, engine and laboratory."""
    if unit["verdict"] not in VERDICTS:
        raise ValueError(
            f"{unit['scenario']} on {unit['engine']}: verdict {unit['verdict']!r} is none of "
            f"{', '.join(VERDICTS)}"
        )
    judged = unit["clauses_judged"]
    row: dict[str, Any] = plain(
        {
            "pack": unit["pack"],
            "scenario": unit["scenario"],
            "category": unit["category"],
            "tests": unit["tests"],
            "clause": judged[0] if judged else "",
            "clauses": unit["clauses"],
            "engine": unit["engine"],
            "engine_version": unit["engine_version"],
            "lab": unit["lab"],
            "verdict": unit["verdict"],
            "reason": unit["reason"],
            "runs": unit["runs"],
            "violations": unit["violations"],
            "figures": unit["figures"],
            "seed": unit["seed"],
            "token": unit["token"],
            "virtual_s": unit["virtual_s"],
            "duration_s": unit["duration_s"],
            **({"runs_asked": unit["runs_asked"]} if "runs_asked" in unit else {}),
            **({"notes": unit["order"]["notes"]} if "order" in unit else {}),
        }
    )
    return row


def note_rows(units: Sequence[Row]) -> list[dict[str, Any]] | None:
    """Return what the order tier noted, each with its engine and scenario; None if it was not run.

    A note is no finding: asyncio does not run callbacks in the order that gave it.
    """
    ordered = [unit for unit in units if "order" in unit]
    if not ordered:
        return None
    named = ("engine", "engine_version", "scenario")
    return [
        plain({**{k: unit[k] for k in named}, **note})
        for unit in ordered
        for note in unit["order"]["notes"]
    ]


def sorted_units(units: Sequence[Row], scenarios: Sequence[str]) -> list[Row]:
    """Return the rows by engine, version, scenario (in the order given) and laboratory.

    Workers finish in any order; what is published must not depend on it.
    """
    place = {scenario: i for i, scenario in enumerate(scenarios)}
    return sorted(
        units,
        key=lambda u: (
            u["engine"],
            by_version(u["engine_version"]),
            place.get(u["scenario"], len(place)),
            u["scenario"],
            u["lab"],
        ),
    )


def results_page(units: Sequence[Row]) -> str:
    """Return the whole of results.jsonl."""
    return "".join(to_line(result_row(unit)) + "\n" for unit in units)
