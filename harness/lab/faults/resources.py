"""Memory and descriptors run out in the midst of a run.

A stage takes all there is under a ceiling set for its process, and fails of it. The ceiling
stands until the run is over, so the engine has to report, to release and to keep books with
what little is left. Then it is lifted, and the same pipeline must work again.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from typing import Any

from harness.contract.clause import Judgement, Violation
from harness.lab.faults.bench import LIMIT_S, Bench, judgement, must_be_up, names_stage, stage
from harness.lab.faults.ledger import Noted, read_ledger
from harness.lab.faults.process import Ending
from harness.lab.faults.tally import Tally, Trial
from harness.lab.faults.term import judge_released

__all__ = ["descriptors_row", "judge_exhausted", "memory_row"]

CLAUSES = ("PART-4", "CLEAN-1", "CLEAN-5")
HUNGRY = "hungry"


def memory_row(bench: Bench) -> dict[str, Any]:
    """Let a stage run out of memory; returns the unit row."""
    tally = Tally(
        "memory",
        "There is no more memory",
        "A stage allocates up to the process's ceiling (RLIMIT_AS), which stays as it is.",
        CLAUSES,
    )
    tally.remarks.append("the ceiling is RLIMIT_AS; a control group's is tried by `oom`")
    return _row(bench, tally, "memory")


def descriptors_row(bench: Bench) -> dict[str, Any]:
    """Let a stage run out of file descriptors; returns the unit row."""
    tally = Tally(
        "descriptors",
        "There are no more file descriptors",
        "A stage opens files up to the process's ceiling (RLIMIT_NOFILE); they stay open.",
        CLAUSES,
    )
    return _row(bench, tally, "files")


def _row(bench: Bench, tally: Tally, tool: str) -> dict[str, Any]:
    began_s = time.monotonic()
    work = {"op": "call", "tool": "effect", "seconds": 0.002}
    take = {"op": "acquire", "name": "lease", "cleanup_s": 0.01}
    done = {"op": "ok", "value": 1}
    program = {
        "name": tally.fault,
        "stages": [
            stage("first", work, done),
            stage(
                HUNGRY, take, {"op": "call", "tool": tool, "seconds": 0.0}, done, needs=["first"]
            ),
            stage("last", work, done, needs=[HUNGRY]),
        ],
    }
    folder = bench.place.new_folder(tally.fault)
    kept = folder / "checkpoints"
    kept.mkdir()
    place = kept if bench.durable else None
    jobs = [bench.job(program, {}, folder=place)]
    request = {"ledger": str(folder / "ledger"), "jobs": jobs, "again": True}
    with bench.subject(request) as subject:
        ending = subject.rest(LIMIT_S)
    if "running" not in ending:
        must_be_up(ending, "the runs")
    entries = read_ledger(folder / "ledger")
    if not any(e.kind == "fault.fired" for e in entries):
        tally.not_fired += 1
        tally.remarks.append("the ceiling was never reached")
    else:
        judged = judge_exhausted(entries, ending)
        tally.add(Trial(0, program, {}, entries, judged, {}, f"no more {tally.fault}"))
    bench.say(f"{tally.fault}: done")
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def judge_exhausted(
    entries: Sequence[Noted], ending: Ending | Mapping[str, Any]
) -> dict[str, Judgement]:
    """Judge a run whose stage `hungry` failed for want of something, and the run after it."""
    first = [e for e in entries if not e.run.endswith("-again")]
    outcome = ending["outcomes"].get(("first", "r0"))
    at = tuple(i for i, e in enumerate(entries) if e.kind == "fault.fired")[:1]
    return {
        "PART-4": judgement(_reported(outcome, ending, at), True, failures=1),
        "CLEAN-1": judge_released(first),
        "CLEAN-5": _works_again(ending, outcome),
    }


def _reported(
    outcome: Mapping[str, Any] | None, ending: Mapping[str, Any], at: tuple[int, ...]
) -> list[Violation]:
    expected = f"the run is reported as failed, by stage {HUNGRY}"
    if outcome is None:
        code = ending.get("code")
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"code {code}"
        what = f"the process was gone before the run was over ({how})"
        return [Violation("worker-died", expected, what, HUNGRY, "", {}, at)]
    if outcome["status"] != "failed":
        what = f"it is reported as {outcome['status']}"
        return [Violation("", expected, what, HUNGRY, "", {}, at)]
    if not names_stage(outcome, HUNGRY):
        what = "the report names no stage"
        return [Violation("stage-not-named", expected, what, HUNGRY, "", {}, at)]
    return []


def _works_again(ending: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> Judgement:
    again = ending["outcomes"].get(("again", "r0-again"))
    if outcome is None or outcome["status"] == "hung":
        return judgement([], False)
    if again is not None and again["status"] == "ok":
        return judgement([], True, runs_afterwards=1)
    how = "came to nothing" if again is None else f"ended {again['status']}"
    said = str(((again or {}).get("raised") or {}).get("message", ending.get("crash", "")))[:160]
    return judgement(
        [
            Violation(
                "",
                "a fresh run of the same pipeline works once there is enough again",
                f"it {how}{': ' if said else ''}{said}",
                HUNGRY,
            )
        ],
        True,
    )
