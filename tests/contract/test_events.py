"""EVENT: accounts and journals written by hand, of engines that are right in other ways.

Each test shows what a check must let pass and, next to it, the least change that it must not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.outcome import ErrorReport, Outcome, SinkReport
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from scenarios.notation import flood, ok, program, stage

EVENTS = [name for name in CLAUSES if name.startswith("EVENT-")]
PROGRAM: Program = program("p", stage("a", flood("n", 9), ok(1)))
SLOW = Plan(sink=Sink(delivery_s=0.1, queue_max=2))

# (seconds, run, stage, kind, detail)
Row = tuple[float, str, str, str, Any]


class Story:
    """A journal of one stage's events, told step by step."""

    def __init__(self, run: str = "r0", *, stage: str = "a") -> None:
        self.run = run
        self.stage = stage
        self.who = f"{run}/{stage}/n"
        self.rows: list[Row] = [
            (0.0, run, "", "run.begin", None),
            (0.0, run, stage, "stage.start", None),
        ]

    def offer(self, n: int, at_s: float = 0.0, answer: str = "taken", took_s: float = 0.0) -> Story:
        self.rows.append((at_s, self.run, self.stage, "offer.begin", (self.who, n)))
        if answer:
            end = (self.who, n, answer)
            self.rows.append((at_s + took_s, self.run, self.stage, "offer.end", end))
        return self

    def offers(self, *numbers: int) -> Story:
        for n in numbers:
            self.offer(n)
        return self

    def account(self, *counts: int | None, at_s: float = 0.0) -> Story:
        self.rows.append((at_s, self.run, self.stage, "account", counts))
        return self

    def deliver(self, n: int, at_s: float, how: str = "end", begun_s: float | None = None) -> Story:
        begun = at_s if begun_s is None else begun_s
        self.rows.append((begun, "", "", "deliver.begin", (self.who, n)))
        if how:
            self.rows.append((at_s, "", "", f"deliver.{how}", (self.who, n)))
        return self

    def ends(self, at_s: float = 0.0, how: str = "ok") -> Story:
        self.rows.append((at_s, self.run, self.stage, "stage.end", how))
        return self

    def over(self, at_s: float) -> Story:
        self.rows.append((at_s, self.run, "", "run.end", "returned"))
        return self


def said(*counts: int, status: str = "ok", run: str = "r0") -> Outcome:
    """An outcome with (offered, delivered, dropped, pending, queue_max), or without an account."""
    return Outcome(run, status, sink=SinkReport(*counts) if counts else None)


def shapes(
    story: Story | list[Row],
    outcome: Outcome | dict[str, Outcome] | None = None,
    plan: Plan = SLOW,
    *,
    ended: str = "over",
    facts: dict[str, Any] | None = None,
) -> dict[str, list[str]]:
    """Return what the EVENT clauses say: the shapes of violations, [] for what holds."""
    journal = Journal()
    for row in story.rows if isinstance(story, Story) else story:
        journal.add(*row)
    outcomes = {outcome.run: outcome} if isinstance(outcome, Outcome) else outcome or {}
    record = RunRecord("sim", 0, ended, journal, outcomes)
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts or {})
    reading = Reading(PROGRAM, plan, record, info)
    judged = {name: CLAUSES[name].check(reading) for name in EVENTS}
    return {
        name: [v.shape for v in one.violations]
        for name, one in judged.items()
        if one.verdict != "untested"
    }


def accused(*args: Any, **kwargs: Any) -> dict[str, list[str]]:
    return {name: found for name, found in shapes(*args, **kwargs).items() if found}


# A queue of two before a sink that takes 0.1 s: two of four get through, one waits too long.


def overflow() -> Story:
    return (
        Story()
        .offers(0, 1)
        .account(2, 0, 0, 2, 2)
        .offer(2, answer="refused")
        .account(3, 0, 1, 2, 2)
        .ends()
        .deliver(0, 0.1, begun_s=0.0)
        .deliver(1, 0.2, begun_s=0.1)
        .over(0.3)
    )


def test_a_queue_that_refuses_and_says_so_is_right_in_every_respect() -> None:
    assert shapes(overflow(), said(3, 2, 1, 0, 2)) == {name: [] for name in EVENTS}


@pytest.mark.parametrize(
    ("counts", "shape"),
    [
        ((3, 2, 2, 0, 2), "account-unbalanced"),
        ((3, 2, 0, 0, 2), "account-unbalanced"),
        ((3, 2, 2, -1, 2), "account-unbalanced"),
        ((3, 3, 0, 0, 2), "delivered-miscounted"),
        ((2, 1, 1, 0, 2), "delivered-miscounted"),
        ((4, 2, 2, 0, 2), "offered-miscounted"),
        ((1, 2, 0, -1, 2), "account-unbalanced"),
    ],
)
def test_each_figure_of_the_account_must_be_true(counts: tuple[int, ...], shape: str) -> None:
    assert accused(overflow(), said(*counts))["EVENT-1"][0] == shape


def test_an_account_that_leaves_out_what_it_refused_is_one_of_what_it_took() -> None:
    """The producer was told; that is visible enough, and the account balances."""
    story = (
        Story()
        .offers(0)
        .offer(1, answer="refused")
        .account(1, 0, 0, 1, 1)
        .ends()
        .deliver(0, 0.1)
        .over(0.1)
    )
    assert accused(story, said(1, 1, 0, 0, 1)) == {}


def test_an_account_may_come_a_few_turns_after_the_sink_but_not_later() -> None:
    def story(at_s: float) -> Story:
        rows = Story().offers(0, 1).deliver(0, 0.1, begun_s=0.0)
        return rows.account(2, 0, 0, 2, 2, at_s=at_s).deliver(1, 0.3).ends(0.3).over(0.3)

    outcome = said(2, 2, 0, 0, 2)
    assert accused(story(0.1), outcome) == {}
    assert accused(story(0.11), outcome) == {"EVENT-1": ["delivered-miscounted"]}


def test_an_account_of_what_is_being_handed_over_may_run_ahead_for_that_instant_only() -> None:
    def story(at_s: float) -> Story:
        rows = Story().offers(0).account(1, 1, 0, 0, 2, at_s=at_s)
        return rows.deliver(0, 0.5, begun_s=0.0).ends().over(0.5)

    outcome = said(1, 1, 0, 0, 2)
    assert accused(story(0.0), outcome) == {}
    late = Story().offers(0).deliver(0, 0.5, "", begun_s=0.0).account(1, 1, 0, 0, 2, at_s=0.2)
    late.rows.append((0.5, "", "", "deliver.end", (late.who, 0)))
    assert accused(late.ends(0.5).over(0.5), outcome) == {"EVENT-1": ["delivered-miscounted"]}


def test_events_of_the_engines_own_are_in_its_account_and_accuse_nobody() -> None:
    def story(*own: Row) -> Story:
        rows = Story().offers(0, 1).account(3, 0, 0, 3, 9)
        rows.rows += own
        return rows.deliver(0, 0.1).deliver(1, 0.1).ends(0.1).over(0.1)

    own: list[Row] = [
        (0.0, "", "", "deliver.begin", ("", -1)),
        (0.05, "", "", "deliver.end", ("", -1)),
    ]
    assert accused(story(*own), said(3, 3, 0, 0, 9)) == {}
    assert accused(story(), said(2, 2, 0, 0, 9)) == {"EVENT-1": ["offered-miscounted"]}


def test_an_event_that_the_sink_refused_may_be_tried_again_but_one_it_took_may_not() -> None:
    def story(how: str) -> Story:
        rows = Story().offers(0, 1).deliver(0, 0.1, how).deliver(1, 0.2).deliver(0, 0.3)
        return rows.ends().over(0.4)

    outcome = said(2, 2, 0, 0, 2)
    assert accused(story("fail"), outcome) == {}
    assert accused(story("end"), outcome)["EVENT-1"] == ["delivered-miscounted", "delivered-twice"]


# What is lost must be seen.


def lost(*, failed: bool, answer: str = "taken") -> Story:
    story = Story().offers(0).offer(1, answer=answer).deliver(0, 0.1)
    if failed:
        story.deliver(1, 0.2, "fail")
    return story.ends().over(0.2)


def test_an_event_that_the_sink_refused_must_be_seen_to_be_lost() -> None:
    assert accused(lost(failed=True), said(2, 1, 1, 0, 2)) == {}
    assert accused(lost(failed=True), said()) == {"EVENT-2": ["sink-error-unseen"]}
    # A count of what was put into the queue alone makes of it a delivery.
    assert accused(lost(failed=True), said(2, 2, 0, 0, 2)) == {
        "EVENT-1": ["delivered-miscounted"],
        "EVENT-2": ["sink-error-unseen"],
    }


@pytest.mark.parametrize("answer", ["refused", "raise:QueueFull"])
def test_an_event_of_which_its_producer_is_told_is_not_lost_without_a_trace(answer: str) -> None:
    assert accused(lost(failed=False, answer=answer), said()) == {}
    assert accused(lost(failed=False), said())["EVENT-2"] == ["drop-unseen"]


def test_drops_that_were_refused_make_up_for_no_drops_that_were_not() -> None:
    def story() -> Story:
        rows = Story().offers(0, 1).offer(2, answer="refused")
        return rows.deliver(0, 0.1).ends().over(0.2)

    assert accused(story(), said(3, 1, 2, 0, 2)) == {}
    assert accused(story(), said(3, 2, 1, 0, 2))["EVENT-2"] == ["drop-unseen"]


def test_what_is_pending_when_a_run_is_told_of_is_not_dropped() -> None:
    story = Story().offers(0, 1).deliver(0, 0.1).ends().over(0.1)
    assert accused(story, said(2, 1, 0, 1, 2)) == {"EVENT-5": ["left-unsettled"]}


# The bound.


def full(pending: int, *, in_hand: bool, policy: str = "", **sink: Any) -> dict[str, list[str]]:
    story = Story().offers(*range(pending))
    if in_hand:
        story.deliver(0, 0.0, "", begun_s=0.0)
    story.account(pending, 0, 0, pending, 2)
    if in_hand:
        story.rows.append((0.5, "", "", "deliver.end", (story.who, 0)))
    for n in range(1 if in_hand else 0, pending):
        story.deliver(n, 0.5)
    plan = Plan(sink=Sink(delivery_s=0.1, queue_max=2, policy=policy, drain_s=9.0, **sink))
    return shapes(story.ends().over(0.5), said(pending, pending, 0, 0, 2), plan)


def test_one_event_more_than_the_capacity_may_be_in_the_sinks_hands() -> None:
    assert full(3, in_hand=True)["EVENT-3"] == []
    # Or it is on its way there: it has left the queue, and the sink was not called yet.
    assert full(3, in_hand=False)["EVENT-3"] == []
    assert full(4, in_hand=True)["EVENT-3"] == ["bound-exceeded"]
    assert full(4, in_hand=False)["EVENT-3"] == ["bound-exceeded"]


def test_each_worker_of_the_engines_may_have_one_in_hand_but_not_without_bound() -> None:
    def found(workers: int, pending: int) -> list[str]:
        story = Story().offers(*range(pending))
        for n in range(workers):
            story.deliver(n, 0.0, "")
        story.account(pending, 0, 0, pending, 2)
        for n in range(workers):
            story.rows.append((0.5, "", "", "deliver.end", (story.who, n)))
        for n in range(workers, pending):
            story.deliver(n, 0.5)
        plan = Plan(sink=Sink(delivery_s=0.1, queue_max=2))
        outcome = said(pending, pending, 0, 0, 2)
        return shapes(story.ends(0.5).over(0.5), outcome, plan)["EVENT-3"]

    assert found(2, 4) == []
    assert found(2, 5) == ["bound-exceeded"]
    assert found(3, 5) == ["deliveries-unbounded"]


def test_a_bound_that_was_never_reached_was_not_put_to_the_test() -> None:
    assert "EVENT-3" not in full(2, in_hand=False)


def test_what_waits_on_disk_has_a_bound_of_its_own() -> None:
    assert full(6, in_hand=False, policy="spill", spill_max=3)["EVENT-3"] == []
    assert full(7, in_hand=True, policy="spill", spill_max=3)["EVENT-3"] == ["bound-exceeded"]
    assert "EVENT-3" not in full(7, in_hand=True, policy="spill")


def test_an_account_that_hides_what_is_pending_hides_no_memory() -> None:
    story = Story().offers(*range(5)).account(5, 0, 0, 0, 2).ends().deliver(0, 0.1).over(0.1)
    assert accused(story, said(5, 1, 4, 0, 2)) == {
        "EVENT-1": ["account-unbalanced"],
        "EVENT-3": ["bound-exceeded"],
    }


# Order.


def test_the_order_is_that_in_which_the_sink_is_first_given_events() -> None:
    def story(*numbers: int) -> Story:
        rows = Story().offers(0, 1, 2)
        for i, n in enumerate(numbers):
            rows.deliver(n, 0.1 * i)
        return rows.ends().over(1.0)

    assert accused(story(0, 1, 2), said(3, 3, 0, 0, 9)) == {}
    assert accused(story(0, 2, 1), said(3, 3, 0, 0, 9)) == {"EVENT-4": ["order-changed"]}
    # What a policy has dropped is no gap in the order.
    assert accused(story(0, 2), said(3, 2, 1, 0, 9)) == {}


def test_producers_have_no_order_among_each_other() -> None:
    one, other = Story(stage="a"), Story(stage="b")
    one.offers(0, 1)
    other.offers(0, 1)
    rows = one.rows + other.rows[1:]
    for who, n in (("b", 0), ("a", 0), ("a", 1), ("b", 1)):
        rows += [
            (0.1, "", "", kind, (f"r0/{who}/n", n)) for kind in ("deliver.begin", "deliver.end")
        ]
    rows += [(0.1, "r0", s, "stage.end", "ok") for s in "ab"]
    rows.append((0.1, "r0", "", "run.end", "returned"))
    assert accused(rows, said(4, 4, 0, 0, 9)) == {}


# The end.


def test_what_was_accepted_is_settled_when_the_last_run_is_over() -> None:
    def story(*, after: bool) -> Story:
        rows = Story().offers(0, 1).ends().deliver(0, 0.1)
        return rows.over(0.1).deliver(1, 0.2) if after else rows.deliver(1, 0.2).over(0.2)

    assert accused(story(after=False), said()) == {}
    assert accused(story(after=True), said()) == {"EVENT-5": ["delivered-after-the-end"]}


def test_what_is_left_may_be_dropped_if_the_account_says_so() -> None:
    story = Story().offers(0, 1, 2).ends().deliver(0, 0.1).over(1.0)
    assert accused(story, said(3, 1, 2, 0, 9)) == {}
    found = accused(story, said(3, 1, 1, 1, 9))
    assert found == {"EVENT-5": ["left-unsettled"]}


def test_the_drain_may_take_as_long_as_it_was_given_and_no_longer() -> None:
    def story(at_s: float) -> Story:
        return Story().offers(0, 1).ends(0.5).deliver(0, 0.6).over(at_s)

    assert accused(story(1.5), said(2, 1, 1, 0, 9)) == {}
    assert accused(story(1.6), said(2, 1, 1, 0, 9)) == {"EVENT-5": ["drain-too-long"]}


def test_a_run_that_waits_for_its_stages_or_cleanups_does_not_wait_for_events() -> None:
    story = Story().offers(0, 1).ends(0.5).deliver(0, 0.6)
    story.rows.append((5.0, "r0", "a", "release.end", "lock"))
    assert accused(story.over(6.0), said(2, 1, 1, 0, 9)) == {}
    nothing_pending = Story().offers(0).deliver(0, 0.1).ends(0.5).over(9.0)
    assert accused(nothing_pending, said(1, 1, 0, 0, 9)) == {}


def test_of_a_run_that_its_caller_cancelled_the_engine_tells_nothing_more() -> None:
    plan = Plan(sink=Sink(delivery_s=0.1, queue_max=2), cancels=(Cancel(at_s=0.1),))
    story = Story().offers(0, 1)
    story.rows.append((0.1, "r0", "", "cancel.sent", (0, True)))
    story.ends(0.1, "cancelled").over(0.1)
    outcome = Outcome("r0", "cancelled", raised=ErrorReport("CancelledError"))
    assert shapes(story, outcome, plan) == {}


# A sink in trouble.


def troubled(
    *, took_s: float = 0.0, answer: str = "taken", policy: str = "", **sink: Any
) -> dict[str, list[str]]:
    story = Story().offer(0).deliver(0, 0.1, "", begun_s=0.0).offer(1, 0.2, answer, took_s)
    at_s = 0.2 + took_s
    ended = "ok" if answer in ("taken", "refused") else answer
    story.ends(at_s, ended).over(at_s)
    plan = Plan(sink=Sink(delivery_s=0.1, queue_max=1, policy=policy, **sink))
    status = "ok" if ended == "ok" else "failed"
    return accused(story, said(2, 0, 2, 0, 1, status=status), plan, facts={})


def test_an_emission_does_not_wait_for_the_sink() -> None:
    assert troubled() == {}
    assert troubled(took_s=0.01) == {}  # a worker thread's latency
    assert troubled(took_s=0.05) == {"EVENT-6": ["emission-stalls"]}


def test_an_emission_waits_where_that_is_the_policy() -> None:
    assert troubled(took_s=3.0, policy="block") == {}


def test_an_emission_waits_where_the_engine_is_known_to_block() -> None:
    story = Story().offer(0, took_s=0.1).deliver(0, 0.1, begun_s=0.0)
    story = story.ends(0.1).over(0.1)
    outcome = said(1, 1, 0, 0, 0)
    assert accused(story, outcome) == {"EVENT-6": ["emission-stalls"]}
    assert accused(story, outcome, facts={"event_policy": "block"}) == {}


def test_a_hung_sink_is_waited_for_as_long_as_was_said() -> None:
    hung = {"policy": "block", "hangs_at": 1}
    assert troubled(took_s=0.5, block_s=0.5, **hung) == {}
    assert troubled(took_s=0.6, block_s=0.5, **hung) == {"EVENT-6": ["emission-stalls"]}
    assert troubled(took_s=60.0, **hung) == {}  # no limit was named, and it is not for ever


def test_what_was_waited_for_before_the_sink_hung_does_not_count() -> None:
    story = Story().offer(0).deliver(0, 5.0, begun_s=0.0).offer(1)
    waited = Story().rows[:0]
    waited += [
        *story.rows,
        (0.0, "r0", "a", "offer.begin", (story.who, 2)),
        (5.0, "", "", "deliver.begin", (story.who, 1)),
        (5.5, "r0", "a", "offer.end", (story.who, 2, "refused")),
        (5.5, "r0", "a", "stage.end", "ok"),
        (5.5, "r0", "", "run.end", "returned"),
    ]
    rows = sorted(waited, key=lambda row: row[0])
    plan = Plan(sink=Sink(delivery_s=5.0, queue_max=1, policy="block", hangs_at=2, block_s=0.5))
    assert accused(rows, said(3, 1, 2, 0, 1), plan) == {}


def test_a_run_that_never_ends_because_of_its_sink() -> None:
    hung = Plan(sink=Sink(delivery_s=0.1, hangs_at=1))
    waiting = Story().offer(0).deliver(0, 0.0, "").offer(1, 0.1, answer="")
    assert accused(waiting, plan=hung, ended="deadlock") == {"EVENT-6": ["stalled-for-ever"]}
    draining = Story().offer(0).deliver(0, 0.0, "").ends()
    assert accused(draining, plan=hung, ended="horizon") == {"EVENT-6": ["stalled-for-ever"]}
    other = Story().offer(0).deliver(0, 0.0, "")
    assert shapes(other, plan=hung, ended="deadlock") == {}  # it is the stage that hangs
    assert shapes(draining, plan=hung, ended="steps") == {}  # it was at work when it was given up
    once = replace(hung, layers=(Layer("idempotency", "once", options={"key": "k"}),))
    beside = replace(once, runs=(RunSpec("r0"), RunSpec("r1")))
    rows = [*draining.rows, (0.0, "r1", "", "run.begin", None)]
    assert shapes(rows, plan=beside, ended="horizon") == {}  # each may wait for the other's output


def test_an_error_of_the_sink_that_fails_a_stage_or_the_run() -> None:
    plan = Plan(sink=Sink(error="OSError"))
    story = Story().offer(0).deliver(0, 0.0, "fail").ends().over(0.0)
    assert accused(story, said(1, 0, 1, 0, 0), plan) == {}
    failed = replace(said(1, 0, 1, 0, 0), status="failed")
    assert accused(story, failed, plan) == {"EVENT-6": ["run-failed"]}
    rows = Story().offer(0, answer="raise:OSError").deliver(0, 0.0, "fail")
    rows = rows.ends(0.0, "raise:OSError").over(0.0)
    assert accused(rows, failed, plan) == {"EVENT-6": ["sink-error-reaches-stage"]}


def test_a_sink_that_takes_everything_at_once_is_in_no_trouble() -> None:
    story = Story().offer(0).deliver(0, 0.0).ends().over(0.0)
    assert "EVENT-6" not in shapes(story, said(1, 1, 0, 0, 0))


# Two runs, one sink.

TWO = Plan(
    runs=(RunSpec("r0"), RunSpec("r1")),
    sink=Sink(delivery_s=0.1, queue_max=9),
)


def two(zero: tuple[int, ...], one: tuple[int, ...]) -> dict[str, list[str]]:
    first, second = Story("r0"), Story("r1")
    first.offers(0, 1)
    second.offers(0)
    rows = [*first.rows, *second.rows]
    for story in (first, second):
        story.rows.clear()
    first.deliver(0, 0.1).deliver(1, 0.2).ends(0.2).over(0.2)
    second.deliver(0, 0.3).ends(0.3).over(0.3)
    rows += [*first.rows, *second.rows]
    outcomes = {"r0": said(*zero), "r1": said(*one, run="r1")}
    return accused(rows, outcomes, TWO)


def test_an_account_may_be_each_runs_own_or_one_of_all_but_not_now_this_now_that() -> None:
    assert two((2, 2, 0, 0, 9), (1, 1, 0, 0, 9)) == {}
    assert two((3, 2, 0, 1, 9), (3, 3, 0, 0, 9)) == {}
    assert two((2, 2, 0, 0, 9), (2, 2, 0, 0, 9))["EVENT-1"] == ["delivered-miscounted"]
    assert two((1, 1, 0, 0, 9), (1, 1, 0, 0, 9))["EVENT-1"] == ["offered-miscounted"]
    assert two((3, 2, 0, 1, 9), (1, 1, 0, 0, 9))["EVENT-1"] == ["offered-miscounted"]


def test_events_that_reach_users_in_another_way_than_the_plans_sink_cannot_be_followed() -> None:
    story = Story().offers(0, 1).ends().over(0.1)
    assert accused(story, said()) == {
        "EVENT-2": ["drop-unseen"],
        "EVENT-5": ["left-unsettled"],
    }
    streamed = Outcome("r0", "ok", events=(("flood", {"n": 0}), ("flood", {"n": 1})))
    assert shapes(story, streamed) == {}
    assert shapes(story, said(2, 2, 0, 0, 9), Plan()) == {}


def test_an_event_that_is_offered_twice_under_one_number_cannot_be_followed() -> None:
    story = Story().offers(0, 0).deliver(0, 0.1).ends().over(0.1)
    assert shapes(story, said(2, 1, 0, 1, 2)) == {}
