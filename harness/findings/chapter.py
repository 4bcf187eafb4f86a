"""One mission on one engine version: everything that its chapter of the report states.

A chapter is plain data with every number counted and rounded, so that the templates can
print and need not reckon, and whoever reads findings.json sees what the report says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Campaign, Row, engine_label, mission_scenarios
from harness.findings.experience import rule_rows
from harness.findings.finding import Finding
from harness.findings.hypotheses import RULE, claim_rows, hypothesis_rows
from harness.findings.order import by_severity
from harness.findings.rubric import scores
from harness.findings.setting import setting
from harness.findings.summing_up import conclusion, key_findings
from harness.findings.timeline import proof_rows, timeline
from harness.findings.verdict import NOT_RUN, RULES, mission_verdict, tally

__all__ = ["chapter", "findings_in", "recommendations"]

_KINDS = ("bug", "dx", "improvement", "strength")


def findings_in(
    findings: Sequence[Finding], mission: str, engine: str, version: str
) -> list[Finding]:
    """Return the findings of one mission that concern one engine version."""
    return [
        f
        for f in findings
        if mission in f.missions and f.engine == engine and version in f.engine_versions
    ]


def chapter(
    campaign: Campaign,
    mission: Row,
    name: str,
    version: str,
    findings: Sequence[Finding],
    *,
    categories: Row,
) -> dict[str, Any]:
    """Return the chapter of one mission on one engine version.

    Args:
        findings: all findings of the campaign.
        categories: scenario id -> category, for tests that were not run.
    """
    engine = campaign.engine(name, version)
    wanted = set(mission_scenarios(mission))
    units = [u for u in campaign.of_engine(name, version) if u["scenario"] in wanted]
    concerned = findings_in(findings, mission["id"], name, version)
    tests = _tests(mission["tests"], units, concerned, version, categories)
    named = set(mission["tests"].values())
    extra = [(u["scenario"], u["scenario"]) for u in units if u["scenario"] not in named]
    more = _tests(dict(extra), units, concerned, version, categories)
    defects = [f for f in concerned if f.kind == "bug"]
    verdict = mission_verdict(tests, [f.severity for f in defects])
    hypotheses = hypothesis_rows(mission, engine, units)
    claims = claim_rows(mission, engine, units)
    by_kind = {kind: [f.id for f in concerned if f.kind == kind] for kind in _KINDS}
    return {
        "engine": name,
        "engine_version": version,
        "label": engine_label(name, version),
        "seeds": sorted({u["seed"] for u in units}),
        "verdict": {
            **verdict,
            "rules": [{"verdict": v, "rule": rule} for v, rule in RULES],
        },
        "key_metrics": _metrics(tests, units, by_kind),
        "key_findings": key_findings(tests, concerned, hypotheses, claims),
        "implementation": _implementation(mission, engine),
        "semantics": [
            {"clause": clause, "note": note}
            for clause, note in sorted(engine.get("semantics", {}).items())
        ],
        "hypotheses": hypotheses,
        "hypotheses_rule": RULE,
        "setting": setting(units),
        "execution": _execution(tests),
        "tests": tests,
        "more_scenarios": more,
        "timelines": _timelines([*tests, *more], units),
        "findings": by_kind,
        "analysis": [
            f.id
            for f in concerned
            if f.kind in ("bug", "dx") and f.severity in ("critical", "high")
        ],
        "experience": {**scores(engine, units), "rules": rule_rows(engine)},
        "recommendations": recommendations(concerned),
        "claims": claims,
        "scripts": [
            {"finding": f.id, "path": f.reproduction.script, "confirmation": f.confirmation}
            for f in concerned
            if f.reproduction is not None and f.reproduction.script
        ],
        "conclusion": conclusion(
            engine_label(name, version), verdict, tests, concerned, hypotheses
        ),
    }


def _tests(
    tests: Row, units: Sequence[Row], findings: Sequence[Finding], version: str, categories: Row
) -> list[dict[str, Any]]:
    rows = []
    for name, scenario in tests.items():
        found = [u for u in units if u["scenario"] == scenario]
        if not found:
            rows.append(_not_run(name, scenario, str(categories.get(scenario, "unknown"))))
        rows += [_test(name, unit, findings, version) for unit in found]
    return rows


def _not_run(name: str, scenario: str, category: str) -> dict[str, Any]:
    return {
        "test": name,
        "scenario": scenario,
        "title": "",
        "purpose": "",
        "category": category,
        "lab": "",
        "verdict": NOT_RUN,
        "reason": "the campaign did not run this scenario on this engine",
        "clauses": [],
        "runs": 0,
        "violations": 0,
        "figures": {},
        "virtual_s": None,
        "duration_s": None,
        "token": "",
        "blocked_by": [],
        "findings": [],
    }


def _test(name: str, unit: Row, findings: Sequence[Finding], version: str) -> dict[str, Any]:
    ran = unit["verdict"] not in ("unsupported", "error")
    return {
        "test": name,
        "scenario": unit["scenario"],
        "title": unit["title"],
        "purpose": unit["purpose"],
        "category": unit["category"],
        "lab": unit["lab"],
        "verdict": unit["verdict"],
        "reason": unit["reason"],
        "clauses": [
            {
                "clause": clause,
                "verdict": row["verdict"],
                "exercised": row["exercised"],
                "violations": row["violations"],
            }
            for clause, row in unit["clauses"].items()
        ],
        "runs": unit["runs"],
        "violations": unit["violations"],
        "figures": unit["figures"],
        "virtual_s": unit["virtual_s"] if ran else None,
        "duration_s": unit["duration_s"] if ran else None,
        "token": unit["token"],
        "blocked_by": _blockers(unit, findings),
        "findings": [
            f.id
            for f in findings
            if f.kind != "strength"
            and any(
                m["scenario"] == unit["scenario"] and m["engine_version"] == version
                for m in f.evidence.measured
            )
        ],
    }


def _blockers(unit: Row, findings: Sequence[Finding]) -> list[str]:
    """Name the bugs under the clauses that kept the unit's own from being put to the test."""
    clauses = {row["blocked_by"] for row in unit["clauses"].values() if row.get("blocked_by")}
    return [f.id for f in findings if f.kind == "bug" and f.clause in clauses]


def _metrics(
    tests: Sequence[Row], units: Sequence[Row], by_kind: dict[str, list[str]]
) -> list[dict[str, Any]]:
    counts = tally(tests)
    rows: list[tuple[str, Any]] = [
        ("Total Findings", sum(len(ids) for ids in by_kind.values())),
        ("Bugs Found", len(by_kind["bug"])),
        ("DX Issues", len(by_kind["dx"])),
        ("Improvements", len(by_kind["improvement"])),
        ("Strengths", len(by_kind["strength"])),
        ("Tests Passed", f"{counts['pass']}/{len(tests)}"),
        ("Tests Failed", counts["fail"]),
        ("Tests Not Judged", len(tests) - counts["pass"] - counts["fail"]),
        ("Blockers", counts["blocked"]),
        ("Runs", sum(int(u["runs"]) for u in units)),
        ("Duration, real (s)", round(sum(float(u["duration_s"]) for u in units), 3)),
        # A row's virtual seconds are those of its average run.
        ("Duration, virtual (s)", round(sum(u["virtual_s"] * u["runs"] for u in units), 3)),
    ]
    return [{"metric": name, "value": value} for name, value in rows]


def _implementation(mission: Row, engine: Row) -> list[dict[str, Any]]:
    """Answer the mission's questions by what was probed on the installed engine."""
    rows = []
    for label, name in mission["questions"]:
        if name in engine.get("facts", {}):
            answer, probed = "probed", {name: engine["facts"][name]}
            note = ""
        elif name in engine.get("capabilities", ()):
            answer, probed, note = "offered", {}, ""
        elif "capabilities" not in engine:
            answer, probed, note = "not probed", {}, "the engine could not be looked at"
        else:
            answer, probed = "not offered", {}
            note = str(engine.get("missing", {}).get(name, "the probe did not find it"))
        rows.append(
            {"question": label, "name": name, "answer": answer, "probed": probed, "note": note}
        )
    return rows


def _execution(tests: Sequence[Row]) -> list[dict[str, Any]]:
    """Count tests by category, with average durations of those that ran, and a total row."""
    rows = []
    known = dict.fromkeys(("baseline", "stress", "chaos"))
    known.update(dict.fromkeys(str(t["category"]) for t in tests))
    for name in (*known, "total"):
        chosen = [t for t in tests if name in ("total", t["category"])]
        counts = tally(chosen)
        rows.append(
            {
                "category": name,
                "tests": len(chosen),
                "passed": counts["pass"],
                "failed": counts["fail"],
                "not_judged": len(chosen) - counts["pass"] - counts["fail"],
                "average_virtual_s": _mean([t["virtual_s"] for t in chosen]),
                "average_duration_s": _mean([t["duration_s"] for t in chosen]),
            }
        )
    return rows


def _mean(values: Sequence[float | None]) -> float | None:
    known = [float(v) for v in values if v is not None]
    return round(sum(known) / len(known), 3) if known else None


def _timelines(tests: Sequence[Row], units: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the picture of each failed test, from the first witness that has a journal."""
    rows = []
    for test in tests:
        if test["verdict"] != "fail":
            continue
        for unit in units:
            if (unit["scenario"], unit["lab"]) != (test["scenario"], test["lab"]):
                continue
            primary = unit["clauses_judged"][:1]
            told = sorted(
                (w for w in unit["witnesses"] if w.get("journal")),
                key=lambda w: ([w["clause"]] != primary, by_severity(w["severity"])),
            )
            witness = told[0] if told else None
            rows.append(
                {
                    "test": test["test"],
                    "scenario": unit["scenario"],
                    "clause": witness["clause"] if witness else "",
                    "expected": witness["expected"] if witness else "",
                    "actual": witness["actual"] if witness else "",
                    "token": (witness or {}).get("token") or unit["token"],
                    "picture": timeline(witness["journal"]) if witness else "",
                    "proof": proof_rows(witness) if witness else [],
                }
            )
    return rows


def recommendations(findings: Sequence[Finding]) -> dict[str, list[dict[str, Any]]]:
    """Return what to do by priority, findings with one remedy in one row, gravest first."""
    rows: dict[str, dict[str, dict[str, Any]]] = {"P0": {}, "P1": {}, "P2": {}}
    for one in findings:
        if one.recommendation is None or one.priority is None:
            continue
        row = rows[one.priority].setdefault(
            one.recommendation.summary,
            {
                "findings": [],
                "recommendation": one.recommendation.summary,
                "effort": one.recommendation.effort,
                "impact": one.impact.statement,
                "severity": one.severity,
            },
        )
        row["findings"].append(one.id)
    return {priority: list(same.values()) for priority, same in rows.items()}
