"""Events and the account of them: EVENT."""

from __future__ import annotations

from harness.contract.scripts.source import SLACK_S, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["event_1", "event_2", "event_4", "event_5", "event_6"]


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
        '    if kind[:5] in ("offer", "deliv") and detail[0]:  # what the engine emits has none',
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
    if plan.sink is None:
        return None
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
