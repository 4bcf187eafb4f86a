"""Resources held in a stage's own code, and every way out of it."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan, RunSpec
from scenarios.notation import (
    acquire,
    cancel_run,
    fail,
    generate,
    ok,
    parallel,
    program,
    raises,
    sleep,
    spawn,
    stage,
    timeout,
    using,
)

__all__ = ["WAYS_OUT"]

TWO_RUNS = (RunSpec("r0", "t0"), RunSpec("r1", "t1", start_s=0.2))

WAYS_OUT: tuple[Scenario, ...] = (
    Scenario(
        id="cleanup/ok",
        title="Every stage finishes",
        program=program(
            "ok",
            stage("fetch", acquire("socket", 0.1), sleep(0.2), ok("page")),
            stage("parse", using("file", sleep(0.1), cleanup_s=0.1), ok("text"), needs="fetch"),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="Resources are given back when nothing goes wrong.",
        category="baseline",
    ),
    Scenario(
        id="cleanup/reported_failure",
        title="A stage reports a failure",
        program=program(
            "reported_failure",
            stage("parse", acquire("file", 0.1), sleep(0.2), fail("not JSON")),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A stage reports a failure while its sibling holds a resource.",
    ),
    Scenario(
        id="cleanup/raised_failure",
        title="A stage raises",
        program=program(
            "raised_failure",
            stage("parse", acquire("file", 0.1), sleep(0.2), raises("ValueError", "not JSON")),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/sibling_raises",),
        purpose="A stage raises while its sibling holds a resource.",
    ),
    Scenario(
        id="cleanup/own_timeout",
        title="A stage's own timeout",
        program=program(
            "own_timeout",
            stage("load", timeout("loading", 0.3, acquire("connection", 0.1), sleep(2.0))),
            stage("store", sleep(0.1), ok("stored"), needs="load"),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A stage's own `asyncio.timeout` ends a block that holds a resource.",
        fires=("scope.expired",),
    ),
    Scenario(
        id="cleanup/stage_cancel",
        title="A stage ends the run",
        program=program(
            "stage_cancel",
            stage("check", sleep(0.2), cancel_run("nothing new")),
            stage("fetch", using("session", sleep(1.0), cleanup_s=0.1), ok("page")),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/stage_ends_the_run",),
        purpose="A stage ends the run while its sibling holds a resource.",
    ),
    Scenario(
        id="cleanup/caller_cancel",
        title="The caller cancels, at every point",
        program=program(
            "caller_cancel",
            stage("fetch", acquire("socket", 0.2), sleep(0.2), ok("page")),
            stage("parse", using("file", sleep(0.1), cleanup_s=0.1), ok("text"), needs="fetch"),
        ),
        plan=Plan(cancels=(Cancel(at_point=-1),)),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/cancel_anywhere",),
        purpose="The caller cancels before, in and after the cleanups of two stages.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="cleanup/nested_order",
        title="Resources in one another",
        program=program(
            "nested_order",
            stage(
                "load",
                acquire("pool", 0.1),
                acquire("connection", 0.1),
                using("transaction", sleep(2.0), cleanup_s=0.1),
                ok("rows"),
            ),
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-3", "CLEAN-2", "CLEAN-5"),
        purpose="Three resources in one another are given back when a sibling fails.",
    ),
    Scenario(
        id="cleanup/long_cleanup",
        title="A cleanup that takes long, but within the grace",
        program=program(
            "long_cleanup",
            stage("load", acquire("connection", (0.5, 0.9)), sleep(2.0), ok("rows")),
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
        ),
        plan=Plan(cleanup_grace_s=1.0),
        clauses=("CLEAN-2", "CLEAN-1", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/long_cleanup",),
        purpose="A sibling fails, and a cleanup needs most of a grace of 1 s.",
    ),
    Scenario(
        id="cleanup/failing_cleanup",
        title="A cleanup that fails",
        program=program(
            "failing_cleanup",
            stage(
                "load",
                acquire("pool", 0.1),
                acquire("connection", 0.1, fails=True),
                sleep(0.2),
                ok("rows"),
            ),
        ),
        plan=Plan(),
        clauses=("CLEAN-4", "CLEAN-1", "CLEAN-5"),
        purpose="The inner of two cleanups raises after the stage's work was done.",
        fires=("release.fail",),
    ),
    Scenario(
        id="cleanup/failing_cleanup_when_cancelled",
        title="A cleanup that fails in a cancelled stage",
        program=program(
            "failing_cleanup_when_cancelled",
            stage("load", acquire("connection", 0.1, fails=True), sleep(2.0), ok("rows")),
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
        ),
        plan=Plan(),
        clauses=("CLEAN-4", "CLEAN-1", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/failing_cleanup",),
        purpose="A stage is cancelled because its sibling failed, and its cleanup raises.",
    ),
    Scenario(
        id="cleanup/nothing_left",
        title="A stage with tasks and generators of its own",
        program=program(
            "nothing_left",
            stage(
                "work",
                spawn("pinger", sleep(3.0)),
                parallel(
                    (generate("tokens", 10, 0.2),),
                    (using("session", sleep(3.0), cleanup_s=0.1),),
                ),
                ok("done"),
            ),
            stage("parse", sleep(0.5), raises("ValueError", "not JSON")),
        ),
        plan=Plan(),
        clauses=("CLEAN-5", "CLEAN-1"),
        tests=("CANCEL-CLEANUP/nothing_left",),
        purpose="A sibling fails while a stage has tasks, a generator and a session open.",
        fires=("spawn",),
    ),
    Scenario(
        id="cleanup/two_failures",
        title="Two stages fail",
        program=program(
            "two_failures",
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
            stage("check", sleep(0.3, 0.2), raises("KeyError", "no id")),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(),
        clauses=("CLEAN-5", "CLEAN-1"),
        purpose="Two failures, apart or in one tick, must leave no exception unretrieved.",
    ),
    Scenario(
        id="cleanup/runs_apart",
        title="Two runs of one pipeline, one of which is cancelled",
        program=program(
            "runs_apart", stage("load", acquire("connection", 0.1), sleep(0.6), ok("rows"))
        ),
        plan=Plan(runs=TWO_RUNS, cancels=(Cancel(run="r0", at_s=0.4),)),
        clauses=("CLEAN-6", "CLEAN-1", "CANCEL-3", "CLEAN-5"),
        purpose="One of two runs is cancelled; the other must not notice.",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="cleanup/many_resources",
        title="Sixty resources when the caller cancels",
        program=program(
            "many_resources",
            *(
                stage(
                    f"load{i:02}",
                    acquire("connection", 0.1),
                    using("file", acquire("lock", sync=True), sleep(0.5, 0.4), cleanup_s=0.1),
                    ok("rows"),
                )
                for i in range(20)
            ),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.4),)),
        clauses=("CLEAN-1", "CLEAN-2", "CANCEL-3", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/many_resources",),
        purpose="Twenty stages hold three resources each, some of them just giving them back.",
        fires=("cancel.sent", "acquire"),
    ),
    Scenario(
        id="cleanup/cancelled_then_again",
        title="The same pipeline object after a cancelled run",
        program=program(
            "cancelled_then_again",
            stage("fetch", acquire("socket", 0.1), sleep(0.2), ok("page")),
            stage("parse", acquire("file", 0.1), sleep(0.1), ok("text"), needs="fetch"),
        ),
        plan=Plan(
            runs=(RunSpec("r0", "t0"), RunSpec("r1", "t1", start_s=20.0)),
            cancels=(Cancel(run="r0", at_point=-1),),
        ),
        clauses=("CLEAN-1", "GRAPH-3", "CANCEL-3", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/works_again",),
        purpose="A run is cancelled wherever a cancel can land; the next one goes as ever.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
)
