"""One program ended in every way there is, and harder ways to end a run after work was done."""

from __future__ import annotations

from typing import Any

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from harness.kernel.program import Program, Retry
from harness.kernel.steps import Step
from scenarios.notation import (
    acquire,
    cancel_run,
    fail,
    ok,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    swallow,
)

__all__ = ["ENDINGS"]

DEEP: dict[str, Any] = {"rows": [{"id": i, "tags": ["x", None]} for i in range(5)], "sum": 1.5}


def ended_by(name: str, *ending: Step) -> Program:
    """Two branches have completed, one is at work, and a stage of the fourth ends the run."""
    return program(
        name,
        stage("source", sleep(0.1), ok(DEEP)),
        stage("left", sleep(0.1, 0.2), ok(["left", DEEP]), needs="source"),
        stage("right", sleep(0.2, 0.1), ok(None), needs="source"),
        stage("busy", acquire("lock", 0.1), sleep(5.0), ok("busy"), needs="source"),
        stage("ends", sleep(0.4), *ending, needs="source"),
        stage("after", ok("after"), needs="left right ends"),
    )


ENDINGS: tuple[Scenario, ...] = (
    Scenario(
        id="partial_results/parity_reported_failure",
        title="A run ended by a failure that a stage reports",
        program=ended_by("parity_reported_failure", fail("rejected")),
        plan=Plan(),
        clauses=("PART-1", "PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="Three stages have completed and one is at work when a fifth reports a failure.",
        tests=("PARTIAL-RESULTS/reported_failure",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/parity_exception",
        title="The same run ended by an exception",
        program=ended_by("parity_exception", raises("ValueError", "bad record")),
        plan=Plan(),
        clauses=("PART-1", "PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="Three stages have completed and one is at work when a fifth raises.",
        tests=("PARTIAL-RESULTS/exception",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/parity_cancel",
        title="The same run ended by a stage's own wish",
        program=ended_by("parity_cancel", cancel_run("nothing to do")),
        plan=Plan(),
        clauses=("PART-2", "CANCEL-1", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="Three stages have completed and one is at work when a fifth ends the run.",
        tests=("PARTIAL-RESULTS/cancel",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/parity_timeout",
        title="The same run ended by a timeout",
        program=ended_by("parity_timeout", sleep(5.0)),
        plan=Plan(stage_timeout_s=0.5),
        clauses=("PART-1", "TIME-1", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="Three stages have completed when the timeouts of two others expire.",
        tests=("PARTIAL-RESULTS/timeout",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/others_go_on",
        title="A stage fails and the others go on",
        program=program(
            "others_go_on",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.1), raises("ValueError", "b failed"), needs="a"),
            stage("b1", ok("b1"), needs="b"),
            stage("c", sleep(0.3), ok({"c": 1}), needs="a"),
            stage("c1", sleep(0.1), fail("c1 is full"), needs="c"),
            stage("d", sleep(0.6), ok("d"), needs="a"),
        ),
        plan=Plan(on_failure="continue"),
        clauses=("PART-1", "PART-4", "GRAPH-2", "CLEAN-5"),
        purpose="Under the policy to go on, two stages fail and what completed is all there.",
        tests=("PARTIAL-RESULTS/others_go_on",),
    ),
    Scenario(
        id="partial_results/failure_in_subpipeline",
        title="A subpipeline fails after others have completed",
        program=program(
            "failure_in_subpipeline",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), ok("b"), needs="a"),
            stage(
                "parent",
                subpipeline(
                    program(
                        "child",
                        stage("x", sleep(0.2), ok("x")),
                        stage("y", sleep(0.2), raises("OSError", "y is down"), needs="x"),
                    )
                ),
                needs="a",
            ),
        ),
        plan=Plan(),
        clauses=("PART-1", "CANCEL-6", "CLEAN-5"),
        purpose="What ended the run is two pipelines deep; the outer outputs are there.",
        tests=("PARTIAL-RESULTS/failure_in_subpipeline",),
    ),
    Scenario(
        id="partial_results/failure_after_retries",
        title="A stage fails for the last time after others have completed",
        program=program(
            "failure_after_retries",
            stage("a", sleep(0.1), ok("a")),
            stage(
                "b",
                sleep(0.1),
                raises("OSError", "b is down"),
                needs="a",
                retry=Retry(attempts=3, backoff_s=0.1),
            ),
            stage("c", sleep(0.3), ok({"c": [1, 2]}), needs="a"),
        ),
        plan=Plan(),
        clauses=("PART-1", "PART-4", "RETRY-1", "CLEAN-5"),
        purpose="A sibling completes between two attempts of a stage that fails in each.",
    ),
    Scenario(
        id="partial_results/many_in_the_tick",
        title="Forty stages complete in the tick of a failure",
        program=program(
            "many_in_the_tick",
            stage("split", sleep(0.1), ok("split")),
            *(stage(f"s{i:02}", sleep(0.2, 0.1), ok(i), needs="split") for i in range(40)),
            stage("bad", sleep(0.2), raises("ValueError", "bad"), needs="split"),
        ),
        plan=Plan(),
        clauses=("PART-3", "PART-1", "CLEAN-5"),
        purpose="Forty completions and a failure come in one turn of the loop.",
    ),
    Scenario(
        id="partial_results/many_failures",
        title="Twenty stages fail in one tick or the next",
        program=program(
            "many_failures",
            stage("split", sleep(0.1), ok("split")),
            *(
                stage(f"s{i:02}", sleep(0.2, 0.3), raises("ValueError", f"row {i}"), needs="split")
                for i in range(20)
            ),
        ),
        plan=Plan(),
        clauses=("PART-4", "PART-1", "CLEAN-5"),
        purpose="Up to twenty stages fail before the first failure is reacted to.",
    ),
    Scenario(
        id="partial_results/failure_among_stubborn",
        title="A failure while a stage does not stop",
        program=program(
            "failure_among_stubborn",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.3), raises("ValueError", "b failed"), needs="a"),
            stage("c", swallow(99, sleep(50.0)), needs="a"),
            stage("d", sleep(0.1), ok("d"), needs="a"),
        ),
        plan=Plan(cleanup_grace_s=2.0, horizon_s=200.0),
        clauses=("PART-1", "PART-4", "CANCEL-4"),
        purpose="A stage that cannot be stopped keeps neither outputs nor failure from the user.",
        category="chaos",
    ),
    Scenario(
        id="partial_results/failures_in_cleanups",
        title="Stages fail in the cleanups that a failure brings about",
        program=program(
            "failures_in_cleanups",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.3), raises("ValueError", "b failed"), needs="a"),
            *(
                stage(f"c{i}", acquire(f"lock {i}", 0.1 * i, fails=True), sleep(5.0), needs="a")
                for i in range(3)
            ),
        ),
        plan=Plan(),
        clauses=("PART-1", "PART-4", "CLEAN-4", "CLEAN-5"),
        purpose="Three cleanups fail one after the other while the run is being ended.",
        category="chaos",
    ),
)
