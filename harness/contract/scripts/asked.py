"""A stage that asks to end its run, and as what the end of a run is told: CANCEL-1, CANCEL-7."""

from __future__ import annotations

from harness.contract.scripts.running import left_running
from harness.contract.scripts.source import (
    EVERY_END,
    SLACK_S,
    always_fails,
    caller_is_told,
    one_run,
    ops,
    soon_s,
    source,
)
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

__all__ = ["cancel_1", "cancel_7"]

ENDS = 'ends = [(at, stage, how) for at, stage, kind, how in seen if kind == "stage.end"]'
ASKED = 'asked = [at for at, _, how in ends if how == "cancel_run"]'


def cancel_1(program: Program, plan: Plan, shape: str) -> str | None:
    """Once a stage has asked to end the run, nothing starts or goes on, the reason is given, and
    what had completed can be reached."""
    if shape == "stage-left-running":
        return left_running(program, plan)
    if not one_run(plan) or plan.layers:
        return None
    caller_is_told(plan)
    if shape == "stage-started-after":
        return source(
            "rows = [(at, stage, kind) for at, stage, kind, _ in seen]",
            '# Ends that are noted are by "cancel_run".',
            'asked = min([at for at, _, kind in rows if kind == "stage.end"], default=1e9)',
            'late = [stage for at, stage, kind in rows if kind == "stage.start"'
            f" and at > asked + {soon_s(program)!r}]",
            "if late:",
            '    return f"started after a stage had asked to end the run: {late}"',
            "return None",
        )
    if shape == "stage-not-cancelled":
        return source(
            ENDS,
            ASKED,
            EVERY_END,
            'own = [one for one in ends if one[2] not in ("cancelled", "cancel_run")]',
            f"late = [stage for at, stage, _ in own if asked and at > asked[0] + {SLACK_S}]",
            "if late:",
            '    return f"ran on to their end after a stage had asked to end the run: {late}"',
            "return None",
        )
    if shape == "outputs-lost":
        mine = (
            f" and stage in {literal(list(program.names))}" if "subpipeline" in ops(program) else ""
        )
        return source(
            ENDS,
            ASKED,
            "done = [stage for at, stage, how in ends"
            f' if how == "ok" and asked and at < asked[0] - 0.01{mine}]',
            "lost = [stage for stage in done if stage not in outputs]",
            "if lost:",
            '    return f"completed, and lost to the caller: {lost}; what it got: {error!r}"',
            "return None",
        )
    if shape != "reason-lost":
        return None
    reasons = [
        str(one.args["reason"]).split("$marker")[0]
        for _, one in program.walk()
        if one.op == "cancel_run"
    ]
    return source(
        'asked = [kind for _, _, kind, how in seen if kind == "stage.end" and how == "cancel_run"]',
        'told = f"{error!r} {results}"',
        f"if asked and not any(one in told for one in {literal(sorted(set(reasons)))}):",
        '    return f"the reason is not given; the caller was told: {told[:200]}"',
        "return None",
    )


def cancel_7(program: Program, plan: Plan, shape: str) -> str | None:
    """A run that failed is told as failed, and one that a stage has ended as cancelled."""
    if not one_run(plan) or plan.layers:
        return None
    caller_is_told(plan)
    if "subpipeline" in ops(program):
        return None
    ends = 'ends = [how for _, _, kind, how in seen if kind == "stage.end"]'
    failed = 'failed = [how for how in ends if how.startswith(("fail", "raise:"))]'
    if shape == "failed-as-cancelled":
        return source(
            ends,
            failed,
            'if failed and "cancel_run" not in ends and "cancel" in type(error).__name__.lower():',
            '    return f"stages failed: {failed}; the caller was told: {error!r}"',
            "return None",
        )
    if shape == "failed-as-ok":
        retried = any(stage.retry for stage in program.stages)
        if retried or not any(always_fails(program, plan, name) for name in program.names):
            return None
        return source(
            ends,
            failed,
            'well = error is None and "fail" not in str(results)',
            'if failed and "cancel_run" not in ends and well:',
            '    return f"stages failed: {failed}; the caller was told: {results}"',
            "return None",
        )
    if shape != "cancelled-as-failed":
        return None
    return source(
        ends,
        failed,
        "told = type(error).__name__.lower()",
        'if "cancel_run" in ends and not failed and error and "cancel" not in told:',
        '    return f"a stage asked to end the run; the caller was told: {error!r}"',
        "return None",
    )
