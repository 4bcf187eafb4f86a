"""Engines x clauses: one verdict a cell, counted from the rows of the campaign.

A violation anywhere dominates; a clause passes only if every scenario that judges it there
passed or could not be run for lack of a capability. What was not settled is never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.contract.clause import Clause
from harness.findings.bugs import union
from harness.findings.campaign import Campaign, clause_numbers, engine_label
from harness.findings.finding import Finding
from harness.findings.order import by_clause

__all__ = ["CELL_RULE", "ORDER", "clause_rows", "conformance"]

ORDER = ("fail", "error", "blocked", "inconclusive", "pass", "unsupported")
CELL_RULE = (
    "The first that any scenario gave: fail, error, blocked, inconclusive, pass, unsupported. "
    "A violation that the engine documents as its semantics is a violated clause, but no bug."
)


def clause_rows(campaign: Campaign, findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return the declarations of the clauses that this campaign judged or that a finding names."""
    names = dict.fromkeys(f.clause for f in findings if f.clause in campaign.clauses)
    for unit in campaign.units:
        names.update(dict.fromkeys((*unit["clauses_judged"], *unit["clauses"])))
    known = [n for n in sorted(names, key=by_clause) if n in campaign.clauses]
    return [_declared(campaign.clauses, name) for name in known]


def _declared(clauses: Mapping[str, Clause], name: str) -> dict[str, Any]:
    one = clauses[name]
    return {
        "id": one.id,
        "family": one.family,
        "must": one.must,
        "severity": one.severity,
        "type": one.type,
        "impact": one.impact,
        "recommendation": one.recommendation,
        "effort": one.effort,
    }


def conformance(
    campaign: Campaign, findings: Sequence[Finding], clauses: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return a row per engine and version with a cell per clause."""
    return [
        {
            "engine": name,
            "engine_version": version,
            "label": engine_label(name, version),
            "cells": [_cell(campaign, findings, name, version, one["id"]) for one in clauses],
        }
        for name, version in campaign.subjects()
    ]


def _cell(
    campaign: Campaign, findings: Sequence[Finding], name: str, version: str, clause: str
) -> dict[str, Any]:
    rows = [
        (unit, clause_numbers(unit, clause))
        for unit in campaign.of_engine(name, version)
        if clause in unit["clauses_judged"] or clause in unit["clauses"]
    ]
    verdicts = {numbers[0] for _, numbers in rows}
    return {
        "clause": clause,
        "verdict": next((v for v in ORDER if v in verdicts), "not judged"),
        "scenarios": len(rows),
        "exercised": sum(numbers[1] for _, numbers in rows),
        "violations": sum(numbers[2] for _, numbers in rows),
        "packs": list(union([u["pack"]] for u, _ in rows)),
        "missions": list(campaign.missions_of([u["scenario"] for u, _ in rows])),
        "findings": [
            f.id
            for f in findings
            if f.clause == clause
            and f.engine == name
            and version in f.engine_versions
            and f.kind in ("bug", "dx")
        ],
    }
