"""CONTRACT-003: what is left of a run that failed.

The claims come from a report of January 2026 about Stageflow 0.5.1. It compared two
exceptions by what attributes they have; here runs are ended in each way and it is
counted which outputs a user can still reach.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["CONTRACT_003"]

TESTS = {
    name: f"partial_results/{name}"
    for name in (
        "fail_partial_outputs",
        "raise_partial_outputs",
        "cancel_partial_outputs",
        "timeout_partial_outputs",
        "parallel_branch_outputs",
        "parallel_branch_cancel",
        "same_tick_outputs",
        "same_tick_cancel",
        "every_failure_reported",
    )
}

FAILED = (
    ("partial_results/fail_partial_outputs", "PART-1"),
    ("partial_results/raise_partial_outputs", "PART-1"),
)
CANCELLED = (
    ("partial_results/cancel_partial_outputs", "PART-2"),
    ("partial_results/parallel_branch_cancel", "PART-2"),
)
BRANCHES = (
    ("partial_results/parallel_branch_outputs", "PART-1"),
    ("partial_results/failure_with_wide_fan_out", "PART-1"),
)

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="What reports a failure gives no access to the outputs of completed stages.",
        decides=FAILED,
        holds_if="fail",
    ),
    Hypothesis(
        id="H2",
        statement="What reports that a stage ended the run gives access to completed outputs.",
        decides=CANCELLED,
    ),
    Hypothesis(
        id="H3",
        statement="The outputs of branches that completed are lost when another branch fails.",
        decides=BRANCHES,
        holds_if="fail",
    ),
    Hypothesis(
        id="H4",
        statement="The installed documentation does not say how to reach outputs after a failure.",
        decides=(("probe", "documented_partial_outputs"),),
        holds_if="fail",
    ),
)

CLAIMS = (
    Claim(
        id="BUG-020",
        says="The exception that reports a failure does not carry the results so far.",
        decides=FAILED,
        earlier="The exception had `stage`, `original` and `recoverable`, and nothing else.",
        why="Here the outputs can be reached from what the run raises or returns.",
    ),
    Claim(
        id="BUG-021",
        says="When one of several branches fails, what the others had completed is lost.",
        decides=BRANCHES,
        earlier="With two branches, the output of the completed one could not be reached.",
        why="Here the outputs can be reached from what the run raises or returns.",
    ),
    Claim(
        id="DX-025",
        says="Outputs can be reached after a cancellation but not after a failure.",
        decides=FAILED,
        earlier="The two exceptions were compared by their attributes.",
        why="Here a failed run gives access to its outputs as well.",
    ),
    Claim(
        id="DX-026",
        says="How to reach outputs after a failure is not documented.",
        decides=(("probe", "documented_partial_outputs"),),
        earlier="The guide on error handling was read.",
        why="The installed package's README or docstrings now say it.",
    ),
    Claim(
        id="STR-042",
        says="When a stage ends the run, the results so far come with the exception.",
        decides=CANCELLED,
        holds_if="pass",
        earlier="In a chain of two, the first stage's output was there.",
        why="A scenario above ends a run and finds outputs of completed stages missing.",
    ),
    Claim(
        id="IMP-040",
        says="A failed run cannot be resumed from a checkpoint.",
        decides=(("capability", "checkpoint"),),
        earlier="Proposed; not measured.",
        why="This version offers checkpoints.",
    ),
    Claim(
        id="IMP-041",
        says="A stage cannot declare a compensation that runs when the run fails.",
        decides=(("capability", "compensation"),),
        earlier="Proposed; not measured.",
        why="This version offers compensations.",
    ),
)

CONTRACT_003 = Mission(
    id="CONTRACT-003",
    title="Partial outputs of a run that fails",
    pack="partial_results",
    priority="P1",
    risk="High",
    summary=(
        "When one stage of twenty fails, nineteen have done work that somebody paid for. The "
        "mission ends runs by a reported failure, by an exception, by a timeout and by a stage's "
        "own wish, also in the very tick in which others complete, and counts which outputs and "
        "which failures the user is told of."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        ("Securities", "A settlement of which some legs have already been booked", "Critical"),
        ("Radiology", "An exam whose images were read before the report stage failed", "Critical"),
        (
            "Retail",
            "An order that was paid and reserved before its label could not be printed",
            "High",
        ),
        ("Data platforms", "A load of which most partitions were transformed for nothing", "High"),
    ),
    state_of_the_art=(
        "AWS Step Functions can redrive a failed standard workflow for 14 days: it goes on at the "
        "step that did not succeed and keeps the results of those that did.",
        "Temporal and Azure Durable Functions record each completed step in a history and "
        "rebuild a workflow's state by replaying it.",
        "A saga undoes completed steps by compensating actions, in reverse order.",
        "An ExceptionGroup can carry every failure of a group of tasks, and not only the first.",
        "asyncio.wait() hands back all tasks that were done when it woke, as a set: a failure and "
        "completions can come in one batch, in no order.",
    ),
    failure_modes=(
        "The exception names the stage that failed and nothing of those that had completed.",
        "Of a batch of finished tasks only those before the failure are taken in, so that the "
        "order of a set decides what is kept.",
        "A second failure is retrieved by nobody and shows only as a warning at exit.",
        "A failed and a cancelled run have to be handled by two different pieces of code.",
        "Completed steps are done again on the next attempt, with their side effects.",
    ),
    questions=(
        ("A stage may end the run", "cancel_run"),
        ("Redrive from a checkpoint", "checkpoint"),
        ("Compensation", "compensation"),
        ("Retries", "retry"),
        ("Partial outputs documented", "documented_partial_outputs"),
    ),
    persona=(
        "Lead for reliability of data pipelines",
        "A company that settles orders between banks and shops",
        (
            "What was completed is kept, or known to be undone",
            "Every failure of a run is seen in the first report of it",
            "One way to read the result of a run, however it ended",
            "A repeat of a run does not repeat its side effects",
        ),
    ),
    more_scenarios=(
        "partial_results/failure_during_teardown",
        "partial_results/failure_with_wide_fan_out",
        "cleanup/two_failures",
    ),
)
