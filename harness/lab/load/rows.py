"""A load's checks as unit rows: what findings, reports and the registry are made from.

A check is a scenario, `load/<name>`; what it was broken by are its witnesses. A clause of the
contract that a check touches by the way has a row only where it was violated, so that a
load in which nothing went wrong does not claim it as a strength.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from harness.contract.clauses import CLAUSES
from harness.contract.load import LOAD
from harness.kernel.plan import Plan
from harness.lab.load.programs import MAIN, default_programs, serving_plan

__all__ = ["BY_THE_WAY", "clauses_of_load", "unit_rows"]

# Named by what breaks them only: a load does not put all that they demand to the test.
BY_THE_WAY = ("GRAPH-5", "PART-4", "EVENT-2")
# An engine without a figure of deliveries has no account to add up; what is lost is unseen.
INSTEAD = {"EVENT-1": "EVENT-2"}
TITLES = {
    "alive": "The engine's process lives through the load",
    "cross_tenant": "No tenant gets what is another's",
    "lost": "Nothing that was sent is lost",
    "doubled": "Nothing is done twice",
    "events": "Events are delivered or counted as dropped",
    "reported": "What is reported as completed has run",
    "errors": "Errors keep within the budget",
    "memory": "Memory is given back",
    "descriptors": "Descriptors are closed",
    "growth": "Memory does not grow over the soak",
}


def clauses_of_load() -> dict[str, Any]:
    """Return every clause that a load's finding may name, by id."""
    return {**CLAUSES, **LOAD}


def unit_rows(result: Mapping[str, Any], given: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return a unit row for each check of a load.

    Args:
        result: as `run_load` returns it.
        given: {"program", "plan"} of the user's own, or None for those served by default.
    """
    offered = frozenset(result["about"]["capabilities"])
    programs = _programs(given, offered)
    return [_row(result, check, offered, programs) for check in result["checks"]]


def _programs(
    given: Mapping[str, Any] | None, offered: Collection[str]
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    if given is not None:
        plan = serving_plan(Plan.from_json(given["plan"]), offered)
        return {MAIN: (given["program"], plan.to_json())}
    return {
        name: (program.to_json(), plan.to_json())
        for name, (program, plan) in default_programs(offered).items()
    }


def _clause(named: str, offered: Collection[str]) -> str:
    if named in CLAUSES and not CLAUSES[named].needs <= set(offered):
        return INSTEAD.get(named, named)
    return named


def _row(
    result: Mapping[str, Any],
    check: Mapping[str, Any],
    offered: Collection[str],
    programs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> dict[str, Any]:
    named = _clause(check["clause"], offered) if check["clause"] else ""
    failed = check["verdict"] == "fail"
    witnesses = [
        _witness(result, check, broken, _clause(broken["clause"] or named, offered), programs)
        for broken in check["broken"]
    ]
    violated = dict.fromkeys(w["clause"] for w in witnesses)
    judged = [named] if named and named not in BY_THE_WAY else []
    whole = check["looked_at"] == 1
    program, plan = _program(programs, witnesses[0]["ran"] if witnesses else "")
    row = {
        "pack": "load",
        "scenario": f"load/{check['name']}",
        "title": TITLES.get(check["name"], check["name"].replace("_", " ")),
        "purpose": f"{check['rule'][:1].upper()}{check['rule'][1:]}.",
        "category": "stress",
        "tests": [],
        "clauses_judged": judged,
        "engine": result["engine"],
        "engine_version": result["engine_version"],
        "lab": "live",
        "same_runs": "load",
        "verdict": check["verdict"],
        "reason": "" if check["verdict"] == "pass" else f"{check['actual']}; rule: {check['rule']}",
        "runs": int(result.get("stats", {}).get("runs", 0)),
        "violations": max((w["violations"] for w in witnesses), default=int(failed)),
        "first_seed": result["plan"]["seed"] if failed else None,
        "clauses": {
            c: _clause_row(check, result, [w for w in witnesses if w["clause"] == c])
            for c in dict.fromkeys((*judged, *violated))
        },
        "figures": dict(check["figures"]),
        "witnesses": [{k: v for k, v in w.items() if k != "ran"} for w in witnesses],
        "missing": {},
        "samples": [],
        "program": program,
        "plan": plan,
        "seed": result["plan"]["seed"],
        "token": "",
        "virtual_s": 0.0,
        "duration_s": result["duration_s"],
    }
    # Which requests come when is chance: no run of a live row is asked for again. What is seen
    # of a whole process, though, is seen again by a load of as many runs.
    return row if whole else row | {"runs_asked": 0}


def _program(
    programs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], name: str
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    return programs.get(name) or next(iter(programs.values()))


def _clause_row(
    check: Mapping[str, Any], result: Mapping[str, Any], witnesses: list[dict[str, Any]]
) -> dict[str, Any]:
    verdict = "fail" if witnesses else check["verdict"]
    return {
        "verdict": verdict,
        "reason": "" if verdict != "inconclusive" else check["actual"],
        "runs": int(result.get("stats", {}).get("runs", 0)),
        "exercised": check["looked_at"] if verdict in ("pass", "fail") else 0,
        "violations": max((w["violations"] for w in witnesses), default=0),
        "figures": _counts(check["figures"]),
    }


def _counts(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: v for k, v in figures.items() if isinstance(v, (int, float)) and not isinstance(v, bool)
    }


def _witness(
    result: Mapping[str, Any],
    check: Mapping[str, Any],
    broken: Mapping[str, Any],
    clause: str,
    programs: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> dict[str, Any]:
    program, plan = _program(programs, broken["program"])
    such = f"; such as: {broken['example']}" if broken["example"] else ""
    return {
        "clause": clause,
        "shape": broken["shape"],
        "severity": check["severity"],
        "stage": "",
        "expected": check["rule"],
        "actual": f"{check['actual']}{such}",
        "location": "",
        "figures": _counts(check["figures"]),
        "violations": broken["times"],
        "exercised": check["looked_at"],
        "first_seed": result["plan"]["seed"],
        "seed": result["plan"]["seed"],
        "tape": {},
        "program": program,
        "plan": plan,
        "journal": [],
        "at": [],
        "token": "",
        "ran": broken["program"],
    }
