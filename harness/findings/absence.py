"""When a finding is gone: rules that take silence for proof only where it is one.

A finding is gone on a version if every scenario that ever showed it there was run to its
end and no longer does, in enough runs (live ones, if only live runs showed it); and, where a
search showed it, if none of its kept runs shows it when it is replayed. Anything left out,
unsupported, inconclusive, blocked or failed to run leaves it as it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.findings.known import Known, Life, Sight

__all__ = ["REPLAY", "SEARCHED", "gone", "replayed", "runs_needed"]

# Rows of runs that the registry kept are named so: replay/BUG-001.1
REPLAY = "replay/"
# Shards of a search are other programs with each seed: to pass them proves nothing.
SEARCHED = "search/swarm"
# How sure "enough runs" makes one: so often at most would a defect of the rate that was
# measured stay unseen by chance.
CHANCE_MAX = 0.05

Rows = Mapping[str, Mapping[str, Any]]


def runs_needed(sight: Sight) -> int:
    """Return in how many runs a defect of this rate would have been seen again, almost surely."""
    rate = sight.violations / (sight.exercised + 1)
    if rate <= 0:
        return max(1, sight.runs)
    return max(1, math.ceil(math.log(CHANCE_MAX) / math.log(1 - rate)))


def gone(known: Known, life: Life, rows: Rows, engine: Mapping[str, Any]) -> bool:
    """Say whether this run proves that a version which did not show a finding has it no more.

    Args:
        life: what to go by: the finding on this version, or on another.
        rows: scenario -> its row of results.jsonl on this version.
        engine: this version's description: capabilities and facts.
    """
    if known.kind == "improvement":
        return known.entry.get("shape") in engine.get("capabilities", ())
    if known.kind == "dx" and not known.clause:
        return known.entry.get("shape") in engine.get("facts", {})
    if known.entry.get("confirmation") == "live_only":
        # What simulation never showed, it cannot show to be gone.
        rows = {name: row for name, row in rows.items() if row["lab"] == "live"}
    named = {s: sight for s, sight in life.sights.items() if not s.startswith((REPLAY, SEARCHED))}
    again = replayed(known, rows)
    if any(verdict != "pass" for verdict in again):
        return False
    if len(named) < len(life.sights) and not again:
        return False
    if not named and not again:
        return False
    return all(_passed(known.clause, sight, rows.get(name)) for name, sight in named.items())


def replayed(known: Known, rows: Rows) -> list[str]:
    """Return the verdicts of this finding's kept runs that were replayed."""
    names = {known.id, *known.formerly}
    return [
        str(row["verdict"])
        for scenario, row in rows.items()
        if scenario.startswith(REPLAY) and scenario.removeprefix(REPLAY).partition(".")[0] in names
    ]


def _passed(clause: str, sight: Sight, row: Mapping[str, Any] | None) -> bool:
    if row is None or row["verdict"] not in ("pass", "fail"):
        return False
    judged = row["clauses"].get(clause)
    if judged is None:
        # A clause that a scenario touches by the way has a row only where it is violated.
        return row["verdict"] == "pass" and _enough(sight, row, int(row["runs"]))
    return judged["verdict"] == "pass" and _enough(sight, row, int(judged["exercised"]))


def _enough(sight: Sight, row: Mapping[str, Any], runs: int) -> bool:
    # With the campaign's seed of then, the very runs that showed it were done again. Of a live
    # row none is asked for in this sense.
    asked = int(row.get("runs_asked", row["runs"]))
    same = asked > 0 and row["seed"] == sight.seed and asked >= sight.runs
    return same or runs >= runs_needed(sight)
