"""Runs that end early after some stages have completed."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from scenarios.notation import acquire, cancel_run, fail, ok, program, raises, sleep, stage

__all__ = ["OUTPUTS"]

OUTPUTS: tuple[Scenario, ...] = (
    Scenario(
        id="partial_results/fail_partial_outputs",
        title="A chain whose last stage fails",
        program=program(
            "fail_partial_outputs",
            stage("fetch", sleep(0.1), ok({"rows": 3})),
            stage("parse", sleep(0.1), ok(["a", "b"]), needs="fetch"),
            stage("store", sleep(0.1), fail("disk full"), needs="parse"),
        ),
        plan=Plan(),
        clauses=("PART-1", "CANCEL-7", "CLEAN-5"),
        purpose="A stage reports a failure after two others have completed.",
        tests=("CONTRACT-003/fail_partial_outputs",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/raise_partial_outputs",
        title="A chain whose last stage raises",
        program=program(
            "raise_partial_outputs",
            stage("fetch", sleep(0.1), ok({"rows": 3})),
            stage("parse", sleep(0.1), ok(["a", "b"]), needs="fetch"),
            stage("store", sleep(0.1), raises("OSError", "disk full"), needs="parse"),
        ),
        plan=Plan(),
        clauses=("PART-1", "PART-4", "CLEAN-5"),
        purpose="A stage raises after two others have completed.",
        tests=("CONTRACT-003/raise_partial_outputs",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/cancel_partial_outputs",
        title="A chain whose last stage ends the run",
        program=program(
            "cancel_partial_outputs",
            stage("fetch", sleep(0.1), ok({"rows": 3})),
            stage("parse", sleep(0.1), ok(["a", "b"]), needs="fetch"),
            stage("check", sleep(0.1), cancel_run("nothing new"), needs="parse"),
            stage("store", ok("stored"), needs="check"),
        ),
        plan=Plan(),
        clauses=("PART-2", "CANCEL-1", "CANCEL-7", "CLEAN-5"),
        purpose="A stage ends the run after two others have completed.",
        tests=("CONTRACT-003/cancel_partial_outputs",),
        category="baseline",
    ),
    Scenario(
        id="partial_results/timeout_partial_outputs",
        title="A chain whose last stage times out",
        program=program(
            "timeout_partial_outputs",
            stage("fetch", sleep(0.1), ok({"rows": 3})),
            stage("parse", sleep(0.1), ok(["a", "b"]), needs="fetch"),
            stage("store", sleep(2.0), ok("stored"), needs="parse"),
        ),
        plan=Plan(stage_timeout_s=0.5),
        clauses=("PART-1", "TIME-1", "CLEAN-5"),
        purpose="The engine's timeout ends the third of three stages.",
        tests=("CONTRACT-003/timeout_partial_outputs",),
    ),
    Scenario(
        id="partial_results/parallel_branch_outputs",
        title="One branch completes, the other fails",
        program=program(
            "parallel_branch_outputs",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.3), raises("ValueError", "b failed"), needs="a"),
            stage("c", sleep(0.1, 0.2), ok("c"), needs="a"),
            stage("d", acquire("lock", 0.1), sleep(2.0), ok("d"), needs="c"),
        ),
        plan=Plan(),
        clauses=("PART-1", "CLEAN-1", "CLEAN-5"),
        purpose="c has completed when b fails; d is at work.",
        tests=("CONTRACT-003/parallel_branch_outputs",),
    ),
    Scenario(
        id="partial_results/parallel_branch_cancel",
        title="One branch completes, the other ends the run",
        program=program(
            "parallel_branch_cancel",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.3), cancel_run("b has nothing to do"), needs="a"),
            stage("c", sleep(0.1, 0.2), ok("c"), needs="a"),
            stage("d", acquire("lock", 0.1), sleep(2.0), ok("d"), needs="c"),
        ),
        plan=Plan(),
        clauses=("PART-2", "CANCEL-1", "CLEAN-1", "CLEAN-5"),
        purpose="c has completed when b ends the run; d is at work.",
        tests=("CONTRACT-003/parallel_branch_cancel",),
    ),
    Scenario(
        id="partial_results/same_tick_outputs",
        title="Stages complete in the tick of a failure",
        program=program(
            "same_tick_outputs",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), raises("ValueError", "b failed"), needs="a"),
            *(stage(f"c{i}", sleep(0.2, 0.1), ok(f"c{i}"), needs="a") for i in range(4)),
        ),
        plan=Plan(),
        clauses=("PART-3", "PART-1", "CLEAN-5"),
        purpose="Four stages complete at the moment at which a fifth fails, or just before.",
        tests=("CONTRACT-003/same_tick_outputs",),
    ),
    Scenario(
        id="partial_results/same_tick_cancel",
        title="Stages complete in the tick in which a stage ends the run",
        program=program(
            "same_tick_cancel",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), cancel_run("b has nothing to do"), needs="a"),
            *(stage(f"c{i}", sleep(0.2, 0.1), ok(f"c{i}"), needs="a") for i in range(4)),
        ),
        plan=Plan(),
        clauses=("PART-3", "PART-2", "CANCEL-1", "CLEAN-5"),
        purpose="Four stages complete at the moment at which a fifth ends the run.",
        tests=("CONTRACT-003/same_tick_cancel",),
    ),
    Scenario(
        id="partial_results/every_failure_reported",
        title="Three stages fail",
        program=program(
            "every_failure_reported",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), raises("ValueError", "b failed"), needs="a"),
            stage("c", sleep(0.2), raises("KeyError", "c failed"), needs="a"),
            stage("d", sleep(0.2, 0.3), raises("OSError", "d failed"), needs="a"),
        ),
        plan=Plan(),
        clauses=("PART-4", "PART-1", "CLEAN-5"),
        purpose="Two stages fail at one moment, and a third with them or later.",
        tests=("CONTRACT-003/every_failure_reported",),
    ),
    Scenario(
        id="partial_results/failure_during_teardown",
        title="A stage fails while another's failure is dealt with",
        program=program(
            "failure_during_teardown",
            stage("b", sleep(0.2), raises("ValueError", "b failed")),
            stage("c", acquire("connection", 0.2, fails=True), sleep(2.0), ok("c")),
        ),
        plan=Plan(),
        clauses=("PART-4", "CLEAN-4", "CLEAN-5"),
        purpose="A stage is cancelled because another failed, and fails in its own cleanup.",
    ),
    Scenario(
        id="partial_results/failure_with_wide_fan_out",
        title="Nineteen branches complete, the twentieth fails",
        program=program(
            "failure_with_wide_fan_out",
            stage("split", sleep(0.1), ok(list(range(20)))),
            *(stage(f"part{i:02}", sleep(0.1 + 0.01 * i), ok(i), needs="split") for i in range(19)),
            stage("part19", sleep(0.5), fail("bad record"), needs="split"),
        ),
        plan=Plan(),
        clauses=("PART-1", "CLEAN-5"),
        purpose="The last of twenty branches fails after all others have completed.",
    ),
)
