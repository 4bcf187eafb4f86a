"""A unit of the live laboratory: one scenario on one engine, few times, on the real clock.

What simulation decides by replaying a run is decided here by repeating it: a violation must
show again in most of a few further runs, and how often it did is said. A run on a machine
that was too busy is made again, and proves nothing if that does not help.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from harness.contract.clause import Clause
from harness.kernel.errors import HarnessFault, NotOffered
from harness.kernel.laboratory import Laboratory
from harness.kernel.live import LiveLaboratory
from harness.lab.unit import ScenarioData, Unit, lacking, result, run_seeds, summed_up

__all__ = ["LIVE_RUNS", "not_live", "run_live_unit"]

LIVE_RUNS = 3
# Further runs of what was violated, and in how many of them it must show again.
FURTHER_RUNS = 3
AGAIN_MIN = 2
# More of them, at most, where chance alone may have kept a fault from firing.
MORE_RUNS = 6
# A run whose timers may have fired later than this is made again, at most so many times.
LATE_MAX_S = 0.25
RETRIES = 3
# What takes longer on the reference engine, in virtual time, is left to simulation.
VIRTUAL_MAX_S = 2.5
# A run that takes so many times what the reference engine takes, and this much more, hangs.
HANGS_AFTER, HANGS_AFTER_S = 3.0, 3.0


def not_live(scenario: ScenarioData, reference: Laboratory) -> str:
    """Say why a scenario is not run in the live laboratory, or return ""."""
    if scenario.sweep:
        return "a search over points or programs, which takes simulation's speed"
    if any(c.at_point is not None for c in scenario.plan.cancels):
        return "a cancel at a callback of the loop, which only simulation counts"
    took_s = _undisturbed_s(scenario, reference)
    if took_s > VIRTUAL_MAX_S:
        return f"it takes {took_s:.3g} s undisturbed; live runs take at most {VIRTUAL_MAX_S:g} s"
    return ""


def _undisturbed_s(scenario: ScenarioData, reference: Laboratory) -> float:
    return reference.run(scenario.program, scenario.plan).took_s


def run_live_unit(
    lab: LiveLaboratory,
    reference: Laboratory,
    scenario: ScenarioData,
    *,
    runs: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Run and judge one scenario live; returns the unit's result as plain data.

    If the scenario is not for this laboratory, `not_live` in the result says why.

    Args:
        reference: the reference engine in simulation: what it takes bounds what is run here.
        runs: how many, at most `LIVE_RUNS`; those that a busy machine spoilt are made again.
        seed: of the campaign; only faults that the tape draws are drawn by it.
        progress: called after each run with the number of runs done: a sign of life.
    """
    unsupported = lacking(lab, scenario)
    if unsupported is not None:
        return unsupported
    why = not_live(scenario, reference)
    if why:
        return result("inconclusive", why, not_live=why)
    unit = _LiveUnit(lab, scenario, _undisturbed_s(scenario, reference), progress)
    try:
        unit.run_live(min(runs, LIVE_RUNS), seed)
    except NotOffered as exc:
        return result("unsupported", str(exc), missing={"plan_settings": str(exc)})
    except HarnessFault as exc:
        return result("error", str(exc), runs=unit.runs)
    unit.sum_up()
    if not unit.runs:
        return result("inconclusive", unit.too_busy())
    return summed_up(unit)


class _LiveUnit(Unit):
    def __init__(
        self,
        lab: LiveLaboratory,
        scenario: ScenarioData,
        undisturbed_s: float,
        progress: Callable[[int], None] | None,
    ) -> None:
        super().__init__(lab, scenario)
        horizon_s = HANGS_AFTER * undisturbed_s + HANGS_AFTER_S
        self.plan = dataclasses.replace(
            scenario.plan, horizon_s=min(scenario.plan.horizon_s, horizon_s)
        )
        self.progress = progress
        self.tries = 0
        self.late_s = 0.0

    def run_live(self, runs: int, seed: int) -> None:
        drawn = any(fault.one_in is not None for fault in self.scenario.plan.faults)
        more = MORE_RUNS if drawn else 0
        for done, run_seed in enumerate(run_seeds(self.scenario.id, seed, runs + more)):
            if done >= runs and not self.lacks():
                break
            self._live(run_seed if drawn else 0)
        if not self.witnesses:
            return
        before = {key: one.runs for key, one in self.witnesses.items()}
        # What a drawn fault showed is shown again by the same draw.
        for run_seed in {one.record.seed: None for one in self.witnesses.values()}:
            for _ in range(FURTHER_RUNS):
                self._live(run_seed)
        for key, witness in self.witnesses.items():
            again = witness.runs - before.get(key, 0)
            witness.nondeterministic = again < AGAIN_MIN

    def _live(self, run_seed: int) -> None:
        """Make one run that counts, if the machine lets it."""
        for _ in range(1 + RETRIES):
            self.tries += 1
            record = self.lab.run(self.scenario.program, self.plan, seed=run_seed)
            if self.progress is not None:
                self.progress(self.tries)
            if record.late_s <= LATE_MAX_S:
                self.note_run(record, None)
                return
            self.late_s = max(self.late_s, record.late_s)

    def too_busy(self) -> str:
        return (
            f"timers were up to {self.late_s:.2g} s late in all of {self.tries} runs: the machine "
            "was too busy, or the engine blocks its loop"
        )

    def clause_row(self, clause: Clause) -> dict[str, Any]:
        row = super().clause_row(clause)
        if row["violations"] and row["verdict"] in ("fail", "inconclusive"):
            row["reason"] = f"violated in {row['violations']} of {row['exercised']} live runs"
            if row["verdict"] == "inconclusive":
                row["reason"] += (
                    f"; none of it showed again in {AGAIN_MIN} of {FURTHER_RUNS} further ones"
                )
        return row
