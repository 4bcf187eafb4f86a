"""Chunks of a stage, what is told of them, and their consumer: STREAM."""

from __future__ import annotations

from harness.contract.scripts.source import SLACK_S, lets_go, named_in, one_run, ops, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["stream_2", "stream_3", "stream_4"]


def stream_2(program: Program, plan: Plan) -> str | None:
    """What can be read of a stage that ended early does not look whole."""
    if not one_run(plan) or plan.cancels or plan.consumer is not None:
        return None  # who cancels a run is told nothing; what is consumed is not there to be read
    if "chunk" not in ops(program) or any(stage.retry for stage in program.stages):
        return None
    makers = {stage.name for stage, one in program.walk() if one.op == "chunk"}
    if len(makers) == 1 and not {"skip", "subpipeline"} & ops(program):
        (stage,) = makers
        return source(
            "rows = [(stage, kind, how) for _, stage, kind, how in seen]",
            f'told, done = ("{stage}", "partial", True), ("{stage}", "stage.end", "ok")',
            "if told in rows and done not in rows:",
            f'    return "stage {stage} ended early; nothing says that its chunks are not all"',
            "return None",
        )
    return source(
        "done = [stage for _, stage, kind, how in seen"
        ' if kind == "stage.end" and how in ("ok", "skip")]',
        "for _, stage, kind, whole in seen:",
        '    if kind == "partial" and whole and stage not in done:',
        '        return f"stage {stage} ended early; nothing says that its chunks are not all"',
        "return None",
    )


def _one_by_one(program: Program, plan: Plan) -> bool:
    """Say whether the consumed stage hands on its chunks one after another, and each once."""
    spec = plan.consumer
    if spec is None or not one_run(plan) or spec.stage not in program.names:
        return False
    own = [one for stage, one in program.walk() if stage.name == spec.stage]
    values = [repr(one.args["value"]) for one in own if one.op == "chunk"]
    again = {one.op for one in own} & {"swallow", "parallel", "spawn", "subpipeline"}
    return not program.stage(spec.stage).retry and not again and len(set(values)) == len(values)


def stream_3(program: Program, plan: Plan) -> str | None:
    """No more chunks wait for their consumer than it has room for, and one on its way to it."""
    spec = plan.consumer
    if spec is None or not _one_by_one(program, plan):
        return None
    return source(
        'consumed = [chunk for _, _, kind, chunk in seen if kind == "consume"]',
        "waiting = 0  # of those that are consumed later: others may be gone",
        "for _, _, kind, chunk in seen:",
        '    if kind == "consume":',
        "        waiting -= 1",
        '    if kind == "chunk" and chunk in consumed:',
        f"        if waiting > {spec.buffer_max + 1}:",
        f'            return f"{{waiting}} chunks wait; there is room for {spec.buffer_max}"',
        "        waiting += 1",
        "return None",
    )


def stream_4(program: Program, plan: Plan, shape: str) -> str | None:
    """A stage is ended when its consumer has stopped, or is told so with its next chunk."""
    spec = plan.consumer
    if spec is None or not spec.stop_after or plan.cancels:
        return None
    if not _one_by_one(program, plan) or lets_go(program, plan):
        return None
    mine = named_in(program, [spec.stage], many=False).replace(" and", " if")
    kinds = f"kinds = [kind for _, {'stage' if mine else '_'}, kind, _ in seen{mine}]"
    if shape == "producer-not-stopped":
        return source(
            kinds,
            'after = kinds[kinds.index("consume.stop") :] if "consume.stop" in kinds else []',
            'more = after.count("chunk")',
            "if more > 1:",
            '    return f"{more} more chunks came after the consumer had stopped"',
            "return None",
        )
    if shape == "producer-not-awaited":
        return source(
            kinds,
            'if "consume.stop" in kinds and "stage.end" not in kinds:',
            '    return "its consumer had stopped; it was still running when the run was over"',
            "return None",
        )
    if shape != "producer-ran-on":
        return None
    return source(
        f"at = {{kind: at for at, {'stage' if mine else '_'}, kind, _ in seen{mine}}}",
        'ran = at.get("stage.end", took) - at.get("consume.stop", 1e9)',
        f'if ran > {plan.cleanup_grace_s + SLACK_S!r} and at["chunk"] <= at["consume.stop"]:',
        '    return f"it ran on for {ran:.1f} s after its consumer had stopped"',
        "return None",
    )
