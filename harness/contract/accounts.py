"""EVENT-1 to EVENT-3: the engine's account of events, held against what happened.

The checks follow each numbered event and look at the account at every moment at which a stage
did, and when the run was reported. Nothing is judged by a rate or a share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.contract.clause import Judgement, Violation, untested, violated
from harness.contract.reading import CLOSE_S, Reading
from harness.contract.traffic import Account, Event, Traffic, refused_in, top, traffic
from harness.kernel.outcome import SinkReport

__all__ = [
    "check_event_1",
    "check_event_2",
    "check_event_3",
    "fairest",
    "followed",
    "judged",
    "mine",
    "some",
]


def followed(r: Reading, t: Traffic) -> bool:
    """Say whether events can be followed to the sink: to the plan's own, which notes them."""
    return r.sound and r.plan.sink is not None and t.clear and not t.elsewhere


def fairest(t: Traffic, judge: Callable[[bool], list[Violation]]) -> list[Violation]:
    """Judge an account as each run's own and as one of all runs; return the lesser charge."""
    return min((judge(shared) for shared in t.ways()), key=len)


def mine(t: Traffic, run: str, *, shared: bool) -> list[Event]:
    return [one for one in t.events.values() if shared or one.run == run]


def some(events: Sequence[Event]) -> str:
    first = events[0]
    return f"number {first.number} of {first.producer}"


def judged(r: Reading) -> list[str]:
    """Return the runs whose end the engine has told about; who cancels a run is told nothing."""
    return [
        run for run, facts in r.runs.items() if facts.over and not facts.cancels and r.told(run)
    ]


def check_event_1(r: Reading) -> Judgement:
    t = traffic(r)
    if not followed(r, t) or not t.events or not t.accounts:
        return untested()
    bad = _unbalanced(t.accounts)
    bad += fairest(t, lambda shared: _untrue(t, shared=shared))
    twice = [one for one in t.events.values() if len(one.ended) > 1]
    if twice:
        one = twice[0]
        bad.append(
            Violation(
                "delivered-twice",
                "the sink takes each event once",
                f"it took {len(twice)} events more than once, {some(twice)} among them",
                one.stage,
                "",
                {"delivered_twice": len(twice)},
                (*one.ended[:5],),
            )
        )
    return violated(bad, accounts_checked=len(t.accounts), events_offered=len(t.events))


def _unbalanced(accounts: list[Account]) -> list[Violation]:
    for one in accounts:
        said = one.said
        parts = (said.delivered, said.dropped, said.pending)
        if said.offered == sum(parts) and min(parts) >= 0:
            continue
        return [
            Violation(
                "account-unbalanced",
                "offered = delivered + dropped + pending",
                f"the account says {said.offered} offered, {said.delivered} delivered, "
                f"{said.dropped} dropped, {said.pending} pending",
                "",
                "",
                {"difference": said.offered - sum(parts)},
                (one.at,),
            )
        ]
    return []


def _untrue(t: Traffic, *, shared: bool) -> list[Violation]:
    """Find accounts that say of offered or delivered events what did not happen."""
    if t.unnumbered and not t.alone:
        return []
    for one in t.accounts:
        counts = t.counts(one.run, shared=shared)
        # An engine may count a delivery a few turns of the loop after the sink has ended it,
        # and take for delivered what it is just handing over: both in one and the same instant.
        least = counts.until("delivered", one.at, one.at_s - CLOSE_S)
        reached = counts.before("delivered", one.at)
        under_way = counts.by("begun", one.at_s) - reached - counts.before("failed", one.at)
        now = max(0, min(under_way, counts.in_instant("begun", one.at_s)))
        if not least <= one.said.delivered <= reached + now:
            return [_wrong(one, "delivered", one.said.delivered, reached)]
        least = counts.before("taken", one.at)
        most = counts.before("offered", one.at)
        if one.said.offered < least or (one.said.offered > most and not t.foreign):
            return [_wrong(one, "offered", one.said.offered, most)]
    return []


def _wrong(one: Account, what: str, said: int, truth: int) -> Violation:
    return Violation(
        f"{what}-miscounted",
        f"the account says that {truth} events were {what}",
        f"it says {said}",
        "",
        "",
        {"said": said, "were": truth},
        (one.at,),
    )


def check_event_2(r: Reading) -> Judgement:
    t = traffic(r)
    if not followed(r, t) or r.record.ended != "over":
        return untested()
    dropped = [one for one in t.events.values() if one.lost or one.answer == "refused"]
    if not dropped or not judged(r):
        return untested()
    bad = fairest(t, lambda shared: _unseen(r, t, shared=shared))
    return violated(bad, events_dropped=len(dropped))


def _unseen(r: Reading, t: Traffic, *, shared: bool) -> list[Violation]:
    if shared:
        return _unseen_of(mine(t, "", shared=True), t.last())
    found = (_unseen_of(mine(t, run, shared=False), t.final(run)) for run in judged(r))
    return next((bad for bad in found if bad), [])


def _unseen_of(events: list[Event], said: SinkReport | None) -> list[Violation]:
    """Compare what was taken and lost with what the engine says of it: that it was dropped, or
    is pending still. What was refused, its producer has seen; what is in the sink's hands is
    judged by EVENT-5."""
    lost = [one for one in events if one.lost and (one.failed or not one.begun)]
    seen = 0
    if said is not None:  # else the engine gives no account at all
        seen = max(0, said.dropped + said.pending - refused_in(events, said))
    if len(lost) <= seen:
        return []
    failed = [one for one in lost if one.failed]
    by_sink = len(lost) - seen <= len(failed)
    first = failed[0] if by_sink else lost[0]
    return [
        Violation(
            "sink-error-unseen" if by_sink else "drop-unseen",
            f"all {len(lost)} events that were taken and lost are in a counter, or were told of",
            f"{seen} are"
            + ("" if said is not None else "; the engine gives no account of events")
            + (f"; the sink raised over {len(failed)} of them" if failed else ""),
            first.stage,
            "",
            {"lost": len(lost), "seen": seen, "sink_raised": len(failed)},
            (first.offered, *first.failed[:1]),
        )
    ]


def check_event_3(r: Reading) -> Judgement:
    t = traffic(r)
    if not followed(r, t):
        return untested()
    looks = [(one, bound) for one in t.accounts if (bound := _bound(r, one)) is not None]
    if not looks or len(t.events) <= min(bound for _, bound in looks):
        return untested()  # what never came near its bound proves nothing
    bad = fairest(t, lambda shared: _unbounded(t, looks, shared=shared))
    # Runs may have a queue each.
    bad = bad or _all_at_once(r, t, max(bound for _, bound in looks) * len(r.plan.runs))
    return violated(bad, events_offered=len(t.events), accounts_checked=len(looks))


def _bound(r: Reading, one: Account) -> int | None:
    """Return how many events may be pending, in memory and on disk, or None if nobody says."""
    sink = r.plan.sink
    memory = one.said.queue_max
    if memory is None:
        memory = None if sink is None else sink.queue_max
    if sink is None or memory is None or sink.policy != "spill":
        return memory
    return None if sink.spill_max is None else memory + sink.spill_max


def _unbounded(t: Traffic, looks: list[tuple[Account, int]], *, shared: bool) -> list[Violation]:
    # Beside what waits in the queue there is what is being delivered, or on its way there: one
    # event for each worker of the engine's, of which there are as many as ever worked at once.
    workers = max(1, t.deliveries_max)
    for one, bound in looks:
        counts = t.counts(one.run, shared=shared)
        reached = sum(counts.before(how, one.at) for how in ("delivered", "failed", "cut"))
        # By the journal: what was taken, has not come out, and cannot be among the dropped.
        taken, refused = counts.before("taken", one.at), counts.before("refused", one.at)
        counted = taken + refused if one.said.offered >= taken + refused else taken
        held = counted - reached - one.said.dropped
        most = max(one.said.pending, held)
        if most <= bound + workers:
            continue
        return [
            Violation(
                "bound-exceeded",
                f"at most {bound} events are pending, beside {workers} being delivered",
                f"{most} were in all",
                "",
                "",
                {"pending": most, "bound": bound},
                (one.at,),
            )
        ]
    return []


def _most_at_once(events: list[Event]) -> int:
    """Return how many of these events were being delivered at once, at most."""
    changes = [(one.begun[0], 1) for one in events]
    changes += [(min((*one.ended, *one.cut, *one.failed), default=1 << 60), -1) for one in events]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def _all_at_once(r: Reading, t: Traffic, bound: int) -> list[Violation]:
    """What has left the queue for the sink takes memory as well."""
    # When the stages have ended, or a run is over, what is left may be delivered beside the
    # delivery under way, and a stage that outlived its run may have set a third one going.
    last = max((one.end for ones in r.ran.values() for one in ones), default=-1)
    last = min([last, *(facts.left for facts in r.runs.values() if facts.left >= 0)])
    more = 1 + any(
        one.end < 0 or one.end > r.runs[top(run)].left
        for (run, _), ones in r.ran.items()
        for one in ones
    )
    begun = [one for one in t.events.values() if one.begun and one.begun[0] < last]
    most = _most_at_once(begun)
    if not bound or (most <= bound and t.deliveries_max <= bound + more):
        return []
    return [
        Violation(
            "deliveries-unbounded",
            f"no more events are being delivered at once than the queue holds ({bound})",
            f"{t.deliveries_max} were",
            "",
            "",
            {"deliveries": t.deliveries_max, "bound": bound},
        )
    ]
