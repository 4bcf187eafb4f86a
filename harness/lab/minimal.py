"""Each finding's smallest run: asked of the workers once a campaign's units are judged.

Some tenths of a second a finding, by several workers at once and within a limit of time. What
cannot be shrunk (the engine takes its process down, the run does not show it again, the time
is over) is left as the campaign found it, and says why.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.kernel.errors import DagstormError
from harness.lab.pool import Pool
from harness.lab.search.shrink import ANYWHERE
from harness.lab.search.telling import SHOWN
from harness.lab.standalone import SHORT_LINES
from harness.lab.subject import Engine
from harness.lab.token import Token, decode, encode, scenario_digest
from harness.lab.worker import UNIT_LIMIT_S, Worker, WorkerDied, WorkerHung

__all__ = ["SHRINK_LIMIT_S", "smallest", "token_of"]

# Workers that one engine may take down before its findings are left as they are.
DEATHS_MAX = 3
SHRINK_LIMIT_S = 60.0
# Other witnesses of a defect that are shrunk where the script of the first is long, or does not
# show it; and those that are asked for one whose script does.
OTHERS_MAX, REHEARSED_MAX = 2, 20
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


@dataclass(slots=True)
class _Work:
    """What the threads share: what is to be shrunk, until when, and what became of it."""

    pool: Pool
    jobs: queue.SimpleQueue[tuple[Engine, Row]]
    programs: Mapping[tuple[str, str, str], Any]
    units: Sequence[Row]
    deadline: float
    time_over: str
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    deaths: dict[tuple[str, str], int] = field(default_factory=dict)


def smallest(
    engines: Sequence[Engine],
    units: Iterable[Row],
    bugs: Iterable[Row],
    say: Callable[[str], None],
    *,
    workers: int = 1,
    limit_s: float = SHRINK_LIMIT_S,
    pool: Pool | None = None,
) -> dict[str, dict[str, Any]]:
    """Shrink the witness of each bug.

    A smaller run may break the clause at another place in the engine: at the one that matters
    when nothing else goes on.

    Args:
        units: of the campaign: they hold the programs as they were run.
        bugs: findings as plain data, those that matter most first.
        limit_s: seconds after which what is left is left as it is.
        pool: of workers; without it some are started for this.

    Returns:
        fingerprint -> the fields of the witness that shrinking changed, `token` and `shrunk`;
        or `shrunk` alone, which then says why there is no smaller run.
    """
    units = list(units)
    programs = {(u["engine"], u["engine_version"], u["scenario"]): u["program"] for u in units}
    wanted = [b for b in bugs if b.get("reproduction") and b["reproduction"].get("token")]
    jobs: queue.SimpleQueue[tuple[Engine, Row]] = queue.SimpleQueue()
    for engine in engines:
        for bug in wanted:
            if not engine.fault and _of(bug, engine):
                jobs.put((engine, bug))
    if jobs.empty():
        return {}
    say(f"shrinking the runs of {jobs.qsize()} findings")
    time_over = f"the time for it was over ({limit_s:.3g} s for all)"
    with contextlib.nullcontext(pool) if pool else Pool(workers) as lending:
        work = _Work(lending, jobs, programs, units, time.monotonic() + limit_s, time_over)
        threads = [
            threading.Thread(target=_serve, args=(work,), daemon=True)
            for _ in range(max(1, min(workers, jobs.qsize())))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return work.found


def _of(bug: Row, engine: Engine) -> bool:
    return bool(bug["reproduction"]["environment"].get("engine") == engine.ref.label)


def _not_shrunk(why: str) -> dict[str, Any]:
    return {"shrunk": {"ended": "not shrunk", "why": why}}


def _serve(work: _Work) -> None:
    """Shrink one after the other."""
    while True:
        try:
            engine, bug = work.jobs.get_nowait()
        except queue.Empty:
            break
        work.found[bug["fingerprint"]] = _one(work, engine, bug)


def _one(work: _Work, engine: Engine, bug: Row) -> dict[str, Any]:
    left_s = work.deadline - time.monotonic()
    if left_s <= 0:
        return _not_shrunk(work.time_over)
    if bug["reproduction"]["environment"].get("lab") == "live":
        return _not_shrunk("only live runs showed it, and those cannot be replayed")
    if bug["shape"] == "worker-died" or work.deaths.get(engine.key, 0) >= DEATHS_MAX:
        return _not_shrunk("the engine takes its process down")
    try:
        request, scenario = _request(bug, engine, work.programs)
        with work.pool.lend(engine) as worker:
            row = worker.ask(request, limit_s=min(UNIT_LIMIT_S, max(1.0, left_s)))
    except DagstormError as exc:
        return _not_shrunk(str(exc))
    except WorkerDied as exc:
        if isinstance(exc, WorkerHung) and time.monotonic() >= work.deadline:
            return _not_shrunk(work.time_over)
        work.deaths[engine.key] = work.deaths.get(engine.key, 0) + 1
        return _not_shrunk(str(exc))
    try:
        with work.pool.lend(engine) as worker:
            row = _clearer(work, worker, bug, engine, row)
    except (DagstormError, WorkerDied):
        pass  # what was found first stands
    if row["nondeterministic"]:
        return _not_shrunk("two runs of the smallest case went differently")
    row["token"] = encode(token_of(*engine.key, scenario, row))
    return row


def _clearer(
    work: _Work, worker: Worker, bug: Row, engine: Engine, row: dict[str, Any]
) -> dict[str, Any]:
    """Return what another witness of the defect shrinks to if that makes a clearer script."""
    rank = _unclear(worker, bug, row)
    if not any(rank):
        return row
    others = _others(work.units, bug, engine)
    if row["told"] < SHOWN:
        others = _telling_first(worker, bug, others[:REHEARSED_MAX])
    for witness in others[:OTHERS_MAX]:
        told = {**bug, "reproduction": {**bug["reproduction"], **witness}}
        request, _ = _request(told, engine, work.programs)
        left_s = work.deadline - time.monotonic()
        if left_s <= 0:
            break
        try:
            other = worker.ask(request, limit_s=min(UNIT_LIMIT_S, max(1.0, left_s)))
        except DagstormError:
            continue
        if not other["nondeterministic"] and (clearer := _unclear(worker, bug, other)) < rank:
            row, rank = dict(other), clearer
        if not any(rank):
            break
    return row


def _telling_first(worker: Worker, bug: Row, witnesses: list[dict[str, Any]]) -> list[Any]:
    """Return witnesses, those first whose scripts show the defect as they are."""
    if not witnesses:
        return witnesses
    cases = [{name: one[name] for name in ("program", "plan")} for one in witnesses]
    asked = {"op": "rehearse", "clause": bug["clause"], "shape": bug["shape"], "cases": cases}
    told = worker.ask(asked)["told"]
    return [one for _, one in sorted(zip(told, witnesses, strict=True), key=lambda x: -x[0])]


def _unclear(worker: Worker, bug: Row, row: Row) -> tuple[int, bool, bool]:
    """Say how much less than all a case's script tells as far as is known, whether the case depends
    on choices that no script can make, and whether its script, if there is one, is a long one."""
    asked = {"op": "render", "clause": bug["clause"], "shape": bug["shape"]}
    case = {name: row[name] for name in ("program", "plan", "expected", "actual")}
    script = worker.ask({**asked, **case})["script"]
    long = script is not None and len(script.splitlines()) > SHORT_LINES
    return SHOWN - row["told"], bool(row["tape"]), long


def _others(units: Sequence[Row], bug: Row, engine: Engine) -> list[dict[str, Any]]:
    """Return token, program and plan of a defect's other witnesses in a search."""
    seen = [
        witness
        for unit in units
        if (unit["engine"], unit["engine_version"]) == engine.key and unit["lab"] == "sim"
        for witness in unit["witnesses"]
        # Only a search says of a witness which defect it is of; others are a scenario's own.
        if all(witness.get(name) for name in ("key", "token", "program"))
        and witness.get("plan") is not None
    ]
    token = bug["reproduction"]["token"]
    keys = [witness["key"] for witness in seen if witness["token"] == token]
    return [
        {name: witness[name] for name in ("token", "program", "plan")}
        for witness in seen
        if witness["key"] in keys and witness["token"] != token
    ]


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
        "key": [bug["clause"], bug["shape"], ANYWHERE],
    }
    if token.program is not None:
        request["tape"] = dict(token.tape)
    return request, token.scenario
