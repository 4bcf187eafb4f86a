"""A recorded run again, twice, each time in a process of its own; and what that says.

`reproduced`: both went alike, and violate what the token says (or, if it says nothing, anything
that the case is judged by). `not reproduced`: both went alike and do not. `nondeterministic`:
they went differently, so that neither proves anything.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from harness.kernel.errors import EnvironmentFault, InputError
from harness.lab.engines import EngineRef, python_of
from harness.lab.token import Token, scenario_digest
from harness.lab.worker import Worker, WorkerDied

__all__ = ["Replayed", "case_of", "replay", "shrink_again"]

Say = Callable[[str], None]
Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What two runs of the same token came to.

    Attributes:
        verdict: reproduced, not reproduced or nondeterministic.
        digests: of both runs; for a worker that died, how.
        answer: the first run in full (`worker_main`), empty if the worker died.
        violations: of the first run, each with its clause.
    """

    verdict: str
    digests: tuple[str, str]
    answer: Mapping[str, Any]
    violations: Sequence[Mapping[str, Any]]


def case_of(token: Token, known: Mapping[str, Callable[[], Data]]) -> Data:
    """Return the case of a token as the plain data that a worker takes.

    Args:
        known: scenario id -> what returns its data.

    Raises:
        InputError: if the scenario is not here, or is another one by now.
    """
    if token.lab != "sim":
        raise InputError(
            f"token: made by a {token.lab} run, which no replay gives again; run the scenario "
            f"anew: dagstorm run --lab {token.lab} --scenario {token.scenario}"
        )
    if token.program is not None:
        clauses = list(token.shows[:1])
        return {
            "id": token.scenario,
            "program": token.program,
            "plan": token.plan or {},
            "clauses": clauses,
        }
    if token.scenario not in known:
        raise InputError(f"token: no scenario {token.scenario!r} here; was it made elsewhere?")
    data = known[token.scenario]()
    if scenario_digest(data["program"], data["plan"]) != token.digest:
        raise InputError(f"token: scenario {token.scenario} has changed since; run it again")
    if token.cancels is not None:
        data["plan"] = {**data["plan"], "cancels": token.cancels}
    return data


def request_of(token: Token) -> Data:
    """Return what of a worker's request says which run it is.

    A scenario's choices come again from the seed; those of a case that brings its own program
    may have been cut, so its tape is the whole truth, also when it is empty.
    """
    run: Data = {"seed": token.seed}
    if token.program is not None or (token.tape and not token.seed):
        run["tape"] = dict(token.tape)
    if token.order:
        run["order"] = token.order
    return run


def replay(token: Token, case: Data, ref: EngineRef, say: Say) -> Replayed:
    """Do a token's run twice.

    Raises:
        EnvironmentFault: if an engine cannot be brought up, or the worker dies and the token
            does not say that it would.
    """
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if token.python != here:
        say(f"note: made on Python {token.python}, replayed on {here}")
    if token.hash_seed:
        say(f"note: made with PYTHONHASHSEED={token.hash_seed}, replayed with 0")
    python = python_of(ref, say)

    def once(_number: int) -> Data | str:
        worker = Worker(python, ref.adapter, isolated=ref.isolated)
        try:
            _greet(worker, ref)
            return worker.ask({"op": "replay", "scenario": case, **request_of(token)})
        except WorkerDied as exc:
            return str(exc)
        finally:
            worker.close()

    with ThreadPoolExecutor(2) as both:
        first, second = both.map(once, range(2))
    if isinstance(first, str) or isinstance(second, str):
        return _died(token, first, second, ref)
    violations = [
        {**violation, "clause": clause}
        for clause, judgement in first["judged"].items()
        for violation in judgement["violations"]
    ]
    if first["digest"] != second["digest"]:
        verdict = "nondeterministic"
    else:
        shown = [v for v in violations if _is_it(token, v, ref)]
        verdict = "reproduced" if shown else "not reproduced"
    if token.run_digest and token.run_digest != first["digest"]:
        say(f"note: when the token was made, the run's digest was {token.run_digest}")
    return Replayed(verdict, (first["digest"], second["digest"]), first, violations)


def _greet(worker: Worker, ref: EngineRef) -> None:
    try:
        worker.hello()
    except WorkerDied as exc:
        raise EnvironmentFault(f"{ref.label} could not be brought up: {exc}") from exc


def _is_it(token: Token, violation: Mapping[str, Any], ref: EngineRef) -> bool:
    if not token.shows:
        return True
    if ref.name != token.engine:  # another engine has other components
        return tuple(violation["key"][:2]) == tuple(token.shows[:2])
    return tuple(violation["key"]) == tuple(token.shows)


def _died(token: Token, first: Data | str, second: Data | str, ref: EngineRef) -> Replayed:
    said = [
        a if isinstance(a, str) else f"it lived (digest {a['digest']})" for a in (first, second)
    ]
    expected = token.shows[1:2] == ("worker-died",) or not token.shows
    if said[0] == said[1] and expected:
        return Replayed("reproduced", (said[0], said[1]), {}, ())
    if isinstance(first, str) and isinstance(second, str) and not expected:
        raise EnvironmentFault(f"replay on {ref.label}: {first}")
    return Replayed("nondeterministic", (said[0], said[1]), {}, ())


def shrink_again(
    token: Token, case: Data, ref: EngineRef, say: Say, *, tries_max: int | None = None
) -> Data:
    """Shrink a token's run; returns the worker's row.

    Raises:
        InputError: if the run violates nothing, or is one of the order tier.
        EnvironmentFault: if the worker dies.
    """
    if token.order:
        raise InputError(
            f"shrink: this run is out of asyncio's order ({token.order}), so it shows no bug; "
            f"replay it, or shrink a finding"
        )
    request = {
        "op": "shrink",
        "program": case["program"],
        "plan": case["plan"],
        "clauses": case["clauses"],
        **request_of(token),
    }
    if token.shows:
        request["key"] = list(token.shows)
    if tries_max is not None:
        request["tries_max"] = tries_max
    worker = Worker(python_of(ref, say), ref.adapter, isolated=ref.isolated)
    try:
        _greet(worker, ref)
        return worker.ask(request)
    except WorkerDied as exc:
        raise EnvironmentFault(f"shrink on {ref.label}: {exc}") from exc
    finally:
        worker.close()
