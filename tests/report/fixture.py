"""A small campaign as the laboratory hands it over: two engines, one mission, every verdict.

The rows have the shape that `harness.lab` sends: sums per clause, and one witness per kind
of violation with its journal.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.contract.clause import Clause, untested
from harness.findings import write_run_files

SEED = 4711
STAGEFLOW = ("stageflow", "0.5.1")
REFERENCE = ("reference", "0.1.0")


def declare(name: str, severity: str, must: str, **more: Any) -> Clause:
    """Declare a clause whose texts do not change when the contract's do."""
    return Clause(
        id=name,
        family=name.split("-", 1)[0],
        must=must,
        severity=severity,
        type=more.pop("type", "reliability"),
        check=lambda _reading: untested(),
        title={"": f"Default title of {name}", "not-released": "Resources are not released"},
        impact=f"What a violation of {name} means.",
        recommendation=f"What to do about {name}.",
        **more,
    )


CLAUSES = {
    one.id: one
    for one in (
        declare("TIME-1", "high", "end a stage that outlives its timeout at that timeout"),
        declare("TIME-5", "medium", "refuse timeouts that make no sense"),
        declare("TIME-6", "high", "fire concurrent timeouts once each"),
        declare("TIME-9", "medium", "follow heartbeats", needs=frozenset({"heartbeat"})),
        declare("TIME-10", "low", "hand the deadline down", effort="large"),
        declare("CANCEL-1", "high", "end the run when a stage asks for it"),
        declare("CANCEL-3", "critical", "end every stage when the caller cancels"),
        declare("CANCEL-6", "high", "pass cancellation down"),
        declare("CLEAN-1", "high", "release every resource once", data_risk="medium"),
        declare("CLEAN-2", "high", "let cleanups finish", workaround="shield them"),
        declare("CTX-1", "medium", "give a stage the same context", type="dx"),
    )
}


def program(*stages: Mapping[str, Any]) -> dict[str, Any]:
    return {"version": 1, "name": "program", "stages": list(stages)}


def stage(name: str, *steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "steps": list(steps), **more}


SLOW = program(
    stage("fetch", {"op": "ok", "value": 1}),
    stage(
        "slow", {"op": "acquire", "name": "lock"}, {"op": "sleep", "seconds": 30}, needs=["fetch"]
    ),
)
FAN = program(
    *(stage(f"worker-{i}", {"op": "sleep", "seconds": [0, 7]}) for i in range(50)),
    stage("bad", {"op": "fail", "message": "failed"}),
)
CHILD = program(stage("parent", {"op": "subpipeline", "program": SLOW}))


def clause(verdict: str, exercised: int, violations: int, **more: Any) -> dict[str, Any]:
    return {
        "verdict": verdict,
        "reason": more.pop("reason", ""),
        "runs": 40,
        "exercised": exercised,
        "violations": violations,
        "figures": more.pop("figures", {}),
        **more,
    }


def witness(name: str, shape: str, violations: int, exercised: int, **more: Any) -> dict[str, Any]:
    return {
        "clause": name,
        "shape": shape,
        "severity": CLAUSES[name].severity,
        "stage": "slow",
        "expected": "stage slow is ended at its timeout of 2 s",
        "actual": "it was still running when the run was over",
        "location": "stageflow/pipeline/dag.py:276 UnifiedStageGraph.run",
        "figures": {"timeout_s": 2.0},
        "violations": violations,
        "exercised": exercised,
        "first_seed": 0,
        "tape": {},
        "journal": [
            [0.0, "r0", "", "run.begin", None],
            [0.0, "r0", "fetch", "stage.start", None],
            [0.0, "r0", "fetch", "stage.end", "ok"],
            [0.0, "r0", "slow", "stage.start", None],
            [0.0, "r0", "slow", "acquire", "lock"],
            [1.25, "r0", "", "cancel.sent", [1, True]],
            [2.0, "r0", "slow", "release.begin", "lock"],
            [2.0, "r0", "slow", "release.cut", "lock"],
            [2.0, "r0", "", "run.end", "returned"],
        ],
        "at": [3, 7],
        "token": f"token-{name}-{shape}",
        "digest": "0" * 16,
        "nondeterministic": False,
        **more,
    }


def unit(engine: tuple[str, str], scenario: str, verdict: str, **more: Any) -> dict[str, Any]:
    clauses = more.pop("clauses", {})
    name = scenario.split("/", 1)[1]
    return {
        "pack": "timeouts",
        "scenario": scenario,
        "title": name.replace("_", " "),
        "purpose": "tries it",
        "category": more.pop("category", "stress"),
        "tests": more.pop("tests", [f"DAG-009/{name}"]),
        "clauses_judged": more.pop("clauses_judged", list(clauses)),
        "engine": engine[0],
        "engine_version": engine[1],
        "lab": "sim",
        "verdict": verdict,
        "reason": more.pop("reason", ""),
        "runs": more.pop("runs", 40),
        "violations": max((c["violations"] for c in clauses.values()), default=0),
        "seed": SEED,
        "first_seed": None,
        "duration_s": 0.123,
        "virtual_s": more.pop("virtual_s", 2.0),
        "token": f"token-{engine[0]}-{name}",
        "clauses": clauses,
        "figures": more.pop("figures", {}),
        "program": more.pop("program", SLOW),
        "plan": more.pop("plan", {"version": 1, "stage_timeout_s": 2.0}),
        "witnesses": more.pop("witnesses", []),
        "missing": more.pop("missing", {}),
        "samples": [{"run": 1, "virtual_s": 2.0, "callbacks": 17, "violated": 0}],
        **more,
    }


SCENARIOS = (
    ("timeouts/simple_timeout", "baseline"),
    ("timeouts/resource_cleanup", "stress"),
    ("timeouts/concurrent_timeouts", "stress"),
    ("timeouts/zero_timeout", "baseline"),
    ("timeouts/nested_timeout", "chaos"),
    ("timeouts/stage_cancel", "chaos"),
    ("timeouts/heartbeat", "stress"),
)


def units() -> list[dict[str, Any]]:
    """Return fail, pass, unsupported, inconclusive, blocked and error, on two engines."""
    ids = [one for one, _ in SCENARIOS]
    good = clause("pass", 40, 0, figures={"timeouts_due": 40})
    rows = [
        unit(STAGEFLOW, ids[0], "pass", category="baseline", clauses={"TIME-1": good}),
        unit(
            STAGEFLOW,
            ids[1],
            "fail",
            reason="CLEAN-1, CLEAN-2 violated",
            clauses={
                "CLEAN-1": clause("fail", 40, 40, figures={"cleanups_due": 1200}),
                "CLEAN-2": clause("fail", 40, 1),
            },
            figures={"cleanups_due": 1200},
            witnesses=[
                witness("CLEAN-1", "not-released", 40, 40, figures={"done": 1, "due": 30}),
                witness("CLEAN-2", "cut", 1, 40, location="", first_seed=991),
            ],
        ),
        unit(
            STAGEFLOW,
            ids[2],
            "fail",
            reason="CLEAN-1 violated",
            program=FAN,
            plan={"version": 1, "cancels": [{"at_point": -1}]},
            clauses={
                "TIME-6": clause("pass", 40, 0),
                "CLEAN-1": clause("fail", 40, 10),
            },
            witnesses=[witness("CLEAN-1", "not-released", 10, 40, first_seed=77)],
        ),
        unit(
            STAGEFLOW,
            ids[3],
            "inconclusive",
            reason="never happened: scope.expired",
            category="baseline",
            clauses={"TIME-5": clause("inconclusive", 0, 0, reason="no run put it to the test")},
        ),
        unit(
            STAGEFLOW,
            ids[4],
            "blocked",
            reason="CANCEL-6: by a defect under CLEAN-1",
            category="chaos",
            program=CHILD,
            clauses={"CANCEL-6": clause("blocked", 0, 0, blocked_by="CLEAN-1")},
        ),
        unit(
            STAGEFLOW,
            ids[5],
            "error",
            reason="the worker could not start",
            category="chaos",
            clauses_judged=["CANCEL-1"],
            runs=0,
            virtual_s=0.0,
        ),
        unit(
            STAGEFLOW,
            ids[6],
            "unsupported",
            reason="needs heartbeat",
            clauses_judged=["TIME-9"],
            missing={"heartbeat": "no name with 'heartbeat' on the stage context"},
            runs=0,
            virtual_s=0.0,
        ),
    ]
    judged = ("TIME-1", "CLEAN-1", "TIME-6", "TIME-5", "CANCEL-6", "CANCEL-1", "TIME-9")
    for (scenario, category), name in zip(SCENARIOS, judged, strict=True):
        rows.append(unit(REFERENCE, scenario, "pass", category=category, clauses={name: good}))
    return copy.deepcopy(rows)


def engines() -> list[dict[str, Any]]:
    every = ["stage_timeout", "subpipeline", "cancel_run", "heartbeat", "inputs", "context"]
    facts = {"public_api_documented": 0.5, "typed": True, "hello_lines": 22}
    facts |= {"documented_partial_outputs": False}
    return [
        {
            "name": "stageflow",
            "version": "0.5.1",
            "capabilities": [c for c in every if c != "heartbeat"],
            "package": "stageflow",
            "missing": {
                "heartbeat": "no name with 'heartbeat' on the stage context",
                "checkpoint": "no name with 'checkpoint' in the package",
                "retry": "nothing asks for this one",
            },
            "facts": facts,
            "semantics": {"TIME-4": "an inner timeout is the stage's own business"},
        },
        {
            "name": "reference",
            "version": "0.1.0",
            "capabilities": every,
            "package": "harness.engine",
            "missing": {},
            "facts": {"public_api_documented": 1.0, "typed": True, "hello_lines": 9},
            "semantics": {},
        },
    ]


def missions() -> list[dict[str, Any]]:
    tests = {one.split("/")[1]: one for one, _ in SCENARIOS}
    tests["no_timeout"] = "timeouts/no_timeout"  # a test that the campaign did not run
    return [
        {
            "id": "DAG-009",
            "title": "Stage timeout and cancellation propagation",
            "pack": "timeouts",
            "priority": "P0",
            "risk": "High",
            "summary": "What happens to a run when one of its stages takes too long?",
            "tests": tests,
            "hypotheses": [
                hypothesis("H1", ("timeouts/simple_timeout", "TIME-1")),
                hypothesis("H2", ("timeouts/resource_cleanup", "CLEAN-1")),
                hypothesis("H3", ("timeouts/nested_timeout", "CANCEL-6")),
                hypothesis("H4", ("timeouts/heartbeat", "TIME-9")),
                hypothesis(
                    "H5",
                    ("timeouts/concurrent_timeouts", "TIME-6"),
                    ("timeouts/concurrent_timeouts", "CLEAN-1"),
                ),
            ],
            "claims": [
                claim("BUG-078", ("timeouts/resource_cleanup", "CLEAN-1")),
                claim("BUG-016", ("timeouts/simple_timeout", "TIME-1"), why="a wrong entry point"),
                claim("DX-026", ("probe", "documented_partial_outputs")),
                claim("IMP-034", ("capability", "heartbeat")),
                claim("IMP-040", ("timeouts/zero_timeout", "TIME-5"), why="never measured"),
                claim("ELSE-001", ("probe", "typed"), engine="another"),
            ],
            "industry": [["Finance", "fraud checks in <500 ms", "Critical"]],
            "state_of_the_art": ["asyncio.timeout() ends a block at its deadline."],
            "failure_modes": ["A timeout leaks into the outer scope."],
            "questions": [
                ["Does a stage outlive its timeout?", "stage_timeout"],
                ["Can a run be redriven?", "checkpoint"],
                ["How long is a first pipeline?", "hello_lines"],
            ],
            "persona": ["Healthcare architect", "Hospital network", ["bounded run times"]],
            "more_scenarios": [],
        }
    ]


def hypothesis(name: str, *decides: tuple[str, str]) -> dict[str, Any]:
    return {
        "id": name,
        "statement": f"statement {name}",
        "decides": [list(pair) for pair in decides],
        "holds_if": "pass",
    }


def claim(name: str, *decides: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "says": f"claim {name}",
        "decides": [list(pair) for pair in decides],
        "holds_if": "fail",
        "earlier": "1 of 30",
        "engine": more.get("engine", "stageflow"),
        "why": more.get("why", ""),
    }


def scenarios() -> list[dict[str, Any]]:
    return [{"id": one, "category": category} for one, category in SCENARIOS]


METADATA = {
    "run_id": "run-20260119-001",
    "seed": SEED,
    "profile": "default",
    "started_at": "2026-01-19T08:30:00Z",
    "status": "completed",
    "dagstorm_version": "0.1.0",
    "python_version": "3.11.7",
    "platform": "linux",
}


def write_campaign(folder: Path, **replaced: Any) -> Path:
    """Write the data files of the campaign, with parts of it replaced, and return the folder."""
    parts: dict[str, Any] = {
        "units": units(),
        "engines": engines(),
        "missions": missions(),
        "scenarios": scenarios(),
        "clauses": CLAUSES,
        "confirmations": {},
        "metadata": METADATA,
    }
    write_run_files(folder, **(parts | replaced))
    return folder
