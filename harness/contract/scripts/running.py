"""What is still running when a run is over, and what its caller is told: TIME, CANCEL, CLEAN-5."""

from __future__ import annotations

import math

from harness.contract.scripts.source import (
    SLACK_S,
    Untold,
    caller_is_told,
    every_step,
    lets_go,
    longest,
    one_run,
    ops,
    source,
)
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal
from harness.kernel.steps import Step, walk

__all__ = ["cancel_3", "cancel_4", "clean_5", "left_running"]


def _left_running(program: Program, plan: Plan) -> tuple[str, ...]:
    if not lets_go(program, plan):
        return ("if left:", '    return f"still running when the run was over: {left}"')
    return (
        *_stubborn(program, plan),
        'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"] + stubborn',
        'begun = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        "running = [stage for stage in begun if stage not in ended]",
        "if running:",
        '    return f"still running when the run was over: {running}"',
    )


def _stubborn(program: Program, plan: Plan) -> tuple[str, ...]:
    """Return the lines that name the stages that an engine may let go."""
    swallows = any(one.op == "swallow" for one in every_step(program))
    holds = any("cleanup_s" in one.args for one in every_step(program))
    if not holds:
        return (
            "# One that swallows its cancellation is let go.",
            'stubborn = [stage for _, stage, kind, _ in seen if kind == "swallowed"]',
        )
    late = f'kind == "release.begin" and over - at > {plan.cleanup_grace_s - 0.05!r}'
    condition = f'kind == "swallowed" or {late}' if swallows else late
    return (
        "# One whose cleanup outlasts the grace, or that swallows its cancellation, is let go.",
        'over = min([at for at, _, kind, _ in seen if kind == "run.end"], default=took)',
        f"stubborn = [stage for at, stage, kind, _ in seen if {condition}]",
    )


def left_running(program: Program, plan: Plan) -> str | None:
    """No stage is running when the run is over."""
    return source(*_left_running(program, plan), "return None") if one_run(plan) else None


def clean_5(program: Program, plan: Plan, shape: str) -> str | None:
    """Nothing is running when the run is over, and no exception was left unfetched."""
    if not one_run(plan):
        return _clean_5_of_several(program, plan, shape)
    if shape == "exception-unretrieved":
        return source(
            'lost = [one for one in unretrieved if "never retrieved" in one]',
            "if lost:",
            '    return f"exceptions that nobody fetched: {lost}"',
            "return None",
        )
    if lets_go(program, plan):
        return left_running(program, plan)
    return source("if strays:", '    return f"still there when the run was over: {strays}"')


def _clean_5_of_several(program: Program, plan: Plan, shape: str) -> str | None:
    """Return the check that nothing is there when the last of several runs is over."""
    if shape == "exception-unretrieved" or lets_go(program, plan) or plan.cancels:
        return None
    return source(
        'if strays and "start" not in strays:  # all runs are over',
        '    return f"still there when the last run was over: {strays}"',
    )


def cancel_3(program: Program, plan: Plan, shape: str) -> str | None:
    """A cancelled run leaves nothing running, and its caller sees `CancelledError`."""
    if not one_run(plan):
        return _cancel_3_of_several(plan)
    if shape == "stage-outlived-run":
        return left_running(program, plan)
    return source(
        'sent = [done for _, _, kind, done in seen if kind == "cancel.sent"]',
        "if any(done for _, done in sent) and not isinstance(error, asyncio.CancelledError):",
        '    return f"cancel() was accepted, but what the caller then saw was: {error!r}"',
        "return None",
    )


def _cancel_3_of_several(plan: Plan) -> str | None:
    """Judge only the runs that are cancelled, each at its own end."""
    runs = [cancel.run for cancel in plan.cancels]
    if not runs:
        return None
    return source(
        f"cancelled = {literal(runs)}  # the run of each cancel",
        "running, sent = [], set()",
        "for _, stage, kind, detail in seen:",
        '    run = stage.split("/")[0]',
        '    if kind == "cancel.sent" and detail[1]:',
        "        sent.add(cancelled[detail[0]])",
        '    if kind == "stage.start":',
        "        running.append(stage)",
        '    if kind == "stage.end" and stage in running:',
        "        running.remove(stage)",
        '    if kind == "run.end" and run in sent:',
        '        still = [one for one in running if one.split("/")[0] == run]',
        "        if still:",
        '            return f"still running when their run was over: {still}"',
        '        if detail != "CancelledError":',
        '            return f"cancel() of {run} was accepted; what its caller saw: {detail}"',
        "return None",
    )


def _clings_s(program: Program) -> float:
    """Return for how long, at most, a stage that swallows its cancellation goes on by its sleeps;
    without end if it waits for anything else."""
    clings = [s for s in program.stages if any(one.op == "swallow" for one in walk(s.steps))]
    return max((sum(map(_lasts_s, walk(s.steps))) for s in clings), default=0.0)


def _lasts_s(one: Step) -> float:
    if one.op in ("sleep", "swallow", "input", "ok", "fail", "raise", "skip", "emit", "log"):
        return longest(one.args.get("seconds", 0))
    return math.inf


def cancel_4(program: Program, plan: Plan, shape: str) -> str | None:
    """The run ends within the grace although a stage swallows its cancellation, and who did is
    named."""
    if not one_run(plan):
        return None
    if shape == "grace-exceeded" and _clings_s(program) <= plan.cleanup_grace_s + SLACK_S:
        raise Untold("what is left of the grace exceeded is too short for a real clock")
    if shape != "not-reported":
        return source(
            'asked = [at for at, _, kind, _ in seen if kind == "swallowed"]',
            f"if asked and took > asked[0] + {plan.cleanup_grace_s + SLACK_S!r}:",
            '    return f"the run ended {took - asked[0]:.2f} s after it was told to"',
            "return None",
        )
    caller_is_told(plan)
    text = "text = f\"{error!r} {getattr(error, '__dict__', None)} {results}\""
    clings = {stage.name for stage, one in program.walk() if one.op == "swallow"}
    if len(clings) == 1 and "subpipeline" not in ops(program):
        (stage,) = clings
        asked = f'("{stage}", "swallowed") in rows and ("{stage}", "stage.end") not in rows'
        return source(
            "rows = [(stage, kind) for _, stage, kind, _ in seen]",
            text,
            f'if {asked} and "{stage}" not in text:',
            f'    return f"stage {stage} is still running; the caller was told: {{error!r}}"',
            "return None",
        )
    return source(
        'asked = [stage for _, stage, kind, _ in seen if kind == "swallowed"]',
        'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]',
        "running = [stage for stage in asked if stage not in ended]",
        text,
        "if any(stage not in text for stage in running):",
        '    return f"still running: {running}; the caller was told: {error!r}"',
        "return None",
    )
