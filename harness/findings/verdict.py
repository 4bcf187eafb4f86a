"""A mission's verdict on one engine version, by rules tried in a fixed order.

The rule that gave the verdict is printed beside it; the first that applies wins. Violations
come first, so that a defect that was found is never hidden by a test that could not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Row

__all__ = ["RULES", "mission_verdict", "tally"]

RULES: tuple[tuple[str, str], ...] = (
    ("FAIL", "a critical bug was found"),
    ("FAIL", "more than half of the judged tests failed"),
    ("INCOMPLETE", "a test was blocked, ended in an error or was not run"),
    ("INCOMPLETE", "fewer than half of the tests could be judged"),
    ("NEEDS_WORK", "a bug of high severity was found"),
    ("PASS_WITH_CONCERNS", "a bug was found"),
    ("PASS_WITH_CONCERNS", "a test failed"),
    ("PASS_WITH_CONCERNS", "a test could not be judged"),
    ("PASS", "every test passed and no bug was found"),
)

# How a mission's report names what became of a test that has no unit row.
NOT_RUN = "not run"


def tally(tests: Sequence[Row]) -> dict[str, int]:
    """Count tests by verdict."""
    counts = dict.fromkeys(
        ("pass", "fail", "inconclusive", "unsupported", "blocked", "error", NOT_RUN), 0
    )
    for test in tests:
        counts[test["verdict"]] += 1
    return counts


def mission_verdict(tests: Sequence[Row], severities: Sequence[str]) -> dict[str, Any]:
    """Return verdict, rule and reason for the tests of a mission and its bugs' severities."""
    counts = tally(tests)
    judged = counts["pass"] + counts["fail"]
    stuck = counts["blocked"] + counts["error"] + counts[NOT_RUN]
    applies = (
        "critical" in severities,
        counts["fail"] * 2 > judged,
        stuck > 0,
        judged * 2 < len(tests) or not tests,
        "high" in severities,
        bool(severities),
        counts["fail"] > 0,
        judged < len(tests),
        True,
    )
    verdict, rule = next(r for r, holds in zip(RULES, applies, strict=True) if holds)
    figures = {"tests": len(tests), "judged": judged}
    figures |= {f"tests_{name.replace(' ', '_')}": n for name, n in counts.items() if n}
    for severity in ("critical", "high", "medium", "low"):
        if severity in severities:
            figures[f"bugs_{severity}"] = severities.count(severity)
    return {"verdict": verdict, "rule": rule, "figures": figures}
