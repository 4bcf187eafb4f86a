"""The checks of stand-alone scripts about what is around stages: events, layers, tenants, ids.

As in `scripts`: each function returns the source of `violation(seen, error, outputs, left,
took)`, written for one program and plan, or None where a script cannot tell. With several
runs, stages are noted and their outputs named as `run/stage`. The rules are those of the
clauses, at moments at which a real clock leaves no doubt; where an engine may be right, they hold.
"""

from __future__ import annotations

from harness.contract.produced import planted
from harness.contract.scripts import SLACK_S, source
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program

__all__ = [
    "corr_1",
    "corr_3",
    "event_1",
    "event_2",
    "event_4",
    "event_5",
    "event_6",
    "graph_5",
    "tenant_1",
    "tenant_2",
    "tenant_4",
]

USERS_OWN = ("observe", "raise", "deny")
# What the engines' circuit breakers do if they cannot be told otherwise.
FAILURES_MIN, RESET_S = 5, 30.0

TOLD = (
    "# What did not complete stands among the outputs as a text like `failed: why`.",
    "told = {",
    "    stage: value",
    "    for stage, value in outputs.items()",
    '    if not (isinstance(value, str) and ": " in value)',
    "}",
)


# EVENT


def _events(plan: Plan, *lines: str) -> str | None:
    """Return a check of the account with which the run was over: of one run, since several may
    share an account, and of one that its caller did not cancel, who is told nothing."""
    if plan.sink is None or len(plan.runs) > 1 or plan.cancels:
        return None
    return source(
        "# The account with which the run was over is noted last, and by no stage.",
        'last = [i for i, (_, *one, _) in enumerate(seen) if one == ["", "account"]]',
        "if not last:",
        "    return None",
        "before = seen[: last[-1]]",
        "offered, delivered, dropped, pending, _ = seen[last[-1]][3]",
        "of = {}  # what happened -> producers and numbers of the events to which it did",
        "for _, _, kind, detail in before:",
        '    if kind[:5] in ("offer", "deliv") and detail[0]:  # the engine\'s own have none',
        '        what = detail[2] if kind == "offer.end" else kind',
        "        of.setdefault(what, []).append(detail[:2])",
        'taken, got = of.get("taken", []), of.get("deliver.end", [])',
        'begun, failed = of.get("deliver.begin", []), of.get("deliver.fail", [])',
        *lines,
    )


def event_1(_program: Program, plan: Plan) -> str | None:
    """The account adds up whenever it is looked at, and at the end tells what was delivered."""
    return _events(
        plan,
        'for said in [detail for _, _, kind, detail in seen if kind == "account"]:',
        "    if said[0] != said[1] + said[2] + said[3] or min(said[1:4]) < 0:",
        '        return f"offered, delivered, dropped, pending by the account: {said[:4]}"',
        "twice = [one for one in got if got.count(one) > 1]",
        "if twice:",
        '    return f"delivered more than once: {twice[:3]}"',
        'all_got = len([1 for _, _, kind, _ in before if kind == "deliver.end"])',
        "if delivered > all_got or delivered < len(got):",
        '    return f"the account says {delivered} delivered; the sink has taken {all_got}"',
        "if offered < len(taken):",
        '    return f"the account says {offered} offered; {len(taken)} were taken"',
        "return None",
    )


def event_2(_program: Program, plan: Plan) -> str | None:
    """Whatever was taken and lost is among the dropped, or still among the pending."""
    return _events(
        plan,
        "lost = [n for n in taken if n not in got and (n in failed or n not in begun)]",
        "raised = [n for n in lost if n in failed]",
        'said = f"by the account {dropped} dropped, {pending} pending"',
        "if len(lost) > dropped + pending:",
        '    return f"{len(lost)} events were lost, the sink raised over {len(raised)}; {said}"',
        "return None",
    )


def event_4(_program: Program, plan: Plan) -> str | None:
    """The sink gets each producer's events in the order of their emission."""
    if plan.sink is None or plan.cancels:
        return None  # where a cancel finds the queue is another place each time on a real clock
    return source(
        "last = {}  # producer -> number of its event that the sink was given last",
        "for _, _, kind, detail in seen:",
        '    if kind == "deliver.begin" and detail[0] and detail not in last.values():',
        "        producer, number = detail",
        "        if producer in last and number < last[producer][1]:",
        '            return f"of {producer} the sink got {last[producer][1]} before {number}"',
        "        last[producer] = detail",
        "return None",
    )


def event_5(_program: Program, plan: Plan) -> str | None:
    """When the run is over, what it accepted has been delivered or is counted as dropped."""
    if plan.sink is None:
        return None
    limit = plan.sink.drain_s
    return _events(
        plan,
        "open_ = [n for n in taken if n not in got and n not in failed]",
        'said = f"by the account {dropped} dropped, {pending} pending"',
        "if len(open_) > dropped:",
        '    return f"{len(open_)} of {len(taken)} accepted events had not been delivered; {said}"',
        "since = max([at for at, stage, _, _ in before if stage], default=0.0)",
        "waited = seen[last[-1]][0] - since",
        f"if open_ and waited > {limit!r} + {SLACK_S}:",
        f'    return f"the run was over {{waited:.2f}} s after its stages, not {limit:g} s"',
        "return None",
    )


def event_6(_program: Program, plan: Plan) -> str | None:
    """A sink that is slow, hangs or raises neither stalls nor fails stages and run."""
    sink = plan.sink
    if sink is None or len(plan.runs) > 1 or plan.cancels:
        return None
    if not (sink.error or sink.hangs_at or sink.delivery_s):
        return None
    error = f"raise:{sink.error}"
    blocks = sink.policy == "block"
    limit = sink.block_s if blocks else 0.0 if sink.policy else None
    # Under the policy of blocking, waiting is right until the sink has hung.
    judged = limit is not None and (sink.hangs_at is not None or not blocks)
    return source(
        'begun = {d: at for at, _, kind, d in seen if kind == "offer.begin"}',
        'done = [d for _, _, kind, d in seen if kind in ("deliver.end", "deliver.fail")]',
        'given = [(at, d) for at, _, kind, d in seen if kind == "deliver.begin"]',
        "hung = min([at for at, d in given if d not in done], default=took)",
        'offers = [(at, d) for at, _, kind, d in seen if kind == "offer.end"]',
        "for at, detail in offers:",
        f"    if detail[2] == {error!r}:",
        '        return f"the error of the sink came out of the emission of {detail}"',
        *(
            (
                "    waited = at - "
                + ("max(begun[detail[:2]], hung)" if blocks else "begun[detail[:2]]"),
                f"    if waited > {limit} + {SLACK_S}:",
                '        return f"the emission of {detail} waited {waited:.2f} s for the sink"',
            )
            if judged
            else ()
        ),
        'started = [stage for _, stage, kind, _ in seen if kind == "stage.start"]',
        'ended = [how for _, _, kind, how in seen if kind == "stage.end"]',
        "waiting = sorted(begun.keys() - {detail[:2] for _, detail in offers})",
        'if not any(kind == "run.end" for _, _, kind, _ in seen):',
        "    if waiting or len(ended) == len(started):",
        '        return f"the run never ended; emissions that wait for the sink: {waiting}"',
        "    return None",
        "failed = error is not None and not isinstance(error, asyncio.CancelledError)",
        'if failed and ended and all(how == "ok" for how in ended):',
        '    return f"all stages are ok, and the run failed: {error!r}"',
        "return None",
    )


# TENANT


def _simple(plan: Plan) -> bool:
    """Say whether the runs of a plan can be told apart in a script's notes."""
    return len(plan.runs) > 1 and not any("/" in run.id for run in plan.runs)


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
    if not _simple(plan) or len({run.tenant for run in plan.runs}) < 2:
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


def _around(layers: list[Layer], stage: str) -> list[Layer]:
    return [one for one in layers if not one.stages or stage in one.stages]


def tenant_2(program: Program, plan: Plan) -> str | None:
    """No stage is given the kept output of another tenant's, nor cut off for its failures."""
    if not _simple(plan) or len({run.tenant for run in plan.runs}) < 2:
        return None
    keeps = [one for one in plan.layers if one.kind == "idempotency"]
    cuts = [one for one in plan.layers if one.kind in ("circuit_breaker", "rate_limit")]
    kept = [s.name for s in program.stages if _around(keeps, s.name)]
    cut = [s.name for s in program.stages if _around(cuts, s.name) and s.name not in kept]
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
            "ends = {stage: how for _, stage, kind, how in seen if kind == 'stage.end'}",
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
    if not _simple(plan) or any(run.redrives for run in plan.runs):
        return None
    ops = {one.op for _, one in program.walk()}
    timed = plan.stage_timeout_s is not None or any(
        s.timeout_s is not None or s.idle_timeout_s for s in program.stages
    )
    stateful = any(one.kind not in USERS_OWN for one in plan.layers)
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


# CORR


def corr_1(program: Program, plan: Plan) -> str | None:
    """The caller's correlation id is told to code of the run, and is on the error of the run."""
    ids = {run.id: run.correlation for run in plan.runs if run.correlation}
    if not ids or any("/" in run.id for run in plan.runs):
        return None
    many = len(plan.runs) > 1
    run = 'stage.split("/")[0]' if many else repr(plan.runs[0].id)
    return source(
        f"ids = {ids!r}  # run -> the correlation id of its caller",
        "for _, stage, kind, detail in seen:",
        f"    due = ids.get({run})",
        '    if kind == "identity" and due is not None:',
        '        said = detail[1].get("correlation", "")',
        "        if said not in ids.values():",
        '            return f"{stage}, {detail[0]}: the correlation id is {said!r}, not {due}"',
        "# `error` is that of the first run that has one.",
        f"got = {{{run}: how for _, stage, kind, how in seen if kind == 'run.end'}}",
        f'first = [run for run in {[r.id for r in plan.runs]!r} if got.get(run) != "returned"]',
        'failed = [stage for _, stage, kind, how in seen if kind == "stage.end"',
        '          and (how == "fail" or how.startswith("raise:"))]',
        "own = error is not None and type(error).__module__ not in ('builtins', '__main__')",
        "due = ids.get(first[0]) if first else None",
        "if own and due and not isinstance(error, asyncio.CancelledError):",
        f"    if any({run} == first[0] for stage in failed):",
        "        texts, one = [], error",
        "        while one is not None and len(texts) < 20:",
        "            fields = {n: getattr(one, n, None) for n in dir(one) if n[:2] != '__'}",
        '            texts.append(f"{one!r} {fields}")',
        "            one = one.__cause__ or one.__context__",
        "        # The id itself, or the UUID that was made of it for an engine that wants one.",
        "        forms = due, str(uuid.uuid5(uuid.NAMESPACE_DNS, due))",
        "        if not any(one in str(texts) for one in forms):",
        '            return f"the correlation id {due} is not on the error of the run: {error!r}"',
        "return None",
    )


def corr_3(_program: Program, plan: Plan) -> str | None:
    """Code of a run is told no id of another run."""
    if not _simple(plan):
        return None
    ids = {run.id: run.correlation for run in plan.runs}
    return source(
        f"ids = {ids!r}  # run -> the correlation id of its caller",
        "for _, stage, kind, detail in seen:",
        '    if kind != "identity":',
        "        continue",
        '    place, said, run = *detail, stage.split("/")[0]',
        "    for other, correlation in ids.items():",
        '        if correlation and said.get("correlation") == correlation != ids[run]:',
        '            return f"the {place} of {stage} is told the correlation id of run {other}"',
        '        if other != run and said.get("run", "").split("/")[0] == other:',
        '            return f"the {place} of {stage} is told that it is of run {other}"',
        "return None",
    )


# GRAPH-5


def graph_5(program: Program, plan: Plan) -> str | None:
    """What a layer failed over, denied or answered for itself is no success of its stage, and
    the engine's own layers cut off and keep what they should. Says one thing of each kind."""
    kinds = {one.kind for one in plan.layers}
    if not kinds or "rate_limit" in kinds or any(s.retry for s in program.stages):
        return None
    if any(one.op == "subpipeline" for _, one in program.walk()):
        return None
    if len(plan.runs) > 1 and not _simple(plan):
        return None
    lines: tuple[str, ...] = ("found = {}", *TOLD)
    lines += _users(program) if kinds & {"raise", "deny"} else ("did = {}",)
    behind = [one for one in plan.layers if one.kind not in USERS_OWN]
    if behind:
        kept = [one for one in behind if one.kind == "idempotency"]
        lines += _answered(
            [s.name for s in program.stages if _around(behind, s.name)],
            [s.name for s in program.stages if _around(kept, s.name)],
        )
    for layer in behind:
        if layer.kind == "circuit_breaker" and len(plan.runs) > 1:
            lines += _stays_closed(plan, layer, layer.stages or program.names)
    return source(*lines, 'return "; ".join(found.values()) or None')


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
        '            failed = how == "fail" or how.startswith("raise:")',
        "            row = {**row, who: row.get(who, 0) + 1} if failed else {}",
        "            if row.get(who, 0) >= most:",
        "                opened.setdefault(who, (at, run))",
    )
