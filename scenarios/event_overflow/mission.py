"""EVENT-OVERFLOW: what becomes of events when the sink cannot keep up.

The claims come from an analysis of January 2026 that named this the first of four findings. It
designed a stress test and did not run it; its measure was to have been a drop rate, which
depends on the load alone. Here each event is followed, and the account must add up.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["EVENT_OVERFLOW"]

TESTS = {
    "thousand_a_second": "event_overflow/thousand_a_second",
    "burst": "event_overflow/burst",
    "many_producers": "event_overflow/many_producers",
    "order": "event_overflow/order_of_producers",
    "slow_sink": "event_overflow/slow_sink",
    "hung_sink": "event_overflow/queue_before_hung_sink",
    "raising_sink": "event_overflow/queue_before_raising_sink",
    "policy_block": "event_overflow/block",
    "policy_block_hung": "event_overflow/block_on_hung_sink",
    "policy_drop_newest": "event_overflow/drop_newest",
    "policy_drop_oldest": "event_overflow/drop_oldest",
    "policy_spill": "event_overflow/spill",
    "shutdown": "event_overflow/last_events",
    "shutdown_while_draining": "event_overflow/last_events_cut",
    "shutdown_on_failure": "event_overflow/stage_fails_while_draining",
}

OVERFLOWS = (
    "event_overflow/thousand_a_second",
    "event_overflow/burst",
    "event_overflow/many_producers",
)

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="The engine's account of events adds up at every moment, to the event.",
        decides=(
            *((one, "EVENT-1") for one in OVERFLOWS),
            ("event_overflow/queue_before_raising_sink", "EVENT-1"),
            ("event_overflow/queue_before_hung_sink", "EVENT-1"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="No event is lost without a trace, whether the queue or the sink loses it.",
        decides=(
            *((one, "EVENT-2") for one in OVERFLOWS),
            ("event_overflow/queue_before_raising_sink", "EVENT-2"),
            ("event_overflow/raising_sink", "EVENT-2"),
        ),
    ),
    Hypothesis(
        id="H3",
        statement="At a thousand events a second the engine holds no more than its queue.",
        decides=tuple((one, "EVENT-3") for one in OVERFLOWS),
    ),
    Hypothesis(
        id="H4",
        statement="Each producer's events arrive in the order in which it emitted them.",
        decides=(
            ("event_overflow/order_of_producers", "EVENT-4"),
            ("event_overflow/many_producers", "EVENT-4"),
        ),
    ),
    Hypothesis(
        id="H5",
        statement="A slow, hung or raising sink neither stalls nor fails the pipeline.",
        decides=(
            ("event_overflow/slow_sink", "EVENT-6"),
            ("event_overflow/hung_sink", "EVENT-6"),
            ("event_overflow/raising_sink", "EVENT-6"),
            ("event_overflow/block_on_hung_sink", "EVENT-6"),
        ),
    ),
    Hypothesis(
        id="H6",
        statement="When the run ends, what was accepted is delivered or accounted for in time.",
        decides=(
            ("event_overflow/last_events", "EVENT-5"),
            ("event_overflow/last_events_cut", "EVENT-5"),
            ("event_overflow/stage_fails_while_draining", "EVENT-5"),
            ("event_overflow/queue_before_hung_sink", "EVENT-5"),
        ),
    ),
)

CLAIMS = (
    Claim(
        id="Event Sink Backpressure",
        says="Events are fired and forgotten: no queue stands between stages and a slow sink.",
        decides=(("capability", "event_queue"),),
        earlier="The first of four findings, from reading try_emit_event(); not measured.",
        why=(
            "This version offers a sink with a bounded queue. Whether that queue accounts for "
            "what it takes is measured by the scenarios."
        ),
    ),
    Claim(
        id="Event Sink Backpressure (risk)",
        says="Under load, telemetry is lost without a trace.",
        decides=(
            ("event_overflow/thousand_a_second", "EVENT-2"),
            ("event_overflow/burst", "EVENT-2"),
            ("event_overflow/raising_sink", "EVENT-2"),
        ),
        earlier="Given as the risk of the finding; a stress test was designed and not run.",
        why=(
            "What is lost and what is lost without a trace are two things: each scenario beside "
            "counts the lost events of which neither a refusal nor a counter tells."
        ),
    ),
    Claim(
        id="Event Sink Overflow (test)",
        says="A drop rate at 1,000 events a second into a queue of 100 measures the gap.",
        decides=(
            ("event_overflow/thousand_a_second", "EVENT-1"),
            ("event_overflow/thousand_a_second", "EVENT-3"),
        ),
        earlier="Designed as one of four stress tests; no figure was given.",
        why=(
            "How many events are dropped follows from the rates of producer and sink and from "
            "the size of the queue. What tells engines apart is whether the account adds up and "
            "whether the bound holds: those are judged here."
        ),
    ),
    Claim(
        id="Recommendation: Event Backpressure",
        says="A queue that refuses when it is full and counts what it refuses closes the gap.",
        decides=(
            ("event_overflow/thousand_a_second", "EVENT-1"),
            ("event_overflow/queue_before_raising_sink", "EVENT-1"),
            ("event_overflow/queue_before_hung_sink", "EVENT-5"),
            ("event_overflow/block_on_hung_sink", "EVENT-6"),
        ),
        holds_if="pass",
        earlier="Recommended with a sketch of a sink of some ten lines; five days of work.",
        why=(
            "What a queue refuses it can count. What is lost behind it, when the sink raises or "
            "hangs or the run ends, is beyond that sketch, and is what the scenarios beside try."
        ),
    ),
)

EVENT_OVERFLOW = Mission(
    id="EVENT-OVERFLOW",
    title="Event sink overflow",
    pack="event_overflow",
    priority="P1",
    risk="Severe",
    summary=(
        "Events are how operators see a pipeline work, and they come fastest when things go "
        "wrong. The mission offers more of them than the sink takes, lets the sink be slow, hang "
        "and raise, ends runs while events are on their way, and follows every single one. It asks "
        "whether the engine's own account is true to the event, and whether telemetry can take "
        "the product down with it."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        ("Banking", "Audit events of payments, of which none may be missing unnoticed", "Critical"),
        ("Health care", "Access logs of patient data that must be complete by law", "Critical"),
        ("Retail", "Traffic peaks in which dashboards must not slow down check-out", "High"),
        ("Media", "Token streams whose events outnumber the requests a hundred to one", "Medium"),
    ),
    state_of_the_art=(
        "The Reactive Streams specification lets a consumer say how much it will take, so that "
        "no queue between the two needs to be unbounded.",
        "OpenTelemetry's batch span processor has a bounded queue, drops what does not fit, and by "
        "its specification should not block its caller.",
        "Python's QueueHandler puts log records into a queue so that a slow handler does not slow "
        "the caller, and leaves the bound of the queue to its user.",
        "Kafka's producer blocks a caller for at most max.block.ms when its buffer is full, "
        "and raises after that.",
        "Conservation of messages is checked, and not sampled, in Jepsen's tests of queues: what "
        "was acknowledged must be found, once.",
    ),
    failure_modes=(
        "A task is started for each event, and memory grows with the rate.",
        "The worker that drains the queue dies of the first error of the sink.",
        "An event that the sink refuses is counted as delivered.",
        "A drop is counted twice, or by the queue but not by its callback.",
        "The process ends with a queue full of the events that would have told why.",
        "Producers wait for room in a queue that nobody empties any more.",
        "Two workers drain one queue, and the order is lost.",
    ),
    questions=(
        ("Events through the engine", "events"),
        ("A bounded queue before the sink, with an account", "event_queue"),
        ("Streams through the engine", "streaming"),
        ("Consumption of a stream while the run goes on", "stream_consumer"),
    ),
    persona=(
        "Site reliability engineer",
        "A payment provider whose regulator reads the audit trail",
        (
            "Know of every event that is missing from the trail, and why",
            "An outage of the telemetry backend must not become an outage of payments",
            "Memory of the workers stays flat in a burst",
            "The last events before a crash or a deploy arrive",
        ),
    ),
    more_scenarios=(
        "event_overflow/producers_of_one_stage",
        "event_overflow/spill_keeps_order",
        "event_overflow/spill_at_shutdown",
        "event_overflow/hung_sink",
        "event_overflow/raising_sink",
        "event_overflow/sink_raises_cancelled_error",
        "event_overflow/two_runs_share_a_hung_sink",
        "event_overflow/caller_cancel_anywhere",
        "event_overflow/cancelled_while_waiting_for_room",
        "streaming/slow_consumer",
        "streaming/consumer_stops",
    ),
)
