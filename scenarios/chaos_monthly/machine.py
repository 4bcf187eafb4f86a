"""Memory runs out; and then everything at once."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import ClockStep, Plan
from scenarios.chaos_monthly.chance import ONE_IN_TEN, working
from scenarios.chaos_monthly.network import JITTER
from scenarios.notation import acquire, allocate, ok, program, sleep, stage

__all__ = ["MACHINE"]

# More than a worker process may have (4 GiB).
MEGABYTES = 8_192

MACHINE: tuple[Scenario, ...] = (
    Scenario(
        id="chaos_monthly/memory",
        title="No more memory",
        program=program(
            "memory",
            stage("load", acquire("buffer", 0.1), sleep(0.2), allocate(MEGABYTES), ok("loaded")),
            stage("hold", acquire("db", 0.1), sleep(2.0), ok("held")),
            stage("reply", ok("replied"), needs="load"),
        ),
        plan=Plan(),
        clauses=("PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A stage takes more memory than there is, beside another that holds a resource.",
        tests=("CHAOS-MONTHLY/memory",),
        category="chaos",
        fires=("fault.fired",),
    ),
    Scenario(
        id="chaos_monthly/together",
        title="All of it at once",
        program=program(
            "together",
            *(working(f"fetch{i}") for i in range(4)),
            *(working(f"parse{i}", f"fetch{i}") for i in range(4)),
            stage("load", acquire("buffer", 0.1), sleep(1.0), allocate(MEGABYTES), ok("loaded")),
        ),
        plan=Plan(
            toxics=(JITTER,),
            faults=(ONE_IN_TEN,),
            clock_steps=(ClockStep(0.0, -1.0), ClockStep(0.3, 2.0)),
        ),
        clauses=("PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="Late network, failing calls, a clock that is set, and then no more memory.",
        tests=("CHAOS-MONTHLY/together",),
        category="chaos",
        fires=("fault.fired", "net.felt"),
    ),
    Scenario(
        id="chaos_monthly/together_timed",
        title="All of it at once, under a timeout",
        program=program(
            "together_timed",
            *(working(f"fetch{i}") for i in range(4)),
            stage("load", acquire("buffer", 0.1), sleep(1.0), allocate(MEGABYTES), ok("loaded")),
        ),
        plan=Plan(
            stage_timeout_s=0.4,
            toxics=(JITTER,),
            faults=(ONE_IN_TEN,),
            clock_steps=(ClockStep(0.2, 1.0),),
        ),
        clauses=("TIME-2", "TIME-1", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="The same, and stages have a timeout that some of them outlive.",
        tests=("CHAOS-MONTHLY/together_timed",),
        category="chaos",
        fires=("net.felt",),
    ),
)
