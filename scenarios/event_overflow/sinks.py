"""Troubled sinks, with whatever the engine puts between them and its stages.

No queue is asked for: an engine that calls the sink from the stage is put to the same tests,
and a stage must not notice either way.
"""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan, Sink
from scenarios.notation import flood, ok, program, sleep, stage

__all__ = ["SINKS"]

SINKS: tuple[Scenario, ...] = (
    Scenario(
        id="event_overflow/slow_sink",
        title="A slow sink",
        program=program(
            "slow_sink",
            stage("work", flood("telemetry", 20, (0.01, 0.05)), ok("done")),
            stage("reply", sleep(0.1), ok("replied"), needs="work"),
        ),
        plan=Plan(sink=Sink(delivery_s=0.05, drain_s=2.0)),
        clauses=("EVENT-6", "EVENT-4", "EVENT-5", "GRAPH-3", "CLEAN-5"),
        purpose="The sink takes 50 ms for each of 20 events; the stages' own work takes 300 ms.",
        tests=("EVENT-OVERFLOW/slow_sink",),
        fires=("offer.begin", "deliver.begin"),
    ),
    Scenario(
        id="event_overflow/hung_sink",
        title="A sink that hangs",
        program=program(
            "hung_sink",
            stage("work", flood("telemetry", 10, 0.01), ok("done")),
            stage("reply", sleep(0.1), ok("replied"), needs="work"),
        ),
        plan=Plan(sink=Sink(delivery_s=0.001, hangs_at=3, drain_s=0.5), horizon_s=600.0),
        clauses=("EVENT-6", "EVENT-5", "EVENT-4", "CLEAN-5"),
        purpose="The sink never comes back from the third of ten events.",
        category="chaos",
        fires=("offer.begin", "deliver.begin"),
    ),
    Scenario(
        id="event_overflow/raising_sink",
        title="A sink that raises",
        program=program(
            "raising_sink",
            stage("work", flood("telemetry", 12, 0.01), ok("done")),
            stage("reply", sleep(0.1), ok("replied"), needs="work"),
        ),
        plan=Plan(sink=Sink(error="OSError", error_every=2)),
        clauses=("EVENT-2", "EVENT-6", "EVENT-4", "EVENT-5", "GRAPH-3", "CLEAN-5"),
        purpose="The sink raises at every other event.",
        category="chaos",
        fires=("deliver.fail",),
    ),
    Scenario(
        id="event_overflow/sink_raises_cancelled_error",
        title="A sink that raises CancelledError",
        program=program(
            "sink_raises_cancelled_error",
            stage("work", flood("telemetry", 8, 0.01), ok("done")),
            stage("reply", sleep(0.1), ok("replied"), needs="work"),
        ),
        plan=Plan(sink=Sink(error="CancelledError", error_every=3, delivery_s=0.001)),
        clauses=("EVENT-6", "EVENT-2", "EVENT-5", "GRAPH-3", "CLEAN-5"),
        purpose="A sink lets the CancelledError of a task of its own out: nobody was cancelled.",
        category="chaos",
        fires=("deliver.fail",),
    ),
    Scenario(
        id="event_overflow/order_of_producers",
        title="The order of each producer",
        program=program(
            "order_of_producers",
            *(
                stage(f"work{i}", flood("telemetry", 10, (0.01, 0.0, 0.02)), ok("done"))
                for i in range(5)
            ),
        ),
        plan=Plan(sink=Sink(delivery_s=0.002, drain_s=2.0)),
        clauses=("EVENT-4", "EVENT-5", "EVENT-6", "CLEAN-5"),
        purpose="Five stages emit at once; the sink must get each one's events in their order.",
        tests=("EVENT-OVERFLOW/order",),
        category="baseline",
        fires=("offer.begin", "deliver.begin"),
    ),
    Scenario(
        id="event_overflow/last_events",
        title="Events just before the end",
        program=program(
            "last_events", stage("work", sleep(0.1), flood("telemetry", 10), ok("end"))
        ),
        plan=Plan(sink=Sink(delivery_s=0.02, drain_s=1.0)),
        clauses=("EVENT-5", "EVENT-4", "EVENT-6", "CLEAN-5"),
        purpose="A stage emits ten events and returns; there is time to deliver them all.",
        tests=("EVENT-OVERFLOW/shutdown",),
        category="baseline",
        fires=("offer.begin",),
    ),
    Scenario(
        id="event_overflow/last_events_cut",
        title="More events at the end than there is time for",
        program=program("last_events_cut", stage("work", flood("telemetry", 30), ok("end"))),
        plan=Plan(sink=Sink(delivery_s=0.05, drain_s=0.52)),
        clauses=("EVENT-5", "EVENT-2", "EVENT-4", "EVENT-6", "CLEAN-5"),
        purpose="Thirty events wait when the stage ends, and ten can be delivered in time.",
        tests=("EVENT-OVERFLOW/shutdown_while_draining",),
        fires=("offer.begin",),
    ),
)
