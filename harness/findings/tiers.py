"""Tier reports: what several missions together say of one engine version, area by area.

Which missions make up a tier is fixed here; what is said of an area is counted from clauses
and findings. A mission that belongs to no tier named here has a last tier of its own, so that
none is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.findings.campaign import Campaign, engine_label, mission_scenarios
from harness.findings.chapter import recommendations
from harness.findings.conformance import conformance
from harness.findings.criteria import is_of
from harness.findings.finding import Finding

__all__ = ["FURTHER", "TIERS", "VERDICT_RULE", "Tier", "tier_reports"]

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Tier:
    """Missions that are reported together.

    Attributes:
        areas: (title, clause families) in report order.
    """

    id: str
    title: str
    missions: tuple[str, ...]
    areas: tuple[tuple[str, tuple[str, ...]], ...]


TIERS = (
    Tier(
        "1",
        "Core Framework Reliability",
        (
            *("DAG-009", "CONTRACT-003", "CONTEXT-UNIFICATION", "PARTIAL-RESULTS"),
            *("REDRIVE", "CANCEL-CLEANUP"),
        ),
        (
            ("Context and State Management (CORE)", ("CTX", "TENANT")),
            ("DAG Execution and Scheduling (DAG)", ("GRAPH", "TIME", "CANCEL", "CLEAN")),
            ("Stage Contract Enforcement (CONTRACT)", ("PART", "STREAM", "RETRY")),
        ),
    ),
    Tier(
        "2",
        "Stage-Specific Reliability",
        ("WORK-007",),
        (
            ("Timeouts of Tools and Stages (WORK)", ("TIME", "CANCEL")),
            ("Cleanup (WORK)", ("CLEAN",)),
            ("Partial Results and Streams (WORK)", ("STREAM", "PART")),
        ),
    ),
    Tier(
        "3",
        "Operation Under Load and Across Tenants",
        ("EVENT-OVERFLOW", "CORRELATION", "TENANT-ISOLATION", "CHAOS-MONTHLY"),
        (
            ("Events", ("EVENT",)),
            ("Observability", ("CORR",)),
            ("Tenants", ("TENANT",)),
        ),
    ),
)
FURTHER = "Further Missions"
REST = "Further Clauses and Developer Experience"

VERDICTS = ("FAIL", "NEEDS_WORK", "INCOMPLETE", "PASS_WITH_CONCERNS", "PASS")
VERDICT_RULE = (
    "The first of these that any of its missions was given: "
    + ", ".join(VERDICTS)
    + "; a tier of which a mission was not run is at best INCOMPLETE."
)


def tier_reports(
    campaign: Campaign,
    findings: Sequence[Finding],
    missions: Sequence[Row],
    clauses: Sequence[Row],
) -> list[dict[str, Any]]:
    """Return a report per tier of which a mission was run.

    Args:
        missions: the mission reports of this campaign, as plain data.
        clauses: declarations, as plain data.
    """
    known = {name for tier in TIERS for name in tier.missions}
    rest = tuple(m["id"] for m in missions if m["id"] not in known)
    every = (*TIERS, Tier(str(len(TIERS) + 1), FURTHER, rest, ()))
    return [
        {
            "id": tier.id,
            "title": tier.title,
            "missions": [m["id"] for m in mine],
            "not_run": [n for n in tier.missions if n not in {m["id"] for m in mine}],
            "verdict_rule": VERDICT_RULE,
            "chapters": [
                _chapter(
                    campaign,
                    findings,
                    tier,
                    {m["id"]: m["chapters"][number] for m in mine},
                    clauses,
                )
                for number, _ in enumerate(campaign.subjects())
            ],
        }
        for tier in every
        if (mine := [m for m in missions if m["id"] in tier.missions])
    ]


def _chapter(
    campaign: Campaign,
    findings: Sequence[Finding],
    tier: Tier,
    mine: Mapping[str, Row],
    clauses: Sequence[Row],
) -> dict[str, Any]:
    """Return one engine version's chapter; `mine` holds its chapter of each mission."""
    some = next(iter(mine.values()))
    name, version = some["engine"], some["engine_version"]
    concerned = [
        f
        for f in findings
        if f.engine == name and version in f.engine_versions and mine.keys() & set(f.missions)
    ]
    scenarios = {s for m in campaign.missions if m["id"] in mine for s in mission_scenarios(m)}
    narrowed = Campaign(
        [u for u in campaign.of_engine(name, version) if u["scenario"] in scenarios],
        [campaign.engine(name, version)],
        campaign.clauses,
        campaign.missions,
    )
    (row,) = conformance(narrowed, concerned, clauses)
    cells = [c for c in row["cells"] if c["scenarios"]]
    areas = [_area(title, members, cells, concerned) for title, members in tier.areas]
    named = [member for _, members in tier.areas for member in members]
    left = tuple({c["clause"] for c in cells if not is_of(c["clause"], named)})
    loose = [f.id for f in concerned if not f.clause]
    if left or loose:
        areas.append(_area(REST, left, cells, concerned, loose))
    verdicts = [chapter["verdict"]["verdict"] for chapter in mine.values()]
    verdict = next(v for v in VERDICTS if v in verdicts)
    if verdict in ("PASS_WITH_CONCERNS", "PASS") and set(tier.missions) - mine.keys():
        verdict = "INCOMPLETE"
    return {
        "engine": name,
        "engine_version": version,
        "label": engine_label(name, version),
        "missions": [
            {"mission": mission, **chapter["verdict"]} for mission, chapter in mine.items()
        ],
        "areas": areas,
        "strengths": [f.id for f in concerned if f.kind == "strength"],
        "gaps": [f.id for f in concerned if f.kind == "bug"],
        "clauses_held": [c["clause"] for c in cells if c["verdict"] == "pass"],
        "clauses_violated": [c["clause"] for c in cells if c["verdict"] == "fail"],
        "clauses_not_judged": [c["clause"] for c in cells if c["verdict"] not in ("pass", "fail")],
        "counts": {
            "clauses": len(cells),
            "held": sum(c["verdict"] == "pass" for c in cells),
            "violated": sum(c["verdict"] == "fail" for c in cells),
            "not_judged": sum(c["verdict"] not in ("pass", "fail") for c in cells),
        },
        "next_missions": _next(mine),
        "verdict": verdict,
    }


def _area(
    title: str,
    members: Sequence[str],
    cells: Sequence[Row],
    findings: Sequence[Finding],
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """Return what is known of one area; `also` names findings that no clause puts there."""
    mine = [c for c in cells if is_of(c["clause"], members)]
    found = [f for f in findings if f.id in also or (f.clause and is_of(f.clause, members))]
    gaps = [f for f in found if f.kind in ("bug", "dx")]
    return {
        "title": title,
        "families": sorted({c["clause"].rsplit("-", 1)[0] for c in mine}),
        "clauses": mine,
        "guarantees": [f.id for f in found if f.kind == "strength"],
        "gaps": [f.id for f in gaps],
        "missing": [f.id for f in found if f.kind == "improvement"],
        "implications": [
            {
                "implication": words,
                "findings": [f.id for f in gaps if f.impact.statement == words],
            }
            for words in dict.fromkeys(f.impact.statement for f in gaps)
        ],
        "actions": recommendations(found),
    }


def _next(chapters: Mapping[str, Row]) -> list[dict[str, Any]]:
    """Return what to run again, why, and what would count as success, from the verdicts."""
    rows = []
    for mission, chapter in chapters.items():
        tests = chapter["tests"]
        failed = [t for t in tests if t["verdict"] == "fail"]
        unjudged = [t for t in tests if t["verdict"] not in ("pass", "fail")]
        if not failed and not unjudged:
            continue
        reasons = dict.fromkeys(t["reason"] for t in unjudged if t["reason"])
        rows.append(
            {
                "mission": mission,
                "after": list(dict.fromkeys(i for t in failed for i in t["findings"])),
                "needs": list(reasons),
                "passed": sum(t["verdict"] == "pass" for t in tests),
                "tests": len(tests),
            }
        )
    return rows
