"""What every check of a stand-alone script is made of, and what its program makes superfluous.

A script notes what its check names: each kind that stands in the check in double quotes and,
of the ways in which a stage can end, those that stand there so (`"raise:` for any exception).
"""

from __future__ import annotations

from typing import Any

from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program
from harness.kernel.steps import Step

__all__ = [
    "SLACK_S",
    "TOLD",
    "around",
    "every_step",
    "lets_go",
    "one_run",
    "ops",
    "several",
    "source",
]

# The scripts run on the stock event loop: rules about an instant allow this much.
SLACK_S = 0.25

# What did not complete stands among the outputs as a text like `failed: why`.
TOLD = (
    "told = {stage: value for stage, value in outputs.items()",
    '        if not (isinstance(value, str) and ": " in value)}  # that it completed',
)


def source(*lines: str) -> str:
    """Return the source of `violation` with these lines as its body."""
    head = "def violation(seen, error, outputs, left, took):"
    return "\n".join([head, *("    " + line for line in lines)]) + "\n"


def one_run(plan: Plan) -> bool:
    """Say whether a script's notes are of one run, whose stages go by their bare names."""
    return len(plan.runs) == 1


def every_step(program: Program) -> list[Step]:
    """Return every step of a program and of its subpipelines."""
    found = [one for _, one in program.walk()]
    for one in list(found):
        if one.op == "subpipeline":
            found += every_step(one.args["program"])
    return found


def ops(program: Program) -> set[str]:
    """Return the operations of a program and of its subpipelines."""
    return {one.op for one in every_step(program)}


def lets_go(program: Program, plan: Plan) -> bool:
    """Say whether an engine may rightly be over while a stage is not: one that swallows its
    cancellation, or whose cleanup outlasts the grace."""
    steps = every_step(program)
    if any(one.op == "swallow" for one in steps):
        return True
    cleanups = [_longest(one.args.get("cleanup_s", 0)) for one in steps]
    return sum(cleanups) > plan.cleanup_grace_s - 0.05


def _longest(seconds: Any) -> float:
    return max(seconds) if isinstance(seconds, tuple) else float(seconds)


def several(plan: Plan) -> bool:
    """Say whether there are several runs that can be told apart in a script's notes."""
    return len(plan.runs) > 1 and not any("/" in run.id for run in plan.runs)


def around(layers: list[Layer], stage: str) -> list[Layer]:
    """Return those of the layers that are around a stage."""
    return [one for one in layers if not one.stages or stage in one.stages]
