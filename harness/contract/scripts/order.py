"""Graphs, the order of stages, and their retries: GRAPH-1, GRAPH-2, RETRY-1."""

from __future__ import annotations

from collections.abc import Iterable

from harness.contract.scripts.source import (
    EVERY_END,
    SOON_S,
    always_fails,
    caller_is_told,
    one_run,
    ops,
    several,
    soon_s,
    source,
)
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal
from harness.kernel.steps import walk

__all__ = ["graph_1", "graph_2", "retry_1"]


def graph_1(program: Program, _plan: Plan) -> str | None:
    """The fault of the graph is refused when it is built, not at run time."""
    faults = program.faults()
    if not faults:
        return None
    return source(
        f"# The pipeline has this fault: {faults[0]}",
        'if any(kind == "run.begin" for _, _, kind, _ in seen):',
        '    ran = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        '    return f"the pipeline was built; stages that ran: {ran}; then: {error!r}"',
        "return None",
    )


def graph_2(program: Program, plan: Plan) -> str | None:
    """No stage starts before, or in spite of the failure of, what it depends on."""
    needs = {s.name: list(s.needs) for s in program.stages if s.needs}
    needed = {need for names in needs.values() for need in names}
    # What becomes of those that need a stage which its layer refused is GRAPH-5's.
    kept_out = any(
        one.kind != "observe" and (not one.stages or needed.intersection(one.stages))
        for one in plan.layers
    )
    skips = any(one.op == "cancel_branch" for _, one in program.walk())
    if not needs or kept_out or skips or any(run.redrives for run in plan.runs):
        return None
    one = one_run(plan)
    ends = 'how in ("ok", "skip")' if "skip" in ops(program) else 'how == "ok"'
    pair = len(needs) == 1 == len(*needs.values()) and "skip" not in ops(program)
    if pair and not one:
        ((stage, (need,)),) = needs.items()
        return source(
            "rows = [(stage, kind, how) for _, stage, kind, how in seen]",
            f"for run in {literal([run.id for run in plan.runs])}:",
            f'    begun, done = (f"{{run}}/{stage}", "stage.start", None), '
            f'(f"{{run}}/{need}", "stage.end", "ok")',
            "    if begun in rows and done not in rows[: rows.index(begun)]:",
            f'        return f"stage {stage} of {{run}} started before {need} had completed"',
            "return None",
        )
    if pair:
        ((stage, (need,)),) = needs.items()
        return source(
            "rows = [(stage, kind, how) for _, stage, kind, how in seen]",
            f'begun, done = ("{stage}", "stage.start", None), ("{need}", "stage.end", "ok")',
            "if begun in rows and done not in rows[: rows.index(begun)]:",
            f'    return "stage {stage} started before stage {need} had completed"',
            "return None",
        )
    need, name = ("need", "stage") if one else ('f"{run}/{need}"', "name")
    return source(
        f"needs = {literal(needs)}",
        "done = set()",
        "for _, stage, kind, how in seen:",
        *(() if one else ('    run, _, name = stage.partition("/")',)),
        f"    missing = [need for need in needs.get({name}, ()) if {need} not in done]",
        '    if kind == "stage.start" and missing:',
        '        return f"stage {stage} started; not completed before it: {missing}"',
        f'    if kind == "stage.end" and {ends}:',
        "        done.add(stage)",
        "return None",
    )


def retry_1(program: Program, plan: Plan, shape: str) -> str | None:
    """Each stage is tried as often as declared, with the declared waits, and no more."""
    retries = {s.name: s.retry for s in program.stages if s.retry is not None}
    if retries and several(plan) and shape == "retried-after-run":
        return _after_their_runs(plan, retries)
    if not retries or not one_run(plan):
        return None
    if shape == "retried-after-cancel":
        return _after_the_end(program, plan)
    attempts = {name: retry.attempts for name, retry in retries.items()}
    if shape == "too-many":
        return source(
            f"attempts = {literal(attempts)}  # declared",
            'begun = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
            "for stage, most in attempts.items():",
            "    if begun.count(stage) > most:",
            '        return f"stage {stage} was tried {begun.count(stage)} times, not {most}"',
            "return None",
        )
    if shape == "too-few":
        return _too_few(program, plan, attempts)
    if shape == "success-lost":
        return _success_lost(program, plan)
    if shape == "backoff-short":
        waits = {name: (retry.backoff_s, retry.factor) for name, retry in retries.items()}
        return source(
            f"waits = {literal(waits)}  # seconds of the first, factor",
            "for stage, (first, factor) in waits.items():",
            "    rows = [(at, kind) for at, one, kind, _ in seen if one == stage]",
            '    begun = [at for at, kind in rows if kind == "stage.start"]',
            '    ended = [at for at, kind in rows if kind == "stage.end"]',
            "    for i, (end, begin) in enumerate(zip(ended, begun[1:])):",
            "        if begin - end < first * factor**i - 0.01:",
            '            return f"stage {stage} was tried again after {begin - end:.3f} s"',
            "return None",
        )
    return _rerun(program, plan) if shape in ("completed-rerun", "called-off-rerun") else None


def _too_few(program: Program, plan: Plan, attempts: dict[str, int]) -> str | None:
    """Return the check that a stage that goes on failing is tried as often as declared, where
    nothing else ends the run and no timeout may have ended an attempt."""
    timed = plan.stage_timeout_s is not None or any(s.timeout_s for s in program.stages)
    if plan.cancels or timed:
        return None
    if len(program.stages) == 1 and always_fails(program, plan, program.names[0]):
        (name,), (most,) = program.names, attempts.values()
        return source(
            'tries = [kind for _, _, kind, _ in seen].count("stage.end")',
            f"if tries < {most}:",
            f'    return f"stage {name} failed and was tried {{tries}} of {most} times"',
            "return None",
        )
    return source(
        f"attempts = {literal(attempts)}  # declared",
        'ends = [(stage, how) for _, stage, kind, how in seen if kind == "stage.end"]',
        EVERY_END,
        'good = [stage for stage, how in ends if how == "ok"]',
        "failed = {stage for stage, _ in ends} - set(good)",
        "for stage, most in attempts.items():",
        "    tries = [one for one, _ in ends].count(stage)",
        "    if failed == {stage} and tries < most:",
        '        return f"stage {stage} failed and was tried {tries} of {most} times"',
        "return None",
    )


def _success_lost(program: Program, plan: Plan) -> str | None:
    """Return the check that a run in which every stage succeeded at last does not fail."""
    timed = plan.stage_timeout_s is not None or any(s.timeout_s for s in program.stages)
    if timed or plan.layers or "subpipeline" in ops(program):
        return None
    caller_is_told(plan)
    return source(
        'ends = [(stage, how) for _, stage, kind, how in seen if kind == "stage.end"]',
        EVERY_END,
        "last = dict(ends)",
        f'fine = len(last) == {len(program.stages)} and set(last.values()) <= {{"ok", "skip"}}',
        "if fine and error is not None:",
        '    return f"every stage ended well at last: {ends}; the caller was told: {error!r}"',
        "return None",
    )


def _after_the_end(program: Program, plan: Plan) -> str:
    """Return the check that nothing is tried again once the run is cancelled, over, or ended by
    another stage."""
    once = [s.name for s in program.stages if s.retry is None]
    retried = [s.name for s in program.stages if s.retry is not None]
    others_fail = any(_may_fail(program, plan, name) for name in once)
    soon = min(0.02, soon_s(program))
    if len(retried) == 1 and not others_fail and "cancel_run" not in ops(program):
        begun = f'(stage, kind) == ("{retried[0]}", "stage.start")'
        if retried == [s.name for s in program.stages]:
            begun = 'kind == "stage.start"'
        # A cancel that comes too late is noted after the end.
        return source(
            f"begun = [at for at, {'stage' if 'stage,' in begun else '_'}, kind, _ in seen"
            f" if {begun}]",
            'ends = [at for at, _, kind, _ in seen if kind in ("cancel.sent", "run.end")]',
            f"if begun and ends and begun[0] < ends[0] < begun[-1] - {soon!r}:",
            '    return f"it was tried again {begun[-1] - ends[0]:.2f} s after the end"',
            "return None",
        )
    once = [name for name in once if _may_fail(program, plan, name)]
    if len(retried) == len(once) == 1 and _at_once(program, plan, *once, *retried):
        first, again = f'("{once[0]}", "stage.end")', f'("{retried[0]}", "stage.start")'
        return source(
            "order = [(stage, kind) for _, stage, kind, _ in seen]",
            f"failed, again = {first}, {again}",
            "if failed in order and order[-1] == again and order.count(again) > 1:",
            f'    return f"{retried[0]} was tried again after {once[0]} had failed: {{order}}"',
            "return None",
        )
    ends = ['kind == "run.end"']
    ends += ['kind == "cancel.sent" and how[1]'] if plan.cancels else []
    asks = "cancel_run" in ops(program)
    ends += ['kind == "stage.end" and how == "cancel_run"'] if asks else []
    if plan.on_failure == "cancel" and others_fail:
        failed = 'kind == "stage.end" and how.split(":")[0] in ("fail", "raise")'
        ends.append(f"{failed} and stage in {literal(once)}")
    final = " or ".join(f"({one})" if " and " in one and len(ends) > 1 else one for one in ends)
    name = "stage" if "stage in" in final else "_"
    return source(
        f"final = [at for at, {name}, kind, how in seen if {final}]",
        "tried = set()",
        "for at, stage, kind, _ in seen:",
        f'    if kind == "stage.start" and stage in tried and final and at > final[0] + {soon!r}:',
        '        return f"stage {stage} was tried again {at - final[0]:.2f} s after the end"',
        '    if kind == "stage.start":',
        "        tried.add(stage)",
        "return None",
    )


def _at_once(program: Program, plan: Plan, name: str, retried: str) -> bool:
    """Say whether all that a stage does is to fail, at once, long before another is due to be
    tried again."""
    retry, steps = program.stage(retried).retry, program.stage(name).steps
    fails = len(steps) == 1 and steps[0].op in ("raise", "fail")
    waits = retry is not None and retry.backoff_s >= SOON_S
    ends = plan.cancels or program.stage(name).needs or plan.layers or "cancel_run" in ops(program)
    return fails and waits and plan.on_failure == "cancel" and not ends


def _after_their_runs(plan: Plan, retried: Iterable[str]) -> str:
    """Return the check that nothing is tried again in any of several runs that is over."""
    (stage, *more) = retried
    begun = (
        'mine[-1][1] == "stage.start"'
        if more
        else f'mine[-1] == (f"{{run}}/{stage}", "stage.start")'
    )
    return source(
        "rows = [(stage, kind) for _, stage, kind, _ in seen]",
        f"for run in {literal([run.id for run in plan.runs])}:",
        '    mine = [one for one in rows if one[0].startswith(f"{run}/")]',
        f'    if (f"{{run}}/", "run.end") in mine and {begun}:',
        '        return f"a stage was tried again after run {run} was over: {mine}"',
        "return None",
    )


def _may_fail(program: Program, plan: Plan, name: str) -> bool:
    calm = ("sleep", "yield", "input", "emit", "log", "acquire", "using", "cleanup", "ok")
    steps = list(walk(program.stage(name).steps))
    return bool(plan.faults) or any(s.op not in calm or s.args.get("fails") for s in steps)


def _rerun(program: Program, plan: Plan) -> str:
    """Return the check that what ended well, or for good, is not tried again."""
    # Whether an attempt is tried again that a timeout ended is the engine's choice.
    timed = plan.stage_timeout_s is not None or any(s.timeout_s for s in program.stages)
    last = ("ok", "skip", "cancel_run", "cancel_branch", *(() if timed else ("cancelled",)))
    retried = [s.name for s in program.stages if s.retry is not None]
    mine = f" and stage in {literal(retried)}" if "subpipeline" in ops(program) else ""
    return source(
        "done = {}",
        "for _, stage, kind, how in seen:",
        '    if kind == "stage.start" and stage in done:',
        '        return f"stage {stage} ended {done[stage]} and was tried again"',
        f'    if kind == "stage.end" and how in {literal(last)}{mine}:',
        "        done[stage] = how",
        "return None",
    )
