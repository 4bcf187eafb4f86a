"""From clauses that held to strengths: one per engine and clause.

A clause is a strength of a version if every scenario that judges it there passed, put it to
the test in at least one run, and nothing violated it anywhere. Scenarios that the engine
cannot run for lack of a capability do not count against it; inconclusive, blocked and
failed-to-run ones do, because nobody knows what they would have shown.
"""

from __future__ import annotations

from harness.findings.bugs import measured_row, union
from harness.findings.campaign import Campaign, Row, clause_numbers, clause_of, runs_made
from harness.findings.finding import Evidence, Finding, Impact
from harness.findings.fingerprint import fingerprint
from harness.findings.order import by_version

__all__ = ["strengths"]


def strengths(campaign: Campaign) -> list[Finding]:
    """Return one finding per engine and clause that held, without ids."""
    held: dict[tuple[str, str], list[Row]] = {}
    for name, version in campaign.subjects():
        units = list(campaign.of_engine(name, version))
        judged = union(u["clauses_judged"] for u in units)
        for clause in judged:
            passed = _passed(units, clause)
            if passed:
                held.setdefault((name, clause), []).extend(passed)
    return [_finding(campaign, name, clause, units) for (name, clause), units in held.items()]


def _passed(units: list[Row], clause: str) -> list[Row]:
    """Return the rows in which the clause held, or none if it is no strength."""
    passed = []
    for unit in units:
        if clause not in unit["clauses_judged"] and clause not in unit["clauses"]:
            continue
        verdict, exercised, violations = clause_numbers(unit, clause)
        if violations or verdict not in ("pass", "unsupported"):
            return []
        if verdict == "pass":
            if not exercised:
                return []
            passed.append(unit)
    return passed


def _finding(campaign: Campaign, name: str, clause: str, units: list[Row]) -> Finding:
    declared = clause_of(campaign.clauses, clause)
    rows = [(u, u["clauses"][clause]) for u in units]
    figures: dict[str, float] = {}
    for _, row in rows:
        for key, value in row["figures"].items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                figures[key] = figures.get(key, 0) + value
    exercised = sum(int(row["exercised"]) for _, row in rows)
    scenarios = union([u["scenario"]] for u in units)
    return Finding(
        kind="strength",
        type=declared.type,
        severity="info",
        title=f"{clause} holds: {declared.must}",
        description=f"{clause} demands: {declared.must}. It held in {', '.join(scenarios)}.",
        clause=clause,
        shape="holds",
        engine=name,
        engine_versions=tuple(sorted({u["engine_version"] for u in units}, key=by_version)),
        mission_tests=union(u["tests"] for u in units),
        missions=campaign.missions_of(scenarios),
        scenarios=scenarios,
        expected=f"As {clause} demands: {declared.must}.",
        actual=f"Put to the test in {exercised} runs, violated in none of them.",
        evidence=Evidence(
            figures=figures,
            seeds_tried=runs_made(units),
            exercised=exercised,
            rate=0.0,
            measured=tuple(measured_row(u, int(row["exercised"]), 0, row) for u, row in rows),
        ),
        confirmation="live_only" if units[0]["lab"] == "live" else "simulated_only",
        confirmation_note="Measured by the laboratory; there is no defect to reproduce.",
        impact=Impact("Under every fault tried, each of which fired, the clause held."),
        status="confirmed",
        fingerprint=fingerprint("strength", clause, name, "", "holds"),
        first_seen=campaign.seen,
        last_seen=campaign.seen,
    )
