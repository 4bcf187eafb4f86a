"""Streaming: chunks that were produced are not lost, and their consumer is in control."""

from __future__ import annotations

from harness.contract.scenario import Pack, Scenario
from harness.kernel.plan import Plan
from scenarios.notation import cancel_run, fail, ok, program, raises, sleep, stage
from scenarios.streaming.consumers import CONSUMERS, tokens

__all__ = ["PACK"]

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        id="streaming/chunks_before_timeout",
        title="Chunks before a timeout",
        program=program("chunks_before_timeout", stage("answer", *tokens(10, 0.15), ok("all"))),
        plan=Plan(stage_timeout_s=0.5),
        clauses=("STREAM-1", "STREAM-2", "TIME-1", "CLEAN-5"),
        purpose="A stage has produced three of ten chunks when its timeout ends it.",
        fires=("chunk",),
    ),
    Scenario(
        id="streaming/chunk_in_the_tick_of_the_timeout",
        title="A chunk in the tick of the timeout",
        program=program("chunk_tie", stage("answer", *tokens(5, 0.25), ok("all"))),
        plan=Plan(stage_timeout_s=0.5),
        clauses=("STREAM-1", "STREAM-2", "CLEAN-5"),
        purpose="A chunk falls due at the moment at which the timeout ends its stage.",
        fires=("chunk",),
    ),
    Scenario(
        id="streaming/chunks_before_failure",
        title="Chunks before a failure",
        program=program(
            "chunks_before_failure",
            stage("answer", *tokens(3, 0.1), raises("OSError", "connection reset")),
        ),
        plan=Plan(),
        clauses=("STREAM-1", "STREAM-2", "CLEAN-5"),
        purpose="A stage raises after three chunks.",
        fires=("chunk",),
    ),
    Scenario(
        id="streaming/chunks_before_reported_failure",
        title="Chunks before a failure that the stage reports",
        program=program(
            "chunks_before_reported_failure",
            stage("answer", *tokens(3, 0.1), fail("content filter")),
        ),
        plan=Plan(),
        clauses=("STREAM-1", "STREAM-2", "CLEAN-5"),
        purpose="A stage reports a failure after three chunks.",
        fires=("chunk",),
    ),
    Scenario(
        id="streaming/chunks_before_stage_cancel",
        title="Chunks before a sibling ends the run",
        program=program(
            "chunks_before_stage_cancel",
            stage("answer", *tokens(10, 0.1), ok("all")),
            stage("guard", sleep(0.35, 0.3), cancel_run("user interrupted")),
        ),
        plan=Plan(),
        clauses=("STREAM-1", "STREAM-2", "CANCEL-1", "CLEAN-5"),
        purpose="A sibling ends the run between two chunks, or with one.",
        fires=("chunk",),
    ),
    Scenario(
        id="streaming/chunks_before_sibling_failure",
        title="Chunks before a sibling fails",
        program=program(
            "chunks_before_sibling_failure",
            stage("answer", *tokens(10, 0.1), ok("all")),
            stage("guard", sleep(0.35, 0.3), raises("RuntimeError", "guard crashed")),
        ),
        plan=Plan(),
        clauses=("STREAM-1", "STREAM-2", "CLEAN-5"),
        purpose="A sibling fails between two chunks, or with one.",
        fires=("chunk",),
    ),
)

PACK = Pack(
    id="streaming",
    title="Streams and partial results of a stage",
    page=(
        "A model has produced half an answer when its stage times out, fails or is cancelled. Can "
        "the half be reached, in order and none of it twice, and is it marked as a half? These "
        "scenarios hand chunks to the engine's own stream; engines without one are not put to the "
        "test. What a stage collects by itself and returns is looked at in the pack tools. "
        "Other scenarios consume the chunks while the run goes on. A consumer that is slower than "
        "the model must not make the engine's memory grow, and one that goes, as a client does "
        "that closes its browser, must take the producer with it: the stage is ended and what it "
        "holds is released."
    ),
    scenarios=(*SCENARIOS, *CONSUMERS),
)
