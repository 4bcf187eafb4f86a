"""What no script confirmed, once more in processes that have run nothing else.

A worker runs thousands of programs one after the other in one process. Something that one of
them left in a module's globals can make a later one break a clause, alike each time, but in
that process only. Such a finding must not look like one that anybody can reproduce.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from harness.kernel.errors import DagstormError
from harness.lab.engines import EngineRef
from harness.lab.replay import case_of, replay
from harness.lab.search.shrink import key_of
from harness.lab.subject import Engine
from harness.lab.token import decode

__all__ = ["FRESH_LIMIT_S", "in_fresh_processes", "replay_of"]

FRESH_LIMIT_S = 60.0
Row = Mapping[str, Any]


def in_fresh_processes(
    engines: Sequence[Engine],
    cases: Mapping[str, Callable[[], dict[str, Any]]],
    bugs: Iterable[Row],
    answers: Mapping[str, Row],
    say: Callable[[str], None],
    *,
    workers: int = 1,
    limit_s: float = FRESH_LIMIT_S,
) -> dict[str, dict[str, Any]]:
    """Replay each finding that no script confirmed.

    Args:
        cases: scenario id -> what returns it as the plain data that a worker takes.
        bugs: findings as plain data.
        answers: fingerprint -> what confirmation came to.
        limit_s: seconds after which what is left is said not to have been replayed.

    Returns:
        The answers, with what the replays add to them.
    """
    refs = {engine.ref.label: engine.ref for engine in engines}
    wanted = [
        bug
        for bug in bugs
        if answers.get(bug["fingerprint"], {}).get("confirmation") != "confirmed"
        and bug["reproduction"]["token"]
        and bug["reproduction"]["environment"]["engine"] in refs
        and bug["shape"] != "worker-died"
    ]
    if wanted:
        say(f"replaying {len(wanted)} findings in fresh processes")
    deadline = time.monotonic() + limit_s

    def verdict_of(bug: Row) -> str:
        if time.monotonic() >= deadline:
            return f"not replayed: the time for it was over ({limit_s:.3g} s for all)"
        return replay_of(bug, refs[bug["reproduction"]["environment"]["engine"]], cases)

    with ThreadPoolExecutor(max(1, workers)) as pool:
        verdicts = list(pool.map(verdict_of, wanted))
    out = {mark: dict(answer) for mark, answer in answers.items()}
    for bug, verdict in zip(wanted, verdicts, strict=True):
        if verdict == "reproduced":
            continue
        answer = out.setdefault(bug["fingerprint"], {})
        if not verdict.startswith("not replayed"):
            answer["confirmation"] = "nondeterministic"
            verdict += " in a fresh process, only in one that had run other programs before"
        before = str(answer.get("confirmation_note") or "")
        answer["confirmation_note"] = f"{verdict}; {before}" if before else verdict
    return out


def replay_of(bug: Row, ref: EngineRef, cases: Mapping[str, Callable[[], dict[str, Any]]]) -> str:
    """Replay a finding's token in two fresh processes.

    Returns:
        reproduced, not reproduced or nondeterministic (`replay`), or "not replayed: " with why.
    """
    try:
        token = decode(bug["reproduction"]["token"])
        if not token.shows:
            shows = key_of(bug["clause"], bug["shape"], bug["location"])
            token = dataclasses.replace(token, shows=shows)
        return replay(token, case_of(token, cases), ref, lambda _text: None).verdict
    except DagstormError as exc:
        return f"not replayed: {exc}"
