"""Values that no timeout should have: zero, negative numbers, not a number."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from scenarios.notation import ok, program, sleep, stage

__all__ = ["VALUES"]

SLOW = program("odd_timeout", stage("infer", sleep(0.5), ok("answer")))


def _each(limit: float) -> Scenario:
    name = {0.0: "zero", -1.0: "negative"}.get(limit, "nan")
    return Scenario(
        id=f"timeouts/{name}_timeout_each",
        title=f"A stage's own timeout of {limit:g}",
        program=program(
            f"{name}_timeout_each", stage("infer", sleep(0.5), ok("answer"), timeout_s=limit)
        ),
        plan=Plan(),
        clauses=("TIME-5",),
        purpose=f"A stage declares a timeout of {limit:g} s for itself.",
    )


VALUES: tuple[Scenario, ...] = (
    Scenario(
        id="timeouts/zero_timeout",
        title="A timeout of zero",
        program=SLOW,
        plan=Plan(stage_timeout_s=0.0),
        clauses=("TIME-5", "CLEAN-5"),
        purpose="A stage of 0.5 s runs under a timeout of 0 s.",
        tests=("DAG-009/zero_timeout",),
        category="baseline",
    ),
    Scenario(
        id="timeouts/negative_timeout",
        title="A negative timeout",
        program=SLOW,
        plan=Plan(stage_timeout_s=-1.0),
        clauses=("TIME-5",),
        purpose="A stage of 0.5 s runs under a timeout of -1 s.",
    ),
    Scenario(
        id="timeouts/nan_timeout",
        title="A timeout that is not a number",
        program=SLOW,
        plan=Plan(stage_timeout_s=float("nan")),
        clauses=("TIME-5",),
        purpose="A stage of 0.5 s runs under a timeout of NaN.",
    ),
    _each(0.0),
    _each(-1.0),
    _each(float("nan")),
)
