"""One call in ten fails, whichever the tape draws."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Fault, Plan
from harness.kernel.program import Retry, Stage
from scenarios.notation import call, ok, program, stage

__all__ = ["CHANCE", "ONE_IN_TEN", "working"]

ONE_IN_TEN = Fault("service", error="OSError", one_in=10)


def working(name: str, needs: str = "", *, retry: Retry | None = None) -> Stage:
    """Declare a stage that calls the service and holds a connection meanwhile."""
    steps = (call("service", 0.1, holds=True, cleanup_s=0.05), ok(name))
    return stage(name, *steps, needs=needs, retry=retry)


def _three_layers(retry: Retry | None = None) -> tuple[Stage, ...]:
    """Four stages side by side, four that need one of them each, two that need two each."""
    first = [working(f"fetch{i}", retry=retry) for i in range(4)]
    second = [working(f"parse{i}", f"fetch{i}", retry=retry) for i in range(4)]
    third = [working(f"join{i}", f"parse{2 * i} parse{2 * i + 1}", retry=retry) for i in range(2)]
    return (*first, *second, *third)


CHANCE: tuple[Scenario, ...] = (
    Scenario(
        id="chaos_monthly/random_failures",
        title="One call in ten fails",
        program=program("random_failures", *_three_layers()),
        plan=Plan(faults=(ONE_IN_TEN,)),
        clauses=("PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-2", "PART-1", "CLEAN-5"),
        purpose="Each of ten stages calls a service that fails in one of ten calls.",
        tests=("CHAOS-MONTHLY/random_failures",),
        category="chaos",
        fires=("fault.fired",),
    ),
    Scenario(
        id="chaos_monthly/random_failures_retried",
        title="One call in ten fails, and stages are tried again",
        program=program(
            "random_failures_retried", *_three_layers(Retry(attempts=3, backoff_s=0.05, factor=1.0))
        ),
        plan=Plan(faults=(ONE_IN_TEN,)),
        clauses=("RETRY-1", "CLEAN-1", "CLEAN-5"),
        purpose="The same ten stages, each of which may be tried three times.",
        tests=("CHAOS-MONTHLY/random_failures_retried",),
        category="chaos",
        fires=("fault.fired",),
    ),
)
