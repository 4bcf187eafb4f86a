"""The go/no-go matrix: criteria, each judged from the clauses that it is made of.

The rules are printed beside the outcome and tried in order. A criterion of which nothing was
judged is unknown, never passed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings.order import by_clause

__all__ = ["CRITERIA", "DECISIONS", "STATES", "criteria", "decision", "is_of"]

Row = Mapping[str, Any]

# Criterion -> families and single clauses. A clause may matter to several criteria.
CRITERIA: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Architecture", ("GRAPH-1", "GRAPH-2", "GRAPH-3")),
    ("API Design", ("CTX", "PART-2", "PART-4", "CANCEL-7")),
    ("Timeouts", ("TIME",)),
    ("Cancellation Cleanup", ("CANCEL", "CLEAN")),
    ("Partial Results and Recovery", ("PART", "STREAM", "RETRY")),
    ("Event Backpressure", ("EVENT", "STREAM-3")),
    ("Observability", ("CORR",)),
    ("Multi-Tenant", ("TENANT",)),
    ("Performance", ("GRAPH-4",)),
    ("Security", ("GRAPH-5", "TENANT-1", "TENANT-3")),
)

STATES: tuple[tuple[str, str], ...] = (
    ("UNKNOWN", "none of its clauses was judged"),
    ("NEEDS FIX", "a clause of critical or high severity is violated"),
    ("PARTIAL", "another clause is violated, or one was not judged"),
    ("PASS", "every one of its clauses was judged and held"),
)
DECISIONS: tuple[tuple[str, str], ...] = (
    ("UNDECIDED", "the campaign did not come to its end, or no clause was judged"),
    ("NO-GO", "a critical bug was found"),
    ("CONDITIONAL GO", "a criterion needs a fix"),
    ("UNDECIDED", "a criterion is unknown"),
    ("GO WITH CONCERNS", "a criterion is met in part only, or a bug was found"),
    ("GO", "every criterion passed and no bug was found"),
)


def is_of(clause: str, members: Sequence[str]) -> bool:
    """Say whether a clause is one of `members`: families, or single clauses."""
    return clause in members or clause.rsplit("-", 1)[0] in members


def criteria(cells: Sequence[Row], severities: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row per criterion with its state, the rule that gave it, and the clauses.

    Args:
        severities: of every clause of the contract; one that the campaign did not include has no
            cell, and is not judged like one that the engine cannot be judged by.
    """
    known = {cell["clause"]: cell for cell in cells}
    rows = []
    for name, members in CRITERIA:
        wanted = sorted((c for c in severities if is_of(c, members)), key=by_clause)
        mine = [known[c] for c in wanted if c in known]
        held = [c["clause"] for c in mine if c["verdict"] == "pass"]
        violated = [c["clause"] for c in mine if c["verdict"] == "fail"]
        unjudged = [c for c in wanted if c not in (*held, *violated)]
        grave = [c for c in violated if severities[c] in ("critical", "high")]
        applies = (not held and not violated, bool(grave), bool(violated or unjudged), True)
        state, rule = next(r for r, holds in zip(STATES, applies, strict=True) if holds)
        rows.append(
            {
                "criterion": name,
                "members": list(members),
                "state": state,
                "rule": rule,
                "held": held,
                "violated": violated,
                "not_judged": unjudged,
                "findings": list(dict.fromkeys(f for c in mine for f in c["findings"])),
            }
        )
    return rows


def decision(rows: Sequence[Row], severities: Sequence[str], status: str) -> dict[str, str]:
    """Return the recommendation and the rule that gave it.

    Args:
        severities: of the bugs found on this version.
        status: of the campaign.
    """
    states = [row["state"] for row in rows]
    applies = (
        status != "completed" or set(states) == {"UNKNOWN"},
        "critical" in severities,
        "NEEDS FIX" in states,
        "UNKNOWN" in states,
        "PARTIAL" in states or bool(severities),
        True,
    )
    verdict, rule = next(r for r, holds in zip(DECISIONS, applies, strict=True) if holds)
    return {"verdict": verdict, "rule": rule}
