"""The checks of stand-alone scripts: the same rules, small enough to be read in an issue.

Each function returns the source of `violation(seen, error, outputs, left, took)`, written
for one program, or None where a script in real time cannot tell. See `Adapter.render` for
what the arguments are. The scripts run on the stock event loop: where a rule is about an
instant, they allow `SLACK_S`.
"""

from __future__ import annotations

from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = [
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
    "time_1",
    "time_4",
    "time_5",
]

SLACK_S = 0.25


def _source(*lines: str) -> str:
    head = "def violation(seen, error, outputs, left, took):"
    return "\n".join([head, *("    " + line for line in lines)]) + "\n"


def left_running(_program: Program, _plan: Plan) -> str | None:
    """No stage is running when the run is over."""
    return _source(
        'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]',
        "running = [stage for stage in started if stage not in ended]",
        "if running or left:",
        '    return f"still running when the run was over: stages {running}, tasks {left}"',
        "return None",
    )


def clean_5(_program: Program, _plan: Plan) -> str | None:
    """Nothing is running when the run is over, and no exception was left unfetched."""
    return _source(
        'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]',
        "running = [stage for stage in started if stage not in ended]",
        "if running or left:",
        '    return f"still running when the run was over: stages {running}, tasks {left}"',
        "if unretrieved:",
        '    return f"exceptions that nobody fetched: {unretrieved}"',
        "return None",
    )


def time_1(program: Program, plan: Plan) -> str | None:
    """Each stage that sleeps past its timeout is ended at it."""
    limits = {
        s.name: s.timeout_s if s.timeout_s is not None else plan.stage_timeout_s
        for s in program.stages
    }
    limits = {k: v for k, v in limits.items() if v is not None and v > 0}
    if not limits:
        return None
    return _source(
        f"limits = {limits!r}  # seconds",
        'started = {stage: at for at, stage, kind, _ in seen if kind == "stage.start"}',
        'ended = {stage: at for at, stage, kind, _ in seen if kind == "stage.end"}',
        "for stage, limit in limits.items():",
        "    if stage not in started:",
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
    if not any(s.op == "raise" and s.args["error"] == "TimeoutError" for _, s in program.walk()):
        return None
    return _source(
        'own = [at for at, _, kind, how in seen if kind == "stage.end" and "TimeoutError" in how]',
        'text = f"{error} {outputs}"',
        'if own and "timed out after" in text:',
        '    return f"a TimeoutError raised by the stage after {own[0]:.2f} s is told as: {text}"',
        "return None",
    )


def time_5(program: Program, plan: Plan) -> str | None:
    """A timeout of zero or less is refused, or ends the stage at once."""
    return _source(
        'ran = [at for at, _, kind, how in seen if kind == "stage.end" and how == "ok"]',
        "if ran and ran[-1] > 0.02:",
        '    return f"the stage ran to its end, {ran[-1]:.2f} s, under this timeout"',
        "return None",
    )


def cancel_4(program: Program, plan: Plan) -> str | None:
    """The run ends within the grace although a stage swallows its cancellation."""
    grace = plan.cleanup_grace_s
    if grace > 10:
        return None
    return _source(
        f"grace = {grace!r}  # seconds",
        'asked = [at for at, _, kind, _ in seen if kind == "swallowed"]',
        f"if asked and took > asked[0] + grace + {SLACK_S}:",
        '    return f"the run ended {took - asked[0]:.2f} s after the cancellation: {error!r}"',
        'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        'ended = [stage for _, stage, kind, _ in seen if kind == "stage.end"]',
        "running = [stage for stage in started if stage not in ended]",
        "if asked and any(stage not in str(error) for stage in running):",
        '    return f"still running: {running}; the caller was told: {error!r}"',
        "return None",
    )


def clean_1(_program: Program, _plan: Plan) -> str | None:
    """Everything acquired is released once by the time the run is over."""
    return _source(
        'taken = [name for _, _, kind, name in seen if kind in ("acquire", "register")]',
        'released = [name for _, _, kind, name in seen if kind == "release.begin"]',
        "held = [name for name in taken if name not in released]",
        "if held:",
        '    return f"{len(taken) - len(held)} of {len(taken)} resources released; held: {held}"',
        "twice = sorted({name for name in released if released.count(name) > taken.count(name)})",
        "if twice:",
        '    return f"released more than once: {twice}"',
        "return None",
    )


def clean_2(_program: Program, _plan: Plan) -> str | None:
    """Cleanups that were begun have finished when the run is over."""
    return _source(
        'begun = [name for _, _, kind, name in seen if kind == "release.begin"]',
        'done = [name for _, _, kind, name in seen if kind in ("release.end", "release.fail")]',
        "cut = [name for name in begun if name not in done]",
        "if cut:",
        '    return f"cleanups begun but not finished when the run was over: {cut}"',
        "return None",
    )


def clean_4(program: Program, _plan: Plan) -> str | None:
    """Cleanups after a failing one run, and the failure is reported."""
    return _source(
        'failed = [name for _, _, kind, name in seen if kind == "release.fail"]',
        'begun = [name for _, _, kind, name in seen if kind == "release.begin"]',
        'taken = [name for _, _, kind, name in seen if kind in ("acquire", "register")]',
        "undone = [name for name in taken if name not in begun]",
        "if failed and undone:",
        '    return f"cleanup of {failed[0]} failed; not run after it: {undone}"',
        'chain = f"{error!r} {error.__cause__!r} {error.__context__!r}" if error else ""',
        'text = f"{chain} {outputs}"',
        'if failed and f"cleanup of {failed[0]} failed" not in text:',
        '    return f"cleanup of {failed[0]} failed; the caller was told: {error!r}"',
        "return None",
    )


def clean_6(_program: Program, _plan: Plan) -> str | None:
    """Each of two runs of one pipeline object has its own cleanups run, at its own end."""
    return _source(
        'taken = [name for _, _, kind, name in seen if kind == "register"]',
        'released = [name for _, _, kind, name in seen if kind == "release.begin"]',
        "if len(released) < len(taken):",
        '    return f"{len(released)} of {len(taken)} cleanups registered by two runs were run"',
        "return None",
    )


def _values(program: Program) -> dict[str, object]:
    return {
        s.name: one.args["value"]
        for s in program.stages
        for one in s.steps
        if one.op == "ok" and one.args["value"] != "$items"
    }


def part_1(program: Program, _plan: Plan) -> str | None:
    """Outputs of stages that completed before the run ended can be reached."""
    return _source(
        'done = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]',
        "lost = [stage for stage in done if stage not in outputs]",
        "if lost:",
        '    return f"outputs of {len(lost)} of {len(done)} completed stages are lost: {lost}"',
        "return None",
    )


def part_3(program: Program, _plan: Plan) -> str | None:
    return part_1(program, _plan)


def part_4(_program: Program, _plan: Plan) -> str | None:
    """Every stage that failed is named in what the caller gets, with its cause."""
    return _source(
        "failed = {",
        "    stage: how",
        "    for _, stage, kind, how in seen",
        '    if kind == "stage.end" and (how == "fail" or how.startswith("raise:"))',
        "}",
        "chain, one = [], error",
        "while one is not None and len(chain) < 20:",
        "    chain.append(repr(one))",
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
    return _source(
        f"# The pipeline has this fault: {faults[0]}",
        'if seen or error is None or "build" not in getattr(error, "dagstorm_phase", "run"):',
        "    ran = sorted({stage for _, stage, _, _ in seen})",
        '    return f"the pipeline was built; stages that ran: {ran}; then: {error!r}"',
        "return None",
    )


def graph_2(program: Program, _plan: Plan) -> str | None:
    """No stage starts before, or in spite of the failure of, what it depends on."""
    needs = {s.name: list(s.needs) for s in program.stages if s.needs}
    if not needs:
        return None
    return _source(
        f"needs = {needs!r}",
        "done = set()",
        "for _, stage, kind, how in seen:",
        '    if kind == "stage.start":',
        "        missing = [need for need in needs.get(stage, ()) if need not in done]",
        "        if missing:",
        '            return f"stage {stage} started; not completed before it: {missing}"',
        '    if kind == "stage.end" and how in ("ok", "skip"):',
        "        done.add(stage)",
        "return None",
    )


def ctx_2(program: Program, _plan: Plan) -> str | None:
    """No stage reads, and no output carries, a change that another stage made."""
    return _source(
        'read = [(stage, value) for _, stage, kind, value in seen if kind == "read"]',
        'if any("changed" in str(value) for _, value in read):',
        '    return f"a stage read what its sibling had changed: {read}"',
        'if "changed" in str(outputs):',
        '    return f"an output carries a change that another stage made: {outputs}"',
        "return None",
    )
