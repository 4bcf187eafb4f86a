"""Layers around stages: GRAPH-5, one check for each shape of violation."""

from __future__ import annotations

from collections.abc import Callable

from harness.contract.scripts.source import (
    always_fails,
    around,
    caller_is_told,
    named_in,
    several,
    source,
)
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

__all__ = ["graph_5"]

USERS_OWN = ("observe", "raise", "deny")
# What the engines' circuit breakers do if they cannot be told otherwise.
FAILURES_MIN, RESET_S = 5, 30.0

Shaped = Callable[[Program, Plan], str | None]


def graph_5(program: Program, plan: Plan, shape: str) -> str | None:
    """What a layer failed over, denied or answered for itself is no success of its stage, and
    the engine's own layers cut off and keep what they should."""
    kinds = {one.kind for one in plan.layers}
    if not kinds or "rate_limit" in kinds or any(s.retry for s in program.stages):
        return None
    if any(one.op == "subpipeline" for _, one in program.walk()):
        return None
    if len(plan.runs) > 1 and not several(plan):
        return None
    check = _SHAPES.get(shape)
    return None if check is None else check(program, plan)


def _noted(plan: Plan, kind: str, phase: str = "") -> str:
    """Return the condition by which a note tells that a layer denied or failed."""
    mine = [one for one in plan.layers if one.kind == kind]
    chosen = [one.name for one in mine if not phase or one.phase == phase]
    condition = f'kind == "layer.{kind}"'
    if len(chosen) == len(mine):
        return condition
    return f'kind == "layer.{kind}" and name in {literal(chosen)}'


def _name(condition: str) -> str:
    return "name" if "name" in condition else "_"


def _told(kind: str, how: str, phase: str = "") -> Shaped:
    """Return the check that no stage is told as completed that a layer denied or failed."""

    def check(_program: Program, plan: Plan) -> str:
        noted = _noted(plan, kind, phase)
        return source(
            f"told = [stage for _, stage, kind, {_name(noted)} in seen"
            f" if {noted} and stage in outputs]",
            "if told:",
            f'    return f"told as completed, although a layer {how}: {{told}}"',
            "return None",
        )

    return check


def _ran(kind: str, how: str) -> Shaped:
    """Return the check that no stage runs once a layer has denied or failed it."""

    def check(_program: Program, plan: Plan) -> str:
        noted = _noted(plan, kind, "before" if kind == "raise" else "")
        return source(
            "did = []",
            f"for _, stage, kind, {_name(noted)} in seen:",
            f"    if {noted}:",
            "        did.append(stage)",
            '    if kind == "stage.start" and stage in did:',
            f'        return f"stage {{stage}} ran after a layer around it had {how}"',
            "return None",
        )

    return check


def _untold(_program: Program, plan: Plan) -> str | None:
    if len(plan.runs) > 1 or plan.consumer is not None:
        return None
    return source(
        'did = [name for _, _, kind, name in seen if kind == "layer.raise"]',
        'if did and error is None and "failed" not in f"{results}":',
        '    return f"layer {did[0]} failed, and nothing is said of it: {results}"',
        "return None",
    )


def _dependents(program: Program, plan: Plan) -> str:
    above = {
        one: [s for s in program.names if one in program.descendants(s)] for one in program.names
    }
    above = {one: needs for one, needs in above.items() if needs}
    kinds = [f"layer.{kind}" for kind in ("raise", "deny") if _any(plan, kind)]
    condition = f"kind == {literal(kinds[0])}" if len(kinds) == 1 else f"kind in {literal(kinds)}"
    if len(plan.runs) == 1 and len(above) == 1 == len(*above.values()) == len(kinds):
        ((stage, (need,)),) = above.items()
        return source(
            "rows = [(stage, kind) for _, stage, kind, _ in seen]",
            f'if ("{need}", "{kinds[0]}") in rows and ("{stage}", "stage.start") in rows:',
            f'    return "stage {stage} ran; it needs {need}, which a layer refused or failed"',
            "return None",
        )
    if len(plan.runs) == 1:
        return source(
            f"above = {literal(above)}  # what each stage needs, directly or not",
            f"did = [stage for _, stage, kind, _ in seen if {condition}]",
            'ran = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
            "wrong = [stage for stage in ran if set(above.get(stage, ())) & set(did)]",
            "if wrong:",
            '    return f"ran, though a layer refused or failed what they need: {wrong}"',
            "return None",
        )
    return source(
        f"above = {literal(above)}  # what each stage needs, directly or not",
        "did = []",
        "for _, stage, kind, _ in seen:",
        '    run, _, name = stage.partition("/")',
        f"    if {condition}:",
        "        did.append(stage)",
        '    needs = [one for one in above.get(name, ()) if f"{run}/{one}" in did]',
        '    if kind == "stage.start" and needs:',
        '        return f"stage {stage} ran, which needs {needs[0]}, which a layer ended"',
        "return None",
    )


def _any(plan: Plan, kind: str) -> bool:
    return any(one.kind == kind for one in plan.layers)


def _behind(program: Program, plan: Plan, kinds: tuple[str, ...] = ()) -> list[str]:
    """Return the stages that have a layer of the engine's around them."""
    layers = [one for one in plan.layers if one.kind not in USERS_OWN]
    layers = [one for one in layers if not kinds or one.kind in kinds]
    return [s.name for s in program.stages if around(layers, s.name)]


def _own_answers(plan: Plan) -> list[Layer]:
    """Return the layers of the user's own that may answer for a stage, or end it."""
    return [one for one in plan.layers if one.kind in ("raise", "deny")]


def _unrun(program: Program, plan: Plan) -> str | None:
    """No stage is told as completed that has not run, nor completed in an earlier run."""
    behind = _behind(program, plan)
    if not behind:
        return None
    own = _own_answers(plan)
    open_ = [name for name in behind if not around(own, name)]
    if len(plan.runs) == 1 == len(open_):
        (stage,) = open_
        return source(
            "rows = [(stage, kind) for _, stage, kind, _ in seen]",
            f'if "{stage}" in outputs and ("{stage}", "stage.start") not in rows:',
            f'    return "stage {stage} is told as completed; it did not run, nor had it before"',
            "return None",
        )
    also = [f"layer.{kind}" for kind in ("raise", "deny") if _any(plan, kind)]
    unless = named_in(program, behind, many=len(plan.runs) > 1)
    if len(plan.runs) == 1:  # whatever is noted of a stage accounts for how it ended
        kinds = ["stage.start", *also]
        condition = f"kind == {literal(kinds[0])}" if not also else f"kind in {literal(kinds)}"
        return source(
            f"noted = [stage for _, stage, kind, _ in seen if {condition}]",
            f"lost = [stage for stage in outputs if stage not in noted{unless}]",
            "if lost:",
            '    return f"told as completed, though they did not run, nor had they before: {lost}"',
            "return None",
        )
    denied: tuple[str, ...] = ()
    if also:
        condition = f"kind == {literal(also[0])}" if len(also) == 1 else f"kind in {literal(also)}"
        denied = (f"denied = [stage for _, stage, kind, _ in seen if {condition}]",)
        unless += " and stage not in denied"
    name, good = "stage", 'kind == "stage.start"'
    kept = _behind(program, plan, ("idempotency",))
    if not all(always_fails(program, plan, name) for name in kept):
        # It may be told as completed since it had completed in another run.
        name, good = 'stage.split("/")[1]', 'kind == "stage.end" and how == "ok"'
        if not any(_may_fail(program, plan, one) for one in kept):
            good = 'kind == "stage.start"'
    how = "how" if "how" in good else "_"
    return source(
        f"ran = [{name} for _, stage, kind, {how} in seen if {good}]",
        *denied,
        f"lost = [stage for stage in outputs if {name} not in ran{unless}]",
        "if lost:",
        '    return f"told as completed, though they did not run, nor had they before: {lost}"',
        "return None",
    )


def _may_fail(program: Program, plan: Plan, name: str) -> bool:
    calm = ("sleep", "yield", "input", "emit", "log", "ok")
    return bool(plan.cancels) or any(one.op not in calm for one in program.stage(name).steps)


def _kept_wrong(program: Program, plan: Plan) -> str | None:
    """An output that was kept is one that the stage had."""
    kept = _behind(program, plan, ("idempotency",))
    if not kept or len(plan.runs) < 2:
        return _unrun(program, plan)
    unless = named_in(program, kept, many=True)
    return source(
        'ran = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        f"for stage in [one for one in outputs if one not in ran{unless.replace('stage', 'one')}]:",
        '    name = stage.split("/")[1]',
        '    had = [outputs[one] for one in ran if one.split("/")[1] == name and one in outputs]',
        "    if outputs[stage] not in had:",
        '        return f"{stage} did not run; its output is {outputs[stage]!r}, it was {had}"',
        "return None",
    )


def _stays_closed(program: Program, plan: Plan) -> str | None:
    """After so many failures in a row a stage is cut off: where all runs are of one tenant, and
    the stage fails in each."""
    layers = [one for one in plan.layers if one.kind == "circuit_breaker"]
    tenants = {run.tenant for run in plan.runs}
    if len(plan.runs) < 2 or len(tenants) > 1 or len(program.stages) > 1 or len(layers) != 1:
        return None
    (layer,), (stage,) = layers, program.stages
    if not always_fails(program, plan, stage.name):
        return None
    most = max(FAILURES_MIN, int(layer.options.get("threshold", FAILURES_MIN)))
    reset = _reset_s(layer)
    return source(
        "failed, over, before = set(), 0, {}",
        "for _, stage, kind, _ in seen:",
        '    run = stage.split("/")[0]',
        '    if kind == "stage.end":',
        "        failed.add(run)",
        '    if kind == "run.end" and run in failed:',
        "        over += 1",
        '    if kind == "run.begin":',
        "        before[run] = over",
        f'    if kind == "stage.start" and before[run] >= {most}:',
        f'        return f"{{stage}} ran within {reset:g} s of {{before[run]}} failures in a row"',
        "return None",
    )


def _reset_s(layer: Layer) -> float:
    return min(RESET_S, float(layer.options.get("reset_s", RESET_S)))


def _unnamed(program: Program, plan: Plan) -> str | None:
    """The failure of a layer names the stage that it is around."""
    if len(plan.runs) > 1 or plan.consumer is not None or len(program.stages) < 2:
        return None
    caller_is_told(plan)
    return source(
        'did = [stage for _, stage, kind, _ in seen if kind == "layer.raise"]',
        'told = f"{error!r} {error} {vars(error) if error else None} {results}"',
        "if did and not any(stage in told for stage in did):",
        '    return f"a layer around {did[0]} failed; the caller was told: {told[:200]}"',
        "return None",
    )


_SHAPES: dict[str, Shaped] = {
    "denied-completed": _told("deny", "denied them"),
    "failed-layer-completed": _told("raise", "around them failed", "before"),
    "failure-after-completed": _told("raise", "failed after them", "after"),
    "failed-layer-untold": _untold,
    "ran-despite-denial": _ran("deny", "denied it"),
    "ran-despite-failing-layer": _ran("raise", "failed"),
    "dependents-ran": _dependents,
    "completed-without-running": _unrun,
    "kept-for-another-stage": _kept_wrong,
    "kept-wrong": _kept_wrong,
    "circuit-stayed-closed": _stays_closed,
    "stage-unnamed": _unnamed,
}
