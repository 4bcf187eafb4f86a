"""Trouble of one run beside another: what it does there is TENANT-4's and CLEAN-6's to judge.

An engine that keeps of several runs of one pipeline object what it should keep of each lets one
run's failure end, cancel or clean up another. Whatever else that run is then said to be (timed out
early, failed after a good retry, refused, cancelled instead of failed) only follows from it.
"""

from __future__ import annotations

import math

from harness.contract.reading import CLOSE_S, Reading

__all__ = ["overlapping", "troubled_beside"]


def overlapping(r: Reading, run: str) -> list[str]:
    """Return the other runs that were under way while this one was."""
    mine, ends = r.runs[run], len(r.entries)
    return [
        other
        for other, facts in r.runs.items()
        if other != run
        and 0 <= facts.begin < (mine.end if mine.over else ends)
        and mine.begin < (facts.end if facts.over else ends)
    ]


def troubled_beside(r: Reading, run: str, until_s: float = math.inf) -> bool:
    """Say whether something had gone wrong, by a time in seconds, in a run beside this one."""
    return any(_troubled(r, other, until_s + CLOSE_S) for other in overlapping(r, run))


def _troubled(r: Reading, run: str, until_s: float) -> bool:
    facts = r.runs[run]
    if any(at_s <= until_s for _, at_s in facts.cancels):
        return True
    for (of, _), ones in r.ran.items():
        if of != run and not of.startswith(f"{run}/"):
            continue
        for one in ones:
            if one.interrupts and r.time_of(one.interrupts[0]) <= until_s:
                return True
            if one.ended and one.how not in ("ok", "skip") and one.end_s <= until_s:
                return True
    layers = (*r.all_of("layer.raise", run), *r.all_of("layer.deny", run)) if r.plan.layers else ()
    if any(e.at_s <= until_s for e in layers):
        return True
    outcome = r.outcome(run)
    return facts.over and facts.end_s <= until_s and outcome is not None and outcome.status != "ok"
