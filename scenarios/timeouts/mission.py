"""DAG-009: stage timeouts and where cancellation spreads from them.

The claims come from a report of January 2026 about Stageflow 0.5.1. Nine of its ten tests
had been blocked before an engine's timeout could fire, so most of what it says of
timeouts was expectation, not measurement; here each claim is measured again.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["DAG_009"]

TESTS = {
    "simple_timeout": "timeouts/simple_timeout",
    "no_timeout": "timeouts/no_timeout",
    "parallel_timeout_propagation": "timeouts/parallel_timeout_propagation",
    "async_generator_timeout": "timeouts/async_generator_timeout",
    "resource_cleanup": "timeouts/resource_cleanup",
    "context_manager_cleanup": "timeouts/context_manager_cleanup",
    "nested_timeout": "timeouts/nested_timeout",
    "concurrent_timeouts": "timeouts/concurrent_timeouts",
    "zero_timeout": "timeouts/zero_timeout",
    "stage_cancel_cancels_pipeline": "branch_cancel/stage_cancel_cancels_pipeline",
}

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="The engine ends a stage at its timeout and says which stage it was.",
        decides=(
            ("timeouts/simple_timeout", "TIME-1"),
            ("timeouts/concurrent_timeouts", "TIME-6"),
            ("timeouts/tie", "TIME-2"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="When one branch ends the run, parallel branches are stopped and awaited.",
        decides=(
            ("timeouts/parallel_timeout_propagation", "TIME-3"),
            ("branch_cancel/stage_cancel_cancels_pipeline", "CANCEL-1"),
            ("branch_cancel/caller_cancel", "CANCEL-3"),
        ),
    ),
    Hypothesis(
        id="H3",
        statement="Cancellation reaches the stages of a child pipeline, and its failure comes up.",
        decides=(
            ("branch_cancel/subpipeline_cancel", "CANCEL-6"),
            ("branch_cancel/subpipeline_sibling_fails", "CANCEL-6"),
            ("branch_cancel/subpipeline_failure", "CANCEL-6"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="What a stage holds is given back when a timeout ends it.",
        decides=(
            ("timeouts/resource_cleanup", "CLEAN-1"),
            ("timeouts/context_manager_cleanup", "CLEAN-1"),
            ("cleanup/own_timeout", "CLEAN-1"),
            ("cleanup/registry_on_timeout", "CLEAN-1"),
        ),
    ),
    Hypothesis(
        id="H5",
        statement="A timeout around an async generator stays inside its own block.",
        decides=(
            ("timeouts/async_generator_timeout", "TIME-4"),
            ("timeouts/generator_own_timeout", "TIME-4"),
        ),
    ),
)

CLAIMS = (
    Claim(
        id="BUG-016",
        says="The context that a run is started with has no timer, though stages expect one.",
        decides=(("probe", "pipeline_context_has_timer"), ("context/entry_points", "CTX-1")),
        engine="stageflow",
        earlier="Nine of ten tests stopped at an AttributeError on `timer`.",
        why=(
            "PipelineContext has no timer. What a stage of this graph is handed is a "
            "StageContext, which has one, on each entry point that was compared; stages of the "
            "older graph (the subject stageflow-legacy) are handed the PipelineContext."
        ),
    ),
    Claim(
        id="BUG-017",
        says="A stage cannot cancel its own branch only: its cancellation ends every branch.",
        decides=(("capability", "cancel_branch"),),
        engine="stageflow",
        earlier="In a diamond, a cancelled branch took the other one down with it.",
        why=(
            "Ending the whole run is what this kind of cancellation is documented to do; what can "
            "be missing is a second kind, for one branch."
        ),
    ),
    Claim(
        id="DX-022",
        says="A stage's context differs with the entry point that runs it, and so confuses.",
        decides=(("probe", "contexts_offer_alike"), ("context/entry_points", "CTX-1")),
        engine="stageflow",
        earlier="One context had `data` and no `timer`, the other `timer` and no `data`.",
        why=(
            "The two context types do differ. Which one a stage gets depends on the graph class, "
            "not on how a stage of this graph is run: here its entry points agree."
        ),
    ),
    Claim(
        id="IMP-033",
        says="A stage cannot declare a timeout of its own.",
        decides=(("capability", "stage_timeout_each"),),
        engine="stageflow",
        earlier="Proposed; not measured.",
        why="This version takes a timeout where a stage is declared.",
    ),
    Claim(
        id="IMP-034",
        says="A long stage cannot keep itself alive with a heartbeat.",
        decides=(("capability", "heartbeat"),),
        engine="stageflow",
        earlier="Proposed; not measured.",
        why="This version offers a heartbeat.",
    ),
)

DAG_009 = Mission(
    id="DAG-009",
    title="Stage timeouts and the spread of cancellation",
    pack="timeouts",
    priority="P1",
    risk="High",
    summary=(
        "A pipeline is as punctual as its slowest stage unless something ends that stage. The "
        "mission asks whether the engine's timeout fires at the right moment and only then, what "
        "it is called afterwards, what becomes of sibling stages and child pipelines, and whether "
        "everything that was held is given back."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        (
            "Payments",
            "A fraud check that must answer before the card terminal gives up",
            "Critical",
        ),
        (
            "Hospitals",
            "A triage pipeline that must degrade, not hang, when imaging is slow",
            "Critical",
        ),
        ("Voice assistants", "A reply that is worthless once the speaker has gone on", "High"),
        ("Back offices", "Nightly document runs in which one hung page holds a worker", "Medium"),
    ),
    state_of_the_art=(
        "asyncio.timeout() (Python 3.11) cancels the task that is inside its block and turns that "
        "one CancelledError into a TimeoutError on the way out; expired() tells whether it did.",
        "Since Python 3.12 asyncio.wait_for() is built on asyncio.timeout(); before, a "
        "cancellation that arrived as the awaited work finished could be lost "
        "(python/cpython#86296).",
        "asyncio.TaskGroup cancels the remaining tasks when one fails, waits for all of them and "
        "raises every failure in one ExceptionGroup.",
        "Trio and AnyIO cancel by scope and by level: every await inside a cancelled scope is "
        "cancelled again unless it is shielded.",
        "PEP 789 (a draft) would forbid a generator to yield inside such a block, because the "
        "cancellation may then reach a task that is no longer in it.",
        "Temporal bounds an activity by separate timeouts, among them one for heartbeats, and "
        "hands cancellation requests to an activity with them.",
        "LangGraph 1.1 gives a node a timeout for the whole attempt and one for idleness.",
    ),
    failure_modes=(
        "The timeout fires, and sibling stages work on after the run was reported as over.",
        "A TimeoutError of the stage's own code is taken for the engine's timeout.",
        "Work that ends in the tick of its timeout is counted twice, or not at all.",
        "A timeout of zero switches the protection off.",
        "A stage that swallows CancelledError makes the engine wait for ever.",
        "A worker thread cannot be cancelled: asyncio stops waiting for it, and it works on.",
    ),
    questions=(
        ("One timeout for all stages of a run", "stage_timeout"),
        ("A timeout for each stage", "stage_timeout_each"),
        ("A timeout for each tool call", "tool_timeout"),
        ("Heartbeats", "heartbeat"),
        ("A stage may end the run", "cancel_run"),
        ("A stage may end its branch", "cancel_branch"),
        ("Child pipelines", "subpipeline"),
        ("Registered cleanups", "cleanup_registry"),
        ("Default timeout of a stage, in seconds", "default_stage_timeout_s"),
    ),
    persona=(
        "Platform architect for clinical pipelines",
        "A group of regional hospitals",
        (
            "Every run has an end, whatever hangs",
            "A timeout leaves no lock, session or patient record open",
            "What was finished before a timeout is still of use",
            "Each timeout can be traced to one stage afterwards",
        ),
    ),
    more_scenarios=(
        "timeouts/generator_stage_timeout",
        "timeouts/thousand_timeouts",
        "timeouts/tie",
        "timeouts/tie_with_cleanup",
        "timeouts/timeout_each",
        "timeouts/heartbeat_kept",
        "timeouts/heartbeat_lost",
        "timeouts/deadline_handed_down",
        "timeouts/thread_timeout",
        "timeouts/swallowed_timeout",
        "timeouts/generator_own_timeout",
        "timeouts/nested_own_timeout",
        "timeouts/outer_expires_first",
        "timeouts/own_timeout_error",
        "timeouts/own_timeout_lets_siblings_be",
        "timeouts/own_tie",
        "timeouts/concurrent_own_timeouts",
        "timeouts/own_timeout_over_thread",
        "timeouts/negative_timeout",
        "timeouts/nan_timeout",
        "timeouts/zero_timeout_each",
        "timeouts/negative_timeout_each",
        "timeouts/nan_timeout_each",
        "branch_cancel/stage_cancel_diamond",
        "branch_cancel/one_branch",
        "branch_cancel/caller_cancel",
        "branch_cancel/subpipeline_cancel",
        "branch_cancel/subpipeline_sibling_fails",
        "branch_cancel/subpipeline_failure",
        "cleanup/own_timeout",
        "cleanup/registry_on_timeout",
        "context/entry_points",
    ),
)
