"""Timeouts on a machine that misbehaves: stopped, starved, blocked, its wall clock set.

Two runs are watched at once: `quick` ends long before its timeout and must be left alone,
`slow` never ends and must be timed out at its own. Time that the process was stopped or
its loop was blocked is known, and is allowed for: what was due meanwhile is due at its end. What
else made timers late is measured by a ticker beside the runs, and tolerated.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from harness.contract.clause import Judgement, Violation
from harness.lab.faults.bench import LIMIT_S, Bench, judgement, must_be_up, names_stage, stage
from harness.lab.faults.ledger import Noted, read_ledger
from harness.lab.faults.process import Ending
from harness.lab.faults.tally import Tally, Trial, unsupported_row

__all__ = [
    "CLAUSES",
    "NEEDS",
    "TIMING_HORIZON_S",
    "Done",
    "block_row",
    "cpu_row",
    "judge_timing",
    "lacking",
    "stop_row",
    "timed_trial",
    "timing_jobs",
]

QUICK_S = 0.15
QUICK_LIMIT_S = 8.0
SLOW_LIMIT_S = 0.8
TIMING_HORIZON_S = 5.0
TOLERANCE_S = 0.1
EARLY_S = 0.01
# A machine whose timers are later than this proves nothing about timeouts.
LAG_MAX_S = 0.6
# Over the timeout of `slow`, and over before it is due.
PAUSES_S = (1.6, 0.3)
SPIN_S = 4.0
SPIN = (
    "import os,time\nn=time.monotonic()+{s}\nwhile time.monotonic()<n and os.getppid()=={p}: pass"
)
SPINNERS_MAX = 8
NEEDS = ("stage_timeout",)
CLAUSES = ("TIME-1", "TIME-2")

Window = tuple[float, float]


def timing_jobs(bench: Bench, block_s: float = 0.0) -> list[dict[str, Any]]:
    """Return the runs `quick` and `slow`, and `blocker` if the loop is to be blocked."""
    effect = {"op": "call", "tool": "effect", "seconds": 0}
    quick = stage("quick", {"op": "sleep", "seconds": QUICK_S}, effect, {"op": "ok", "value": 1})
    slow = stage("slow", {"op": "acquire", "name": "lock"}, {"op": "never"})
    jobs = [
        bench.job(
            {"name": "quick", "stages": [quick]}, {"stage_timeout_s": QUICK_LIMIT_S}, ["quick"]
        ),
        bench.job({"name": "slow", "stages": [slow]}, {"stage_timeout_s": SLOW_LIMIT_S}, ["slow"]),
    ]
    if block_s:
        steps = [{"op": "sleep", "seconds": 0.1}]
        steps += [{"op": "call", "tool": "block", "seconds": block_s}, {"op": "ok", "value": 1}]
        program = {"name": "blocker", "stages": [stage("blocker", *steps)]}
        jobs.append(bench.job(program, {"stage_timeout_s": QUICK_LIMIT_S}, ["blocker"]))
    return jobs


def stop_row(bench: Bench) -> dict[str, Any]:
    """Stop the process by SIGSTOP, let it go on by SIGCONT; returns the unit row."""
    tally = Tally(
        "stop",
        "The process is stopped for a while",
        "SIGSTOP in mid-run, SIGCONT later: before and after a timeout was due.",
        CLAUSES,
    )
    if bench.offers(*NEEDS):
        return lacking(bench, tally)
    began_s = time.monotonic()
    rng = random.Random(f"stop {bench.seed}")
    pauses = PAUSES_S[: bench.times]
    for number, pause_s in enumerate(pauses):
        after_s = rng.uniform(0.02, 0.12)
        folder = bench.place.new_folder("stop")
        jobs = timing_jobs(bench)
        with bench.subject(_request(folder, jobs)) as subject:
            subject.until("running")
            time.sleep(after_s)
            stopped_s = time.monotonic()
            subject.send(signal.SIGSTOP)
            time.sleep(pause_s)
            subject.send(signal.SIGCONT)
            window = (stopped_s, time.monotonic())
            ending = subject.rest(LIMIT_S)
        must_be_up(ending, "the runs")
        if not _felt(ending, window):
            tally.not_fired += 1
            continue
        note = f"stopped for {pause_s:g} s, {after_s:.3f} s after the begin"
        tally.add(timed_trial(folder, jobs, ending, Done(number, note, (window,))))
        bench.say(f"stop: {number + 1} of {len(pauses)} pauses")
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def block_row(bench: Bench) -> dict[str, Any]:
    """Have a stage block the event loop; returns the unit row."""
    tally = Tally(
        "block",
        "A stage blocks the event loop",
        "A stage calls time.sleep() while a timeout of another run comes due.",
        CLAUSES,
    )
    if bench.offers(*NEEDS):
        return lacking(bench, tally)
    began_s = time.monotonic()
    pauses = PAUSES_S[: bench.times]
    for number, block_s in enumerate(pauses):
        folder = bench.place.new_folder("block")
        jobs = timing_jobs(bench, block_s)
        with bench.subject(_request(folder, jobs)) as subject:
            ending = subject.rest(LIMIT_S)
        must_be_up(ending, "the runs")
        entries = read_ledger(folder / "ledger")
        at = {e.kind: e.at_s for e in entries if e.run == "blocker"}
        if "fault.fired" not in at or "block.end" not in at:
            tally.not_fired += 1
            continue
        window = (at["fault.fired"], at["block.end"])
        note = f"the loop was blocked for {block_s:g} s"
        tally.add(timed_trial(folder, jobs, ending, Done(number, note, (window,))))
        bench.say(f"block: {number + 1} of {len(pauses)} blocks")
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def cpu_row(bench: Bench) -> dict[str, Any]:
    """Have the process compete for the processor with others; returns the unit row."""
    tally = Tally(
        "cpu",
        "The processor is busy",
        "Twice as many spinning processes as there are processors, the engine's at nice 10.",
        CLAUSES,
    )
    if bench.offers(*NEEDS):
        return lacking(bench, tally)
    began_s = time.monotonic()
    folder = bench.place.new_folder("cpu")
    jobs = timing_jobs(bench)
    spinners: list[subprocess.Popen[bytes]] = []
    count = min(SPINNERS_MAX, 2 * (os.cpu_count() or 1))
    spent_s = 0.0
    with ExitStack() as stack:
        subject = stack.enter_context(bench.subject(_request(folder, jobs), nice=10))
        # What is told about the request is read before the processor gets scarce.
        if subject.until("running"):
            text = SPIN.format(s=SPIN_S, p=os.getpid())
            try:
                for _ in range(count):
                    spinner = subprocess.Popen(
                        [sys.executable, "-I", "-S", "-c", text], start_new_session=True
                    )
                    spinners.append(spinner)
                    bench.place.tell(group=spinner.pid)
                ending = subject.rest(LIMIT_S)
                spent_s = sum(_cpu_s(s.pid) for s in spinners)
            finally:
                for spinner in spinners:
                    spinner.kill()
                    spinner.wait()
                    bench.place.tell(gone=spinner.pid)
        else:
            ending = subject.rest(LIMIT_S)
    must_be_up(ending, "the runs")
    if spent_s > 0:
        note = f"{count} processes spun for {spent_s:.1f} s of processor time meanwhile"
        tally.add(timed_trial(folder, jobs, ending, Done(0, note)))
        tally.remarks.append(f"{note}; timers were up to {ending.get('lag_s', 0):.3f} s late")
    else:
        tally.not_fired += 1
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def _cpu_s(pid: int) -> float:
    """Return the processor time that a process has had, 0 where that cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def lacking(bench: Bench, tally: Tally) -> dict[str, Any]:
    """Return the row of an engine that keeps no timeouts."""
    missing = bench.offers(*NEEDS)
    return unsupported_row(tally, bench.seed, f"needs {', '.join(missing)}", missing)


def _request(folder: Path, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"ledger": str(folder / "ledger"), "jobs": jobs, "horizon_s": TIMING_HORIZON_S}


def _felt(ending: Ending, window: Window) -> bool:
    """Say whether the ticker saw the process stand still."""
    half = (window[1] - window[0]) / 2
    return any(late >= half for due, late in ending["late"] if _within(due, window))


def _within(due_s: float, window: Window) -> bool:
    return window[0] - 0.1 <= due_s <= window[1] + 0.1


class Done(NamedTuple):
    """One trial as it was done: its number, what was done, and when nothing could happen."""

    number: int
    note: str
    windows: tuple[Window, ...] = ()


def timed_trial(
    folder: Path, jobs: Sequence[Mapping[str, Any]], ending: Ending, done: Done
) -> Trial:
    """Judge one trial of the two runs."""
    entries = read_ledger(folder / "ledger")
    lags = [late for due, late in ending["late"] if not any(_within(due, w) for w in done.windows)]
    lag_s = max(lags, default=0.05)
    judged = judge_timing(entries, ending["outcomes"], done.windows, lag_s)
    slow = jobs[1]
    return Trial(
        done.number, slow["program"], slow["plan"], entries, judged, {"lag_s": lag_s}, done.note
    )


def judge_timing(
    entries: Sequence[Noted],
    outcomes: Mapping[tuple[str, str], Mapping[str, Any]],
    windows: Sequence[Window],
    lag_s: float,
) -> dict[str, Judgement]:
    """Judge TIME-1 on the run `slow` and TIME-2 on the run `quick`.

    Args:
        windows: (begin, end) of the times in which the process could do nothing.
        lag_s: how late timers were besides.
    """
    if lag_s > LAG_MAX_S:
        return {"TIME-1": judgement([], False), "TIME-2": judgement([], False)}
    return {
        "TIME-1": _timed_out(entries, outcomes, windows, lag_s),
        "TIME-2": _left_alone(entries, outcomes),
    }


def _timed_out(
    entries: Sequence[Noted],
    outcomes: Mapping[tuple[str, str], Mapping[str, Any]],
    windows: Sequence[Window],
    lag_s: float,
) -> Judgement:
    mine = [(i, e) for i, e in enumerate(entries) if e.run == "slow"]
    begun = [(i, e.at_s) for i, e in mine if e.kind == "stage.start"]
    if not begun:
        return judgement([], False)
    start, began_s = begun[0]
    due_s = began_s + SLOW_LIMIT_S
    for window in windows:
        if window[0] < due_s < window[1]:
            due_s = window[1]
    tolerance_s = TOLERANCE_S + 2 * lag_s
    cuts = [(i, e.at_s) for i, e in mine if e.kind == "interrupt"]
    outcome = outcomes.get(("first", "slow")) or {"status": "missing"}
    expected = f"stage slow is ended {SLOW_LIMIT_S:g} s after its begin, a pause allowed for"
    if not cuts or outcome["status"] == "hung":
        what = f"it was still not ended {TIMING_HORIZON_S - SLOW_LIMIT_S:g} s later"
        return judgement([Violation("", expected, what, "slow", "", {}, (start,))], True)
    cut, cut_s = cuts[0]
    found = []
    # The timer may have been set at any time after the run's own begin, before the stage's.
    first_s = mine[0][1].at_s
    if cut_s < first_s + SLOW_LIMIT_S - EARLY_S:
        early_s = first_s + SLOW_LIMIT_S - cut_s
        what = f"it was ended {early_s:.3f} s early"
        found.append(Violation("early", expected, what, "slow", "", {}, (start, cut)))
    elif cut_s > due_s + tolerance_s:
        what = f"it was ended {cut_s - due_s:.3f} s late; {tolerance_s:.3f} s are tolerated"
        found.append(Violation("late", expected, what, "slow", "", {}, (start, cut)))
    if len(cuts) > 1 or len(begun) > 1:
        what = f"it was begun {len(begun)} times and ended {len(cuts)} times"
        found.append(Violation("twice", "it is ended once", what, "slow", "", {}, (start, cut)))
    if outcome["status"] != "failed":
        what = f"the run is reported as {outcome['status']}"
        found.append(Violation("", "the timeout is reported", what, "slow", "", {}, (cut,)))
    elif not names_stage(outcome, "slow"):
        what = "the report names no stage"
        found.append(
            Violation("stage-not-named", "the stage is named", what, "slow", "", {}, (cut,))
        )
    return judgement(found, True, timeouts=1)


def _left_alone(
    entries: Sequence[Noted], outcomes: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Judgement:
    mine = [(i, e) for i, e in enumerate(entries) if e.run == "quick"]
    begun = [i for i, e in mine if e.kind == "stage.start"]
    ended = [str(e.detail) for _, e in mine if e.kind == "stage.end"]
    outcome = outcomes.get(("first", "quick")) or {"status": "missing"}
    if not begun:
        return judgement([], False)
    found = []
    if ended != ["ok"] or outcome["status"] != "ok":
        found.append(
            Violation(
                "",
                f"stage quick, done in {QUICK_S:g} s, is left alone by its {QUICK_LIMIT_S:g} s",
                f"it ended {', '.join(ended) or 'never'}; the run is reported {outcome['status']}",
                "quick",
                "",
                {},
                (begun[0],),
            )
        )
    if len(begun) > 1:
        what = f"it is run {len(begun)} times"
        found.append(
            Violation("run-twice", "it is run once", what, "quick", "", {}, tuple(begun[:2]))
        )
    return judgement(found, True, left_alone=1)
