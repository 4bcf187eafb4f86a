"""Overflow of the engine's own queue: what it takes, drops, holds and says of it.

The sink takes 10 ms for an event and producers offer a thousand a second: nine of ten must go
somewhere, or wait.
"""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan, RunSpec, Sink
from scenarios.notation import (
    acquire,
    fail,
    flood,
    ok,
    parallel,
    program,
    raises,
    sleep,
    stage,
)

__all__ = ["QUEUE"]

SLOW_S = 0.01

# A result row names the first, so it is one for which an engine needs no count of deliveries.
KEPT = ("EVENT-5", "EVENT-1", "EVENT-2", "EVENT-3", "EVENT-4", "EVENT-6")
FULL = ("offer.begin", "account", "deliver.begin")

QUEUE: tuple[Scenario, ...] = (
    Scenario(
        id="event_overflow/thousand_a_second",
        title="A thousand events a second into a queue of 100",
        program=program(
            "thousand_a_second", stage("work", flood("telemetry", 400, 0.001), ok("done"))
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=100)),
        clauses=(*KEPT, "CLEAN-5"),
        purpose="One stage emits ten times faster than the sink takes, until long after the "
        "queue is full.",
        tests=("EVENT-OVERFLOW/thousand_a_second",),
        category="baseline",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/burst",
        title="A burst of three times the queue",
        program=program("burst", stage("work", flood("telemetry", 300), sleep(0.1), ok("done"))),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=100, drain_s=2.0)),
        clauses=("EVENT-3", "EVENT-1", "EVENT-2", "EVENT-4", "EVENT-5", "EVENT-6"),
        purpose="A stage emits 300 events without a pause into a queue of 100.",
        tests=("EVENT-OVERFLOW/burst",),
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/many_producers",
        title="Ten producers at once",
        program=program(
            "many_producers",
            *(
                stage(f"work{i}", flood("telemetry", 20, (0.004, 0.01, 0.0)), ok("done"))
                for i in range(10)
            ),
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=20)),
        clauses=(*KEPT, "GRAPH-3"),
        purpose="Ten stages, each with a rhythm of its own, share a queue that fills up.",
        tests=("EVENT-OVERFLOW/many_producers",),
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/producers_of_one_stage",
        title="Several producers in one stage",
        program=program(
            "producers_of_one_stage",
            stage(
                "work",
                parallel(*((flood(f"tool{i}", 15, (0.002, 0.01)),) for i in range(4))),
                ok("done"),
            ),
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=10, drain_s=0.5)),
        clauses=("EVENT-1", "EVENT-4", "EVENT-3", "EVENT-2", "EVENT-5"),
        purpose="Four tasks of one stage emit side by side.",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/block",
        title="A full queue that lets producers wait",
        program=program(
            "block",
            stage("work", flood("telemetry", 40, 0.001), ok("done")),
            stage("more", flood("telemetry", 20, (0.001, 0.01)), ok("done")),
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=10, policy="block", drain_s=1.0)),
        clauses=("EVENT-5", "EVENT-1", "EVENT-3", "EVENT-4"),
        purpose="The policy is to wait for room: the sink is slow, but goes on.",
        tests=("EVENT-OVERFLOW/policy_block",),
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/block_on_hung_sink",
        title="Waiting for room at a sink that hangs",
        program=program("block_on_hung_sink", stage("work", flood("telemetry", 40), ok("done"))),
        plan=Plan(
            sink=Sink(
                delivery_s=SLOW_S,
                hangs_at=5,
                queue_max=10,
                policy="block",
                block_s=0.5,
                drain_s=0.5,
            ),
            horizon_s=600.0,
        ),
        clauses=("EVENT-5", "EVENT-1", "EVENT-6", "EVENT-2", "CLEAN-5"),
        purpose="The policy is to wait for room, and there never is any: the fifth event hangs.",
        tests=("EVENT-OVERFLOW/policy_block_hung",),
        category="chaos",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/drop_oldest",
        title="A full queue that drops the oldest",
        program=program(
            "drop_oldest",
            stage("work", flood("telemetry", 60, 0.001), ok("done")),
            stage("more", flood("telemetry", 30, (0.003, 0.01)), ok("done")),
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=10, policy="drop_oldest")),
        clauses=KEPT,
        purpose="The newest events are kept, and those that have waited longest pushed out.",
        tests=("EVENT-OVERFLOW/policy_drop_oldest",),
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/drop_newest",
        title="A full queue that drops the newest",
        program=program(
            "drop_newest",
            stage("work", flood("telemetry", 60, 0.001), ok("done")),
            stage("more", flood("telemetry", 30, (0.003, 0.01)), ok("done")),
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, queue_max=10, policy="drop_newest")),
        clauses=KEPT,
        purpose="What comes when the queue is full is refused, and its producer told so.",
        tests=("EVENT-OVERFLOW/policy_drop_newest",),
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/spill",
        title="A full queue that writes to disk",
        program=program(
            "spill",
            stage("work", flood("telemetry", 80), sleep(0.2), ok("done")),
            stage("more", flood("telemetry", 20, (0.005, 0.01)), ok("done")),
        ),
        plan=Plan(
            sink=Sink(delivery_s=SLOW_S, queue_max=10, policy="spill", spill_max=50, drain_s=2.0)
        ),
        clauses=KEPT,
        purpose="What does not fit into memory goes to disk, as far as there is room there.",
        tests=("EVENT-OVERFLOW/policy_spill",),
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/spill_keeps_order",
        title="Events in memory and on disk",
        program=program(
            "spill_keeps_order",
            stage("work", flood("telemetry", 30), ok("done")),
            stage("more", flood("telemetry", 20, (0.005, 0.01)), ok("done")),
        ),
        plan=Plan(
            sink=Sink(delivery_s=SLOW_S, queue_max=10, policy="spill", spill_max=100, drain_s=2.0)
        ),
        clauses=("EVENT-5", "EVENT-1", "EVENT-4", "EVENT-6"),
        purpose="Events come while older ones are on disk and there is room in memory again.",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/spill_at_shutdown",
        title="The run ends with events on disk",
        program=program("spill_at_shutdown", stage("work", flood("telemetry", 60), ok("done"))),
        plan=Plan(
            sink=Sink(
                delivery_s=SLOW_S,
                hangs_at=20,
                queue_max=10,
                policy="spill",
                spill_max=100,
                drain_s=0.5,
            )
        ),
        clauses=("EVENT-5", "EVENT-1", "EVENT-6", "CLEAN-5"),
        purpose="The sink hangs while most of the events wait on disk, and the run is over.",
        category="chaos",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/queue_before_raising_sink",
        title="A sink behind the queue raises",
        program=program(
            "queue_before_raising_sink",
            stage("work", flood("telemetry", 40, 0.005), ok("done")),
        ),
        plan=Plan(sink=Sink(delivery_s=0.001, error="OSError", error_every=3, queue_max=10)),
        clauses=("EVENT-5", "EVENT-1", "EVENT-2", "EVENT-6", "EVENT-4", "CLEAN-5"),
        purpose="The sink raises at every third event; the others are to come through.",
        tests=("EVENT-OVERFLOW/raising_sink",),
        category="chaos",
        fires=("deliver.fail",),
    ),
    Scenario(
        id="event_overflow/queue_before_hung_sink",
        title="A sink behind the queue hangs",
        program=program(
            "queue_before_hung_sink", stage("work", flood("telemetry", 40, 0.005), ok("done"))
        ),
        plan=Plan(sink=Sink(delivery_s=SLOW_S, hangs_at=8, queue_max=10, drain_s=0.5)),
        clauses=("EVENT-5", "EVENT-1", "EVENT-6", "EVENT-2", "EVENT-3", "CLEAN-5"),
        purpose="The sink never comes back from its eighth event.",
        tests=("EVENT-OVERFLOW/hung_sink",),
        category="chaos",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/two_runs_share_a_hung_sink",
        title="Another run after the sink has hung",
        program=program(
            "two_runs_share_a_hung_sink",
            stage("work", flood("telemetry", 15, (0.01, 0.02)), ok("done")),
        ),
        plan=Plan(
            runs=(RunSpec("r0"), RunSpec("r1", start_s=0.1), RunSpec("r2", start_s=3.0)),
            sink=Sink(delivery_s=SLOW_S, hangs_at=8, queue_max=10, drain_s=0.5),
        ),
        clauses=("EVENT-5", "EVENT-1", "EVENT-6", "EVENT-2", "CLEAN-5"),
        purpose="Three runs share a sink that hangs in the first; the last begins when the "
        "others are over, and must work.",
        category="chaos",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/stage_fails_while_draining",
        title="The run fails with a full queue",
        program=program(
            "stage_fails_while_draining",
            stage("work", flood("telemetry", 30), acquire("file", 0.1), fail("no such page")),
            stage("more", flood("telemetry", 60, 0.005), ok("done")),
            stage("guard", sleep(0.05, 0.1), raises("RuntimeError", "guard crashed")),
        ),
        plan=Plan(
            on_failure="cancel",
            sink=Sink(delivery_s=SLOW_S, queue_max=20, drain_s=0.1),
        ),
        clauses=("EVENT-5", "EVENT-1", "EVENT-2", "EVENT-4", "PART-4", "CLEAN-5"),
        purpose="Two stages fail and a third is cancelled while it emits; there is time to "
        "deliver half of what waits.",
        tests=("EVENT-OVERFLOW/shutdown_on_failure",),
        category="chaos",
        fires=FULL,
    ),
    Scenario(
        id="event_overflow/caller_cancel_anywhere",
        title="The caller cancels while events are on their way",
        program=program(
            "caller_cancel_anywhere",
            stage("work", acquire("file", 0.05), flood("telemetry", 8, 0.005), ok("done")),
        ),
        plan=Plan(
            cancels=(Cancel(at_point=-1),),
            sink=Sink(delivery_s=SLOW_S, queue_max=4, drain_s=0.1),
        ),
        clauses=("EVENT-4", "EVENT-1", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="The cancel lands at every point: between events, in the drain, at its end.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent", "offer.begin"),
    ),
    Scenario(
        id="event_overflow/cancelled_while_waiting_for_room",
        title="The caller cancels a producer that waits for room",
        program=program(
            "cancelled_while_waiting_for_room",
            stage("work", flood("telemetry", 12), ok("done")),
            stage("more", flood("telemetry", 6, 0.002), ok("done")),
        ),
        plan=Plan(
            cancels=(Cancel(at_point=-1),),
            sink=Sink(delivery_s=SLOW_S, queue_max=3, policy="block", block_s=1.0, drain_s=0.05),
        ),
        clauses=("EVENT-4", "EVENT-1", "EVENT-3", "CANCEL-3", "CLEAN-5"),
        purpose="Two producers wait for room in turn; the cancel lands at every point.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent", "offer.begin"),
    ),
)
