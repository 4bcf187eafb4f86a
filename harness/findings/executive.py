"""The executive report's data: a decision per engine version, and everything that led to it.

No sentence here is about a business. What only a human can supply (owners, dates, what an hour
of outage costs) is left to the reader as a marked field.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings.campaign import Campaign, engine_label, runs_made
from harness.findings.chapter import recommendations
from harness.findings.criteria import CRITERIA, DECISIONS, STATES, criteria, decision, is_of
from harness.findings.finding import Finding
from harness.findings.order import by_severity
from harness.findings.risk import DAYS, DAYS_RULE, RISK_RULE, phases, rate_on, risks
from harness.findings.verdict import tally

__all__ = ["EXPOSURE", "EXPOSURE_RULE", "WEEK", "executive"]

Row = Mapping[str, Any]
LIMIT_CRITICAL = 12
LIMIT_STEPS = 10

EXPOSURE = {
    "FAIL": "exposed",
    "NEEDS_WORK": "exposed",
    "PASS_WITH_CONCERNS": "partly exposed",
    "INCOMPLETE": "not known",
    "PASS": "not exposed",
}
EXPOSURE_RULE = (
    "Exposed where a bug of critical or high severity belongs to the mission; else by the "
    "mission's verdict: FAIL and NEEDS_WORK are exposed, PASS_WITH_CONCERNS partly exposed, "
    "INCOMPLETE not known, PASS not exposed. Industries and criticality are the mission's."
)

# Day -> (theme, clause families). What was not judged in this campaign is not planned.
WEEK: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Monday", "Context and data flow", ("CTX", "PART", "STREAM")),
    ("Tuesday", "Dependency resolution", ("GRAPH-1", "GRAPH-2", "GRAPH-3", "GRAPH-4")),
    ("Wednesday", "Interceptors, timeouts, cancellation", ("GRAPH-5", "TIME", "CANCEL", "CLEAN")),
    ("Thursday", "Observability and telemetry", ("EVENT", "CORR", "RETRY")),
    ("Friday", "Multi-tenant security", ("TENANT",)),
)


def executive(
    campaign: Campaign,
    findings: Sequence[Finding],
    missions: Sequence[Row],
    *,
    matrix: Sequence[Row],
    status: str,
) -> dict[str, Any]:
    """Return rules and a chapter per engine version.

    Args:
        missions: the mission reports, as plain data.
        matrix: the rows of the conformance matrix.
        status: of the campaign: completed, interrupted or failed.
    """
    return {
        "rules": {
            "risk": RISK_RULE,
            "days": DAYS_RULE,
            "exposure": EXPOSURE_RULE,
            "states": [{"state": s, "rule": rule} for s, rule in STATES],
            "decisions": [{"verdict": v, "rule": rule} for v, rule in DECISIONS],
            "criteria": [{"criterion": c, "clauses": list(m)} for c, m in CRITERIA],
        },
        "chapters": [
            _chapter(
                campaign,
                [f for f in findings if _concerns(f, row)],
                {m["id"]: (m, m["chapters"][number]) for m in missions},
                row,
                criteria(row["cells"], {c.id: c.severity for c in campaign.clauses.values()}),
                status=status,
            )
            for number, row in enumerate(matrix)
        ],
    }


def _chapter(
    campaign: Campaign,
    mine: Sequence[Finding],
    reports: Mapping[str, tuple[Row, Row]],
    row: Row,
    judged: Sequence[Row],
    *,
    status: str,
) -> dict[str, Any]:
    """Return one engine version's chapter; `reports` holds each mission with its chapter."""
    name, version = row["engine"], row["engine_version"]
    bugs = [f for f in mine if f.kind == "bug"]
    chapters = {mission: chapter for mission, (_, chapter) in reports.items()}
    advice = recommendations(mine)
    tests = [t for chapter in chapters.values() for t in chapter["tests"]]
    units = list(campaign.of_engine(name, version))
    return {
        "engine": name,
        "engine_version": version,
        "label": engine_label(name, version),
        "decision": decision(judged, [f.severity for f in bugs], status),
        "assessment": {
            "clauses_held": _count(row["cells"], "pass"),
            "clauses_violated": _count(row["cells"], "fail"),
            "clauses_not_judged": sum(
                c["verdict"] not in ("pass", "fail") for c in row["cells"] if c["scenarios"]
            ),
            "clauses": sum(bool(c["scenarios"]) for c in row["cells"]),
            "contract": len(campaign.clauses),
            "scenarios": len(units),
            "runs": runs_made(units),
            "bugs": len(bugs),
            "confirmed": sum(f.confirmation == "confirmed" for f in bugs),
            "tests_passed": tally(tests)["pass"],
            "tests": len(tests),
        },
        "critical": [_critical(f, version) for f in _gravest(bugs)[:LIMIT_CRITICAL]],
        "critical_left_out": max(0, len(_gravest(bugs)) - LIMIT_CRITICAL),
        "claims": [
            {"mission": mission, **claim, "locations": _locations(claim, bugs)}
            for mission, chapter in chapters.items()
            for claim in chapter["claims"]
        ],
        "risks": risks(mine, version),
        "phases": phases(advice),
        "remedies": {
            priority: [{**one, "days": DAYS[one["effort"]]} for one in rows]
            for priority, rows in advice.items()
        },
        "criteria": judged,
        "exposure": [
            row
            for mission, chapter in reports.values()
            for row in _exposed(mission, chapter["verdict"]["verdict"], _gravest(bugs))
        ],
        "success": _success(judged, chapters, bugs),
        "plan": _plan(row, chapters),
        "next_steps": advice["P0"][:LIMIT_STEPS],
        "next_steps_left_out": max(0, len(advice["P0"]) - LIMIT_STEPS),
    }


def _concerns(finding: Finding, row: Row) -> bool:
    return finding.engine == row["engine"] and row["engine_version"] in finding.engine_versions


def _count(cells: Sequence[Row], verdict: str) -> int:
    return sum(c["verdict"] == verdict for c in cells)


def _gravest(bugs: Sequence[Finding]) -> list[Finding]:
    grave = [f for f in bugs if f.severity in ("critical", "high")]
    return sorted(grave, key=lambda f: by_severity(f.severity))


def _critical(one: Finding, version: str) -> dict[str, Any]:
    violations, exercised = rate_on(one, version)
    fix = one.recommendation
    return {
        "finding": one.id,
        "violations": violations,
        "exercised": exercised,
        "days": DAYS[fix.effort] if fix else None,
        "script": one.reproduction.script if one.reproduction else None,
    }


def _locations(claim: Row, bugs: Sequence[Finding]) -> list[str]:
    """Return where in the engine those bugs are that decided a claim against the engine."""
    decided = {(e["subject"], e["name"]) for e in claim["evidence"] if e["verdict"] == "fail"}
    found = [
        f.location for f in bugs for s in f.scenarios if f.location and (s, f.clause) in decided
    ]
    return list(dict.fromkeys(found))[:4]


def _exposed(mission: Row, verdict: str, grave: Sequence[Finding]) -> list[dict[str, Any]]:
    found = [f.id for f in grave if mission["id"] in f.missions]
    return [
        {
            **industry,
            "mission": mission["id"],
            "verdict": verdict,
            "exposure": "exposed" if found else EXPOSURE[verdict],
            "findings": found,
        }
        for industry in mission["industry"]
    ]


def _success(
    judged: Sequence[Row], chapters: Mapping[str, Row], bugs: Sequence[Finding]
) -> list[dict[str, Any]]:
    """Return criteria that can be ticked off, each with its present state and figures."""
    rows = [
        {
            "text": f"{one['criterion']}: every clause is judged and holds",
            "done": one["state"] == "PASS",
            "figures": {
                "held": len(one["held"]),
                "violated": len(one["violated"]),
                "not_judged": len(one["not_judged"]),
            },
        }
        for one in judged
    ]
    for mission, chapter in chapters.items():
        passed = tally(chapter["tests"])["pass"]
        rows.append(
            {
                "text": f"{mission}: all of its tests pass",
                "done": bool(chapter["tests"]) and passed == len(chapter["tests"]),
                "figures": {"passed": passed, "tests": len(chapter["tests"])},
            }
        )
    grave = sum(f.severity in ("critical", "high") for f in bugs)
    rows.append(
        {
            "text": "No bug of critical or high severity is open",
            "done": not grave,
            "figures": {"bugs": grave},
        }
    )
    return rows


def _plan(row: Row, chapters: Mapping[str, Row]) -> dict[str, Any]:
    """Return what to run each day, week and month, by what this campaign can judge."""
    label = row["label"]
    wanting = [m for m, c in chapters.items() if c["verdict"]["verdict"] != "PASS"]
    chosen = "".join(f" --mission {m}" for m in wanting or chapters)
    week = []
    for day, theme, members in WEEK:
        cells = [c for c in row["cells"] if is_of(c["clause"], members) and c["scenarios"]]
        if cells:
            words = "".join(f" --clause {c['clause']}" for c in cells)
            week.append(
                {
                    "day": day,
                    "theme": theme,
                    "packs": sorted({p for c in cells for p in c["packs"]}),
                    "command": f"dagstorm run --engine {label}{words} --profile weekly",
                }
            )
    return {
        "daily": f"dagstorm run --engine {label}{chosen} --profile daily --fail-on new",
        "daily_missions": wanting or list(chapters),
        "weekly": week,
        "monthly": f"dagstorm run --engine {label} --pack all --profile monthly",
    }
