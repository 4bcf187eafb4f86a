"""Each finding's smallest run: asked of the workers once a campaign's units are judged.

A few hundredths of a second a finding. What cannot be shrunk (the engine takes its process
down, the run does not show it again) is left as the campaign found it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from harness.kernel.errors import DagstormError
from harness.lab.campaign import Engine
from harness.lab.search.shrink import key_of
from harness.lab.token import Token, decode, encode, scenario_digest
from harness.lab.worker import Worker, WorkerDied

__all__ = ["smallest", "token_of"]

# Workers that one engine may take down before its findings are left as they are.
DEATHS_MAX = 3
Row = Mapping[str, Any]


def token_of(engine: str, version: str, scenario: str, row: Row) -> Token:
    """Return the token of a shrunk witness: it carries its own program and plan."""
    return Token(
        engine=engine,
        version=version,
        scenario=scenario,
        seed=row["seed"],
        digest=scenario_digest(row["program"], row["plan"]),
        tape=row["tape"],
        program=row["program"],
        plan=row["plan"],
        shows=tuple(row["key"]),
        run_digest=row["digest"],
    )


def smallest(
    engines: Sequence[Engine],
    units: Iterable[Row],
    bugs: Iterable[Row],
    say: Callable[[str], None],
) -> dict[str, dict[str, Any]]:
    """Shrink the witness of each bug.

    Args:
        units: of the campaign: they hold the programs as they were run.
        bugs: findings of kind bug as plain data.

    Returns:
        fingerprint -> the fields of the witness that shrinking changed, `token` and `shrunk`.
    """
    programs = {(u["engine"], u["engine_version"], u["scenario"]): u["program"] for u in units}
    wanted = [b for b in bugs if b.get("reproduction") and b["reproduction"].get("token")]
    if wanted:
        say(f"shrinking the runs of {len(wanted)} findings")
    found: dict[str, dict[str, Any]] = {}
    for engine in engines:
        mine = [b for b in wanted if _of(b, engine)]
        if mine and not engine.fault:
            found |= _of_engine(engine, mine, programs)
    return found


def _of(bug: Row, engine: Engine) -> bool:
    return bool(bug["reproduction"]["environment"].get("engine") == engine.ref.label)


def _of_engine(
    engine: Engine, bugs: Sequence[Row], programs: Mapping[tuple[str, str, str], Any]
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    worker: Worker | None = None
    deaths = 0
    try:
        for bug in bugs:
            if deaths >= DEATHS_MAX or bug["shape"] == "worker-died":
                continue
            try:
                if worker is None:
                    worker = Worker(engine.python, engine.ref.adapter, isolated=engine.ref.isolated)
                    worker.hello()
                request, scenario = _request(bug, engine, programs)
                row = worker.ask(request)
            except DagstormError:
                continue  # it does not show it again, so it stays as the campaign saw it
            except WorkerDied:
                deaths += 1
                if worker is not None:
                    worker.close()
                worker = None
                continue
            if not row["nondeterministic"]:
                row["token"] = encode(token_of(*engine.key, scenario, row))
                found[bug["fingerprint"]] = row
    finally:
        if worker is not None:
            worker.close()
    return found


def _request(
    bug: Row, engine: Engine, programs: Mapping[tuple[str, str, str], Any]
) -> tuple[dict[str, Any], str]:
    reproduction = bug["reproduction"]
    token = decode(reproduction["token"])
    program = token.program or programs.get((*engine.key, token.scenario))
    request = {
        "op": "shrink",
        "program": program or reproduction["program"],
        "plan": reproduction["plan"],
        "seed": token.seed,
        "key": key_of(bug["clause"], bug["shape"], bug["location"]),
    }
    if token.program is not None:
        request["tape"] = dict(token.tape)
    return request, token.scenario
