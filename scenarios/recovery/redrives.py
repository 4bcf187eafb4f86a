"""Runs that end early and are gone on with by another run."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.program import Retry
from harness.kernel.steps import step
from scenarios.notation import (
    acquire,
    cancel_branch,
    flaky,
    ok,
    program,
    read,
    sleep,
    stage,
)

__all__ = ["REDRIVES"]


def redriven(times: int = 1, **plan: object) -> Plan:
    """Run once, and redrive what came of it, that many times one after the other."""
    runs = [RunSpec("r0")]
    runs += [RunSpec(f"r{i}", redrives=f"r{i - 1}") for i in range(1, times + 1)]
    return Plan(runs=tuple(runs), **plan)  # type: ignore[arg-type]


REDRIVES: tuple[Scenario, ...] = (
    Scenario(
        id="recovery/redrive_after_failure",
        title="A chain whose last stage fails once",
        program=program(
            "redrive_after_failure",
            stage("fetch", sleep(0.1), ok({"rows": 3})),
            stage("parse", sleep(0.1), ok(["a", "b"]), needs="fetch"),
            stage("store", sleep(0.1), flaky(1), ok("stored"), needs="parse"),
        ),
        plan=redriven(),
        clauses=("PART-5", "PART-1", "GRAPH-2", "CLEAN-5"),
        purpose="The third of three stages fails; the redrive runs that one only.",
        tests=("REDRIVE/redrive_after_failure",),
        category="baseline",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_reads_outputs",
        title="A redriven stage reads what was completed before",
        program=program(
            "redrive_reads_outputs",
            stage("a", sleep(0.1), ok({"n": 1, "items": [1, 2, 3]})),
            stage("b", sleep(0.2), ok([{"deep": [None, True, 1.5]}])),
            stage("c", read("a"), read("b"), flaky(1), ok("c"), needs="a b"),
            stage("d", read("c"), read("a"), ok("d"), needs="a c"),
        ),
        plan=redriven(),
        clauses=("PART-5", "GRAPH-2", "CLEAN-5"),
        purpose="A stage reads two outputs, fails, and reads the same two in the redrive.",
        tests=("REDRIVE/redrive_reads_outputs",),
        category="baseline",
        fires=("flaky", "read"),
    ),
    Scenario(
        id="recovery/redrive_of_completed",
        title="A run that completed is redriven",
        program=program(
            "redrive_of_completed",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.1), ok("b"), needs="a"),
        ),
        plan=redriven(),
        clauses=("PART-5", "CLEAN-5"),
        purpose="There is nothing left to run: the redrive runs nothing.",
        tests=("REDRIVE/redrive_of_completed",),
        category="baseline",
    ),
    Scenario(
        id="recovery/redrive_wide",
        title="Nineteen of twenty branches have completed",
        program=program(
            "redrive_wide",
            stage("split", sleep(0.1), ok(list(range(20)))),
            *(stage(f"part{i:02}", sleep(0.1 + 0.01 * i), ok(i), needs="split") for i in range(19)),
            stage("part19", sleep(0.5), flaky(1), ok(19), needs="split"),
            stage("join", ok("joined"), needs=" ".join(f"part{i:02}" for i in range(20))),
        ),
        plan=redriven(),
        clauses=("PART-5", "PART-1", "GRAPH-2", "CLEAN-5"),
        purpose="The last of twenty branches fails; the redrive runs it, and what joins them.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_of_interrupted",
        title="Stages are at work, or complete, when another fails",
        program=program(
            "redrive_of_interrupted",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.3), flaky(1), ok("b"), needs="a"),
            stage("c", acquire("lock", 0.1), sleep(0.5, 0.3, 0.2), ok("c"), needs="a"),
            stage("d", sleep(0.1, 0.2), ok("d"), needs="a"),
            stage("e", ok("e"), needs="b c d"),
        ),
        plan=redriven(),
        clauses=("PART-5", "PART-1", "CLEAN-1", "CLEAN-5"),
        purpose="What was interrupted by the failure is run again, what had completed is not.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_again",
        title="A redrive fails as well, and is redriven",
        program=program(
            "redrive_again",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.1), flaky(1), ok("b"), needs="a"),
            stage("c", sleep(0.1), flaky(1), ok("c"), needs="b"),
            stage("d", sleep(0.1), flaky(1), ok("d"), needs="c"),
        ),
        plan=redriven(3),
        clauses=("PART-5", "PART-1", "CLEAN-5"),
        purpose="Each of three redrives comes one stage further than the run before.",
        tests=("REDRIVE/redrive_again",),
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_past_skipped",
        title="Stages were skipped, and a branch cancelled, before the failure",
        program=program(
            "redrive_past_skipped",
            stage("a", sleep(0.1), step("skip", reason="nothing new")),
            stage("b", sleep(0.1), cancel_branch("not wanted")),
            stage("b1", ok("b1"), needs="b"),
            stage("c", sleep(0.3), flaky(1), ok("c"), needs="a"),
        ),
        plan=redriven(),
        clauses=("PART-5", "CLEAN-5"),
        purpose="The redrive neither runs what was skipped nor waits for it.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_after_retries",
        title="A stage has used up its attempts, and is redriven",
        program=program(
            "redrive_after_retries",
            stage("a", sleep(0.1), ok("a")),
            stage(
                "b",
                sleep(0.1),
                flaky(4),
                ok("b"),
                needs="a",
                retry=Retry(attempts=3, backoff_s=0.1),
            ),
        ),
        plan=redriven(),
        clauses=("PART-5", "RETRY-1", "CLEAN-5"),
        purpose="Three attempts fail; the redrive has three more, and the second succeeds.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_with_others_going_on",
        title="The others went on when a stage failed",
        program=program(
            "redrive_with_others_going_on",
            stage("a", sleep(0.1), flaky(1), ok("a")),
            stage("a1", sleep(0.1), ok("a1"), needs="a"),
            stage("b", sleep(0.3), ok("b")),
            stage("b1", sleep(0.3), ok("b1"), needs="b"),
        ),
        plan=redriven(on_failure="continue"),
        clauses=("PART-5", "CLEAN-5"),
        purpose="Under the policy to go on, the redrive runs the failed branch only.",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrives_at_once",
        title="Two redrives of one run at once",
        program=program(
            "redrives_at_once",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), flaky(1), ok("b"), needs="a"),
            stage("c", sleep(0.1), ok("c"), needs="b"),
        ),
        plan=Plan(runs=(RunSpec("r0"), RunSpec("r1", redrives="r0"), RunSpec("r2", redrives="r0"))),
        clauses=("PART-5", "CLEAN-5"),
        purpose="Two operators redrive the same run: no stage of it is run by both.",
        tests=("REDRIVE/redrives_at_once",),
        category="chaos",
        fires=("flaky",),
    ),
    Scenario(
        id="recovery/redrive_after_caller_cancel",
        title="The caller cancels at every point, and the run is redriven",
        program=program(
            "redrive_after_caller_cancel",
            stage("a", sleep(0.1), ok("a")),
            stage("b", acquire("lock", 0.1), sleep(0.2), ok("b"), needs="a"),
            stage("c", sleep(0.1), ok("c"), needs="a"),
            stage("d", sleep(0.1), ok("d"), needs="b c"),
        ),
        plan=redriven(cancels=(Cancel(at_point=-1),)),
        clauses=("PART-5", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="Wherever the cancel lands, the redrive ends what the run had begun.",
        tests=("REDRIVE/redrive_after_caller_cancel",),
        category="chaos",
        sweep="cancel_points",
    ),
)
