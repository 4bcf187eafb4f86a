"""What is still running when a run is over, and what its caller is told: TIME, CANCEL, CLEAN-5."""

from __future__ import annotations

from harness.contract.scripts.source import SLACK_S, lets_go, one_run, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["cancel_3", "cancel_4", "clean_5", "left_running"]


def _left_running(program: Program, plan: Plan) -> tuple[str, ...]:
    if not lets_go(program, plan):
        return ("if left:", '    return f"still running when the run was over: {left}"')
    return (
        'running = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        "for _, stage, kind, _ in seen:",
        '    if kind == "stage.end":',
        "        running.remove(stage)",
        "# One that swallows its cancellation, or whose cleanup outlasts the grace, is let go.",
        'over = min([at for at, _, kind, _ in seen if kind == "run.end"], default=took)',
        'stubborn = {stage for at, stage, kind, _ in seen if kind == "swallowed"',
        f'            or kind == "release.begin" and over - at > {plan.cleanup_grace_s!r} - 0.05}}',
        "running = [stage for stage in running if stage not in stubborn]",
        "if running:",
        '    return f"still running when the run was over: {running}"',
    )


def left_running(program: Program, plan: Plan) -> str | None:
    """No stage is running when the run is over."""
    return source(*_left_running(program, plan), "return None") if one_run(plan) else None


def clean_5(program: Program, plan: Plan) -> str | None:
    """Nothing is running when the run is over, and no exception was left unfetched."""
    if not one_run(plan):
        return None
    return source(
        *_left_running(program, plan),
        'lost = [one for one in unretrieved if "never retrieved" in one]',
        "if lost:",
        '    return f"exceptions that nobody fetched: {lost}"',
        "return None",
    )


def cancel_3(program: Program, plan: Plan) -> str | None:
    """A cancelled run leaves nothing running, and its caller sees `CancelledError`."""
    if not one_run(plan):
        return _cancel_3_of_several(plan)
    return source(
        *_left_running(program, plan),
        'accepted = any(kind == "cancel.sent" and sent[1] for _, _, kind, sent in seen)',
        "if accepted and not isinstance(error, asyncio.CancelledError):",
        '    return f"cancel() was accepted, but what the caller then saw was: {error!r}"',
        "return None",
    )


def _cancel_3_of_several(plan: Plan) -> str | None:
    """Judge only the runs that are cancelled, each at its own end."""
    runs = [cancel.run for cancel in plan.cancels]
    if not runs:
        return None
    return source(
        f"cancelled = {runs!r}  # the run of each cancel",
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


def cancel_4(_program: Program, plan: Plan) -> str | None:
    """The run ends within the grace although a stage swallows its cancellation."""
    grace = plan.cleanup_grace_s
    if not one_run(plan):
        return None
    told: tuple[str, ...] = ()
    if not plan.cancels:  # who cancels a run is told nothing
        told = (
            'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]',
            'running = [one for _, one, kind, _ in seen if kind == "stage.start"',
            "           and one not in ended]",
            "text = f\"{error!r} {getattr(error, '__dict__', None)} {outputs}\"",
            "if asked and any(stage not in text for stage in running):",
            '    return f"still running: {running}; the caller was told: {error!r}"',
        )
    return source(
        'asked = [at for at, _, kind, _ in seen if kind == "swallowed"]',
        f"if asked and took > asked[0] + {grace + SLACK_S!r}:",
        '    return f"the run ended {took - asked[0]:.2f} s after it was told to: {error!r}"',
        *told,
        "return None",
    )
