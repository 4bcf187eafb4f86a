"""Runs that failed before, done again as units of a campaign: the ledger of failing seeds.

Each is replayed twice. Reproduced, it is a unit that fails, with the run as its witness;
not reproduced, one that passes. Two runs that differ prove nothing and are inconclusive, as
is a run whose scenario is another one by now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Scenario
from harness.kernel.errors import DagstormError, InputError
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.replay import case_of, request_of
from harness.lab.search.shrink import key_of
from harness.lab.token import Token, decode
from harness.lab.worker import Worker

__all__ = ["PACK", "Again", "again_unit", "died_again", "replayable", "scenario_of"]

PACK = "replay"
WITNESS_JOURNAL_MAX = 400
Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Again:
    """A failing run of a finding.

    Attributes:
        id: of the unit, replay/<finding id>.<number>.
        engine, version: on which it is replayed.
        size: of the run; the smallest are replayed first.
    """

    id: str
    engine: str
    version: str
    token: str
    clause: str
    shape: str
    location: str
    title: str
    size: int


def replayable(token: str) -> bool:
    """Say whether a kept run can be done again; a token that is damaged says so when it is."""
    try:
        return decode(token).lab == "sim"
    except InputError:
        return True


def scenario_of(one: Again, known: Mapping[str, Callable[[], Data]]) -> Scenario:
    """Return a kept run as a scenario, with the program and plan that it has."""
    case: Data = {"program": {"stages": []}, "plan": {}}
    try:
        case = case_of(decode(one.token), known)
        program, plan = Program.from_json(case["program"]), Plan.from_json(case["plan"])
    except InputError:
        program, plan = Program.from_json({"stages": []}), Plan.from_json({})
    return Scenario(
        id=one.id,
        title=f"Again: {one.title}",
        program=program,
        plan=plan,
        clauses=(one.clause,),
        purpose="A run that failed before, done again.",
        category="chaos",
        sweep=PACK,
    )


def again_unit(
    one: Again, workers: tuple[Worker, Worker], known: Mapping[str, Callable[[], Data]]
) -> Data:
    """Replay a kept run twice; returns the unit's result in the shape of a scenario's.

    Args:
        workers: of the two replays. One process may serve both, but what it did before may
            show in them: only two fresh ones prove that a run does not show it any more.

    Raises:
        WorkerDied: if the engine takes its process down, which some findings are about.
    """
    try:
        token = decode(one.token)
        case = case_of(token, known)
    except InputError as exc:
        return _result(one, "inconclusive", str(exc))
    case = {**case, "id": one.id, "clauses": [one.clause]}
    request = {"op": "replay", "scenario": case, **request_of(token)}
    try:
        first, second = (worker.ask(request) for worker in workers)
    except DagstormError as exc:
        return _result(one, "inconclusive", str(exc))
    if first["digest"] != second["digest"]:
        return _result(one, "inconclusive", "two replays of it went differently", runs=2)
    wanted = token.shows or key_of(one.clause, one.shape, one.location)
    violations = first["judged"].get(one.clause, {}).get("violations", ())
    for violation in violations:
        if tuple(violation["key"]) == tuple(wanted):
            witness = _witness(one, token, case, first, violation)
            return _result(one, "fail", f"{one.clause} violated", runs=2, witness=witness)
    verdict = first["judged"].get(one.clause, {}).get("verdict")
    if violations or first["ended"] != "over" or verdict is None:
        # It breaks the clause in another way, never ended, or could not be judged.
        return _result(one, "inconclusive", "it went otherwise than it did, but not well", runs=2)
    return _result(one, "pass", "", runs=2)


def died_again(one: Again, how: str) -> Data:
    """Return the result of a run that took the worker down."""
    if one.shape != "worker-died":
        return _result(one, "inconclusive", how)
    token = decode(one.token)
    violation = {
        "shape": one.shape,
        "stage": "",
        "location": "",
        "expected": "the engine leaves its process alive and answering",
        "actual": how,
        "at": [],
    }
    answer = {"journal": [], "digest": ""}
    witness = _witness(one, token, {"program": None, "plan": None}, answer, violation)
    return _result(one, "fail", how, runs=1, witness=witness)


def _witness(
    one: Again, token: Token, case: Data, answer: Mapping[str, Any], violation: Mapping[str, Any]
) -> Data:
    journal = answer["journal"]
    return {
        "clause": one.clause,
        "shape": violation["shape"],
        "severity": CLAUSES[one.clause].severity,
        "stage": violation["stage"],
        "expected": violation["expected"],
        "actual": violation["actual"],
        "location": violation["location"],
        "figures": {},
        "violations": 1,
        "exercised": 1,
        "first_seed": token.seed,
        "seed": token.seed,
        "tape": dict(token.tape),
        "program": case["program"],
        "plan": case["plan"],
        "journal": journal[:WITNESS_JOURNAL_MAX],
        "journal_cut": max(0, len(journal) - WITNESS_JOURNAL_MAX),
        "at": violation["at"],
        "digest": answer["digest"],
        "nondeterministic": False,
        "judged": True,
        "scripted": False,
        "key": list(key_of(one.clause, violation["shape"], violation["location"])),
        "token": one.token,
    }


def _result(
    one: Again, verdict: str, reason: str, *, runs: int = 0, witness: Data | None = None
) -> Data:
    exercised, violations = int(verdict in ("pass", "fail")), int(verdict == "fail")
    row = {
        "verdict": verdict,
        "reason": reason,
        "blocked_by": "",
        "runs": runs,
        "exercised": exercised,
        "violations": violations,
        "figures": {},
    }
    return {
        "verdict": verdict,
        "reason": reason,
        "runs": runs,
        "violations": violations,
        "first_seed": witness["seed"] if witness else None,
        "virtual_s": 0.0,
        "clauses": {one.clause: row},
        "figures": {},
        "witnesses": [witness] if witness else [],
        "missing": {},
        "samples": [],
    }
