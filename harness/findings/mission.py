"""All that the mission reports and the summary state, as plain data for findings.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Campaign, Row, engine_label, runs_made
from harness.findings.chapter import chapter
from harness.findings.finding import Finding
from harness.findings.order import SEVERITIES
from harness.findings.results import VERDICTS

__all__ = ["engine_rows", "mission_reports", "totals"]


def mission_reports(
    campaign: Campaign, findings: Sequence[Finding], scenarios: Sequence[Row]
) -> list[dict[str, Any]]:
    """Return one report per mission, with a chapter per engine and version."""
    categories = {s["id"]: s["category"] for s in scenarios}
    return [
        {
            "id": mission["id"],
            "title": mission["title"],
            "pack": mission["pack"],
            "priority": mission["priority"],
            "risk": mission["risk"],
            "summary": mission["summary"],
            "industry": [
                {"industry": i, "use_case": use, "criticality": criticality}
                for i, use, criticality in mission["industry"]
            ],
            "state_of_the_art": list(mission["state_of_the_art"]),
            "failure_modes": list(mission["failure_modes"]),
            "persona": {
                "role": mission["persona"][0],
                "organisation": mission["persona"][1],
                "concerns": list(mission["persona"][2]),
            },
            "chapters": [
                chapter(campaign, mission, name, version, findings, categories=categories)
                for name, version in campaign.subjects()
            ],
        }
        for mission in campaign.missions
    ]


def engine_rows(campaign: Campaign) -> list[dict[str, Any]]:
    """Return what is known of each engine of the campaign, also of those that did not import."""
    rows = []
    for name, version in campaign.subjects():
        engine = campaign.engine(name, version)
        rows.append(
            {
                "name": name,
                "version": version,
                "label": engine_label(name, version),
                "capabilities": sorted(engine.get("capabilities", ())),
                "missing": engine.get("missing", {}),
                "facts": engine.get("facts", {}),
                "semantics": engine.get("semantics", {}),
            }
        )
    return rows


def totals(campaign: Campaign, findings: Sequence[Finding]) -> dict[str, Any]:
    """Count verdicts and findings over the whole campaign, and per engine and version."""
    rows = []
    for name, version in campaign.subjects():
        units = list(campaign.of_engine(name, version))
        bugs = [
            f
            for f in findings
            if f.kind == "bug" and f.engine == name and version in f.engine_versions
        ]
        rows.append(
            {
                "label": engine_label(name, version),
                "scenarios": len(units),
                "runs": runs_made(units),
                "verdicts": _count(VERDICTS, [u["verdict"] for u in units]),
                "bugs": _count(SEVERITIES[:4], [f.severity for f in bugs]),
            }
        )
    return {
        "scenarios": len(campaign.units),
        "runs": runs_made(campaign.units),
        "findings": _count(("bug", "dx", "improvement", "strength"), [f.kind for f in findings]),
        "engines": rows,
    }


def _count(names: Sequence[str], seen: Sequence[str]) -> dict[str, int]:
    return {name: list(seen).count(name) for name in names}
