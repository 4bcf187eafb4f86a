"""Hypotheses and claims, decided by measured verdicts and by nothing else.

One rule for both. Each pair of `decides` is looked up: a clause's verdict in a scenario, a
probed fact, a capability. It agrees, disagrees, or was not decided. All decided and all
agree: CONFIRMED (a claim: SUPPORTED). None that was decided agrees: REJECTED (a claim:
CONTRADICTED, but NOT REPRODUCED where some pair was not decided). Some of each: PARTIAL
(PARTLY). Nothing decided: BLOCKED if a defect of the engine was in the way, else NOT TESTED
(a claim: NOT REPRODUCED).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Row, clause_numbers

__all__ = ["RULE", "claim_rows", "hypothesis_rows"]

RULE = (
    "CONFIRMED: every scenario, fact and capability named was decided and agrees. REJECTED: none "
    "that was decided agrees. PARTIAL: some agree, and others do not or were not decided. "
    "BLOCKED or NOT TESTED: nothing was decided. For claims in the same order: SUPPORTED, "
    "CONTRADICTED (NOT REPRODUCED where something was not decided), PARTLY, NOT REPRODUCED."
)
_CLAIM_WORDS = {
    "CONFIRMED": "SUPPORTED",
    "PARTIAL": "PARTLY",
    "REJECTED": "CONTRADICTED",
    "BLOCKED": "NOT REPRODUCED",
    "NOT TESTED": "NOT REPRODUCED",
}
_DECIDED = ("pass", "fail")


def hypothesis_rows(mission: Row, engine: Row, units: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one row per hypothesis, with its verdict on this engine and the evidence."""
    rows = []
    for one in mission["hypotheses"]:
        evidence = [_evidence(pair, engine, units) for pair in one["decides"]]
        rows.append(
            {
                "id": one["id"],
                "statement": one["statement"],
                "holds_if": one["holds_if"],
                "verdict": _verdict(evidence, one["holds_if"]),
                "evidence": evidence,
            }
        )
    return rows


def claim_rows(mission: Row, engine: Row, units: Sequence[Row]) -> list[dict[str, Any]]:
    """Return one row per claim about this engine; claims about others are left out.

    A claim about `stageflow` is judged on `stageflow-legacy` as well: both are of one package.
    What misled the earlier measurement is said only where something measured disagrees.
    """
    rows = []
    for one in mission["claims"]:
        if one["engine"] != engine["name"] and not engine["name"].startswith(f"{one['engine']}-"):
            continue
        evidence = [_evidence(pair, engine, units) for pair in one["decides"]]
        decided = _verdict(evidence, one["holds_if"])
        verdict = _CLAIM_WORDS[decided]
        if decided == "REJECTED" and any(e["verdict"] not in _DECIDED for e in evidence):
            verdict = "NOT REPRODUCED"
        measured = [e["verdict"] for e in evidence if e["verdict"] in _DECIDED]
        rows.append(
            {
                "id": one["id"],
                "says": one["says"],
                "earlier": one["earlier"],
                "holds_if": one["holds_if"],
                "verdict": verdict,
                "why": one["why"] if measured.count(one["holds_if"]) < len(measured) else "",
                "evidence": evidence,
            }
        )
    return rows


def _verdict(evidence: Sequence[Row], holds_if: str) -> str:
    decided = [e["verdict"] for e in evidence if e["verdict"] in _DECIDED]
    if not decided:
        return "BLOCKED" if any(e["verdict"] == "blocked" for e in evidence) else "NOT TESTED"
    agreeing = decided.count(holds_if)
    if not agreeing:
        return "REJECTED"
    return "CONFIRMED" if agreeing == len(evidence) else "PARTIAL"


def _evidence(pair: Sequence[str], engine: Row, units: Sequence[Row]) -> dict[str, Any]:
    subject, name = pair
    if subject == "capability":
        offered = name in engine.get("capabilities", ())
        missing = engine.get("missing", {}).get(name, "")
        known = offered or "capabilities" in engine
        verdict = "not run" if not known else "pass" if offered else "fail"
        note = "offered" if offered else missing or "not offered"
        return _row(subject, name, verdict, note)
    if subject == "probe":
        value = engine.get("facts", {}).get(name)
        if not isinstance(value, (bool, int, float)):
            return _row(subject, name, "not run", "not probed as a yes or no")
        return _row(subject, name, "pass" if value else "fail", "", {name: value})
    found = [u for u in units if u["scenario"] == subject]
    if not found:
        return _row(subject, name, "not run", "the scenario was not run")
    # Both laboratories may have run it: a violation in either is a violation.
    rows = [_clause_row(unit, name) for unit in found]
    ranks = ("fail", "pass", "blocked", "inconclusive", "unsupported", "error", "not run")
    # Of two that say the same, the one that put it to the test more often has more to say.
    return min(rows, key=lambda r: (ranks.index(r["verdict"]), -(r["exercised"] or 0)))


def _clause_row(unit: Row, clause: str) -> dict[str, Any]:
    verdict, exercised, violations = clause_numbers(unit, clause)
    own = unit["clauses"].get(clause)
    if own is None and verdict in _DECIDED:
        # The row's verdict is about its other clauses, so it decides nothing about this one.
        return _row(unit["scenario"], clause, "not run", "the scenario did not judge this clause")
    return {
        "subject": unit["scenario"],
        "name": clause,
        "verdict": verdict,
        "exercised": exercised,
        "violations": violations,
        "figures": own["figures"] if own else {},
        "note": (own or {}).get("reason", "") or ("" if verdict in _DECIDED else unit["reason"]),
    }


def _row(
    subject: str, name: str, verdict: str, note: str, figures: Row | None = None
) -> dict[str, Any]:
    return {
        "subject": subject,
        "name": name,
        "verdict": verdict,
        "exercised": None,
        "violations": None,
        "figures": dict(figures or {}),
        "note": note,
    }
