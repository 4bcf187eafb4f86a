"""Chunks that are consumed while the run goes on: by a slow consumer, and by one that stops."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Consumer, Plan, RunSpec
from harness.kernel.steps import Step
from scenarios.notation import acquire, chunk, ok, program, raises, sleep, stage

__all__ = ["CONSUMERS", "tokens"]


def tokens(count: int, every_s: float) -> tuple[Step, ...]:
    """Produce `count` chunks, one each `every_s`."""
    return tuple(one for i in range(count) for one in (sleep(every_s), chunk(f"token {i}")))


CONSUMERS: tuple[Scenario, ...] = (
    Scenario(
        id="streaming/consumer_keeps_pace",
        title="A consumer that keeps pace",
        program=program("consumer_keeps_pace", stage("answer", *tokens(20, 0.02), ok("all"))),
        plan=Plan(consumer=Consumer("answer", every_s=0.01, buffer_max=4)),
        clauses=("STREAM-3", "GRAPH-3", "CLEAN-5"),
        purpose="Twenty chunks are consumed as fast as they are produced.",
        category="baseline",
        fires=("consume",),
    ),
    Scenario(
        id="streaming/slow_consumer",
        title="A consumer that is slower than the model",
        program=program(
            "slow_consumer",
            stage("answer", *tokens(30, 0.01), ok("all")),
            stage("store", sleep(0.1), ok("stored"), needs="answer"),
        ),
        plan=Plan(consumer=Consumer("answer", every_s=0.05, buffer_max=4)),
        clauses=("STREAM-3", "GRAPH-3", "GRAPH-2", "CLEAN-5"),
        purpose="Chunks come each 10 ms and are taken each 50 ms; four may wait.",
        fires=("consume",),
    ),
    Scenario(
        id="streaming/burst_of_chunks",
        title="A burst of chunks",
        program=program("burst_of_chunks", stage("answer", *tokens(40, 0.0), ok("all"))),
        plan=Plan(consumer=Consumer("answer", every_s=0.02, buffer_max=8)),
        clauses=("STREAM-3", "GRAPH-3", "CLEAN-5"),
        purpose="Forty chunks are produced without a pause for a consumer with room for eight.",
        fires=("consume",),
    ),
    Scenario(
        id="streaming/slow_consumer_of_a_failing_stage",
        title="The producer fails before a slow consumer",
        program=program(
            "slow_consumer_of_a_failing_stage",
            stage("answer", *tokens(20, 0.01), raises("OSError", "connection reset")),
        ),
        plan=Plan(consumer=Consumer("answer", every_s=0.03, buffer_max=4)),
        clauses=("STREAM-3", "STREAM-1", "STREAM-2", "PART-4", "CLEAN-5"),
        purpose="A stage fails after twenty chunks, the last of which still wait.",
        category="chaos",
        fires=("consume",),
    ),
    Scenario(
        id="streaming/slow_consumer_cancelled_anywhere",
        title="The caller cancels a stream",
        program=program(
            "slow_consumer_cancelled_anywhere",
            stage("answer", acquire("socket", 0.02), *tokens(10, 0.01), ok("all")),
        ),
        plan=Plan(
            cancels=(Cancel(at_point=-1),),
            consumer=Consumer("answer", every_s=0.03, buffer_max=2),
        ),
        clauses=("STREAM-3", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="The caller cancels at every point: while the producer works, or waits for room.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent", "consume"),
    ),
    Scenario(
        id="streaming/consumer_stops",
        title="A consumer that stops",
        program=program(
            "consumer_stops",
            stage("answer", acquire("socket", 0.05), *tokens(20, 0.1), ok("all")),
            stage("other", sleep(0.5), ok("other")),
        ),
        plan=Plan(consumer=Consumer("answer", stop_after=3)),
        clauses=("STREAM-4", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A consumer goes after three of twenty chunks; the stage holds a socket.",
        fires=("consume.stop",),
    ),
    Scenario(
        id="streaming/consumer_stops_at_once",
        title="A consumer that takes nothing",
        program=program(
            "consumer_stops_at_once",
            stage("look", sleep(0.1), ok("page")),
            stage("answer", acquire("socket", 0.05), *tokens(10, 0.1), ok("all"), needs="look"),
        ),
        plan=Plan(consumer=Consumer("answer", stop_after=1, buffer_max=1)),
        clauses=("STREAM-4", "CLEAN-1", "CLEAN-5"),
        purpose="A consumer goes after the first chunk of a stage that is not the first.",
        fires=("consume.stop",),
    ),
    Scenario(
        id="streaming/consumer_stops_while_producer_waits",
        title="A consumer stops while the producer waits for it",
        program=program(
            "consumer_stops_while_producer_waits",
            stage("answer", acquire("socket", 0.05), *tokens(20, 0.0), ok("all")),
        ),
        plan=Plan(consumer=Consumer("answer", every_s=0.1, stop_after=3, buffer_max=2)),
        clauses=("STREAM-4", "CLEAN-1", "CLEAN-5"),
        purpose="A full buffer keeps the producer waiting when its consumer goes.",
        category="chaos",
        fires=("consume.stop",),
    ),
    Scenario(
        id="streaming/consumer_stops_in_a_long_pause",
        title="A consumer stops while the producer is silent",
        program=program(
            "consumer_stops_in_a_long_pause",
            stage("answer", acquire("socket", 0.05), *tokens(3, 0.1), sleep(60.0), ok("all")),
        ),
        plan=Plan(consumer=Consumer("answer", stop_after=3)),
        clauses=("STREAM-4", "CLEAN-1", "CLEAN-5"),
        purpose="The consumer goes while the stage waits for a minute without a chunk to hand on.",
        category="chaos",
        fires=("consume.stop",),
    ),
    Scenario(
        id="streaming/consumer_stops_then_another_run",
        title="Another run after a consumer has stopped",
        program=program(
            "consumer_stops_then_another_run",
            stage("answer", acquire("socket", 0.05), *tokens(8, 0.1), ok("all")),
        ),
        plan=Plan(
            runs=(RunSpec("r0"), RunSpec("r1", start_s=0.2), RunSpec("r2", start_s=5.0)),
            consumer=Consumer("answer", every_s=0.05, stop_after=3, buffer_max=2),
        ),
        clauses=("STREAM-4", "CLEAN-1", "CLEAN-5"),
        purpose="Three runs of one pipeline have consumers that go; the last begins when the "
        "others are over.",
        category="chaos",
        fires=("consume.stop",),
    ),
)
