"""Runs beside each other, and whose values and whose troubles each has: TENANT."""

from __future__ import annotations

from harness.contract.produced import planted
from harness.contract.scripts.source import TOLD, around, several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["tenant_1", "tenant_2", "tenant_4"]


def _secrets(program: Program, plan: Plan, *, same_tenant: bool) -> dict[str, list[str]]:
    """Return run -> planted texts that no other run can have by right: the program does not say
    them, and none is a part of what another one was given."""
    said = repr(program.to_json())
    given = {run.id: planted(run) for run in plan.runs}
    tenant = {run.id: run.tenant for run in plan.runs}
    found: dict[str, list[str]] = {}
    for run, texts in given.items():
        others = [
            text
            for other in plan.runs
            if other.id != run and (same_tenant or other.tenant != tenant[run])
            for text in given[other.id]
        ]
        found[run] = [
            text
            for text in texts
            if text not in said and not any(text in one or one in text for one in others)
        ]
    return {run: texts for run, texts in found.items() if texts}


def _search(secrets: dict[str, list[str]], plan: Plan, *, same_tenant: bool) -> tuple[str, ...]:
    tenants = {run.id: run.tenant for run in plan.runs}
    differ = "==" if same_tenant else "!="
    return (
        f"tenants = {tenants!r}",
        f"given = {secrets!r}",
        "produced = [(stage, kind, detail) for _, stage, kind, detail in seen]",
        'produced += [(stage, "output", value) for stage, value in outputs.items()]',
        "for stage, kind, detail in produced:",
        '    run = stage.split("/")[0]',
        "    for other, texts in given.items():",
        f"        if run in tenants and run != other and tenants[run] {differ} tenants[other]:",
        "            for text in texts:",
        "                if text in repr(detail):",
        '                    return f"{text}, an input of {other}, is in the {kind} of {stage}"',
    )


def tenant_1(program: Program, plan: Plan) -> str | None:
    """No text that was given to one tenant's run is in what another's noted or put out."""
    if not several(plan) or len({run.tenant for run in plan.runs}) < 2:
        return None
    secrets = _secrets(program, plan, same_tenant=False)
    identifies = any(
        s.op == "identify" or (s.op in ("cleanup", "thread") and s.args["identify"])
        for _, s in program.walk()
    )
    if not secrets and not identifies:
        return None
    return source(
        *_search(secrets, plan, same_tenant=False),
        '    said = detail[1].get("tenant") if kind == "identity" else None',
        "    if said in tenants.values() and said != tenants[run]:",
        '        return f"{stage} is {tenants[run]}\'s; its {detail[0]} is told {said}"',
        "return None",
    )


def tenant_2(program: Program, plan: Plan) -> str | None:
    """No stage is given the kept output of another tenant's, nor cut off for its failures."""
    if not several(plan) or len({run.tenant for run in plan.runs}) < 2:
        return None
    keeps = [one for one in plan.layers if one.kind == "idempotency"]
    cuts = [one for one in plan.layers if one.kind in ("circuit_breaker", "rate_limit")]
    kept = [s.name for s in program.stages if around(keeps, s.name)]
    cut = [s.name for s in program.stages if around(cuts, s.name) and s.name not in kept]
    whole = not plan.cancels and plan.stage_timeout_s is None
    whole = whole and not any(s.timeout_s or s.idle_timeout_s for s in program.stages)
    whole = whole and all(one.kind not in ("raise", "deny") for one in plan.layers)
    if not kept and not (cut and whole):
        return None
    tenants = {run.id: run.tenant for run in plan.runs}
    lines: tuple[str, ...] = (
        f"tenants = {tenants!r}",
        *TOLD,
        "ran = {}  # (tenant, stage) -> in which runs",
        "for _, stage, kind, _ in seen:",
        '    if kind == "stage.start":',
        '        run, _, name = stage.partition("/")',
        "        ran.setdefault((tenants[run], name), []).append(run)",
    )
    if kept:
        lines += (
            f"for name in {kept!r}:  # behind the idempotency layer",
            "    whose = [tenant for tenant, one in ran if one == name]",
            "    for run, tenant in tenants.items():",
            '        if f"{run}/{name}" in told and tenant not in whose and whose:',
            '            value = told[f"{run}/{name}"]',
            '            return (f"{run}/{name} is told as completed, {value!r}; no run of "',
            '                    f"{tenant} ran it, but one of {whose[0]} did")',
        )
    if cut and whole:
        allowed = min(
            int(one.options.get("threshold" if one.kind == "circuit_breaker" else "limit", 1))
            for one in cuts
        )
        needs = {s.name: list(s.needs) for s in program.stages if s.name in cut}
        lines += (
            f"needs = {needs!r}  # of the stages that the engine may cut off",
            'ends = {stage: how for _, stage, kind, how in seen if kind == "stage.end"}',
            '# However each ended, be it "cancelled".',
            'over = [stage[:-1] for _, stage, kind, _ in seen if kind == "run.end"]',
            "for run in over:",
            "    mine = {s: how for s, how in ends.items() if s.split('/')[0] == run}",
            '    if any(how not in ("ok", "skip") for how in mine.values()):',
            "        continue  # it has trouble of its own",
            "    for name, before in needs.items():",
            '        due = all(f"{run}/{need}" in mine for need in before)',
            "        tries = len(ran.get((tenants[run], name), []))",
            "        theirs = [who for who, one in ran if one == name and who != tenants[run]]",
            f'        if due and f"{{run}}/{{name}}" not in ends and theirs and tries < {allowed}:',
            '            return (f"{run}/{name} was not let run; {tenants[run]} had run it "',
            '                    f"{tries} times; others who had run it: {theirs}")',
        )
    return source(*lines, "return None")


def tenant_4(program: Program, plan: Plan) -> str | None:
    """A run in which nothing goes wrong is not spoilt by one beside it, nor mixed up with it."""
    if not several(plan) or any(run.redrives for run in plan.runs):
        return None
    ops = {one.op for _, one in program.walk()}
    timed = plan.stage_timeout_s is not None or any(
        s.timeout_s is not None or s.idle_timeout_s for s in program.stages
    )
    stateful = any(one.kind not in ("observe", "raise", "deny") for one in plan.layers)
    if timed or stateful or ops & {"swallow", "skip", "cancel_branch"}:
        return None
    lines: tuple[str, ...] = ()
    secrets = _secrets(program, plan, same_tenant=True)
    if len({run.tenant for run in plan.runs}) < len(plan.runs) and secrets:
        lines += _search(secrets, plan, same_tenant=True)
    inputs = {run.id: dict(run.inputs) for run in plan.runs}
    if "input" in ops:
        lines += (
            f"inputs = {inputs!r}",
            "for _, stage, kind, detail in seen:",
            '    own = inputs.get(stage.split("/")[0], {})',
            '    if kind == "input" and detail[0] in own and detail[1] != own[detail[0]]:',
            "        for run, theirs in inputs.items():",
            "            if theirs.get(detail[0]) == detail[1]:",
            '                return f"{stage} was handed the {detail[0]} of {run}: {detail[1]!r}"',
        )
    cancelled = sorted({cancel.run for cancel in plan.cancels})
    return source(
        *lines,
        f"stages = {sorted(program.names)!r}",
        f"troubled = set({cancelled!r})  # runs that are cancelled, fail or are refused something",
        "begun, over, ran, spoilt = {}, {}, {}, {}",
        "for at, who, kind, how in seen:",
        '    run, _, name = who.partition("/")',
        '    if kind == "run.begin":',
        "        begun[run] = at",
        '    if kind == "run.end":',
        "        over[run] = at",
        '        if how != "returned":',
        '            spoilt.setdefault(run, []).append(f"its caller got {how}")',
        '    if kind == "stage.start":',
        "        ran.setdefault(run, set()).add(name)",
        '    if kind == "stage.end" and how == "cancelled":',
        '        spoilt.setdefault(run, []).append(f"its stage {name} was cancelled")',
        '    own = kind == "stage.end" and how not in ("ok", "cancelled")',
        '    if own or kind in ("layer.raise", "layer.deny", "self_cancel"):',
        "        troubled.add(run)",
        "for run in over:",
        "    missing = [name for name in stages if name not in ran.get(run, set())]",
        "    if missing:",
        '        spoilt.setdefault(run, []).append(f"its stages {missing} did not run")',
        "found = {}",
        "for run, what in spoilt.items():",
        "    if run in troubled or run not in over:",
        "        continue",
        "    for other in begun:",
        "        beside = begun[other] < over[run] and begun[run] < over.get(other, took)",
        "        if other != run and beside and (other in troubled or other not in spoilt):",
        '            text = " and ".join(what)',
        '            found[text] = f"nothing went wrong in {run}, but {text}; beside it: {other}"',
        'return "; ".join(found.values()) or None',
    )
