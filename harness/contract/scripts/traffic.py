"""Events and the account of them: EVENT."""

from __future__ import annotations

from harness.contract.scripts.source import EVERY_END, SLACK_S, every_step, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

__all__ = ["event_1", "event_2", "event_3", "event_4", "event_5", "event_6"]


# The account as it was last noted: with which the run was over, if it was.
LAST = 'said = [detail for _, _, kind, detail in seen if kind == "account"][-1]'
# The producers and numbers of events that something happened to; what the engine itself emits
# has no producer.
TAKEN = 'taken = [n for _, _, kind, n in seen if kind == "taken"]'


def _events(kind: str) -> str:
    return f'n for _, _, kind, n in seen if kind == "{kind}" and n[0]'


def _judged(plan: Plan) -> bool:
    """Say whether the account of a run can be judged: of one, since several may share it, and of
    one that its caller did not cancel, who is told nothing."""
    return plan.sink is not None and len(plan.runs) == 1 and not plan.cancels


def event_1(_program: Program, plan: Plan, shape: str) -> str | None:
    """The account adds up whenever it is looked at, and at the end tells what was delivered."""
    if not _judged(plan):
        return None
    if shape == "delivered-twice":
        return source(
            f"got = [{_events('deliver.end')}]",
            "twice = [one for one in got if got.count(one) > 1]",
            "if twice:",
            '    return f"delivered more than once: {twice[:3]}"',
            "return None",
        )
    if shape == "delivered-miscounted":
        return source(
            LAST,
            'got = [n for _, _, kind, n in seen if kind == "deliver.end"]',
            "if said[1] > len(got) or said[1] < len([one for one in got if one[0]]):",
            '    return f"the account says {said[1]} delivered; the sink has taken {len(got)}"',
            "return None",
        )
    if shape == "offered-miscounted":
        return source(
            LAST,
            TAKEN,
            "if said[0] < len(taken):",
            '    return f"the account says {said[0]} offered; {len(taken)} were taken"',
            "return None",
        )
    return source(
        'for said in [detail for _, _, kind, detail in seen if kind == "account"]:',
        "    if said[0] != said[1] + said[2] + said[3] or min(said[1:4]) < 0:",
        '        return f"offered, delivered, dropped, pending by the account: {said[:4]}"',
        "return None",
    )


def event_2(_program: Program, plan: Plan, shape: str) -> str | None:
    """Whatever was taken and lost is among the dropped, or still among the pending."""
    if not _judged(plan):
        return None
    if shape == "sink-error-unseen":
        lost: tuple[str, ...] = (f"lost = [{_events('deliver.fail')}]",)
        what = "the sink raised over {len(lost)} events"
    else:
        lost = (
            TAKEN,
            f"got = [{_events('deliver.begin')}]",
            "lost = [n for n in taken if n not in got]",
        )
        what = "{len(lost)} events never came to the sink"
    return source(
        *lost,
        "if len(lost) > dropped + pending:",
        f'    return f"{what}; the account has {{dropped}} dropped, {{pending}} pending"',
        "return None",
    )


def event_3(_program: Program, plan: Plan, shape: str) -> str | None:
    """No more events are in delivery at once than the queue holds, save one while it is stopped."""
    if plan.sink is None or plan.sink.queue_max is None or shape != "deliveries-unbounded":
        return None
    most = plan.sink.queue_max * len(plan.runs) + 1
    return source(
        "now = []  # events in delivery",
        "for _, _, kind, number in seen:",
        '    if kind == "deliver.begin":',
        "        now.append(number)",
        '    if kind in ("deliver.end", "deliver.fail") and number in now:',
        "        now.remove(number)",
        f"    if len(now) > {most}:",
        f'        return f"{{len(now)}} events are in delivery; the queue holds {most - 1}"',
        "return None",
    )


def event_4(program: Program, plan: Plan) -> str | None:
    """The sink gets each producer's events in the order of their emission."""
    if plan.sink is None:
        return None
    producers = [one for one in every_step(program) if one.op == "flood"]
    if len(producers) == 1 == len(plan.runs):
        # An event that comes again, as of a stage that is tried again, is in its place already.
        return source(
            f"got = list(dict.fromkeys({_events('deliver.begin').replace('n ', 'n[1] ', 1)}))",
            "if got != sorted(got):",
            '    return f"the sink got the events in this order: {got}"',
            "return None",
        )
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


def event_5(_program: Program, plan: Plan, shape: str) -> str | None:
    """When the run is over, what it accepted has been delivered or is counted as dropped."""
    if not _judged(plan) or plan.sink is None:
        return None
    left = (
        TAKEN,
        'got = [n for _, _, kind, n in seen if kind in ("deliver.end", "deliver.fail")]',
        "left = [n for n in taken if n not in got]",
    )
    if shape == "drain-too-long":
        limit = plan.sink.drain_s
        return source(
            *(line.replace("left", "late") for line in left),
            'since = max([at for at, _, kind, _ in seen if kind == "stage.end"], default=0.0)',
            'over = max([at for at, _, kind, _ in seen if kind == "run.end"], default=since)',
            f"if late and over - since > {limit + SLACK_S!r}:",
            f'    return f"the run was over {{over - since:.2f}} s late, not {limit:g} s"',
            "return None",
        )
    return source(
        *(line.replace("left", "late") for line in left),
        "if len(late) > dropped:",
        '    return f"of {len(taken)} accepted events {len(late)} unsettled; {dropped} dropped"',
        "return None",
    )


def event_6(_program: Program, plan: Plan, shape: str) -> str | None:
    """A sink that is slow, hangs or raises neither stalls nor fails stages and run."""
    sink = plan.sink
    if sink is None or len(plan.runs) > 1 or plan.cancels:
        return None
    if not (sink.error or sink.hangs_at or sink.delivery_s):
        return None
    if shape == "sink-error-reaches-stage":
        return source(
            'offers = [d for _, _, kind, d in seen if kind == "offer.end"]',
            f"hit = [d for d in offers if d[2] == {literal(f'raise:{sink.error}')}]",
            "if hit:",
            '    return f"the error of the sink came out of the emission of {hit[0]}"',
            "return None",
        )
    if shape == "emission-stalls":
        return _stalls(plan)
    if shape == "stalled-for-ever":
        return source(
            'begun = [d for _, _, kind, d in seen if kind == "offer.begin"]',
            'over = [d[:2] for _, _, kind, d in seen if kind == "offer.end"]',
            "waiting = [d for d in begun if d not in over]",
            "ends = [kind for _, _, kind, _ in seen]",
            'idle = ends.count("stage.start") == ends.count("stage.end")',
            'if "run.end" not in ends and (waiting or idle) and took:',
            '    return f"the run never ended; emissions that wait for the sink: {waiting}"',
            "return None",
        )
    if shape != "run-failed":
        return None
    return source(
        EVERY_END,
        'ended = [how for _, _, kind, how in seen if kind == "stage.end"]',
        "failed = error is not None and not isinstance(error, asyncio.CancelledError)",
        'if failed and ended and all(how == "ok" for how in ended):',
        '    return f"all stages are ok, and the run failed: {error!r}"',
        "return None",
    )


def _stalls(plan: Plan) -> str | None:
    sink = plan.sink
    assert sink is not None  # the caller has looked
    blocks = sink.policy == "block"
    limit = sink.block_s if blocks else 0.0 if sink.policy else None
    # Under the policy of blocking, waiting is right until the sink has hung.
    if limit is None or not (sink.hangs_at is not None or not blocks):
        return None
    hung = (
        'done = [d for _, _, kind, d in seen if kind in ("deliver.end", "deliver.fail")]',
        'given = [(at, d) for at, _, kind, d in seen if kind == "deliver.begin"]',
        "hung = min([at for at, d in given if d not in done], default=took)",
    )
    return source(
        *(hung if blocks else ()),
        'begun = {d: at for at, _, kind, d in seen if kind == "offer.begin"}',
        'offers = [(at, d) for at, _, kind, d in seen if kind == "offer.end"]',
        "for at, detail in offers:",
        f"    waited = at - {'max(begun[detail[:2]], hung)' if blocks else 'begun[detail[:2]]'}",
        f"    if waited > {limit + SLACK_S!r}:",
        '        return f"the emission of {detail} waited {waited:.2f} s for the sink"',
        "return None",
    )
