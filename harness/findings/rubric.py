"""Developer experience, scored out of 5 from measured facts only.

Each category is the mean of its criteria; a criterion is a share from 0 to 1: a probed
fact, or the part of the runs that put a clause to the test and did not violate it. The
score is 1 + 4 x mean. What was not measured is left out of the mean and said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings.campaign import Row, clause_numbers
from harness.findings.experience import share_of

__all__ = ["CRITERIA", "scores"]

RUBRIC = (
    "A criterion is a share from 0 to 1: a probed fact, or the part of the runs that put a clause "
    "to the test and did not violate it. A category scores 1 plus 4 times the mean of its measured "
    "criteria, so from 1 to 5; one with nothing measured has no score."
)

# (category, criterion, source, name of the fact or clause)
CRITERIA: tuple[tuple[str, str, str, str], ...] = (
    ("Discoverability", "few lines for a first pipeline", "fact", "hello_lines"),
    ("Discoverability", "timeouts visible in the pipeline's description", "clause", "TIME-7"),
    ("Clarity", "partial outputs reachable after a failure", "clause", "PART-1"),
    ("Clarity", "failure and cancellation give the same access", "clause", "PART-2"),
    ("Clarity", "same context whichever entry point runs a stage", "clause", "CTX-1"),
    ("Documentation", "public names with a docstring", "fact", "public_api_documented"),
    ("Documentation", "how to reach partial outputs", "fact", "documented_partial_outputs"),
    ("Documentation", "typed for type checkers", "fact", "typed"),
    ("Error Messages", "ill-formed graphs are refused, naming the stages", "clause", "GRAPH-1"),
    ("Error Messages", "unusable timeouts are refused, naming the stage", "clause", "TIME-5"),
    ("Error Messages", "a timeout fires on time and names its stage and limit", "clause", "TIME-1"),
    ("Debugging", "every failure reported, with stage and cause chain", "clause", "PART-4"),
    ("Debugging", "a cancelled run is told from a failed one", "clause", "CANCEL-7"),
)

# Lines of a complete program of one stage -> share.
HELLO_LINES = ((10, 1.0), (15, 0.75), (25, 0.5), (40, 0.25))
HELLO_RULE = (
    "lines of a complete program of one stage: up to 10 count 1, up to 15 count 0.75, up to 25 "
    "count 0.5, up to 40 count 0.25, more count 0"
)


def scores(engine: Row, units: Sequence[Row]) -> dict[str, Any]:
    """Return the rubric, a row per criterion, a score per category, and the overall score."""
    criteria = [_criterion(one, engine, units) for one in CRITERIA]
    categories: list[dict[str, Any]] = []
    for name in dict.fromkeys(c[0] for c in CRITERIA):
        shares = [c["share"] for c in criteria if c["category"] == name and c["share"] is not None]
        categories.append({"category": name, "score": _score(shares), "measured": len(shares)})
    known: list[float] = [c["score"] for c in categories if c["score"] is not None]
    return {
        "rubric": f"{RUBRIC} For {HELLO_RULE}.",
        "criteria": criteria,
        "categories": categories,
        "overall": round(sum(known) / len(known), 1) if known else None,
        "out_of": 5,
    }


def _score(shares: Sequence[float]) -> float | None:
    return round(1 + 4 * sum(shares) / len(shares), 1) if shares else None


def _criterion(one: tuple[str, str, str, str], engine: Row, units: Sequence[Row]) -> dict[str, Any]:
    category, criterion, source, name = one
    if source == "fact":
        value = engine.get("facts", {}).get(name)
        share = _lines_share(value) if name == "hello_lines" else share_of(value)
        measured: Mapping[str, Any] = {} if share is None else {name: value}
    else:
        judged = [clause_numbers(u, name) for u in units if name in u["clauses"]]
        rows = [r for r in judged if r[0] in ("pass", "fail")]
        exercised = sum(r[1] for r in rows)
        violations = sum(r[2] for r in rows)
        share = 1 - violations / exercised if exercised else None
        measured = {"exercised": exercised, "violations": violations} if exercised else {}
    return {
        "category": category,
        "criterion": criterion,
        "source": f"{source} {name}",
        "measured": dict(measured),
        "share": None if share is None else round(share, 3),
    }


def _lines_share(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return next((share for most, share in HELLO_LINES if value <= most), 0.0)
