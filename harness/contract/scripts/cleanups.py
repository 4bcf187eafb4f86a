"""Cleanups and what they release: CLEAN."""

from __future__ import annotations

from harness.contract.scripts.source import every_step, in_place, lets_go, one_run, several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal
from harness.kernel.steps import Step, walk

__all__ = ["clean_1", "clean_2", "clean_4", "clean_6"]


def _over(plan: Plan) -> tuple[str, ...]:
    """Return lines that say at which place in `seen` each run was over."""
    if one_run(plan):
        return (
            'ends = [i for i, (_, _, kind, _) in enumerate(seen) if kind == "run.end"]',
            "over = ends[0] if ends else len(seen)  # the place at which the run was over",
        )
    return (
        "over = {}  # run -> the place at which it was over",
        "for i, (_, stage, kind, _) in enumerate(seen):",
        '    if kind == "run.end":',
        '        over[stage.split("/")[0]] = i',
    )


def _named_apart(program: Program) -> bool:
    """Say whether each name of a resource stands for one, acquired once in a run."""
    steps = every_step(program)
    holds = ("acquire", "using", "generate", "cleanup")
    names = [one.args["name"] for one in steps if one.op in holds]
    again = any(one.op in ("swallow", "release") for one in steps)
    held = any(one.op == "call" and one.args["holds"] for one in steps)
    retried = any(stage.retry for stage in program.stages)
    return len(set(names)) == len(names) and not again and not held and not retried


def _taken(program: Program) -> str:
    """Return the condition by which a note tells that something was acquired."""
    registers = any(one.op == "cleanup" for one in every_step(program))
    acquires = any(
        one.op == "generate" or (one.op != "cleanup" and "cleanup_s" in one.args)
        for one in every_step(program)
    )
    if registers and acquires:
        return 'kind in ("acquire", "register")'
    return 'kind == "register"' if registers else 'kind == "acquire"'


def _cleanups(program: Program) -> list[Step]:
    return [one for one in every_step(program) if "cleanup_s" in one.args]


def clean_1(program: Program, plan: Plan, shape: str) -> str | None:
    """Everything acquired is released once by the time its run is over."""
    if not _named_apart(program) or lets_go(program, plan):
        return _twice_of_many() if shape == "released-twice" else _held_of_many(plan)
    taken, one = _taken(program), one_run(plan)
    if shape == "released-twice":
        who = ("name", "name") if one else ("(stage, name)", "stage, name")
        return source(
            f'begun = [{who[0]} for _, stage, kind, name in seen if kind == "release.begin"]',
            "twice = [one for one in begun if begun.count(one) > 1]",
            "if twice:",
            '    return f"released more than once: {twice[0]}"',
            "return None",
        )
    if one:
        now = in_place(plan)
        ended = 'over = [*[kind for _, _, kind, _ in seen], "run.end"].index("run.end")'
        upto = "seen" if now else "seen[:over]"
        return source(
            *(() if now else (ended,)),
            f'begun = [name for _, _, kind, name in {upto} if kind == "release.begin"]',
            f"held = [name for _, _, kind, name in {upto} if {taken} and name not in begun]",
            "if held:",
            '    return f"not released when the run was over: {held}"',
            "return None",
        )
    if len(program.stages) == 1 and len(_cleanups(program)) == 1:
        kind = taken.removeprefix("kind == ")
        return source(
            f"for run in {literal([run.id for run in plan.runs])}:",
            '    order = [kind for _, stage, kind, _ in seen if stage.split("/")[0] == run]',
            f'    if order[:2] == [{kind}, "run.end"]:  # "release.begin" is missing between them',
            '        return f"not released when run {run} was over: {order}"',
            "return None",
        )
    return source(
        "held = []",
        "for _, stage, kind, name in seen:",
        f"    if {taken}:",
        "        held.append((stage, name))",
        '    if kind == "release.begin" and (stage, name) in held:',
        "        held.remove((stage, name))",
        '    lost = [one for one in held if kind == "run.end" and one[0].startswith(stage)]',
        "    if lost:",
        '        return f"not released when the run was over: {lost}"',
        "return None",
    )


def _held_of_many(plan: Plan) -> str:
    """Count what is acquired and released under one name; leave out whoever clings to it."""
    over = "over" if one_run(plan) else 'over.get(stage.split("/")[0], len(seen))'
    return source(
        *_over(plan),
        "due, released, stubborn = [], [], set()",
        "for i, (_, stage, kind, name) in enumerate(seen):",
        f"    in_time = i < {over}",
        '    if kind == "swallowed":',
        "        stubborn.add(stage)",
        '    if kind == "stage.end" and in_time:',
        "        stubborn.discard(stage)",
        '    if kind in ("acquire", "register") and in_time:',
        "        due.append((stage, name))",
        '    if kind == "release.begin" and in_time:',
        "        released.append((stage, name))",
        "# What a stage holds that swallows its cancellation is not the engine's to release.",
        "due = [one for one in due if one[0] not in stubborn]",
        "held = [one for one in due if released.count(one) < due.count(one)]",
        "if held:",
        '    return f"not released when the run was over: {held[:3]}"',
        "return None",
    )


def _twice_of_many() -> str:
    return source(
        "acquired, released = [], []",
        "for _, stage, kind, name in seen:",
        '    if kind in ("acquire", "register"):',
        "        acquired.append((stage, name))",
        '    if kind == "release.begin":',
        "        released.append((stage, name))",
        "twice = [one for one in acquired if released.count(one) > acquired.count(one)]",
        "if twice:",
        '    return f"released {released.count(twice[0])} times: {twice[0]}"',
        "return None",
    )


def _cancellations(program: Program, plan: Plan) -> int:
    """Count what may cancel a stage: a caller, a timeout, stages that fail or end the run."""
    limits = plan.stage_timeout_s, *(s.timeout_s or s.idle_timeout_s for s in program.stages)
    ends = [
        one
        for one in every_step(program)
        if one.op in ("fail", "raise", "cancel_run", "flaky", "timeout")
        or one.args.get("fails")
        or one.args.get("error")
    ]
    timed = any(limit is not None for limit in limits)
    return sum(c.times for c in plan.cancels) + timed + len(ends) + len(plan.faults)


def clean_2(program: Program, plan: Plan, shape: str) -> str | None:
    """Cleanups that were begun have finished when their run is over, unless the grace is up."""
    registers = _taken(program) == 'kind == "register"'
    # A stage at its own cleanup may rightly be cancelled, once: nobody knows where it is.
    cut_once = one_run(plan) and _cancellations(program, plan) < 2
    if shape != "cleanup-not-awaited" and not registers and not cut_once:
        return _clean_2(program, plan)
    finished = 'kind in ("release.end", "release.fail")' if registers else 'kind == "release.over"'
    if registers and not any(one.args.get("fails") for one in every_step(program)):
        finished = 'kind == "release.end"'
    apart = one_run(plan) and _named_apart(program)
    if apart and not lets_go(program, plan):
        # All together take less than the grace: nobody may give up on them.
        now = in_place(plan)
        upto = "seen" if now else "seen[:over]"
        return source(
            *(() if now else ('over = [kind for _, _, kind, _ in seen].index("run.end")',)),
            f"done = [name for _, _, kind, name in {upto} if {finished}]",
            f"begun = [name for _, _, kind, name in {upto}"
            ' if kind == "release.begin" and name not in done]',
            "if begun:",
            '    return f"begun, and not finished when the run was over: {begun}"',
            "return None",
        )
    if apart and in_place(plan):
        # The grace is for all of them together, from the first one on.
        return source(
            f"done = [name for _, _, kind, name in seen if {finished}]",
            'rows = [(at, name) for at, _, kind, name in seen if kind == "release.begin"]',
            "begun = [name for _, name in rows if name not in done]",
            'over = [at for at, _, kind, _ in seen if kind == "run.end"]',
            f"if begun and over[0] < rows[0][0] + {_grace(plan)}:",
            '    return f"begun, and not finished when the run was over: {begun}"',
            "return None",
        )
    return _not_finished(program, plan, finished)


def _not_finished(program: Program, plan: Plan, finished: str) -> str:
    """Return the check of what is begun and open when its run is over, within the grace."""
    one = one_run(plan)
    swallows = any(step.op == "swallow" for step in every_step(program))
    # What a stage does with its cancellation takes of the grace as well.
    swallowed = ('    if kind == "swallowed":', "        since.setdefault(run, at)")
    still = "open_" if one else "run in open_.values()"
    over = "" if one else "{run}: "
    return source(
        "open_, since = {}, {}  # what is begun -> its run; run -> when the first of it was",
        "for at, stage, kind, name in seen:",
        "    run = " + ('""' if one else 'stage.split("/")[0]'),
        *(swallowed if swallows else ()),
        '    if kind == "release.begin":',
        "        open_[stage, name] = run",
        "        since.setdefault(run, at)",
        f"    if {finished}:",
        "        open_.pop((stage, name), None)",
        f'    if kind == "run.end" and {still} and at < since[run] + {_grace(plan)}:',
        f'        return f"{over}begun, and not finished when the run was over: {{list(open_)}}"',
        "return None",
    )


def _grace(plan: Plan) -> str:
    return repr(round(plan.cleanup_grace_s - 0.02, 6))


def _clean_2(program: Program, plan: Plan) -> str:
    one = one_run(plan)
    over = "over" if one else 'over.get(stage.split("/")[0], len(seen))'
    run = '""' if one else 'stage.split("/")[0]'
    timed = any(s.op == "timeout" for _, s in program.walk())
    return source(
        *_over(plan),
        f"grace = {plan.cleanup_grace_s!r}  # seconds, for all cleanups of a run",
        "since, registered, interrupted, told, open_, cut = {}, set(), set(), set(), {}, []",
        "for i, (at, stage, kind, name) in enumerate(seen):",
        f"    run, last = {run}, {over}",
        '    if kind == "register":',
        "        registered.add((stage, name))",
        '    if kind == "interrupt":',
        "        interrupted.add(stage)",
        '    if kind in ("interrupt", "release.begin"):',
        "        since.setdefault(run, at)",
        '    if kind == "release.begin" and i < last:',
        "        open_[stage, name] = run, last",
        "        told.discard((stage, name))",
        "        if stage in interrupted:",
        "            told.add((stage, name))",
        '    if kind in ("release.end", "release.fail", "release.cut") and i < last:',
        "        open_.pop((stage, name), None)",
        '    if kind == "release.cut" and i < last and at - since[run] < grace - 0.05:',
        "        # That a stage was at its own cleanup nobody could know: it does not count.",
        "        if (stage, name) in registered" + (":" if timed else " or (stage, name) in told:"),
        "            cut.append((stage, name))",
        "for one, (run, last) in open_.items():",
        "    if last < len(seen) and seen[last][0] - since[run] < grace - 0.05:",
        '        return f"the cleanup of {one} was begun, and not finished when the run was over"',
        "if cut:",
        '    return f"cleanups that were cancelled before they had finished: {cut}"',
        "return None",
    )


def clean_4(program: Program, plan: Plan, shape: str) -> str | None:
    """Cleanups after a failing one run, and the failure is reported."""
    if not one_run(plan):
        return None
    failed = 'failed = [name for _, _, kind, name in seen if kind == "release.fail"]'
    if shape != "failure-not-reported":
        return source(
            failed,
            'begun = [name for _, _, kind, name in seen if kind == "release.begin"]',
            f"taken = [name for _, _, kind, name in seen if {_taken(program)}]",
            "undone = [name for name in taken if name not in begun]",
            "if failed and undone:",
            '    return f"cleanup of {failed[0]} failed; not run after it: {undone}"',
            "return None",
        )
    return source(
        failed,
        "if error is None or isinstance(error, asyncio.CancelledError):",
        "    return None  # what its results say of it is not looked at here",
        'text = f"{error!r} {vars(error)} {error.__cause__!r} {error.__context__!r} {results}"',
        'if failed and f"cleanup of {failed[0]} failed" not in text:',
        '    return f"cleanup of {failed[0]} failed; the caller was told: {error!r}"',
        "return None",
    )


def clean_6(program: Program, plan: Plan, shape: str) -> str | None:
    """The cleanups of each of several runs of one pipeline object run at its own end."""
    if not several(plan):
        return None
    if shape == "other-run-interrupted":
        return _interrupted(program, plan)
    if _taken(program) != 'kind == "register"':
        return _apart(plan)
    # The stage of a run that is cancelled may outlive it: of when it ends nothing is to be learnt.
    runs = [run.id for run in plan.runs]
    if shape == "ran-by-other-run":
        runs = [run for run in runs if run not in {cancel.run for cancel in plan.cancels}]
    only = len(program.stages) == 1 == len(_cleanups(program)) and not lets_go(program, plan)
    if only and runs:
        # The comments have the notes taken that must come between.
        then, between, said = "release.begin", "stage.end", "cleaned up while its stage ran"
        if shape == "cleared-by-other-run":
            then, between, said = "run.end", "release.begin", "over, and its cleanup had not run"
        return source(
            f"for run in {literal(runs)}:",
            '    order = [kind for _, stage, kind, _ in seen if stage.split("/")[0] == run]',
            f'    if order[:2] == ["register", "{then}"]:  # "{between}" is missing between them',
            f'        return f"run {{run}} was {said}: {{order}}"',
            "return None",
        )
    if shape == "ran-by-other-run" and _at_the_end_only(program, plan):
        return source(
            f"for run in {literal([run.id for run in plan.runs])}:",
            '    order = [kind for _, stage, kind, _ in seen if stage.split("/")[0] == run]',
            '    order = order[: [*order, "run.end"].index("run.end")]  # stages may outlive it',
            '    after = order[[*order, "release.begin"].index("release.begin") :]',
            '    if "stage.end" in after:',
            '        return f"a cleanup of run {run} ran while its stages did: {order}"',
            "return None",
        )
    return _apart(plan)


def _at_the_end_only(program: Program, plan: Plan) -> bool:
    """Say whether cleanups are due at the end of a run only, after all its stages."""
    again = [stage.steps for stage in program.stages if stage.retry]
    registered = {one.op for one in _cleanups(program)} == {"cleanup"}
    retried = any(one.op == "cleanup" for steps in again for one in walk(steps))
    nested = any(one.op == "subpipeline" for one in every_step(program))
    return registered and not retried and not nested and not lets_go(program, plan)


def _apart(plan: Plan) -> str:
    """Return the check that no cleanup runs while stages of its run do, unless that is cancelled
    or has a stage that failed, and that none is forgotten."""
    cancelled = literal(sorted({cancel.run for cancel in plan.cancels}))
    return source(
        f"ending = set({cancelled if plan.cancels else ''})  # runs that are cancelled, or fail",
        "registered, running = [], []",
        "for _, stage, kind, name in seen:",
        '    run = stage.split("/")[0]',
        '    if kind == "stage.start":',
        "        running.append(run)",
        '    if kind == "stage.end":',
        "        running.remove(run)",
        '        if name not in ("ok", "skip"):',
        '            ending.add(run)  # by "fail", "raise:", "cancel_run" or "cancelled"',
        '    if kind == "register":',
        "        registered.append((stage, name))",
        '    if kind == "release.begin" and (stage, name) in registered:',
        "        registered.remove((stage, name))",
        "        if run in running and run not in ending:",
        '            return f"cleanup {name} of {stage} ran while its run went on"',
        '    lost = [one for one in registered if kind == "run.end" and one[0].startswith(stage)]',
        "    if lost:",
        '        return f"not run when {run} was over: {lost}"',
        "return None",
    )


def _interrupted(program: Program, plan: Plan) -> str | None:
    """Return the check that no stage is cancelled in a run in which nothing goes wrong."""
    timed = plan.stage_timeout_s is not None or any(
        s.timeout_s is not None or s.idle_timeout_s is not None for s in program.stages
    )
    disturbed = any(one.kind in ("raise", "deny") for one in plan.layers)
    own = any(one.op == "timeout" for one in every_step(program))
    if timed or disturbed or own or plan.consumer or "CancelledError" in repr(program):
        return None
    cancelled = literal(sorted({cancel.run for cancel in plan.cancels}))
    also = (f"failed |= set({cancelled})  # or cancelled by their callers",) if plan.cancels else ()
    run, bad = 'stage.split("/")[0]', 'how.startswith(("fail", "raise:", "cancel_run"))'
    return source(
        f'ends = [({run}, how) for _, stage, kind, how in seen if kind == "stage.end"]',
        f"failed = {{run for run, how in ends if {bad}}}",
        *also,
        'cut = [run for run, how in ends if how == "cancelled" and run not in failed]',
        "if cut:",
        '    return f"a stage was cancelled, though nothing had ended its run: {cut}"',
        "return None",
    )
