"""Timeouts of stages: TIME."""

from __future__ import annotations

from collections.abc import Sequence

from harness.contract.scripts.running import left_running
from harness.contract.scripts.source import EVERY_END, SLACK_S, SOON_S, one_run, shortest, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal
from harness.kernel.steps import Step

WAITS = ("sleep", "yield", "never", "input", "emit", "log", "read", "chunk", "identify")

__all__ = ["time_1", "time_2", "time_3", "time_4", "time_5"]


def _limits(program: Program, plan: Plan) -> dict[str, float]:
    limits = {
        s.name: s.timeout_s if s.timeout_s is not None else plan.stage_timeout_s
        for s in program.stages
    }
    return {stage: limit for stage, limit in limits.items() if limit is not None}


def time_1(program: Program, plan: Plan, shape: str) -> str | None:
    """Each stage that sleeps past its timeout is ended at it, and is named."""
    limits = {stage: limit for stage, limit in _limits(program, plan).items() if limit > 0}
    if not limits or not one_run(plan):
        return None
    swallows = any(one.op == "swallow" for _, one in program.walk())
    stubborn = 'stubborn = [stage for _, stage, kind, _ in seen if kind == "swallowed"]'
    excused = " and stage not in stubborn" if swallows else ""
    times = (
        f"limits = {literal(limits)}  # seconds",
        'begun = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
        'ended = {stage: at for at, stage, kind, _ in seen if kind == "stage.end"}',
        *((stubborn,) if swallows else ()),
        "for stage in begun.keys() & limits:",
        "    limit, ran = limits[stage], ended.get(stage, took) - begun[stage]",
    )
    if shape == "late":
        return source(
            *times,
            f"    if ran > limit + {SLACK_S}{excused}:",
            '        return f"stage {stage} ran for {ran:.2f} s; its timeout is {limit} s"',
            "return None",
        )
    if shape == "not-called-timeout":
        return source(
            f"limits = {literal(limits)}  # seconds",
            "said = repr(error).lower()",
            'begun = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
            "for at, stage, kind, how in seen:",
            '    if kind == "stage.end" and how == "cancelled" and stage in limits:',
            "        over = at - begun[stage] > limits[stage] - 0.05",
            '        if over and "timeout" not in said and "timed out" not in said:',
            '            return f"the timeout of stage {stage} is reported as: {error!r}"',
            "return None",
        )
    if shape not in ("stage-not-named", "timeout-not-named"):
        return None
    return source(
        *times,
        f'    if ran > limit - 0.05 and stage not in f"{{error}} {{results}}"{excused}:',
        '        return f"the timeout of stage {stage} is reported as: {error!r}"',
        "return None",
    )


def time_2(program: Program, plan: Plan, shape: str) -> str | None:
    """No stage is cut before its timeout where nothing else ends it."""
    limits = {stage: limit for stage, limit in _limits(program, plan).items() if limit > 0}
    calm = (*WAITS, "ok", "acquire", "cleanup")
    quiet = all(one.op in calm and not one.args.get("fails") for _, one in program.walk())
    if shape != "ended-early" or not limits or not one_run(plan) or not quiet or plan.layers:
        return None
    if plan.cancels or plan.consumer or len(set(limits.values())) > 1:
        return None  # a caller, or the timeout of another stage, may have ended it
    limit = min(limits.values())
    return source(
        'begun = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
        f"due = min(begun.values(), default=0.0) + {limit - 0.01:g}  # none is before",
        "for at, stage, kind, how in seen:",
        '    if kind == "stage.end" and how == "cancelled" and at < due:',
        f'        return f"{{stage}} was cut at {{at:.2f}} s; its timeout is {limit:g} s"',
        "return None",
    )


def time_3(program: Program, plan: Plan, shape: str) -> str | None:
    """No sibling of a stage that timed out is running when the run is over, nor does it go on to
    its own end where it is to be cancelled."""
    if shape == "sibling-left-running":
        return left_running(program, plan)
    limits = _limits(program, plan)
    if shape != "sibling-not-cancelled" or not limits or not one_run(plan):
        return None
    over = [name for name in limits if _outlives(program.stage(name).steps, limits[name])]
    if over and all(one.op in (*WAITS, "ok", "cleanup") for _, one in program.walk()):
        # Each of these ends by its timeout, if it is not ended before: it waits for longer.
        due = {name: round(limits[name] - SOON_S, 6) for name in over}
        return source(
            f"due = {literal(due)}  # seconds after which only its timeout ends a stage",
            'begun = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
            'ended = {stage: at for at, stage, kind, _ in seen if kind == "stage.end"}',
            "timed = [at for one, at in ended.items() if at - begun[one] > due.get(one, took)]",
            "since = min(timed, default=took)",
            "for stage in begun:",
            "    late = ended.get(stage, took) - since",
            f"    if begun[stage] < since and late > {SOON_S}:",
            '        return f"{stage} ran on for {late:.2f} s after the timeout of its sibling"',
            "return None",
        )
    lines = (
        f"limits = {literal(limits)}  # seconds",
        'begun = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
        'ends = [(at, stage, how) for at, stage, kind, how in seen if kind == "stage.end"]',
        EVERY_END,
        'cut = [(at, stage) for at, stage, how in ends if how == "cancelled" and stage in limits]',
        "timed = [at for at, stage in cut if at - begun[stage] > limits[stage] - 0.05]",
    )
    if all(_lets_itself_be_cut(one) for _, one in program.walk()):
        return source(
            *lines,
            "ended = {stage: at for at, stage, _ in ends}",
            "for stage in begun:",
            "    late = ended.get(stage, took) - min([*timed, took])",
            f"    if timed and begun[stage] < timed[0] and late > {SOON_S}:",
            '        return f"{stage} ran on for {late:.2f} s after the timeout of its sibling"',
            "return None",
        )
    return source(
        *lines,
        "for at, stage, how in ends:",
        f'    if timed and how != "cancelled" and begun[stage] < timed[0] < at - {SLACK_S}:',
        '        return f"{stage} ran on for {at - timed[0]:.2f} s after the timeout, to its end"',
        "return None",
    )


def _outlives(steps: Sequence[Step], limit: float) -> bool:
    """Say whether a stage lasts longer than a limit, in seconds, beyond doubt."""
    lasts = sum(shortest(one.args["seconds"]) for one in steps if one.op == "sleep")
    return lasts > limit + SOON_S or any(one.op == "never" for one in steps)


def _lets_itself_be_cut(one: Step) -> bool:
    """Say whether a step ends at once when it is cancelled."""
    return one.op in (*WAITS, "ok", "fail", "raise", "skip", "cancel_run", "cleanup")


def time_4(program: Program, plan: Plan) -> str | None:
    """A TimeoutError of the stage's own is not reported as the engine's timeout."""
    own = any(s.op == "raise" and s.args["error"] == "TimeoutError" for _, s in program.walk())
    if not own or not one_run(plan):
        return None
    return source(
        "own = [stage for _, stage, kind, how in seen"
        ' if kind == "stage.end" and how == "raise:TimeoutError"]',
        'text = f"{error} {results}"',
        'if own and "timed out after" in text:',
        '    return f"a TimeoutError raised by stage {own[0]} itself is told as: {text}"',
        "return None",
    )


def time_5(program: Program, plan: Plan) -> str | None:
    """A timeout that is no positive number is refused; one of zero may end the stage at once."""
    odd = [t for t in _limits(program, plan).values() if not t > 0]
    if not odd:
        return None
    if any(t != 0 for t in odd):
        return source(
            'if any(kind == "run.begin" for _, _, kind, _ in seen):',
            '    ran = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
            f'    return f"run with a timeout of {odd[0]} s: stages {{ran}}, then: {{error!r}}"',
            "return None",
        )
    return source(
        'ran = [at for at, _, kind, how in seen if kind == "stage.end" and how == "ok"]',
        "if ran and ran[-1] > 0.02:",
        '    return f"the stage ran to its end, {ran[-1]:.2f} s, with a timeout of zero"',
        "return None",
    )
