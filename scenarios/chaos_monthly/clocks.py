"""The machine's wall clock is set while stages run: no timeout may notice."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import ClockStep, Plan
from scenarios.notation import acquire, ok, program, sleep, stage

__all__ = ["CLOCKS"]

HOUR_S = 3_600.0


def _set(name: str, title: str, at_s: float, by_s: float, purpose: str) -> Scenario:
    """Return a scenario in which one stage ends in time and another has to be timed out."""
    return Scenario(
        id=f"chaos_monthly/{name}",
        title=title,
        program=program(
            name,
            stage("quick", sleep(0.4), ok("done")),
            stage("slow", acquire("db", 0.1), sleep(2.0), ok("late")),
        ),
        plan=Plan(stage_timeout_s=0.6, clock_steps=(ClockStep(at_s, by_s),)),
        clauses=("TIME-1", "TIME-2", "CLEAN-1", "CLEAN-5"),
        purpose=purpose,
        tests=(f"CHAOS-MONTHLY/{name}",),
        category="chaos",
    )


CLOCKS: tuple[Scenario, ...] = (
    _set("clock_fast", "A clock a second fast", 0.0, 1.0, "The clock is wrong all the time."),
    _set("clock_slow", "A clock a second slow", 0.0, -1.0, "The clock is wrong all the time."),
    _set(
        "clock_ahead",
        "The clock is set ahead by a second",
        0.2,
        1.0,
        "Two stages are at work when the clock is set past both their deadlines.",
    ),
    _set(
        "clock_back",
        "The clock is set back by a second",
        0.2,
        -1.0,
        "Two stages are at work when the clock is set to before they began.",
    ),
    _set(
        "clock_ahead_hour",
        "The clock is set ahead by an hour",
        0.2,
        HOUR_S,
        "Two stages are at work when the clock is set ahead by an hour.",
    ),
    _set(
        "clock_back_hour",
        "The clock is set back by an hour",
        0.2,
        -HOUR_S,
        "Two stages are at work when the clock is set back by an hour.",
    ),
)
