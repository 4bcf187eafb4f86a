"""Findings and rows as small as the registry needs them, for its tests."""

from __future__ import annotations

import copy
from datetime import date
from typing import Any

from harness.findings.changes import Changes, Measured, changes_of
from harness.findings.registry import Registry

TODAY = date(2026, 11, 21)
AT = "2026-11-21T10:00:00Z"


def entry(mark: str = "a", **more: Any) -> dict[str, Any]:
    """Return a finding as findings.json holds it; `mark` is repeated to a fingerprint."""
    scenarios = more.pop("scenarios", ("p/a",))
    versions = more.pop("versions", ("",))
    runs, violations = more.pop("runs", 30), more.pop("violations", 30)
    token = more.pop("token", f"ds1.{mark}")
    return {
        "id": "",
        "kind": "bug",
        "engine": "mine",
        "clause": "CLEAN-3",
        "shape": "order",
        "severity": "high",
        "title": f"Finding {mark}",
        "status": "open",
        "location": "",
        "confirmation": "simulated_only",
        "fingerprint": (mark * 16)[:16],
        "engine_versions": list(versions),
        "evidence": {
            "rate": 1.0,
            "measured": [
                {
                    "scenario": s,
                    "engine_version": v,
                    "lab": "sim",
                    "runs": runs,
                    "exercised": runs,
                    "violations": violations,
                    "token": token,
                }
                for v in versions
                for s in scenarios
            ],
        },
        "reproduction": None,
        **more,
    }


def row(scenario: str = "p/a", verdict: str = "pass", **more: Any) -> dict[str, Any]:
    """Return a row of results.jsonl that judges CLEAN-3, unless `clauses` says otherwise."""
    runs = more.pop("runs", 30)
    judged = {
        "verdict": verdict,
        "exercised": more.pop("exercised", runs),
        "violations": runs if verdict == "fail" else 0,
        "figures": {},
    }
    return {
        "scenario": scenario,
        "engine": "mine",
        "engine_version": "",
        "lab": "sim",
        "verdict": verdict,
        "runs": runs,
        "seed": 1,
        "token": "",
        "clauses": {"CLEAN-3": judged},
        **more,
    }


def summary(run: str, **more: Any) -> dict[str, Any]:
    return {"run_id": run, "started_at": AT, "profile": "default", **more}


def a_run(
    registry: Registry,
    name: str,
    entries: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    *,
    ends: bool = True,
    today: date = TODAY,
    engines: list[dict[str, Any]] | None = None,
    **more: Any,
) -> tuple[Changes, dict[str, str]]:
    """Do what `dagstorm run` does with the registry; returns the changes and the ids."""
    run = registry.begin(name, AT)
    ids = registry.take(entries, run, AT)
    entries = [{**copy.deepcopy(e), "id": ids[e["fingerprint"]]} for e in entries]
    measured = Measured(entries, rows, engines or [])
    changes = changes_of(registry.known(), measured, run=run, today=today)
    if ends:
        registry.end(
            measured,
            run=run,
            at=AT,
            profile="default",
            today=today,
            summary=summary(run, **more),
        )
    return changes, ids
