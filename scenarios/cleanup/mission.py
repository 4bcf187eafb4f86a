"""CANCEL-CLEANUP: what is left behind when a run is cancelled.

The claims come from an analysis of January 2026 that designed a stress test for this and ran
none of it: it judged by reading the code that tasks are cancelled by hand. Here runs are
cancelled by their callers, by stages and by failures, and every resource is counted.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["CANCEL_CLEANUP"]

TESTS = {
    "cancel_mid_execution": "branch_cancel/caller_cancel_midway",
    "cancel_anywhere": "cleanup/caller_cancel",
    "many_resources": "cleanup/many_resources",
    "stage_ends_the_run": "cleanup/stage_cancel",
    "sibling_raises": "cleanup/raised_failure",
    "registered_cleanups": "cleanup/registry_on_caller_cancel",
    "second_cancel": "branch_cancel/second_cancel_in_cleanup",
    "long_cleanup": "cleanup/long_cleanup",
    "failing_cleanup": "cleanup/failing_cleanup_when_cancelled",
    "child_pipeline": "branch_cancel/subpipeline_cancel",
    "nothing_left": "cleanup/nothing_left",
    "works_again": "cleanup/cancelled_then_again",
}

BY_CALLER = (
    ("branch_cancel/caller_cancel_midway", "CANCEL-3"),
    ("branch_cancel/caller_cancel_midway", "CLEAN-1"),
    ("cleanup/caller_cancel", "CLEAN-1"),
    ("cleanup/many_resources", "CLEAN-1"),
)
BY_STAGE = (
    ("cleanup/stage_cancel", "CLEAN-1"),
    ("cleanup/registry_on_stage_cancel", "CLEAN-1"),
    ("branch_cancel/stage_cancel_cancels_pipeline", "CANCEL-1"),
)
BY_FAILURE = (
    ("cleanup/raised_failure", "CLEAN-1"),
    ("cleanup/reported_failure", "CLEAN-1"),
    ("cleanup/nothing_left", "CLEAN-5"),
)

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="When the caller cancels a run, everything that its stages hold is released.",
        decides=BY_CALLER,
    ),
    Hypothesis(
        id="H2",
        statement="When a stage ends the run, what its siblings hold is released.",
        decides=BY_STAGE,
    ),
    Hypothesis(
        id="H3",
        statement="When a stage fails, what its siblings hold is released, and nothing runs on.",
        decides=BY_FAILURE,
    ),
    Hypothesis(
        id="H4",
        statement="A cleanup that awaits comes to its end, also when the caller cancels again.",
        decides=(
            ("branch_cancel/second_cancel_in_cleanup", "CLEAN-2"),
            ("cleanup/long_cleanup", "CLEAN-2"),
            ("cleanup/registry_recancelled", "CLEAN-2"),
        ),
    ),
    Hypothesis(
        id="H5",
        statement="Cancellation and its cleanups reach the stages of a child pipeline.",
        decides=(
            ("branch_cancel/subpipeline_cancel", "CANCEL-6"),
            ("branch_cancel/subpipeline_cancel", "CLEAN-1"),
        ),
    ),
    Hypothesis(
        id="H6",
        statement="An engine that was cancelled anywhere runs the next run as if nothing had been.",
        decides=(
            ("cleanup/cancelled_then_again", "GRAPH-3"),
            ("cleanup/cancelled_then_again", "CLEAN-1"),
        ),
    ),
)

CLAIMS = (
    Claim(
        id="Cancellation & Resource Cleanup",
        says="When a run is cancelled, nothing makes sure that interrupted stages clean up.",
        decides=(*BY_CALLER, *BY_STAGE),
        earlier="One of four findings, from reading the code; the stress test was not run.",
        why=(
            "A cancelled task runs its `finally` blocks by the rules of the language; an engine "
            "spoils that only by not awaiting the task, or by cancelling it again. The scenarios "
            "count the resources that were released."
        ),
    ),
    Claim(
        id="Code Evidence 2",
        says="Tasks are cancelled one by one, so that cleanup is a matter of best effort.",
        decides=(("probe", "uses_task_group"), *BY_CALLER, *BY_FAILURE),
        earlier="Partially supported: the graph calls Task.cancel() and uses no TaskGroup.",
        why=(
            "Whether a TaskGroup is used decides nothing by itself: cancelling each task and "
            "awaiting all of them does the same. What counts is whether every way out awaits."
        ),
    ),
    Claim(
        id="Recommendation: TaskGroup",
        says="The graph does not run its stages in a TaskGroup.",
        decides=(("probe", "uses_task_group"),),
        earlier="Recommended as a fix of two days; what it would change was not measured.",
        why="This version's graph does use a TaskGroup.",
    ),
)

CANCEL_CLEANUP = Mission(
    id="CANCEL-CLEANUP",
    title="Cancellation and cleanup",
    pack="cleanup",
    priority="P1",
    risk="High",
    summary=(
        "A run that is called off must leave the world as a finished one does: locks released, "
        "connections back in their pool, files closed, no task at work that nobody waits for. "
        "The mission cancels runs from outside, from a stage and by failures, at every point at "
        "which a cancel can land, twice, and in child pipelines, and counts what was taken and "
        "what was given back; then it runs the same pipeline object again."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        ("Payments", "A checkout that is abandoned while it holds a lock on stock", "Critical"),
        (
            "Health care",
            "A session with a device that must be ended, whatever else fails",
            "Critical",
        ),
        ("Chat services", "A user who closes the window during a streamed answer", "High"),
        (
            "Cloud platforms",
            "A deployment that stops a server in the midst of its requests",
            "High",
        ),
    ),
    state_of_the_art=(
        "Structured concurrency (trio, anyio, asyncio.TaskGroup) does not let a block end before "
        "the tasks that were started in it.",
        "Task.cancel() is a request: it is fulfilled when the task has ended, not when the call "
        "returns.",
        "asyncio.shield() keeps a cancel from what it wraps and not from who waits for it, so a "
        "shielded cleanup has to be kept and awaited by somebody else.",
        "anyio cancels each await of an unshielded cleanup anew, by documented rule; asyncio "
        "delivers each cancel once.",
        "Kubernetes sends SIGTERM and, after a grace period, SIGKILL: a cleanup that has no end "
        "of its own is given one.",
    ),
    failure_modes=(
        "The exception is raised to the caller while cancelled stages are still at work.",
        "A second cancel arrives in a `finally` and cuts the cleanup off.",
        "A cleanup that raises keeps those after it from being run.",
        "Cleanups that were registered on a shared object run at the end of another run.",
        "The stages of a child pipeline are nobody's, once their parent stage was cancelled.",
        "A stage that swallows its cancellation holds the whole run up for ever.",
    ),
    questions=(
        ("Registered cleanups", "cleanup_registry"),
        ("A stage may end the run", "cancel_run"),
        ("A stage may end its branch", "cancel_branch"),
        ("Child pipelines", "subpipeline"),
        ("Stages run in a TaskGroup", "uses_task_group"),
    ),
    persona=(
        "On-call engineer of a platform team",
        "A company whose agents hold other systems' locks while they think",
        (
            "A deployment in the middle of the day leaves no lock behind",
            "A pool of connections is as full after an incident as before it",
            "Whatever would not stop is named in the run's report",
            "The process need not be restarted to be sure",
        ),
    ),
    more_scenarios=(
        "cleanup/reported_failure",
        "cleanup/registry_on_stage_cancel",
        "cleanup/registry_recancelled",
        "branch_cancel/stage_cancel_cancels_pipeline",
        "branch_cancel/caller_cancel",
        "branch_cancel/swallow_forever",
        "branch_cancel/subpipeline_cancel_anywhere",
        "cleanup/runs_apart",
    ),
)
