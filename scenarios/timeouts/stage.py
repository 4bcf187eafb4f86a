"""The engine's own timeout for stages: does it fire in time, once, and for the right stage."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from scenarios.notation import (
    acquire,
    beat,
    generate,
    never,
    ok,
    parallel,
    program,
    sleep,
    stage,
    subpipeline,
    swallow,
    thread,
    using,
)

__all__ = ["STAGE"]

HALF = Plan(stage_timeout_s=0.5)

STAGE: tuple[Scenario, ...] = (
    Scenario(
        id="timeouts/simple_timeout",
        title="One slow stage",
        program=program("simple_timeout", stage("infer", sleep(2.0), ok("answer"))),
        plan=HALF,
        clauses=("TIME-1", "CANCEL-7", "CLEAN-5"),
        purpose="A stage of 2 s runs under a timeout of 0.5 s.",
        tests=("DAG-009/simple_timeout",),
        category="baseline",
    ),
    Scenario(
        id="timeouts/no_timeout",
        title="Stages that are fast enough",
        program=program(
            "no_timeout",
            stage("fetch", sleep(0.2), ok("rows")),
            stage("infer", sleep(0.4), ok("answer"), needs="fetch"),
        ),
        plan=HALF,
        clauses=("TIME-2", "GRAPH-3", "CLEAN-5"),
        purpose="Two stages finish before a timeout of 0.5 s and must be left alone.",
        tests=("DAG-009/no_timeout",),
        category="baseline",
    ),
    Scenario(
        id="timeouts/parallel_timeout_propagation",
        title="A timeout beside running branches",
        program=program(
            "parallel_timeout_propagation",
            stage("admit", sleep(0.1), ok("patient")),
            stage("vitals", sleep(0.2), ok("pulse"), needs="admit"),
            stage("imaging", sleep(2.0), ok("scan"), needs="admit"),
            # Starts later, so that its own timeout is not yet due when that of imaging is.
            stage("labs", acquire("analyser", 0.1), sleep(2.0), ok("blood"), needs="vitals"),
            stage("report", ok("report"), needs="imaging labs"),
        ),
        plan=HALF,
        clauses=("TIME-3", "TIME-1", "CLEAN-1", "CLEAN-2", "CLEAN-5", "PART-1"),
        purpose="One branch times out while another holds a resource and works on.",
        tests=("DAG-009/parallel_timeout_propagation",),
    ),
    Scenario(
        id="timeouts/resource_cleanup",
        title="A resource held at the timeout",
        program=program(
            "resource_cleanup", stage("load", acquire("connection", 0.1), sleep(2.0), ok("rows"))
        ),
        plan=HALF,
        clauses=("CLEAN-1", "CLEAN-2", "TIME-1", "CLEAN-5"),
        purpose="A stage times out while it holds a resource whose cleanup awaits 0.1 s.",
        tests=("DAG-009/resource_cleanup",),
    ),
    Scenario(
        id="timeouts/context_manager_cleanup",
        title="Context managers open at the timeout",
        program=program(
            "context_manager_cleanup",
            stage(
                "load",
                using("session", using("transaction", sleep(2.0), cleanup_s=0.1), cleanup_s=0.1),
                ok("rows"),
            ),
        ),
        plan=HALF,
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-3", "TIME-1", "CLEAN-5"),
        purpose="A stage times out inside two nested `async with` blocks that await on exit.",
        tests=("DAG-009/context_manager_cleanup",),
    ),
    Scenario(
        id="timeouts/generator_stage_timeout",
        title="An async generator open at the stage's timeout",
        program=program(
            "generator_stage_timeout", stage("tokens", generate("stream", 20, 0.2), ok("$items"))
        ),
        plan=HALF,
        clauses=("CLEAN-1", "CLEAN-5", "TIME-1"),
        purpose="The engine's timeout ends a stage that iterates an async generator.",
    ),
    Scenario(
        id="timeouts/concurrent_timeouts",
        title="Fifty timeouts at once",
        program=program(
            "concurrent_timeouts", *(stage(f"worker{i:02}", sleep(2.0), ok(i)) for i in range(50))
        ),
        plan=HALF,
        clauses=("TIME-6", "TIME-1", "CLEAN-5"),
        purpose="Fifty stages side by side all outlive a timeout of 0.5 s.",
        tests=("DAG-009/concurrent_timeouts",),
    ),
    Scenario(
        id="timeouts/concurrent_timeouts_continue",
        title="Twenty timeouts at once, none of which ends the others",
        program=program(
            "concurrent_timeouts_continue",
            # The work is in a task of the stage's own, so that the stage sees every cancel.
            *(
                stage(f"worker{i:02}", parallel((acquire("socket", 0.1), sleep(2.0))), ok(i))
                for i in range(20)
            ),
        ),
        plan=Plan(stage_timeout_s=0.5, on_failure="continue"),
        clauses=("TIME-6", "TIME-1", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="Where a failure cancels nobody, each of twenty timeouts must fire by itself, "
        "and only once.",
    ),
    Scenario(
        id="timeouts/thousand_timeouts",
        title="A thousand timeouts at once",
        program=program(
            "thousand_timeouts", *(stage(f"worker{i:03}", sleep(2.0), ok(i)) for i in range(1_000))
        ),
        plan=HALF,
        clauses=("TIME-6", "CLEAN-5"),
        purpose="A thousand stages side by side all outlive a timeout of 0.5 s.",
    ),
    Scenario(
        id="timeouts/tie",
        title="Stages that finish in the tick of their timeout",
        program=program(
            "tie",
            stage("left", sleep(0.2, 0.5), ok("left")),
            stage("right", sleep(0.3, 0.5, 0.0), ok("right")),
        ),
        plan=HALF,
        clauses=("TIME-2", "CLEAN-5"),
        purpose="Two stages finish early, or exactly when their timeout of 0.5 s expires.",
    ),
    Scenario(
        id="timeouts/tie_with_cleanup",
        title="Work that ends in the tick of the timeout, a resource in hand",
        program=program(
            "tie_with_cleanup",
            stage("write", acquire("file", (0.0, 0.1)), sleep(0.2, 0.5, 0.4), ok("written")),
        ),
        plan=HALF,
        clauses=("CLEAN-1", "TIME-2", "CLEAN-2", "CLEAN-5"),
        purpose="The timeout falls on the end of the work, or into the cleanup that follows it.",
    ),
    Scenario(
        id="timeouts/timeout_each",
        title="A timeout of each stage's own",
        program=program(
            "timeout_each",
            stage("query", sleep(2.0), ok("rows"), timeout_s=0.3),
            stage("infer", sleep(0.8), ok("answer"), timeout_s=1.0),
        ),
        plan=Plan(),
        clauses=("TIME-7", "TIME-1", "CLEAN-5"),
        purpose="Two stages declare timeouts of their own; one outlives its own, one does not.",
    ),
    Scenario(
        id="timeouts/heartbeat_kept",
        title="A long stage that heartbeats",
        program=program(
            "heartbeat_kept",
            stage(
                "train",
                *(one for _ in range(5) for one in (sleep(0.3), beat())),
                ok("model"),
                idle_timeout_s=0.5,
            ),
        ),
        plan=Plan(),
        clauses=("TIME-9", "CLEAN-5"),
        purpose="A stage of 1.5 s heartbeats every 0.3 s under an idle timeout of 0.5 s.",
        fires=("heartbeat",),
    ),
    Scenario(
        id="timeouts/heartbeat_lost",
        title="A stage whose heartbeats stop",
        program=program(
            "heartbeat_lost",
            stage("train", sleep(0.3), beat(), sleep(2.0), ok("model"), idle_timeout_s=0.5),
        ),
        plan=Plan(),
        clauses=("TIME-9", "CLEAN-5"),
        purpose="A stage heartbeats once and then falls silent under an idle timeout of 0.5 s.",
        fires=("heartbeat",),
    ),
    Scenario(
        id="timeouts/deadline_handed_down",
        title="A deadline for the child pipeline",
        program=program(
            "deadline_handed_down",
            stage(
                "delegate",
                sleep(0.2),
                subpipeline(program("child", stage("search", sleep(2.0), ok("hits")))),
                ok("done"),
            ),
        ),
        plan=HALF,
        clauses=("TIME-10", "TIME-1", "CANCEL-6", "CLEAN-5"),
        purpose="A stage with 0.3 s left of its timeout starts a child pipeline of 2 s.",
        fires=("sub.begin",),
    ),
    Scenario(
        id="timeouts/thread_timeout",
        title="A stage blocked in a worker thread",
        program=program(
            "thread_timeout",
            stage("parse", thread(20.0), ok("text")),
            stage("fetch", sleep(0.2), ok("page")),
        ),
        plan=Plan(stage_timeout_s=0.5, cleanup_grace_s=1.0),
        clauses=("TIME-11", "TIME-1"),
        purpose="A stage blocks a worker thread for 20 s under a timeout of 0.5 s.",
        fires=("thread.begin",),
    ),
    Scenario(
        id="timeouts/swallowed_timeout",
        title="A stage that swallows its timeout",
        program=program(
            "swallowed_timeout", stage("stubborn", swallow(5, never())), stage("fetch", sleep(0.2))
        ),
        plan=Plan(stage_timeout_s=0.5, cleanup_grace_s=1.0),
        clauses=("CANCEL-4",),
        purpose="A stage swallows the cancellation by which its timeout would end it.",
    ),
)
