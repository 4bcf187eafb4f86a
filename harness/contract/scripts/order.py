"""Graphs, the order of stages, and their retries: GRAPH-1, GRAPH-2, RETRY-1."""

from __future__ import annotations

from harness.contract.scripts.source import one_run, ops, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

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
    answered = any(one.kind == "idempotency" for one in plan.layers)
    skips = any(one.op == "cancel_branch" for _, one in program.walk())
    if not needs or answered or skips or any(run.redrives for run in plan.runs):
        return None
    one = one_run(plan)
    need = "need" if one else 'f"{run}/{need}"'
    ends = 'how in ("ok", "skip")' if "skip" in ops(program) else 'how == "ok"'
    return source(
        f"needs = {needs!r}",
        "done = set()",
        "for _, stage, kind, how in seen:",
        *(() if one else ('    run, _, name = stage.partition("/")',)),
        '    if kind == "stage.start":',
        f"        due = needs.get({'stage' if one else 'name'}, ())",
        f"        missing = [need for need in due if {need} not in done]",
        "        if missing:",
        '            return f"stage {stage} started; not completed before it: {missing}"',
        f'    if kind == "stage.end" and {ends}:',
        "        done.add(stage)",
        "return None",
    )


def retry_1(program: Program, plan: Plan) -> str | None:
    """Each stage is tried as often as declared, with the declared waits, and no more."""
    retries = {
        s.name: (s.retry.attempts, s.retry.backoff_s, s.retry.factor)
        for s in program.stages
        if s.retry is not None
    }
    if not retries or not one_run(plan):
        return None
    # Whether an attempt is tried again that a timeout ended is the engine's choice.
    timed = plan.stage_timeout_s is not None or any(s.timeout_s for s in program.stages)
    last = ("ok", "skip", "cancel_run", "cancel_branch", *(() if timed else ("cancelled",)))
    return source(
        f"retries = {retries!r}  # stage -> attempts, seconds of the first wait, factor",
        "begins, ends, final = {}, {}, []",
        "for at, stage, kind, how in seen:",
        '    if kind == "cancel.sent" and how[1]:',
        '        final.append((at + 0.02, "", "the caller cancelled the run"))',
        '    if kind == "run.end":',
        '        final.append((at, "", "the run was over"))',
        '    if kind == "stage.start":',
        "        begins.setdefault(stage, []).append(at)",
        '    if kind == "stage.end":',
        "        ends.setdefault(stage, []).append((at, how))",
        '        failed = how == "fail" or how.startswith("raise:")  # not "cancelled", or "ok"',
        "        last = len(ends[stage]) == retries.get(stage, (1,))[0]",
        *(
            (
                '        if how == "cancel_run" or (failed and last):',
                '            final.append((at + 0.02, stage, f"stage {stage} had ended {how}"))',
            )
            if plan.on_failure == "cancel"
            else (
                '        if how == "cancel_run":',
                '            final.append((at + 0.02, stage, f"stage {stage} had ended {how}"))',
            )
        ),
        "for stage, (attempts, backoff, factor) in retries.items():",
        "    begun = begins.get(stage, [])",
        "    if len(begun) > attempts:",
        '        return f"stage {stage} was tried {len(begun)} times; declared: {attempts}"',
        "    for since, by, why in final:",
        "        late = [at - since for at in begun[1:] if at > since]",
        "        if late and by != stage:",
        '            return f"stage {stage} was tried again {late[0]:.2f} s after {why}"',
        "    for number, (at, how) in enumerate(ends.get(stage, []), 1):",
        f"        if how in {last!r}:",
        "            if len(begun) > number:",
        '                return f"stage {stage} ended {how} and was tried again"',
        "        elif len(begun) == number and number < attempts:",
        *(
            ("            pass  # the cancel may have come first",)
            if plan.cancels
            else (
                '            others = [n for n, one in ends.items() if one[-1][1] != "ok"]',
                "            if others == [stage]:",
                '                text = f"tried {number} of {attempts} times"',
                '                return f"stage {stage} failed and was {text}"',
            )
        ),
        "        elif len(begun) > number:",
        "            wait = begun[number] - at",
        "            if wait < backoff * factor ** (number - 1) - 0.01:",
        '                return f"stage {stage} was tried again {wait:.3f} s after it failed"',
        "return None",
    )
