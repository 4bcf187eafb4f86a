"""EVENT: what an engine must do with events under load; the account of them is in `accounts`."""

from __future__ import annotations

from itertools import pairwise

from harness.contract import scripts
from harness.contract.accounts import (
    check_event_1,
    check_event_2,
    check_event_3,
    fairest,
    followed,
    judged,
    mine,
    some,
)
from harness.contract.beside import troubled_beside
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.reading import CLOSE_S, Reading
from harness.contract.traffic import Event, Traffic, refused_in, top, traffic
from harness.kernel.loop import JOB_LATENCIES_S
from harness.kernel.outcome import SinkReport

__all__ = ["EVENT"]

# An engine may hand an event on by a worker thread: that is no stall.
THREAD_S = max(JOB_LATENCIES_S)


def check_event_4(r: Reading) -> Judgement:
    t = traffic(r)
    if not followed(r, t):
        return untested()
    bad: list[Violation] = []
    producers: dict[str, list[Event]] = {}
    for one in t.events.values():
        if one.begun:
            producers.setdefault(one.producer, []).append(one)
    ordered = 0
    for producer, events in producers.items():
        ordered += len(events) > 1
        # When the sink was first given each: what it refused may be tried again later.
        events.sort(key=lambda one: one.begun[0])
        wrong = [(a, b) for a, b in pairwise(events) if a.number > b.number]
        if wrong and not bad:
            before, after = wrong[0]
            bad.append(
                Violation(
                    "order-changed",
                    f"the sink gets the events of {producer} in the order of their emission",
                    f"it got number {before.number} before number {after.number}",
                    before.stage,
                    "",
                    {"out_of_order": len(wrong), "events": len(events)},
                    (before.begun[0], after.begun[0]),
                )
            )
    return violated(bad, producers_ordered=ordered) if ordered else untested()


def check_event_5(r: Reading) -> Judgement:
    t = traffic(r)
    accepted = [one for one in t.events.values() if one.taken]
    if not followed(r, t) or not accepted or r.record.ended != "over":
        return untested()
    if not judged(r):
        return untested()
    bad = fairest(t, lambda shared: _unsettled(r, t, shared=shared))
    bad += _late(r, t)
    return violated(bad, events_accepted=len(accepted))


def _unsettled(r: Reading, t: Traffic, *, shared: bool) -> list[Violation]:
    over = max(facts.end for facts in r.runs.values())
    if shared:
        return _unsettled_of(mine(t, "", shared=True), t.last(), over)
    found = (_unsettled_of(mine(t, run, shared=False), t.final(run), over) for run in judged(r))
    return next((bad for bad in found if bad), [])


def _unsettled_of(events: list[Event], said: SinkReport | None, over: int) -> list[Violation]:
    """Find events that were accepted, and neither delivered nor dropped when all was over.
    Over what the sink raised is settled: whether that can be seen is judged by EVENT-2."""
    left = [
        one
        for one in events
        if one.taken
        and one.offered < over
        and not one.failed
        and not (one.ended and one.ended[0] < over)
    ]
    failed = sum(1 for one in events if one.failed and not one.ended)
    dropped = 0 if said is None else max(0, said.dropped - refused_in(events, said))
    # Among the dropped may be those over which the sink raised, or may not.
    settled = dropped - failed if dropped >= failed + len(left) else min(dropped, len(left))
    if len(left) <= settled:
        return []
    later = sum(1 for one in left if one.ended)
    return [
        Violation(
            "delivered-after-the-end" if later == len(left) else "left-unsettled",
            "every event that was accepted has been delivered or counted as dropped when the "
            "last run is over",
            f"{len(left) - settled} had not been"
            + (f"; {later} were delivered later" if later else ""),
            left[0].stage,
            "",
            {"unsettled": len(left) - settled, "accepted": sum(1 for one in events if one.taken)},
            (left[0].offered, over),
        )
    ]


def _late(r: Reading, t: Traffic) -> list[Violation]:
    """Find runs that kept their caller waiting for events for longer than they may."""
    limit = None if r.plan.sink is None else r.plan.sink.drain_s
    if limit is None:
        return []
    for run in judged(r):
        facts = r.runs[run]
        if any(not one.ended or one.end > facts.end for one in r.executions(run)):
            continue  # what it waited for was that stage
        if r.plan.consumer is not None or r.layers_disturb(run):
            continue  # it may have waited for a consumer, or in a layer
        # What the engine's own call did after them, as cleanups of others, is not the queue's.
        last = max(_last_of_stages(r, run, facts.end), facts.left if facts.left < facts.end else -1)
        if any(e.kind.startswith("release.") for e in r.entries[last + 1 : facts.end]):
            continue  # another run's cleanups were under way: that they are its doing is CLEAN-6's
        took = facts.end_s - r.time_of(last)
        pending = any(
            one.run == run and one.taken and not (one.ended and one.ended[0] <= last)
            for one in t.events.values()
        )
        if pending and took > limit + 2 * r.tolerance_s:
            return [
                Violation(
                    "drain-too-long",
                    f"the run is over at most {limit:g} s after its stages",
                    f"it was over {took:g} s after them",
                    "",
                    r.any_location(run),
                    {"took_s": round(took, 6), "limit_s": limit},
                    (last, facts.end),
                )
            ]
    return []


def _last_of_stages(r: Reading, run: str, end: int) -> int:
    """Return the position of the last thing that stages of a run, or their cleanups, did."""
    for i in range(end - 1, -1, -1):
        one = r.entries[i]
        if one.stage and top(one.run) == run and not one.kind.startswith("consume"):
            return i
    return r.runs[run].begin


def check_event_6(r: Reading) -> Judgement:
    t = traffic(r)
    sink = r.plan.sink
    if not followed(r, t) or sink is None:
        return untested()
    raised = [one for one in t.events.values() if one.failed]
    slow = [one for one in t.events.values() if one.begun and _slow(r, one)]
    if not raised and not slow:
        return untested()
    if r.record.ended != "over":
        bad = _hung(r, t)
        return violated(bad) if bad else untested()
    bad = _stage_failed(r, t, sink.error or "") + _run_failed(r) + _stalled(r, t)
    return violated(bad, sink_slow=len(slow), sink_raised=len(raised))


def _slow(r: Reading, one: Event) -> bool:
    done = [*one.ended, *one.failed]
    return not done or r.time_of(min(done)) > r.time_of(one.begun[0]) + CLOSE_S


def _hung(r: Reading, t: Traffic) -> list[Violation]:
    """Say what never ended because of the sink: an emission, or a run whose stages all did."""
    if r.record.ended not in ("deadlock", "horizon"):
        return []  # it was still at work when it was given up
    waiting = [one for one in t.events.values() if one.answered < 0]
    stages = [one for ones in r.ran.values() for one in ones]
    if not waiting and any(not one.ended for one in stages):
        return []
    if not waiting and not any(_done_but_for_the_sink(r, run) for run in r.runs):
        return []
    what = f"the emission of {some(waiting)}" if waiting else "the end of the run"
    return [
        Violation(
            "stalled-for-ever",
            "the run ends, whatever its event sink does",
            f"{what} waited for the sink for ever ({r.record.ended})",
            waiting[0].stage if waiting else "",
            "",
            {"emissions_waiting": len(waiting)},
            (waiting[0].offered,) if waiting else (),
        )
    ]


def _done_but_for_the_sink(r: Reading, run: str) -> bool:
    """Say whether a run is not over that has run stages, and nothing else can hold it."""
    if r.runs[run].over or r.plan.consumer is not None or r.layers_disturb(run):
        return False
    return any(top(of) == run for of, _ in r.ran)


def _stage_failed(r: Reading, t: Traffic, error: str) -> list[Violation]:
    hit = [one for one in t.events.values() if error and one.answer == f"raise:{error}"]
    if error == "CancelledError":
        # In a run that is being ended it may be the engine's own.
        hit = [one for one in hit if not _being_ended(r, one.run, one.answered)]
    if not hit:
        return []
    return [
        Violation(
            "sink-error-reaches-stage",
            "an event sink that raises fails no stage",
            f"its {error} came out of the emission in stage {hit[0].stage}",
            hit[0].stage,
            "",
            {"emissions_failed": len(hit)},
            (hit[0].offered, hit[0].answered),
        )
    ]


def _being_ended(r: Reading, run: str, position: int) -> bool:
    at, kind = r.first_cause(run)
    timed = any(r.by_timeout(one) for one in r.executions(run))
    return timed or (bool(kind) and at < position) or r.layers_disturb(run)


def _run_failed(r: Reading) -> list[Violation]:
    for run in judged(r):
        outcome = r.outcome(run)
        ones = r.executions(run)
        if outcome is None or outcome.status == "ok" or not ones or r.layers_disturb(run):
            continue
        if troubled_beside(r, run, r.runs[run].end_s):
            continue  # another run's trouble may have ended it: TENANT-4
        if all(one.how == "ok" and not one.interrupts for one in ones):
            return [
                Violation(
                    "run-failed",
                    "a run whose stages have all completed ends ok, whatever its event sink does",
                    f"it ended {outcome.status}"
                    + (f": {outcome.raised.message[:120]}" if outcome.raised else ""),
                    "",
                    r.any_location(run),
                    {},
                    (r.runs[run].end,),
                )
            ]
    return []


def _stalled(r: Reading, t: Traffic) -> list[Violation]:
    """Find emissions that waited for the sink: at all, or for too long where to wait for room is
    what the queue was told, or is known, to do."""
    sink = r.plan.sink
    assert sink is not None  # the caller has checked it
    blocks = (sink.policy or r.info.facts.get("event_policy")) == "block"
    limit, since_s = THREAD_S, 0.0
    if blocks:
        hung = _hung_since(r, t)
        if hung is None or sink.block_s is None:
            return []
        limit, since_s = sink.block_s, hung
    waits = [
        (one.answered_s - max(one.offered_s, since_s), one)
        for one in t.events.values()
        if one.answered >= 0
    ]
    longest, one = max(waits, key=lambda pair: pair[0], default=(0.0, None))
    if one is None or longest <= limit + 2 * r.tolerance_s:
        return []
    return [
        Violation(
            "emission-stalls",
            f"an emission waits for the sink for at most {limit:g} s"
            if blocks
            else "an emission does not wait for the sink",
            f"that of {some([one])} took {longest:g} s",
            one.stage,
            "",
            {
                "longest_s": round(longest, 6),
                "stalled": sum(1 for w, _ in waits if w > limit + 2 * r.tolerance_s),
                "emissions": len(waits),
            },
            (one.offered, one.answered),
        )
    ]


def _hung_since(r: Reading, t: Traffic) -> float | None:
    """Return when the sink was given the event over which it hung, if it did."""
    held = [e.begun[0] for e in t.events.values() if e.begun and not e.ended and not e.failed]
    sink = r.plan.sink
    return r.time_of(min(held)) if held and sink is not None and sink.hangs_at else None


EVENT: tuple[Clause, ...] = (
    Clause(
        "EVENT-1",
        "EVENT",
        "conserve events: offered = delivered + dropped + pending, exactly, at every moment",
        "high",
        "silent_failure",
        check_event_1,
        {
            "": "The account of events does not add up",
            "delivered-miscounted": "The account of events does not tell what was delivered from "
            "what was not",
            "offered-miscounted": "The account of events miscounts what was offered",
            "delivered-twice": "Events are delivered more than once",
            "unaccounted-under-load": "Under load the account of events does not add up",
        },
        "Nobody can tell from its figures whether telemetry is complete.",
        "Count each event in one place, at the moment at which its fate is decided.",
        needs=frozenset({"events", "event_queue", "delivery_count"}),
        data_risk="medium",
        script_of_shape=scripts.event_1,
    ),
    Clause(
        "EVENT-2",
        "EVENT",
        "make each dropped event visible: by a counter, a callback or an error",
        "high",
        "silent_failure",
        check_event_2,
        {
            "": "Events are dropped, and no counter and no callback tells of it",
            "sink-error-unseen": "An event that the sink refuses by raising is counted nowhere",
            "unaccounted-under-load": "Under load events are neither delivered nor counted as "
            "dropped",
        },
        "Telemetry is lost during load, when it is needed most, and no figure shows it.",
        "Count every event that is dropped, by reason, and tell a callback of it.",
        needs=frozenset({"events"}),
        data_risk="medium",
        script_of_shape=scripts.event_2,
    ),
    Clause(
        "EVENT-3",
        "EVENT",
        "bound the memory that events take at any offered rate",
        "high",
        "reliability",
        check_event_3,
        {
            "": "More events are kept in memory than the queue's capacity",
            "deliveries-unbounded": "More events are being delivered at once than the queue holds",
        },
        "A sink that is slower than its producers takes the process down.",
        "Keep pending events in a queue with a capacity, and apply its policy when it is full.",
        needs=frozenset({"events", "event_queue"}),
        availability_risk="high",
        script_of_shape=scripts.event_3,
    ),
    Clause(
        "EVENT-4",
        "EVENT",
        "keep the order of each producer's events",
        "medium",
        "correctness",
        check_event_4,
        {"": "Events of one producer reach the sink out of order"},
        "What is derived from the order of events is wrong.",
        "Deliver from one queue, one event after the other.",
        needs=frozenset({"events"}),
        data_risk="medium",
        script=scripts.event_4,
    ),
    Clause(
        "EVENT-5",
        "EVENT",
        "at shutdown deliver or account for all events that it accepted, within a stated time",
        "high",
        "reliability",
        check_event_5,
        {
            "": "Accepted events are neither delivered nor accounted for when all is over",
            "delivered-after-the-end": "Events are delivered only after the run was reported over",
            "drain-too-long": "The run waits for its events for longer than it was told to",
        },
        "The last events of a run, which say how it ended, are the ones that are lost.",
        "Drain the queue at the end within a limit, and count what is left as dropped.",
        needs=frozenset({"events"}),
        data_risk="medium",
        script_of_shape=scripts.event_5,
    ),
    Clause(
        "EVENT-6",
        "EVENT",
        "neither stall nor fail a pipeline because its event sink is slow, hung or raising",
        "high",
        "reliability",
        check_event_6,
        {
            "": "The event sink stalls or fails the pipeline",
            "stalled-for-ever": "A hung event sink hangs the pipeline",
            "sink-error-reaches-stage": "An error of the event sink fails the stage that emits",
            "run-failed": "An error of the event sink fails the run",
            "emission-stalls": "Stages wait for a slow event sink",
        },
        "An outage of telemetry becomes an outage of the product.",
        "Put a queue between stages and the sink, and catch what the sink raises.",
        effort="medium",
        needs=frozenset({"events"}),
        availability_risk="high",
        script_of_shape=scripts.event_6,
    ),
)
