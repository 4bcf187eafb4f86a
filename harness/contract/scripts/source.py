"""What every check of a stand-alone script is made of, and what its program makes superfluous.

A script notes what its check names: each kind that stands in the check in double quotes and,
of the ways in which a stage can end, those that stand there so (`"raise:` for any exception).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.kernel import script_main
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal
from harness.kernel.steps import Step

__all__ = [
    "EVERY_END",
    "SLACK_S",
    "SOON_S",
    "Untold",
    "always_fails",
    "around",
    "caller_is_told",
    "every_step",
    "in_place",
    "lets_go",
    "longest",
    "named_in",
    "one_run",
    "ops",
    "several",
    "shortest",
    "soon_s",
    "source",
]

# The scripts run on the stock event loop: rules about an instant allow this much.
SLACK_S = 0.25
# Within so many seconds comes, on a real clock as well, what takes no time.
SOON_S = 0.05
# Less than this nobody can tell apart there.
APART_MIN_S = 0.001


# A check that looks at the other ends than those it names has this among its lines.
EVERY_END = '# Any end counts: "ok" "skip" "fail" "raise:" "cancelled" "cancel_run" "cancel_branch"'


class Untold(Exception):
    """A script cannot tell, and says why in a few words; see `Clause.why_no_check`."""


def caller_is_told(plan: Plan) -> None:
    """Make sure that a run's caller gets an answer to be looked at.

    Raises:
        Untold: if it cancels the run.
    """
    if plan.cancels:
        raise Untold("who cancels a run is told nothing but that")


def soon_s(program: Program) -> float:
    """Return within how many seconds of an instant nothing has come that waits for a retry.

    Raises:
        Untold: if a retry waits for so short a time that a real clock cannot tell.
    """
    waits = [stage.retry.backoff_s / 2 for stage in program.stages if stage.retry is not None]
    soon = min([SOON_S, *waits])
    if soon < APART_MIN_S:
        raise Untold("a stage is tried again at once, which a real clock cannot tell from before")
    return soon


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
    cleanups = [longest(one.args.get("cleanup_s", 0)) for one in steps]
    return sum(cleanups) > plan.cleanup_grace_s - 0.05


def longest(seconds: Any) -> float:
    """Return the longest of a step's durations, in seconds."""
    return max(seconds) if isinstance(seconds, tuple) else float(seconds)


def shortest(seconds: Any) -> float:
    """Return the shortest of a step's durations, in seconds."""
    return min(seconds) if isinstance(seconds, tuple) else float(seconds)


def several(plan: Plan) -> bool:
    """Say whether there are several runs that can be told apart in a script's notes."""
    return len(plan.runs) > 1 and not any("/" in run.id for run in plan.runs)


def around(layers: list[Layer], stage: str) -> list[Layer]:
    """Return those of the layers that are around a stage."""
    return [one for one in layers if not one.stages or stage in one.stages]


def in_place(plan: Plan) -> bool:
    """Say whether a script's `main` itself is the caller of its one run, and judges in the same
    turn of the loop: then what it has seen is what had happened when the run was over.

    A check that looks at `took` is never judged so.
    """
    return script_main.in_place(plan) and plan.sink is None


def named_in(program: Program, names: Sequence[str], *, many: bool) -> str:
    """Return the condition, to be added to others, that `stage` is one of these, "" if all are."""
    if set(names) == set(program.names):
        return ""
    name = 'stage.split("/")[1]' if many else "stage"
    if len(names) == 1:
        return f" and {name} == {literal(names[0])}"
    return f" and {name} in {literal(list(names))}"


def always_fails(program: Program, plan: Plan, name: str) -> bool:
    """Say whether no execution of a stage can be a success, as far as its steps show."""
    for one in program.stage(name).steps:
        if one.op in ("raise", "fail"):
            return True
        if one.op == "call" and (one.args["error"] or _first_call_fails(plan, one.args["tool"])):
            return True
        if one.op not in ("sleep", "yield", "acquire", "cleanup", "emit", "log", "input"):
            return False
    return False


def _first_call_fails(plan: Plan, tool: str) -> bool:
    return any(fault.tool == tool and fault.nth == 1 for fault in plan.faults)
