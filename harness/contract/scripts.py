"""The checks of stand-alone scripts: the same rules, small enough to be read in an issue.

What is around stages (events, layers, tenants, ids) is in `scripts_around`.

Each function returns the source of `violation(seen, error, outputs, left, took)`, written
for one program, or None where a script in real time cannot tell. See `Adapter.render` for
what the arguments are. The scripts run on the stock event loop: where a rule is about an
instant, they allow `SLACK_S`.
"""

from __future__ import annotations

from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = [
    "cancel_3",
    "cancel_4",
    "clean_1",
    "clean_2",
    "clean_4",
    "clean_5",
    "clean_6",
    "ctx_2",
    "graph_1",
    "graph_2",
    "left_running",
    "part_1",
    "part_3",
    "part_4",
    "retry_1",
    "source",
    "time_1",
    "time_4",
    "time_5",
]

SLACK_S = 0.25


def source(*lines: str) -> str:
    """Return the source of `violation` with these lines as its body."""
    head = "def violation(seen, error, outputs, left, took):"
    return "\n".join([head, *("    " + line for line in lines)]) + "\n"


def _one_run(plan: Plan) -> bool:
    """Say whether a script's notes are of one run, whose stages go by their bare names."""
    return len(plan.runs) == 1


def _left_running(plan: Plan) -> tuple[str, ...]:
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
        "if running or (left and not stubborn):",
        '    return f"still running when the run was over: stages {running}, tasks {left}"',
    )


def left_running(_program: Program, plan: Plan) -> str | None:
    """No stage is running when the run is over."""
    return source(*_left_running(plan), "return None") if _one_run(plan) else None


def clean_5(_program: Program, plan: Plan) -> str | None:
    """Nothing is running when the run is over, and no exception was left unfetched."""
    if not _one_run(plan):
        return None
    return source(
        *_left_running(plan),
        "if unretrieved:",
        '    return f"exceptions that nobody fetched: {unretrieved}"',
        "return None",
    )


def cancel_3(_program: Program, plan: Plan) -> str | None:
    """A cancelled run leaves nothing running, and its caller sees `CancelledError`."""
    if not _one_run(plan):
        return _cancel_3_of_several(plan)
    return source(
        *_left_running(plan),
        "sent = [number for _, _, kind, (number, accepted) in",
        '        [one for one in seen if one[2] == "cancel.sent"] if accepted]',
        "if sent and not isinstance(error, asyncio.CancelledError):",
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


def time_1(program: Program, plan: Plan) -> str | None:
    """Each stage that sleeps past its timeout is ended at it."""
    limits = {
        s.name: s.timeout_s if s.timeout_s is not None else plan.stage_timeout_s
        for s in program.stages
    }
    limits = {k: v for k, v in limits.items() if v is not None and v > 0}
    if not limits or not _one_run(plan):
        return None
    return source(
        f"limits = {limits!r}  # seconds",
        'started = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
        'ended = {stage: at for at, stage, kind, _ in seen if kind == "stage.end"}',
        "for stage, limit in limits.items():",
        '    if stage not in started or (stage, "swallowed") in [one[1:3] for one in seen]:',
        "        continue",
        "    ran = ended.get(stage, took) - started[stage]",
        f"    if ran > limit + {SLACK_S}:",
        '        return f"stage {stage} ran for {ran:.2f} s; its timeout is {limit} s"',
        "    if stage not in str(error) and stage not in str(outputs):",
        '        return f"the timeout of stage {stage} is reported as: {error!r}"',
        "return None",
    )


def time_4(program: Program, plan: Plan) -> str | None:
    """A TimeoutError of the stage's own is not reported as the engine's timeout."""
    own = any(s.op == "raise" and s.args["error"] == "TimeoutError" for _, s in program.walk())
    if not own or not _one_run(plan):
        return None
    return source(
        'own = [at for at, _, kind, how in seen if kind == "stage.end" and "TimeoutError" in how]',
        'text = f"{error} {outputs}"',
        'if own and "timed out after" in text:',
        '    return f"a TimeoutError raised by the stage after {own[0]:.2f} s is told as: {text}"',
        "return None",
    )


def time_5(program: Program, plan: Plan) -> str | None:
    """A timeout that is no positive number is refused; one of zero may end the stage at once."""
    limits = [
        s.timeout_s if s.timeout_s is not None else plan.stage_timeout_s for s in program.stages
    ]
    odd = [t for t in limits if t is not None and not t > 0]
    if not odd:
        return None
    if any(t != 0 for t in odd):
        return source(
            f"# A timeout of {odd[0]} is declared.",
            'ran = sorted({stage for _, stage, kind, _ in seen if kind == "stage.start"})',
            "if ran:",
            f'    return f"run with a timeout of {odd[0]}: stages {{ran}}; then: {{error!r}}"',
            "return None",
        )
    return source(
        'ran = [at for at, _, kind, how in seen if kind == "stage.end" and how == "ok"]',
        "if ran and ran[-1] > 0.02:",
        '    return f"the stage ran to its end, {ran[-1]:.2f} s, under this timeout"',
        "return None",
    )


def cancel_4(program: Program, plan: Plan) -> str | None:
    """The run ends within the grace although a stage swallows its cancellation."""
    grace = plan.cleanup_grace_s
    if grace > 10 or not _one_run(plan):
        return None
    return source(
        f"grace = {grace!r}  # seconds",
        'asked = [at for at, _, kind, _ in seen if kind == "swallowed"]',
        f"if asked and took > asked[0] + grace + {SLACK_S}:",
        '    return f"the run ended {took - asked[0]:.2f} s after the cancellation: {error!r}"',
        'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]',
        "running = [stage for stage in started if stage not in ended]",
        "told = f\"{error!r} {getattr(error, '__dict__', None)} {outputs}\"",
        'cancelled = any(kind == "cancel.sent" for _, _, kind, _ in seen)  # who is told nothing',
        "if asked and not cancelled and any(stage not in told for stage in running):",
        '    return f"still running: {running}; the caller was told: {error!r}"',
        "return None",
    )


def _over(plan: Plan) -> tuple[str, ...]:
    """Return lines that say at which place in `seen` each run was over."""
    if _one_run(plan):
        return (
            'ends = [i for i, one in enumerate(seen) if one[2] == "run.end"]',
            "over = ends[0] if ends else len(seen)  # the place at which the run was over",
        )
    return (
        'over = {one[1].split("/")[0]: i for i, one in enumerate(seen) if one[2] == "run.end"}',
    )


def clean_1(_program: Program, plan: Plan) -> str | None:
    """Everything acquired is released once by the time its run is over."""
    over = "over" if _one_run(plan) else 'over.get(stage.split("/")[0], len(seen))'
    return source(
        *_over(plan),
        "taken, acquired, released, late, stubborn = [], [], [], [], set()",
        "for i, (_, stage, kind, name) in enumerate(seen):",
        '    if kind == "swallowed":',
        "        stubborn.add(stage)",
        f'    if kind == "stage.end" and i < {over}:',
        "        stubborn.discard(stage)",
        '    if kind in ("acquire", "register"):',
        "        acquired.append((stage, name))",
        f"        if i < {over}:",
        "            taken.append((stage, name))",
        '    if kind == "release.begin":',
        f"        (released if i < {over} else late).append((stage, name))",
        "# What a stage holds that swallows its cancellation is not the engine's to release.",
        "due = [one for one in taken if one[0] not in stubborn]",
        "held = [one for one in due if released.count(one) < due.count(one)]",
        "found = []",
        "if held:",
        '    found.append(f"{len(due) - len(held)} of {len(due)} resources released when the run "',
        '                 f"was over; held: {held[:3]}; later: {[h for h in held if h in late]}")',
        "every = released + late",
        "twice = sorted({one for one in taken if every.count(one) > acquired.count(one)})",
        "if twice:",
        '    found.append(f"released {every.count(twice[0])} times: {twice[0]}")',
        'return "; ".join(found) or None',
    )


def clean_2(program: Program, plan: Plan) -> str | None:
    """Cleanups that were begun have finished when their run is over, unless the grace is up."""
    one = _one_run(plan)
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


def clean_4(_program: Program, plan: Plan) -> str | None:
    """Cleanups after a failing one run, and the failure is reported."""
    if not _one_run(plan):
        return None
    return source(
        'failed = [name for _, _, kind, name in seen if kind == "release.fail"]',
        'begun = [name for _, _, kind, name in seen if kind == "release.begin"]',
        'taken = [name for _, _, kind, name in seen if kind in ("acquire", "register")]',
        "undone = [name for name in taken if name not in begun]",
        "if failed and undone:",
        '    return f"cleanup of {failed[0]} failed; not run after it: {undone}"',
        "if error is None or isinstance(error, asyncio.CancelledError):",
        "    return None  # what its results say of it is not looked at here",
        'chain = f"{error!r} {vars(error)} {error.__cause__!r} {error.__context__!r}"',
        'text = f"{chain} {outputs}"',
        'if failed and f"cleanup of {failed[0]} failed" not in text:',
        '    return f"cleanup of {failed[0]} failed; the caller was told: {error!r}"',
        "return None",
    )


def clean_6(_program: Program, plan: Plan) -> str | None:
    """The cleanups of each of several runs of one pipeline object run at its own end."""
    if _one_run(plan):
        return None
    return source(
        f"cancelled = {[cancel.run for cancel in plan.cancels]!r}  # the run of each cancel",
        "ending, begun, registered, running, found = set(), [], {}, {}, {}",
        "for _, stage, kind, detail in seen:",
        '    run = stage.split("/")[0]',
        '    if kind == "cancel.sent":',
        "        ending.add(cancelled[detail[0]])",
        '    if kind == "run.begin":',
        "        begun.append(run)",
        '    if kind == "stage.start":',
        "        running.setdefault(run, set()).add(stage)",
        '    if kind == "stage.end":',
        "        running[run].discard(stage)",
        '        if detail not in ("ok", "skip"):',
        "            ending.add(run)",
        '    if kind == "register":',
        "        registered[stage, detail] = run",
        '    if kind == "release.begin" and (stage, detail) in registered:',
        "        if running.get(run) and run not in ending:",
        '            found["early"] = f"cleanup {detail} of {stage} ran while its run went on"',
        "        del registered[stage, detail]",
        '    if kind == "run.end":',
        "        lost = [one for one, of in registered.items() if of == run]",
        "        if lost and len(begun) > 1:",
        "            others = sorted(set(begun) - {run})[:3]",
        '            found["lost"] = f"not run when {run} was over: {lost}; other runs: {others}"',
        'return "; ".join(found.values()) or None',
    )


def part_1(program: Program, plan: Plan) -> str | None:
    """Outputs of stages that completed before the run ended can be reached."""
    if plan.cancels:
        return None  # who cancels a run is told nothing
    return source(
        f"names = {list(program.names)!r}",
        'done = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]',
        "done = [stage for stage in done if stage"
        + (" in names]" if _one_run(plan) else '.partition("/")[2] in names]'),
        "lost = [stage for stage in done if stage not in outputs]",
        "if lost:",
        '    return f"outputs of {len(lost)} of {len(done)} completed stages are lost: {lost}"',
        "return None",
    )


def part_3(program: Program, _plan: Plan) -> str | None:
    return part_1(program, _plan)


def part_4(program: Program, plan: Plan) -> str | None:
    """Every stage that failed is named in what the caller gets, with its cause."""
    if not _one_run(plan):
        return None
    return source(
        f"names = {list(program.names)!r}",
        "if isinstance(error, asyncio.CancelledError):",
        "    return None  # who cancels a run is told nothing",
        "ends = {s: how for _, s, kind, how in seen if kind == 'stage.end' and s in names}",
        "# A stage that fails over its cancellation did not fail by itself.",
        'cut = {s for _, s, kind, _ in seen if kind == "interrupt"}',
        'failed = {s: h for s, h in ends.items() if s not in cut and h.split(":")[0] in',
        '          ("fail", "raise")}',
        "chain, one = [], error",
        "while one is not None and len(chain) < 20:",
        "    chain.append(f'{one!r} {vars(one)}')",
        "    one = getattr(one, 'original', None) or one.__cause__ or one.__context__",
        'text = f"{error} {chain} {outputs}"',
        "lost = [stage for stage in failed if f\"'{stage}'\" not in text]",
        "if lost:",
        '    return f"stages that failed: {sorted(failed)}; not reported: {lost}"',
        "for stage, how in failed.items():",
        '    if how.startswith("raise:") and how[6:] not in text:',
        '        return f"the {how[6:]} of stage {stage} is gone; the caller gets: {text[:200]}"',
        "return None",
    )


def graph_1(program: Program, _plan: Plan) -> str | None:
    """The fault of the graph is refused when it is built, not at run time."""
    faults = program.faults()
    if not faults:
        return None
    return source(
        f"# The pipeline has this fault: {faults[0]}",
        'if seen or error is None or "build" not in getattr(error, "dagstorm_phase", "run"):',
        "    ran = sorted({stage for _, stage, _, _ in seen})",
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
    split = 'run, name = "", stage' if _one_run(plan) else 'run, _, name = stage.partition("/")'
    need = "need" if _one_run(plan) else 'f"{run}/{need}"'
    return source(
        f"needs = {needs!r}",
        "done = set()",
        "for _, stage, kind, how in seen:",
        f"    {split}",
        '    if kind == "stage.start":',
        f"        missing = [need for need in needs.get(name, ()) if {need} not in done]",
        "        if missing:",
        '            return f"stage {stage} started; not completed before it: {missing}"',
        '    if kind == "stage.end" and how in ("ok", "skip"):',
        "        done.add(stage)",
        "return None",
    )


def ctx_2(program: Program, _plan: Plan) -> str | None:
    """No stage reads, and no output carries, a change that another stage made."""
    return source(
        'changer = {stage for _, stage, kind, _ in seen if kind == "mutated"}',
        'read = [(stage, what) for _, stage, kind, what in seen if kind == "read"',
        '        and what[0] not in {one.split("/")[-1] for one in changer}]',
        "own = {stage: value for stage, value in outputs.items() if stage not in changer}",
        'if any("changed" in str(value) for _, value in read):',
        '    return f"a stage read what its sibling had changed: {read}"',
        'if "changed" in str(own):',
        '    return f"an output carries a change that another stage made: {own}"',
        "return None",
    )


def retry_1(program: Program, plan: Plan) -> str | None:
    """Each stage is tried as often as declared, with the declared waits, and no more."""
    retries = {
        s.name: (s.retry.attempts, s.retry.backoff_s, s.retry.factor)
        for s in program.stages
        if s.retry is not None
    }
    if not retries or not _one_run(plan):
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
        '        failed = how == "fail" or how.startswith("raise:")',
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
