"""A stage ends the run, or its own branch, or raises CancelledError by itself."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from scenarios.notation import (
    acquire,
    cancel_branch,
    cancel_run,
    ok,
    program,
    raises,
    sleep,
    stage,
)

__all__ = ["BY_STAGE"]

BY_STAGE: tuple[Scenario, ...] = (
    Scenario(
        id="branch_cancel/stage_cancel_cancels_pipeline",
        title="A stage ends the run",
        program=program(
            "stage_cancel_cancels_pipeline",
            stage("fetch", sleep(0.1), ok("record")),
            stage("check", sleep(0.2), cancel_run("no consent on file"), needs="fetch"),
            stage("scan", acquire("scanner", 0.1), sleep(2.0), ok("image"), needs="fetch"),
            stage("store", sleep(0.1), ok("stored"), needs="check scan"),
        ),
        plan=Plan(),
        clauses=("CANCEL-1", "CANCEL-7", "CLEAN-1", "CLEAN-2", "PART-2", "CLEAN-5"),
        purpose="One stage asks to end the run while another holds a resource and works on.",
        tests=("DAG-009/stage_cancel_cancels_pipeline",),
    ),
    Scenario(
        id="branch_cancel/stage_cancel_diamond",
        title="A stage ends the run beside a branch of two stages",
        program=program(
            "stage_cancel_diamond",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), cancel_run("b has nothing to do"), needs="a"),
            stage("c", sleep(0.4), ok("c"), needs="a"),
            stage("d", sleep(0.1), ok("d"), needs="c"),
        ),
        plan=Plan(),
        clauses=("CANCEL-1", "CANCEL-7", "CLEAN-5"),
        purpose="The pipeline of an earlier report: a, then b, and beside b, c and then d.",
    ),
    Scenario(
        id="branch_cancel/stage_cancel_tie",
        title="Two stages end the run at one time",
        program=program(
            "stage_cancel_tie",
            stage("left", sleep(0.2), cancel_run("left is done")),
            stage("right", acquire("lock", 0.1), sleep(0.4, 0.2), cancel_run("right is done")),
            stage("third", sleep(0.2, 0.3), ok("third")),
        ),
        plan=Plan(),
        clauses=("CANCEL-1", "PART-3", "CLEAN-1", "CLEAN-5"),
        purpose="Two requests to end the run and a completion come apart, or in one tick.",
    ),
    Scenario(
        id="branch_cancel/one_branch",
        title="A stage ends its branch only",
        program=program(
            "one_branch",
            stage("a", sleep(0.1), ok("a")),
            stage("b", sleep(0.2), cancel_branch("b has nothing to do"), needs="a"),
            stage("below", sleep(0.1), ok("below"), needs="b"),
            stage("c", sleep(0.4, 0.2), ok("c"), needs="a"),
            stage("d", sleep(0.1), ok("d"), needs="c"),
        ),
        plan=Plan(),
        clauses=("CANCEL-2", "GRAPH-2", "CLEAN-5"),
        purpose="What depends on a cancelled stage is skipped; the other branch completes.",
    ),
    Scenario(
        id="branch_cancel/joined_branch",
        title="A cancelled branch that was to be joined",
        program=program(
            "joined_branch",
            stage("fetch", sleep(0.1), ok("page")),
            stage("summary", cancel_branch("page too short"), needs="fetch"),
            stage("links", acquire("socket", 0.1), sleep(0.3), ok("links"), needs="fetch"),
            stage("merge", ok("merged"), needs="summary links"),
        ),
        plan=Plan(),
        clauses=("CANCEL-2", "GRAPH-2", "CLEAN-1", "CLEAN-5"),
        purpose="A stage that joins a cancelled branch with a live one is skipped, once.",
    ),
    Scenario(
        id="branch_cancel/self_cancelled",
        title="A stage raises CancelledError by itself",
        program=program(
            "self_cancelled",
            stage("fetch", sleep(0.1), ok("page")),
            stage("parse", raises("CancelledError", "client went away"), needs="fetch"),
            stage("store", ok("stored"), needs="parse"),
        ),
        plan=Plan(),
        clauses=("CANCEL-8", "CLEAN-5"),
        purpose="A stage raises CancelledError though nobody cancelled it.",
        fires=("self_cancel",),
    ),
    Scenario(
        id="branch_cancel/self_cancelled_beside_others",
        title="A stage raises CancelledError while others run",
        program=program(
            "self_cancelled_beside_others",
            stage("parse", sleep(0.2), raises("CancelledError", "client went away")),
            stage("fetch", acquire("socket", 0.1), sleep(0.5, 0.2), ok("page")),
            stage("store", ok("stored"), needs="parse fetch"),
        ),
        plan=Plan(),
        clauses=("CANCEL-8", "CLEAN-1", "CLEAN-5"),
        purpose="A stage raises CancelledError while its sibling holds a resource.",
        fires=("self_cancel",),
    ),
    Scenario(
        id="branch_cancel/failed_run",
        title="A run that fails is not called cancelled",
        program=program(
            "failed_run",
            stage("fetch", sleep(0.1), ok("page")),
            stage("parse", sleep(0.1), raises("ValueError", "not JSON"), needs="fetch"),
            stage("links", acquire("socket", 0.1), sleep(1.0), ok("links"), needs="fetch"),
        ),
        plan=Plan(),
        clauses=("CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="A stage fails, and a sibling that the engine may cancel is running.",
        category="baseline",
    ),
    Scenario(
        id="branch_cancel/cancelled_run",
        title="A run that a stage ended is not called failed",
        program=program(
            "cancelled_run",
            stage("fetch", sleep(0.1), ok("page")),
            stage("check", cancel_run("nothing new"), needs="fetch"),
        ),
        plan=Plan(),
        clauses=("CANCEL-7", "CANCEL-1", "CLEAN-5"),
        purpose="A stage ends the run, with nothing else running.",
        category="baseline",
    ),
)
