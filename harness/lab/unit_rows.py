"""A finished unit as a row: what the worker said of it, and what the controller knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.again import PACK as AGAIN
from harness.lab.engines import EngineRef
from harness.lab.token import Token, encode, scenario_digest

__all__ = ["died", "row_of", "scenario_data", "weight_of", "without_runs"]

# So many events of a flood cost about as much as a stage.
EVENTS_PER_STAGE = 4


def scenario_data(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as the plain data that a worker takes."""
    return {
        "id": scenario.id,
        "program": scenario.program.to_json(),
        "plan": scenario.plan.to_json(),
        "clauses": list(scenario.clauses),
        "sweep": scenario.sweep,
        "fires": list(scenario.fires),
    }


def weight_of(program: Program, plan: Plan) -> int:
    """Return what a run costs, in stages that do little: floods count by their events."""
    weight = len(program.stages)
    for _, one in program.walk():
        if one.op == "flood":
            weight += one.args["count"] // EVENTS_PER_STAGE
        elif one.op == "subpipeline":
            weight += weight_of(one.args["program"], Plan())
    return max(1, weight * len(plan.runs))


def row_of(
    engine: EngineRef,
    scenario: Scenario,
    lab: str,
    result: Mapping[str, Any],
    *,
    seed: int,
    runs_asked: int,
    took_s: float,
) -> dict[str, Any]:
    """Return the row of a finished unit.

    Args:
        result: as the worker gives it; notes in it are given their tokens.
        seed: of the campaign.
        runs_asked: of each scenario, before a search or a fault that never fired took more.
        took_s: on the controller's clock, in seconds.
    """
    data = scenario_data(scenario)
    name, version = engine.name, engine.version
    digest = scenario_digest(data["program"], data["plan"])
    witnesses = []
    searched = scenario.sweep in ("swarm", "points")
    for witness in result.get("witnesses", ()):
        if scenario.sweep == AGAIN:
            witnesses.append(witness)
            continue
        if searched and not result.get("crashed"):
            token = _own_case(name, version, scenario.id, witness)
            witnesses.append({**witness, "token": encode(token)})
            continue
        cancels = witness.get("plan", {}).get("cancels")
        same = cancels == data["plan"].get("cancels")
        token = Token(
            name,
            version,
            scenario.id,
            witness.get("seed", 0),
            digest,
            {k: v for k, v in witness.get("tape", {}).items() if any(v)},
            None if same else cancels,
            lab=lab,
        )
        witnesses.append({**witness, "token": encode(token)})
    for note in result.get("order", {}).get("notes", ()):
        note["token"] = _out_of_order(name, version, scenario.id, digest, note)
    first = result["first_seed"]
    return {
        **result,
        "witnesses": witnesses,
        "pack": scenario.pack,
        "scenario": scenario.id,
        "title": scenario.title,
        "purpose": scenario.purpose,
        "category": scenario.category,
        "tests": list(scenario.tests),
        "clauses_judged": list(scenario.clauses),
        "engine": name,
        "engine_version": version,
        "lab": lab,
        "seed": seed,
        "token": (witnesses[0]["token"] if witnesses else "")
        if searched
        else encode(Token(name, version, scenario.id, first or 0, digest, lab=lab)),
        # The same seed gives the same runs again in simulation only.
        "runs_asked": runs_asked if lab == "sim" else 0,
        "duration_s": round(took_s, 3),
        "program": data["program"],
        "plan": data["plan"],
    }


def _own_case(engine: str, version: str, scenario: str, witness: Mapping[str, Any]) -> Token:
    """Return the token of a witness that brings its own program and plan."""
    return Token(
        engine=engine,
        version=version,
        scenario=scenario,
        seed=witness["seed"],
        digest=scenario_digest(witness["program"], witness["plan"]),
        tape=witness["tape"],
        program=witness["program"],
        plan=witness["plan"],
        shows=tuple(witness["key"]),
        run_digest=witness["digest"],
    )


def _out_of_order(
    engine: str, version: str, scenario: str, digest: str, note: Mapping[str, Any]
) -> str:
    """Return the token of a run of the order tier: its seed and mode tell all its choices."""
    return encode(
        Token(
            engine=engine,
            version=version,
            scenario=scenario,
            seed=note["seed"],
            digest=digest,
            shows=tuple(note["key"]),
            run_digest=note["digest"],
            order=note["mode"],
        )
    )


def without_runs(verdict: str, reason: str) -> dict[str, Any]:
    """Return the result of a unit that was not run."""
    return {
        "verdict": verdict,
        "reason": reason,
        "runs": 0,
        "violations": 0,
        "first_seed": None,
        "virtual_s": 0.0,
        "clauses": {},
        "figures": {},
        "witnesses": [],
        "missing": {},
        "samples": [],
    }


def died(scenario: Scenario, how: str) -> dict[str, Any]:
    """An engine that takes its process down, twice on the same scenario, has broken it."""
    clause = scenario.clauses[0]
    witness = {
        "clause": clause,
        "shape": "worker-died",
        "severity": CLAUSES[clause].severity,
        "stage": "",
        "expected": "the engine leaves its process alive and answering",
        "actual": how,
        "location": "",
        "figures": {},
        "violations": 1,
        "exercised": 1,
        "first_seed": 0,
        "seed": 0,
        "tape": {},
        "plan": scenario.plan.to_json(),
        "journal": [],
        "journal_cut": 0,
        "at": [],
        "digest": "",
        "nondeterministic": False,
        "judged": True,
        "scripted": False,
    }
    row = {"verdict": "fail", "reason": how, "runs": 1, "exercised": 1, "violations": 1}
    return {
        **without_runs("fail", how),
        "runs": 1,
        "violations": 1,
        "first_seed": 0,
        "clauses": {clause: {**row, "figures": {}}},
        "witnesses": [witness],
        "crashed": True,
    }
