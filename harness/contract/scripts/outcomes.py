"""What a caller is told of stages: PART and CTX."""

from __future__ import annotations

from harness.contract.scripts.source import caller_is_told, one_run, ops, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

__all__ = ["ctx_2", "part_1", "part_3", "part_4"]


def part_1(program: Program, plan: Plan) -> str | None:
    """Outputs of stages that completed before the run ended can be reached."""
    caller_is_told(plan)
    one = one_run(plan)
    name = "stage" if one else 'stage.partition("/")[2]'
    # What a subpipeline's stages put out is not the run's.
    mine = f" and {name} in {literal(list(program.names))}" if "subpipeline" in ops(program) else ""
    # A layer around a stage may have failed it after all: then it is enough that it is told of.
    failed = any(layer.kind in ("raise", "deny") for layer in plan.layers)
    if failed and not one:
        return None
    told = "results" if failed else "outputs"
    error = "; what it got: {error!r}" if one else ""
    return source(
        'done = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]',
        f"lost = [stage for stage in done if stage not in {told}{mine}]",
        "if lost:",
        f'    return f"completed, and lost to the caller: {{lost}}{error}"',
        "return None",
    )


def part_3(program: Program, _plan: Plan) -> str | None:
    return part_1(program, _plan)


def part_4(program: Program, plan: Plan, shape: str) -> str | None:
    """Every stage that failed is named in what the caller gets, with its cause."""
    if not one_run(plan):
        return None
    # A stage that fails over its cancellation did not fail by itself.
    cut = _fails_when_cut(program)
    # One that was tried again ended as it did at last, be it "ok".
    again = any(stage.retry for stage in program.stages)
    mine = f" and stage in {literal(list(program.names))}" if "subpipeline" in ops(program) else ""
    mine += " and stage not in cut" if cut else ""
    lines = (
        *(('cut = {stage for _, stage, kind, _ in seen if kind == "interrupt"}',) if cut else ()),
        *(('# The last end of each counts, be it "ok" or "cancelled".',) if again else ()),
        'ends = {stage: how for _, stage, kind, how in seen if kind == "stage.end"}',
        "failed = [stage for stage, how in ends.items()"
        f' if how.startswith(("fail", "raise")){mine}]',
        "text = f\"{results} {error} {getattr(error, '__dict__', None)}\"",
        'text += "".join(traceback.format_exception(error, limit=0))',
    )
    # Who cancels a run is told nothing.
    told = "not isinstance(error, asyncio.CancelledError)"
    if shape == "cause-lost":
        return source(
            *lines,
            'gone = [stage for stage in failed if ends[stage].partition(":")[2] not in text]',
            f"if gone and {told}:",
            '    return f"what failed in {gone} is gone; the caller got: {text[:200]}"',
            "return None",
        )
    return source(
        *lines,
        "lost = [stage for stage in failed if repr(stage) not in text]",
        f"if lost and {told}:",
        '    return f"stages that failed: {failed}; not reported: {lost}"',
        "return None",
    )


def _fails_when_cut(program: Program) -> bool:
    """Say whether a stage of the program may raise something else when it is cancelled."""
    return any(
        one.args.get("fails")
        or one.op in ("swallow", "timeout", "subpipeline", "parallel", "spawn")
        for _, one in program.walk()
    )


def ctx_2(program: Program, _plan: Plan, shape: str) -> str | None:
    """No stage reads, and no output carries, a change that another stage made."""
    changers = sorted({stage.name for stage, one in program.walk() if one.op == "mutate"})
    if shape == "sibling-sees-change":
        return source(
            'read = [(stage, what) for _, stage, kind, what in seen if kind == "read"]',
            f"read = [(stage, what) for stage, what in read if stage not in {literal(changers)}]",
            'if "changed" in str([what for _, what in read]):',
            '    return f"a stage read what its sibling had changed: {read}"',
            "return None",
        )
    return source(
        f"own = {{one: outputs[one] for one in outputs if one not in {literal(changers)}}}",
        'if "changed" in str(own):',
        '    return f"an output carries a change that another stage made: {own}"',
        "return None",
    )
