"""Stages that fail and are tried again, undisturbed and while the run is being ended."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan
from harness.kernel.program import Retry
from scenarios.notation import (
    acquire,
    cancel_run,
    fail,
    flaky,
    ok,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    using,
)

__all__ = ["RETRIES"]

# Waits of 0.1, 0.2, 0.4, ... seconds.
QUICK = Retry(attempts=3, backoff_s=0.1)

RETRIES: tuple[Scenario, ...] = (
    Scenario(
        id="recovery/retry_succeeds",
        title="The third attempt succeeds",
        program=program(
            "retry_succeeds",
            stage("fetch", sleep(0.05), flaky(2), ok("rows"), retry=QUICK),
            stage("parse", sleep(0.05), ok("parsed"), needs="fetch"),
            stage("beside", sleep(0.2), ok("done")),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "GRAPH-2", "GRAPH-3", "CLEAN-5"),
        purpose="A stage fails twice and is declared to be tried three times; another needs it.",
        tests=("REDRIVE/retry_succeeds",),
        category="baseline",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/retry_exhausted",
        title="Every attempt fails",
        program=program(
            "retry_exhausted",
            stage("a", sleep(0.05), ok("a")),
            stage(
                "b",
                sleep(0.05),
                raises("OSError", "still down"),
                needs="a",
                retry=Retry(attempts=4, backoff_s=0.2, factor=1.5),
            ),
            stage("c", ok("c"), needs="b"),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "PART-1", "PART-4", "CANCEL-7", "GRAPH-2", "CLEAN-5"),
        purpose="A stage fails in each of its four attempts; then the run fails, and says so.",
        tests=("REDRIVE/retry_exhausted",),
        category="baseline",
    ),
    Scenario(
        id="recovery/retry_reported_failure",
        title="A stage reports its failure instead of raising",
        program=program(
            "retry_reported_failure",
            stage("load", sleep(0.05), fail("table is locked"), retry=Retry(attempts=2)),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "CANCEL-7", "CLEAN-5"),
        purpose="A failure that the stage reports counts like one that it raises.",
    ),
    Scenario(
        id="recovery/no_retry_of_what_ended_well",
        title="What ended well is not tried again",
        program=program(
            "no_retry_of_what_ended_well",
            stage("done", sleep(0.1), ok("done"), retry=QUICK),
            stage("none", sleep(0.1), ok(None), retry=QUICK),
            stage("fails", sleep(0.05, 0.1), flaky(1), ok("at last"), retry=QUICK),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "GRAPH-3", "CLEAN-5"),
        purpose="Two stages complete, one of them with nothing, beside one that is tried again.",
        category="baseline",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/retries_side_by_side",
        title="Many stages are tried again at once",
        program=program(
            "retries_side_by_side",
            stage("first", sleep(0.1), ok(1)),
            *(
                stage(
                    f"s{i:02}",
                    sleep(0.1, 0.05),
                    flaky(i % 4),
                    ok(i),
                    needs="first",
                    retry=Retry(attempts=4, backoff_s=0.1 * (1 + i % 2), jitter_s=0.05),
                )
                for i in range(20)
            ),
            stage("last", ok("all"), needs=" ".join(f"s{i:02}" for i in range(20))),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "GRAPH-2", "GRAPH-3", "CLEAN-5"),
        purpose="Twenty stages fail up to three times each, with waits that overlap and jitter.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/retry_releases",
        title="An attempt holds resources when it fails",
        program=program(
            "retry_releases",
            stage(
                "upload",
                acquire("file", 0.05),
                using("connection", sleep(0.1), flaky(2), cleanup_s=0.2),
                ok("uploaded"),
                retry=Retry(attempts=3, backoff_s=0.1, factor=1.0),
            ),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "CLEAN-1", "CLEAN-2", "CLEAN-3", "CLEAN-5"),
        purpose="Each attempt takes two resources, and gives them back before the next begins.",
        fires=("flaky", "release.end"),
    ),
    Scenario(
        id="recovery/retry_after_timeout",
        title="Attempts time out",
        program=program(
            "retry_after_timeout",
            stage("slow", sleep(0.5, 0.1, 0.2), ok("slow"), timeout_s=0.2, retry=QUICK),
            stage("beside", acquire("lock", 0.05), sleep(0.9, 0.2), ok("beside")),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "TIME-1", "TIME-3", "CLEAN-5"),
        purpose="Attempts outlive their timeout, or end with it, while a sibling is at work.",
    ),
    Scenario(
        id="recovery/retry_around_subpipeline",
        title="A stage that runs a subpipeline is tried again",
        program=program(
            "retry_around_subpipeline",
            stage(
                "parent",
                subpipeline(program("child", stage("inner", sleep(0.1), ok("inner")))),
                flaky(1),
                ok("parent"),
                retry=Retry(attempts=2, backoff_s=0.1),
            ),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "CLEAN-5"),
        purpose="The stage fails when its subpipeline has completed, and runs it once more.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/retry_cancelled_in_wait",
        title="The caller cancels while a stage waits to be tried again",
        program=program(
            "retry_cancelled_in_wait",
            stage(
                "a",
                sleep(0.1, 0.2, 0.3),
                raises("OSError", "down"),
                retry=Retry(attempts=5, backoff_s=0.4),
            ),
            stage("b", acquire("lock", 0.2), sleep(5.0), ok("b")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.6),)),
        clauses=("RETRY-1", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="The cancel lands in the wait, or in the tick in which the wait is over.",
        tests=("REDRIVE/no_retry_after_cancel",),
        category="chaos",
    ),
    Scenario(
        id="recovery/retry_cancelled_anywhere",
        title="The caller cancels a run with retries, at every point",
        program=program(
            "retry_cancelled_anywhere",
            stage(
                "a",
                acquire("lock", 0.1),
                sleep(0.1),
                flaky(2),
                ok("a"),
                retry=Retry(attempts=3, backoff_s=0.1, factor=1.0),
            ),
            stage("b", sleep(0.2), ok("b"), needs="a"),
            stage("c", sleep(0.3), flaky(1), ok("c"), retry=Retry(attempts=2, backoff_s=0.3)),
        ),
        plan=Plan(cancels=(Cancel(at_point=-1),)),
        clauses=("RETRY-1", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="A cancel lands in attempts, in their cleanups, in waits and between them.",
        category="chaos",
        sweep="cancel_points",
    ),
    Scenario(
        id="recovery/retry_while_sibling_fails",
        title="Another stage fails while a stage waits to be tried again",
        program=program(
            "retry_while_sibling_fails",
            stage(
                "a",
                sleep(0.1, 0.3),
                raises("OSError", "a is down"),
                retry=Retry(attempts=5, backoff_s=0.2),
            ),
            stage("b", sleep(0.5, 0.3), raises("ValueError", "b failed")),
            stage("c", acquire("lock", 1.0), sleep(5.0), ok("c")),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="The run fails in a wait, in an attempt, or in the tick of one that fails.",
        category="chaos",
    ),
    Scenario(
        id="recovery/retry_while_stage_ends_run",
        title="A stage ends the run while another waits to be tried again",
        program=program(
            "retry_while_stage_ends_run",
            stage(
                "a",
                sleep(0.1, 0.3),
                raises("OSError", "a is down"),
                retry=Retry(attempts=5, backoff_s=0.2),
            ),
            stage("b", sleep(0.5, 0.3), cancel_run("enough")),
            stage("c", acquire("lock", 1.0), sleep(5.0), ok("c")),
        ),
        plan=Plan(),
        clauses=("RETRY-1", "CANCEL-1", "CLEAN-1", "CLEAN-5"),
        purpose="The run is called off by a stage in a wait, or in the tick in which it is over.",
        category="chaos",
    ),
)
