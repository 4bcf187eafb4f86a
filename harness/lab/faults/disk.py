"""The disk is full: what cannot be stored must not be reported as done.

The folder of the checkpoints is a small file system of its own where one can be mounted;
else the size of files is limited for the process (RLIMIT_FSIZE). How much is too little is
measured on an undisturbed run. Afterwards there is room again, and the run has to go on.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.contract.clause import Judgement, Violation
from harness.lab.faults.bench import LIMIT_S, Bench, judgement, must_be_up, names_stage
from harness.lab.faults.kill import at_least_once, go_on, order_program
from harness.lab.faults.ledger import Noted, read_ledger
from harness.lab.faults.process import Ending
from harness.lab.faults.redrives import judge_redrives
from harness.lab.faults.tally import Tally, Trial, unsupported_row

__all__ = ["disk_row", "judge_not_stored"]

SIZE = 6_000
PAGE = 4_096
ROOM_BYTES = 64 << 20
RUNS = ("r0",)
# How much of what an undisturbed run adds there is room for.
SHARES = (0.6, 0.35, 0.85)


class _Note(NamedTuple):
    """A trial's number, and how its disk is limited."""

    number: int
    how: str


def disk_row(bench: Bench) -> dict[str, Any]:
    """Let the disk run full at several points of the run; returns the unit row."""
    tally = Tally(
        "disk",
        "The disk is full",
        "There is room for part of the checkpoints only; later there is enough again.",
        ("PART-5", "PART-4"),
    )
    if bench.durable is None:
        return unsupported_row(tally, bench.seed, *bench.why_not_durable)
    began_s = time.monotonic()
    program = order_program(not bench.offers("inputs"), SIZE)
    calm = _first_life(bench, program, bench.place.new_folder("calm"), {})
    must_be_up(calm, "the undisturbed run")
    before, after = calm["folder_before"], calm["folder"]
    shares = SHARES[: bench.times]
    for number, share in enumerate(shares):
        folder = bench.place.new_folder("disk")
        kept = folder / "checkpoints"
        kept.mkdir()
        growth = after["total"] - before["total"]
        room = int(before["total"] + share * growth) // PAGE * PAGE + PAGE
        why = bench.place.mount(kept, room)
        limit: dict[str, Any] = {}
        if why:
            growth = after["largest"] - before["largest"]
            limit = {"fsize": int(before["largest"] + share * growth)}
        how = f"RLIMIT_FSIZE of {limit['fsize']} bytes" if why else f"a tmpfs of {room} bytes"
        trial = _trial(bench, program, folder, limit, _Note(number, how))
        if not why:
            bench.place.unmount(kept)
        remark = f"no tmpfs could be mounted ({why}); files were limited" if why else ""
        if remark and remark not in tally.remarks:
            tally.remarks.append(remark)
        if trial is None:
            tally.not_fired += 1
        else:
            tally.add(trial)
        bench.say(f"disk: {number + 1} of {len(shares)}")
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def _request(
    bench: Bench, program: Mapping[str, Any], folder: Path, life: int = 0
) -> dict[str, Any]:
    kept = folder / "checkpoints"
    kept.mkdir(exist_ok=True)
    return {
        "ledger": str(folder / "ledger"),
        "folder": str(kept),
        "life": life,
        "jobs": [bench.job(program, {}, RUNS, folder=kept, redrive=life > 0)],
    }


def _first_life(
    bench: Bench, program: Mapping[str, Any], folder: Path, limit: Mapping[str, Any]
) -> Ending:
    with bench.subject({**_request(bench, program, folder), **limit}) as subject:
        subject.until("running")
        before = subject.ending.get("folder")
        ending = subject.rest(LIMIT_S)
    ending["folder_before"] = before
    return ending


def _trial(
    bench: Bench, program: Mapping[str, Any], folder: Path, limit: Mapping[str, Any], note: _Note
) -> Trial | None:
    """Run with too little room, give more, go on; None if there was room enough."""
    first = _first_life(bench, program, folder, limit)
    if "crash" in first:
        must_be_up(first, "the run")
    outcome = first["outcomes"].get(("first", "r0"))
    # What is really there is asked of a process of its own.
    lives = [first]
    if not limit:
        bench.place.grow(folder / "checkpoints", ROOM_BYTES)
    lives += go_on(bench, _request(bench, program, folder, 1), RUNS)
    entries = read_ledger(folder / "ledger")
    kept = (lives[1].get("kept") or {}).get("r0") or []
    if outcome is not None and outcome["status"] == "ok" and len(kept) == len(program["stages"]):
        return None
    redriven = judge_redrives(program, RUNS, entries, lives, at_least_once=at_least_once(bench))
    found = [*redriven.violations, *judge_not_stored(outcome, kept, program)]
    judged = {
        "PART-5": judgement(found, True, **redriven.figures),
        "PART-4": _named(outcome, entries),
    }
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return Trial(note.number, program, {}, entries, judged, {}, note.how)


def judge_not_stored(
    outcome: Mapping[str, Any] | None, kept: Sequence[str], program: Mapping[str, Any]
) -> list[Violation]:
    """Find success reported for stages that were not stored."""
    if outcome is None or outcome["status"] != "ok":
        return []
    lost = [s["name"] for s in program["stages"] if s["name"] not in kept]
    if not lost:
        return []
    return [
        Violation(
            "not-stored",
            "a run is reported as ok only if all its stages are kept",
            f"it is reported as ok, and {len(lost)} of {len(program['stages'])} stages are not",
            lost[0],
            "",
            {"lost": len(lost)},
        )
    ]


def _named(outcome: Mapping[str, Any] | None, entries: Sequence[Noted]) -> Judgement:
    """Judge PART-4: the failure to store says of which stage, once stages have run."""
    ended = {e.stage for e in entries if e.life == 0 and e.kind == "stage.end"}
    if outcome is None or outcome["status"] != "failed" or not ended:
        return judgement([], False)
    if any(names_stage(outcome, name) for name in ended):
        return judgement([], True, failures=1)
    what = "the report names none of the stages that had ended"
    return judgement(
        [Violation("stage-not-named", "the stage that was not stored is named", what)], True
    )
