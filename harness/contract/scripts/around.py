"""Layers around stages: GRAPH-5."""

from __future__ import annotations

from harness.contract.scripts.source import TOLD, around, several, source
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program

__all__ = ["graph_5"]

USERS_OWN = ("observe", "raise", "deny")
# What the engines' circuit breakers do if they cannot be told otherwise.
FAILURES_MIN, RESET_S = 5, 30.0


def graph_5(program: Program, plan: Plan) -> str | None:
    """What a layer failed over, denied or answered for itself is no success of its stage, and
    the engine's own layers cut off and keep what they should. Says one thing of each kind."""
    kinds = {one.kind for one in plan.layers}
    if not kinds or "rate_limit" in kinds or any(s.retry for s in program.stages):
        return None
    if any(one.op == "subpipeline" for _, one in program.walk()):
        return None
    if len(plan.runs) > 1 and not several(plan):
        return None
    if len(plan.runs) == 1 and len(plan.layers) == 1 and kinds != {"observe"}:
        return _one_layer(program, plan.layers[0])
    lines: tuple[str, ...] = ("found = {}", *TOLD)
    lines += _users(program) if kinds & {"raise", "deny"} else ("did = {}",)
    behind = [one for one in plan.layers if one.kind not in USERS_OWN]
    if behind:
        kept = [one for one in behind if one.kind == "idempotency"]
        lines += _answered(
            [s.name for s in program.stages if around(behind, s.name)],
            [s.name for s in program.stages if around(kept, s.name)],
        )
    for layer in behind:
        if layer.kind == "circuit_breaker" and len(plan.runs) > 1:
            lines += _stays_closed(plan, layer, layer.stages or program.names)
    return source(*lines, 'return "; ".join(found.values()) or None')


def _one_layer(program: Program, layer: Layer) -> str | None:
    """Return the check for one run with one layer."""
    names = [s.name for s in program.stages if around([layer], s.name)]
    if layer.kind not in USERS_OWN:
        part = "" if names == list(program.names) else f" and stage in {names!r}"
        return source(
            'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
            *TOLD,
            "for stage, value in told.items():",
            f"    if stage not in started{part}:",
            "        of = [one for one in started if value is not None and told.get(one) == value]",
            '        text = f"{stage} is told as completed ({value!r}); it did not run, nor had "',
            '        text += "it succeeded before"',
            '        return text + (f"; it is given the output of {of[0]}" if of else "")',
            "return None",
        )
    late = layer.kind == "raise" and layer.phase == "after"
    how = "denied it" if layer.kind == "deny" else "failed after it" if late else "failed"
    below = sorted({one for name in names for one in program.descendants(name)})
    ran: tuple[str, ...] = ()
    if not late:
        ran += (
            '    if (stage, "stage.start") in [one[1:3] for one in seen]:',
            f'        found.append(f"stage {{stage}} ran after a layer around it had {how}")',
        )
    return source(
        f'did = [stage for _, stage, kind, _ in seen if kind == "layer.{layer.kind}"]',
        *TOLD,
        "found = []",
        "for stage in did:",
        *ran,
        "    if stage in told:",
        f'        found.append(f"stage {{stage}}: a layer {how}; it is told as completed")',
        "    if stage not in outputs and error is None:",
        f'        found.append(f"stage {{stage}}: a layer {how}; nothing is said of it")',
        *_ran_below(program, below, how),
        'return "; ".join(found) or None',
    )


def _ran_below(program: Program, below: list[str], how: str) -> tuple[str, ...]:
    if not below:
        return ()
    above = {one: [s for s in program.names if one in program.descendants(s)] for one in below}
    return (
        f"above = {above!r}  # what each stage needs, directly or not",
        "for _, stage, kind, _ in seen:",
        "    needs = [one for one in above.get(stage, ()) if one in did]",
        '    if kind == "stage.start" and needs:',
        f'        found.append(f"stage {{stage}} ran, which needs {{needs[0]}}: a layer {how}")',
    )


def _users(program: Program) -> tuple[str, ...]:
    below = {s.name: sorted(program.descendants(s.name)) for s in program.stages}
    return (
        f"below = {below!r}  # what needs each stage, directly or not",
        "did, exits = {}, set()",
        "for _, stage, kind, detail in seen:",
        '    run, _, name = stage.rpartition("/")',
        '    if kind == "layer.exit":',
        "        exits.add((stage, detail[0]))",
        '    if kind == "layer.deny":',
        '        did[stage] = "denied it"',
        '    if kind == "layer.raise":',
        '        did[stage] = "failed after it" if (stage, detail) in exits else "failed"',
        '    if kind == "stage.start":',
        '        if did.get(stage) in ("denied it", "failed"):',
        '            text = f"stage {stage} ran after a layer around it had {did[stage]}"',
        '            found["ran " + did[stage]] = text',
        "        for other in did:",
        '            of, _, need = other.rpartition("/")',
        "            if of == run and name in below.get(need, ()):",
        '                text = f"stage {stage} ran, which needs {other}: a layer {did[other]}"',
        '                found["below " + did[other]] = text',
        'fine = [stage.strip("/") for _, stage, kind, how in seen',
        '        if kind == "run.end" and how == "returned"]',
        "for stage in did:",
        "    if stage in told:",
        '        text = f"stage {stage}: a layer {did[stage]}; it is told as completed"',
        '        found["told " + did[stage]] = text',
        '    if stage not in outputs and stage.rpartition("/")[0] in fine:',
        '        text = f"stage {stage}: a layer {did[stage]}; nothing is said of it"',
        '        found["untold " + did[stage]] = text',
    )


def _answered(behind: list[str], kept: list[str]) -> tuple[str, ...]:
    return (
        f"behind, kept = {behind!r}, {kept!r}  # a layer of the engine's; its idempotency layer",
        'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        'good = [stage for _, stage, kind, how in seen if kind == "stage.end" and how == "ok"]',
        "for stage, value in told.items():",
        '    name = stage.rpartition("/")[2]',
        "    if name not in behind or stage in started or stage in did:",
        "        continue",
        '    before = [one for one in good if one.rpartition("/")[2] == name and name in kept]',
        "    if not before:",
        '        text = f"{stage} is told as completed ({value!r}); it did not run, nor had it "',
        '        text += "succeeded before"',
        '        found.setdefault("answered", text)',
        "        of = [one for one in good if value is not None and told.get(one) == value]",
        "        if of:",
        '            found.setdefault("whose", f"{stage} is given {of[0]}\'s output: {value!r}")',
        "    elif all(one in told and told[one] != value for one in before):",
        '        found.setdefault("kept", f"{stage} was not run again; its output is {value!r}, "',
        '                         f"it had been {told[before[0]]!r}")',
    )


def _stays_closed(plan: Plan, layer: Layer, stages: tuple[str, ...]) -> tuple[str, ...]:
    most = max(FAILURES_MIN, int(layer.options.get("threshold", FAILURES_MIN)))
    reset = min(RESET_S, float(layer.options.get("reset_s", RESET_S)))
    tenants = {run.id: run.tenant for run in plan.runs}
    return (
        f"most, reset = {most}, {reset}  # failures in a row, and seconds for which they cut off",
        f"tenants = {tenants!r}",
        'over = {stage[:-1]: at for at, stage, kind, _ in seen if kind == "run.end"}',
        'begun = {stage[:-1]: at for at, stage, kind, _ in seen if kind == "run.begin"}',
        f"for name in {list(stages)!r}:",
        "    row, opened = {}, {}  # tenant -> failures in a row; the one that made them enough",
        "    for at, stage, kind, how in seen:",
        '        run, _, one = stage.partition("/")',
        "        who = tenants.get(run)",
        '        if one == name and kind == "stage.start" and who in opened:',
        "            since, last = opened[who]",
        "            if begun[run] > over.get(last, took) and at < since + reset:",
        '                found.setdefault("closed", f"{stage} ran {at - since:.2f} s after "',
        '                                 f"{most} failures in a row, the last in {last}")',
        '        if one == name and kind == "stage.end":',
        '            failed = how == "fail" or how.startswith("raise:")  # not "cancelled"',
        "            row = {**row, who: row.get(who, 0) + 1} if failed else {}",
        "            if row.get(who, 0) >= most:",
        "                opened.setdefault(who, (at, run))",
    )
