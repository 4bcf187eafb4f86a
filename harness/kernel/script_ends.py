"""How a block of steps can end, and where the end of a stage can be noted."""

from __future__ import annotations

from collections.abc import Sequence

from harness.kernel.steps import OPS, Step, walk

__all__ = ["HOWS", "always_ends", "can_end", "ending_of", "may_raise"]

# How a stage can end; `raise` stands for whatever it may raise.
HOWS = ("ok", "fail", "skip", "cancelled", "cancel_run", "cancel_branch", "raise")


def ending_of(steps: Sequence[Step], ends: frozenset[str]) -> str:
    """Say where the end of a stage is to be noted: in "finally" if only that it ends matters,
    "in place" where each end that matters is a statement of its own with nothing after it, or
    by what is put "around" it; "guarded" is in place as well, with what it may raise caught."""
    if not ends:
        return "finally" if any(_may_wait(one) for one in steps) else "in place"
    if _blocks_the_end(steps):
        return "around"
    if "cancelled" in ends and any(_may_wait(one) for one in steps):
        return "guarded"
    return "guarded" if "raise" in ends and may_raise(steps) else "in place"


def may_raise(steps: Sequence[Step]) -> bool:
    """Say whether an exception can come out of a block other than by saying so there; that it was
    cancelled is none."""
    return any(_may_raise(one) for one in steps)


def _blocks_the_end(steps: Sequence[Step]) -> bool:
    """Say whether a stage can end where something still happens after its last statement."""
    if any(one.op == "spawn" for one in walk(steps)):
        return True  # what a task of its own ends with is no end of the stage
    for i, one in enumerate(steps):
        if one.op == "acquire":  # its cleanup comes after whatever ends the stage
            return True
        if one.op == "spawn" and can_end(steps[i + 1 :]):
            return True
        if OPS[one.op].ends:
            return False
        if any(f.shape in ("block", "blocks") for f in OPS[one.op].fields.values()) and (
            one.op == "spawn" or can_end([one])
        ):
            return True
    return False


def _may_wait(one: Step) -> bool:
    """Say whether a cancellation can come out of a step."""
    if one.op in ("raise", "flaky"):
        return bool(one.args["error"] == "CancelledError")
    return one.op not in (
        "ok",
        "fail",
        "skip",
        "cancel_run",
        "cancel_branch",
        "emit",
        "read",
        "log",
    )


def _may_raise(one: Step) -> bool:
    """Say whether an exception can come out of a step other than by saying so there."""
    if one.op == "using" and not one.args["fails"]:
        inner = one.args["steps"]
        return may_raise(inner) or any(step.op in ("raise", "flaky") for step in walk(inner))
    if one.op in ("call", "subpipeline", "parallel", "spawn", "timeout", "swallow", "using"):
        return True
    if one.op in (
        "allocate",
        "generate",
        "heartbeat",
        "context",
        "store",
        "trespass",
        "compensate",
    ):
        return True
    return one.op in ("acquire", "read", "input", "emit", "flood", "mutate")


def can_end(steps: Sequence[Step]) -> bool:
    """Say whether a block can end its stage by a verdict (raising is no verdict)."""
    for one in steps:
        if (OPS[one.op].ends and one.op != "raise") or one.op == "chunk":
            return True  # a chunk that nobody takes ends its stage
        # What a spawned task or a subpipeline ends with is no verdict of this stage.
        if one.op in ("spawn", "subpipeline"):
            continue
        for name, field in OPS[one.op].fields.items():
            if field.shape == "block" and can_end(one.args[name]):
                return True
            if field.shape == "blocks" and any(can_end(b) for b in one.args[name]):
                return True
    return False


def always_ends(steps: Sequence[Step]) -> bool:
    """Say whether a block never runs off its end."""
    for one in steps:
        if OPS[one.op].ends:
            return True
        if one.op == "using" and always_ends(one.args["steps"]):
            return True
    return False
