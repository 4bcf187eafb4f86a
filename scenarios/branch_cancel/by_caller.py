"""The caller cancels the run: at every point, twice, before the start, and against resistance."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan
from scenarios.notation import (
    acquire,
    generate,
    never,
    ok,
    parallel,
    program,
    raises,
    sleep,
    spawn,
    stage,
    swallow,
    timeout,
    using,
)

__all__ = ["BY_CALLER"]

# A sweep puts the cancel at each point in turn; a single run lets the tape draw one.
ANYWHERE = Plan(cancels=(Cancel(at_point=-1),))
TWICE_ANYWHERE = Plan(cancels=(Cancel(at_point=-1, times=2, gap_s=0.05),))

DIAMOND = (
    stage("fetch", acquire("socket", 0.1), sleep(0.2), ok("page")),
    stage("left", acquire("lock", 0.1), sleep(0.3), ok("left"), needs="fetch"),
    stage("right", using("session", sleep(0.4), cleanup_s=0.1), ok("right"), needs="fetch"),
    stage("join", sleep(0.1), ok("joined"), needs="left right"),
)

BY_CALLER: tuple[Scenario, ...] = (
    Scenario(
        id="branch_cancel/caller_cancel",
        title="The caller cancels a diamond, at every point",
        program=program("caller_cancel", *DIAMOND),
        plan=ANYWHERE,
        clauses=("CANCEL-3", "CANCEL-7", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A diamond of stages with resources is cancelled wherever a cancel can land.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/caller_cancel_chain",
        title="The caller cancels a chain, at every point",
        program=program(
            "caller_cancel_chain",
            stage("fetch", sleep(0.1), ok("page")),
            stage("parse", sleep(0.1), ok("text"), needs="fetch"),
            stage("store", acquire("transaction", 0.1), sleep(0.1), ok("stored"), needs="parse"),
        ),
        plan=ANYWHERE,
        clauses=("CANCEL-3", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A chain is cancelled also in the moments in which no stage is running.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/caller_cancel_busy_stage",
        title="The caller cancels a stage with tasks, generators and timeouts of its own",
        program=program(
            "caller_cancel_busy_stage",
            stage(
                "work",
                spawn("pinger", sleep(0.5)),
                parallel(
                    (generate("tokens", 3, 0.1),),
                    (timeout("asking", 0.2, sleep(1.0)),),
                    (using("session", sleep(0.3), cleanup_s=0.1),),
                ),
                ok("done"),
            ),
            stage("store", sleep(0.1), ok("stored"), needs="work"),
        ),
        plan=ANYWHERE,
        clauses=("CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="A cancel lands in a stage that has much going on inside.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/caller_cancel_failing",
        title="The caller cancels a run that is about to fail, at every point",
        program=program(
            "caller_cancel_failing",
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
            stage("fetch", acquire("socket", 0.2), sleep(1.0), ok("page")),
        ),
        plan=ANYWHERE,
        clauses=("CANCEL-3", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A cancel lands before, while and after the engine deals with a failure.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/caller_cancel_midway",
        title="The caller cancels in the middle of the work",
        program=program("caller_cancel_midway", *DIAMOND),
        plan=Plan(cancels=(Cancel(at_s=0.4),)),
        clauses=("CANCEL-3", "CANCEL-7", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/cancel_mid_execution",),
        purpose="A diamond is cancelled at 0.4 s, while both branches hold resources.",
        category="baseline",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/cancel_before_start",
        title="The caller cancels before anything has run",
        program=program("cancel_before_start", *DIAMOND),
        plan=Plan(cancels=(Cancel(at_s=0.0),)),
        clauses=("CANCEL-3", "CLEAN-5"),
        purpose="The cancel comes before the run's first step.",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/second_cancel_in_cleanup",
        title="A second cancel while cleanups run",
        program=program(
            "second_cancel_in_cleanup",
            stage("fetch", acquire("socket", (0.5, 0.1)), sleep(2.0), ok("page")),
            stage("parse", using("session", sleep(2.0), cleanup_s=(0.5, 0.2)), ok("text")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.3, times=2, gap_s=0.1),)),
        clauses=("CANCEL-5", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/second_cancel",),
        purpose="The caller cancels again while the cleanups of the first cancel are running.",
        category="chaos",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/second_cancel",
        title="Two cancels, from every point on",
        program=program("second_cancel", *DIAMOND),
        plan=TWICE_ANYWHERE,
        clauses=("CANCEL-5", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A diamond is cancelled twice, 0.05 s apart, from every point on.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/swallow_once",
        title="A stage that swallows one cancellation",
        program=program(
            "swallow_once",
            stage("stubborn", swallow(1, sleep(0.5)), ok("went on")),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.3),), cleanup_grace_s=1.0),
        clauses=("CANCEL-4", "CANCEL-3", "CLEAN-1"),
        purpose="A stage takes no notice of the first cancellation and ends by itself in time.",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/swallow_forever",
        title="A stage that will not be cancelled",
        program=program(
            "swallow_forever",
            stage("stubborn", swallow(5, never())),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.3),), cleanup_grace_s=1.0),
        clauses=("CANCEL-4", "CLEAN-1"),
        purpose="A stage swallows its cancellation and waits for what never comes.",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/swallow_when_sibling_fails",
        title="A stage that will not be cancelled when its sibling fails",
        program=program(
            "swallow_when_sibling_fails",
            stage("stubborn", swallow(5, never())),
            stage("parse", sleep(0.2), raises("ValueError", "not JSON")),
        ),
        plan=Plan(cleanup_grace_s=1.0),
        clauses=("CANCEL-4", "PART-4"),
        purpose="The failure of one stage must come out although another will not stop.",
    ),
    Scenario(
        id="branch_cancel/endless_cleanup",
        title="A cleanup that takes longer than the grace",
        program=program(
            "endless_cleanup",
            stage("fetch", acquire("socket", 30.0), sleep(2.0), ok("page")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.3),), cleanup_grace_s=1.0),
        clauses=("CLEAN-2", "CANCEL-3", "CLEAN-1"),
        purpose="The caller cancels a stage whose `finally` takes 30 s, with a grace of 1 s.",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="branch_cancel/fail_and_cancel_tie",
        title="A failure and the caller's cancel in one tick",
        program=program(
            "fail_and_cancel_tie",
            stage("parse", sleep(0.5, 0.2), raises("ValueError", "not JSON")),
            stage("fetch", acquire("socket", 0.1), sleep(1.0), ok("page")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.2),)),
        clauses=("CANCEL-3", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="The caller cancels before a stage fails, or at the same time.",
        category="chaos",
        fires=("cancel.sent",),
    ),
)
