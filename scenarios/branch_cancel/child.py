"""Child pipelines: cancellation goes down, failure comes up, each once."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan
from scenarios.notation import acquire, cancel_run, ok, program, raises, sleep, stage, subpipeline

__all__ = ["CHILD"]

LONG = program(
    "child",
    stage("search", acquire("index", 0.1), sleep(0.4), ok("hits")),
    stage("rank", sleep(0.4), ok("ranked"), needs="search"),
)

CHILD: tuple[Scenario, ...] = (
    Scenario(
        id="branch_cancel/subpipeline_cancel",
        title="The caller cancels while a child pipeline runs",
        program=program("subpipeline_cancel", stage("delegate", subpipeline(LONG), ok("done"))),
        plan=Plan(cancels=(Cancel(at_s=0.2),)),
        clauses=("CANCEL-6", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/child_pipeline",),
        purpose="A run is cancelled while a stage of its child pipeline holds a resource.",
        fires=("cancel.sent", "sub.begin"),
    ),
    Scenario(
        id="branch_cancel/subpipeline_cancel_anywhere",
        title="The caller cancels a run with a child pipeline, at every point",
        program=program(
            "subpipeline_cancel_anywhere",
            stage("fetch", sleep(0.1), ok("page")),
            stage("delegate", subpipeline(LONG), ok("done"), needs="fetch"),
        ),
        plan=Plan(cancels=(Cancel(at_point=-1),)),
        clauses=("CANCEL-6", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="A run with a child pipeline is cancelled wherever a cancel can land.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent", "sub.begin"),
    ),
    Scenario(
        id="branch_cancel/subpipeline_sibling_fails",
        title="A sibling fails while a child pipeline runs",
        program=program(
            "subpipeline_sibling_fails",
            stage("delegate", subpipeline(LONG), ok("done")),
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
        ),
        plan=Plan(),
        clauses=("CANCEL-6", "CLEAN-1", "CLEAN-5"),
        purpose="The stage that runs a child pipeline is cancelled because another failed.",
        fires=("sub.begin",),
    ),
    Scenario(
        id="branch_cancel/subpipeline_failure",
        title="A child pipeline fails",
        program=program(
            "subpipeline_failure",
            stage(
                "delegate",
                subpipeline(
                    program("child", stage("search", sleep(0.2), raises("ValueError", "no index")))
                ),
                ok("done"),
            ),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(),
        clauses=("CANCEL-6", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="A stage of a child pipeline fails; the parent run must fail, once.",
        fires=("sub.begin",),
    ),
    Scenario(
        id="branch_cancel/subpipeline_ends_itself",
        title="A child pipeline ends itself",
        program=program(
            "subpipeline_ends_itself",
            stage(
                "delegate",
                subpipeline(
                    program(
                        "child",
                        stage("check", sleep(0.2), cancel_run("nothing new")),
                        stage("search", acquire("index", 0.1), sleep(1.0), ok("hits")),
                    ),
                    keep=True,
                ),
                ok("done"),
            ),
            stage("fetch", sleep(0.5), ok("page")),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "GRAPH-2", "CLEAN-5"),
        purpose="A stage of a child pipeline ends the child's run; the parent's goes on.",
        fires=("sub.begin",),
    ),
)
