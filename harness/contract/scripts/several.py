"""Runs beside each other, and whose values and whose troubles each has: TENANT."""

from __future__ import annotations

from harness.contract.produced import planted
from harness.contract.scripts.source import EVERY_END, always_fails, around, several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

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
    """Return the lines that look for a text of one run in the outputs of another."""
    tenants = {run.id: run.tenant for run in plan.runs}
    alike = {a == b for one, a in tenants.items() for other, b in tenants.items() if one != other}
    mixed = alike != {same_tenant}
    differ = "==" if same_tenant else "!="
    concerned = f" and tenants[of] {differ} tenants[run]" if mixed else ""
    pairs = {text: run for run, texts in secrets.items() for text in texts}
    return (
        *((f"tenants = {literal(tenants)}",) if mixed else ()),
        f"given = {literal(pairs)}  # inputs, and the run that each was given to",
        "for stage, value in outputs.items():",
        *(('    of = stage.split("/")[0]',) if mixed else ()),
        "    for text, run in given.items():",
        f'        if text in repr(value) and not stage.startswith(f"{{run}}/"){concerned}:',
        '            return f"{text}, an input of {run}, is in the output of {stage}"',
    )


def tenant_1(program: Program, plan: Plan, shape: str) -> str | None:
    """No text that was given to one tenant's run is in what another's put out, and no code is
    told that it works for another tenant."""
    if not several(plan) or len({run.tenant for run in plan.runs}) < 2:
        return None
    if shape != "wrong-tenant":
        secrets = _secrets(program, plan, same_tenant=False)
        return (
            source(*_search(secrets, plan, same_tenant=False), "return None") if secrets else None
        )
    identifies = any(
        s.op == "identify" or (s.op in ("cleanup", "thread") and s.args["identify"])
        for _, s in program.walk()
    )
    if not identifies:
        return None
    return source(
        f"tenants = {literal({run.id: run.tenant for run in plan.runs})}",
        "for _, stage, kind, detail in seen:",
        '    if kind != "identity":',
        "        continue",
        '    place, said, own = *detail, tenants[stage.split("/")[0]]',
        '    if said.get("tenant") in tenants.values() and said["tenant"] != own:',
        "        return f\"{stage} is of {own}; its {place} is told {said['tenant']}\"",
        "return None",
    )


def tenant_2(program: Program, plan: Plan, shape: str) -> str | None:
    """No stage is given the kept output of another tenant's, nor cut off for its failures."""
    if not several(plan) or len({run.tenant for run in plan.runs}) < 2:
        return None
    keeps = [one for one in plan.layers if one.kind == "idempotency"]
    kept = [s.name for s in program.stages if around(keeps, s.name)]
    if shape == "output-of-another-tenant":
        return _given(program, plan, kept) if kept else None
    return _refused(program, plan, kept) if shape.startswith("refused-for-another") else None


def _given(program: Program, plan: Plan, kept: list[str]) -> str:
    tenants = {run.id: run.tenant for run in plan.runs}
    unless = "" if set(kept) == set(program.names) else f" and name in {literal(kept)}"
    return source(
        f"tenants = {literal(tenants)}",
        'rows = [stage.split("/") for _, stage, kind, _ in seen if kind == "stage.start"]',
        "ran = [(tenants[run], name) for run, name in rows]",
        "for stage, value in outputs.items():",
        '    run, name = stage.split("/")',
        f"    if (tenants[run], name) not in ran{unless}:",
        '        return f"{stage} is told as completed, {value!r}; {tenants[run]} never ran it"',
        "return None",
    )


def _refused(program: Program, plan: Plan, kept: list[str]) -> str | None:
    """Return the check that no stage was refused whose tenant had not tried it before."""
    cuts = [one for one in plan.layers if one.kind in ("circuit_breaker", "rate_limit")]
    cut = [s.name for s in program.stages if around(cuts, s.name) and s.name not in kept]
    whole = not plan.cancels and plan.stage_timeout_s is None
    whole = whole and not any(s.timeout_s or s.idle_timeout_s for s in program.stages)
    whole = whole and all(one.kind not in ("raise", "deny") for one in plan.layers)
    if not cut or not whole:
        return None
    allowed = min(
        int(one.options.get("threshold" if one.kind == "circuit_breaker" else "limit", 1))
        for one in cuts
    )
    tenants = {run.id: run.tenant for run in plan.runs}
    if len(program.stages) == 1:
        return source(
            f"tenants = {literal(tenants)}",
            'ran = [stage.split("/")[0] for _, stage, kind, _ in seen if kind == "stage.start"]',
            "for run, tenant in tenants.items():",
            "    tries = [one for one in ran if tenants[one] == tenant]",
            f"    if run not in ran and len(ran) > len(tries) and len(tries) < {allowed}:",
            '        return f"{run} of {tenant} was not let run; it had {len(tries)} tries"',
            "return None",
        )
    needs = {s.name: list(s.needs) for s in program.stages if s.name in cut}
    return source(
        f"tenants = {literal(tenants)}",
        f"needs = {literal(needs)}  # of the stages that the engine may cut off",
        'rows = [stage.split("/") for _, stage, kind, _ in seen if kind == "stage.start"]',
        "ran = [(tenants[run], name) for run, name in rows]",
        'ends = {stage: how for _, stage, kind, how in seen if kind == "stage.end"}',
        EVERY_END,
        'over = [stage[:-1] for _, stage, kind, _ in seen if kind == "run.end"]',
        "for run in over:",
        '    mine = {s: how for s, how in ends.items() if s.split("/")[0] == run}',
        '    if any(how not in ("ok", "skip") for how in mine.values()):',
        "        continue  # it has trouble of its own",
        "    for name, before in needs.items():",
        '        due = all(f"{run}/{need}" in mine for need in before)',
        "        tries = ran.count((tenants[run], name))",
        "        theirs = [who for who, one in ran if one == name and who != tenants[run]]",
        f'        if due and f"{{run}}/{{name}}" not in ends and theirs and tries < {allowed}:',
        '            return f"{run}/{name} was not let run; its tenant had {tries} tries"',
        "return None",
    )


def tenant_4(program: Program, plan: Plan, shape: str) -> str | None:
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
            f"inputs = {literal(inputs)}",
            "for _, stage, kind, detail in seen:",
            '    own = inputs.get(stage.split("/")[0], {})',
            '    if kind == "input" and detail[0] in own and detail[1] != own[detail[0]]:',
            "        for run, theirs in inputs.items():",
            "            if theirs.get(detail[0]) == detail[1]:",
            '                return f"{stage} was handed the {detail[0]} of {run}: {detail[1]!r}"',
        )
    if shape != "trouble-of-another-run":
        return source(*lines, "return None") if lines else None
    return _spoilt(program, plan)


def _spoilt(program: Program, plan: Plan) -> str:
    """Return the check that a run ends well in which nothing goes wrong by itself, as others do
    or would but for troubles of their own."""
    cancelled = literal(sorted({cancel.run for cancel in plan.cancels}))
    kinds = [f"layer.{one}" for one in ("raise", "deny") if any(p.kind == one for p in plan.layers)]
    kinds += ["self_cancel"] if "CancelledError" in repr(program) else []
    bad = 'how.startswith(("fail", "raise:", "cancel_run"))'
    run = 'stage.split("/")[0]'
    more = f"failed |= {{{run} for _, stage, kind, _ in seen if kind in {literal(kinds)}}}"
    lines = (
        f'ends = [({run}, how) for _, stage, kind, how in seen if kind == "stage.end"]',
        f"failed = {{run for run, how in ends if {bad}}}",
        *((more,) if kinds else ()),
        *((f"failed |= set({cancelled})  # they are cancelled",) if plan.cancels else ()),
    )
    if any(always_fails(program, plan, name) for name in program.names):
        return source(
            *lines,
            'over = [stage[:-1] for _, stage, kind, _ in seen if kind == "run.end"]',
            "spoilt = [run for run in over if run not in failed]  # one of the stages always fails",
            "if spoilt and len(spoilt) < len(over):",
            '    return f"nothing went wrong in {spoilt[0]}, and it did not run all its stages"',
            "return None",
        )
    return source(
        *lines,
        'got = {stage[:-1]: how for _, stage, kind, how in seen if kind == "run.end"}',
        'done = [run for run, how in ends if how == "ok"]',
        f"whole = [run for run in got if done.count(run) == {len(program.stages)}]",
        'fine = [run for run in whole if got[run] == "returned"]',
        "spoilt = [run for run in got if run not in fine and run not in failed]",
        "if spoilt and len(spoilt) < len(got):",
        '    return f"nothing went wrong in {spoilt[0]}, but: {got[spoilt[0]]}, stages: {done}"',
        "return None",
    )
