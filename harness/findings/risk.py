"""Where a bug stands in the risk matrix, and what a remedy is reckoned to cost, by printed rules.

Impact comes from the declared severity and risks, likelihood from the measured frequency on
this very version. What was not measured is not placed. The days are a convention to plan with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings.finding import Finding, frequency_of
from harness.findings.order import EFFORTS

__all__ = [
    "DAYS",
    "DAYS_RULE",
    "IMPACTS",
    "LIKELIHOODS",
    "RISK_RULE",
    "phases",
    "rate_on",
    "risks",
]

IMPACTS = {"info": 1, "low": 1, "medium": 2, "high": 3, "critical": 4}
IMPACT_MAX = 5
LIKELIHOODS = {"rarely": 1, "sometimes": 2, "often": 3, "always": 4}
DAYS = {"trivial": 0.5, "small": 2, "medium": 5, "large": 10, "epic": 20}

RISK_RULE = (
    f"Impact is {IMPACTS['low']} for low, {IMPACTS['medium']} for medium, {IMPACTS['high']} for "
    f"high and {IMPACTS['critical']} for critical severity, and 1 more (at most {IMPACT_MAX}) "
    "where the violated clause puts data or security at high risk. Likelihood is the measured "
    "share of violating runs among those that put the clause to the test on this version: "
    f"{LIKELIHOODS['rarely']} rarely (below 0.02), {LIKELIHOODS['sometimes']} sometimes (below "
    f"0.2), {LIKELIHOODS['often']} often (below 1), {LIKELIHOODS['always']} always. The scenarios "
    "provoke what they test, so it is a likelihood under these faults, not in production. A "
    "bubble grows with the effort of the remedy."
)
DAYS_RULE = (
    "Working days of one engineer by effort, a convention and not a measurement: "
    + ", ".join(f"{effort} {days}" for effort, days in DAYS.items())
    + ". A remedy that several findings share counts once; phases follow one another."
)


def rate_on(finding: Finding, version: str) -> tuple[int, int]:
    """Return (violating runs, runs that put it to the test) of a finding on one version."""
    rows = [m for m in finding.evidence.measured if m["engine_version"] == version]
    return sum(int(m["violations"]) for m in rows), sum(int(m["exercised"]) for m in rows)


def risks(findings: Sequence[Finding], version: str) -> list[dict[str, Any]]:
    """Return a row per bug: its place in the matrix, and the figures that gave it."""
    rows = []
    for one in findings:
        if one.kind != "bug":
            continue
        violations, exercised = rate_on(one, version)
        frequency = frequency_of(violations / exercised) if exercised else None
        grave = "high" in (one.impact.data_risk, one.impact.security_risk)
        effort = one.recommendation.effort if one.recommendation else None
        rows.append(
            {
                "finding": one.id,
                "impact": min(IMPACT_MAX, IMPACTS[one.severity] + grave),
                "likelihood": LIKELIHOODS[frequency] if frequency else None,
                "severity": one.severity,
                "data_risk": one.impact.data_risk,
                "security_risk": one.impact.security_risk,
                "frequency": frequency,
                "violations": violations,
                "exercised": exercised,
                "effort": effort,
                "effort_rank": EFFORTS.index(effort) + 1 if effort else None,
            }
        )
    return rows


def phases(recommendations: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return the remedies' phases P0, P1, P2 with days counted by `DAYS`, one after another."""
    rows: list[dict[str, Any]] = []
    begin: float = 0
    for priority in ("P0", "P1", "P2"):
        remedies = recommendations[priority]
        days = sum(DAYS[one["effort"]] for one in remedies)
        rows.append(
            {
                "phase": priority,
                "remedies": len(remedies),
                "days": days,
                "begin_day": begin,
                "end_day": begin + days,
                "findings": [f for one in remedies for f in one["findings"]],
            }
        )
        begin += days
    return rows
