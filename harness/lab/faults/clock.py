"""The wall clock is wrong, or is set in mid-run, in real time: no timeout may notice.

The clock is the one that the engine's modules see, by the stand-ins of the simulated
laboratory; nothing of the machine is changed, and clocks that only count on are never set. In
simulation the same is tried by the pack `chaos_monthly`.
"""

from __future__ import annotations

import time
from typing import Any

from harness.lab.faults.bench import LIMIT_S, Bench, must_be_up
from harness.lab.faults.process import Ending
from harness.lab.faults.tally import Tally
from harness.lab.faults.timing import (
    CLAUSES,
    NEEDS,
    TIMING_HORIZON_S,
    Done,
    lacking,
    timed_trial,
    timing_jobs,
)

__all__ = ["clock_row"]

HOUR_S = 3_600.0
STEP_AT_S = 0.3
# (when it is set, in seconds from the begin, 0 for a clock that was wrong before; by how much).
CASES = (
    *((STEP_AT_S, HOUR_S), (STEP_AT_S, -HOUR_S), (STEP_AT_S, 1.0), (STEP_AT_S, -1.0)),
    *((0.0, HOUR_S), (0.0, -HOUR_S), (0.0, 1.0), (0.0, -1.0)),
)


def clock_row(bench: Bench) -> dict[str, Any]:
    """Set the engine's wall clock, each time in a process of its own; returns the unit row."""
    tally = Tally(
        "clock",
        "The wall clock is set",
        "The wall clock is off, or is set in mid-run, by a second and by an hour, both ways.",
        CLAUSES,
    )
    if bench.offers(*NEEDS):
        return lacking(bench, tally)
    began_s = time.monotonic()
    jobs = timing_jobs(bench)
    reads = below = 0
    cases = CASES[: bench.times]
    for number, (at_s, by_s) in enumerate(cases):
        folder = bench.place.new_folder("clock")
        request = {"ledger": str(folder / "ledger"), "jobs": jobs, "horizon_s": TIMING_HORIZON_S}
        with bench.subject({**request, "clock_step": [at_s, by_s]}) as subject:
            ending = subject.rest(LIMIT_S)
        must_be_up(ending, "the runs")
        if not ending.get("clock_set"):
            tally.not_fired += 1
            continue
        reads += ending["wall_reads"]
        below += _negative(ending)
        how = f"set by {by_s:+g} s in mid-run" if at_s else f"off by {by_s:+g} s all the time"
        tally.add(timed_trial(folder, jobs, ending, Done(number, f"the clock was {how}")))
        bench.say(f"clock: {number + 1} of {len(cases)}")
    if not tally.trials:
        tally.remarks.append("the engine's modules cannot be given another wall clock")
    else:
        tally.remarks.append(f"the engine read its wall clock {reads} times in these runs")
        tally.remarks.append(f"{below} durations that it reports are negative (no clause says)")
    return tally.row(bench.info, bench.seed, time.monotonic() - began_s)


def _negative(ending: Ending) -> int:
    """Count the durations below zero that the outcomes report."""
    return sum(
        (report.get("duration_s") or 0.0) < 0
        for outcome in ending["outcomes"].values()
        for report in outcome.get("stages", {}).values()
    )
