"""REDRIVE: what an engine offers to go on after a failure, or to undo what was done.

The report of January 2026 on Stageflow 0.5.1 proposed a checkpoint and compensations, and
recommended a mission of its own for them. Its two proposals are reviewed here by the same
rule as in CONTRACT-003.
"""

from __future__ import annotations

from harness.contract.scenario import Hypothesis, Mission
from scenarios.partial_results.mission import CLAIMS

__all__ = ["REDRIVE"]

TESTS = {
    name: f"recovery/{scenario}"
    for name, scenario in {
        "redrive_after_failure": "redrive_after_failure",
        "redrive_reads_outputs": "redrive_reads_outputs",
        "redrive_of_completed": "redrive_of_completed",
        "redrive_again": "redrive_again",
        "redrives_at_once": "redrives_at_once",
        "redrive_after_caller_cancel": "redrive_after_caller_cancel",
        "undo_in_reverse": "undo_in_reverse",
        "undo_side_by_side": "undo_side_by_side",
        "undo_failing": "undo_failing",
        "undo_recancelled": "undo_recancelled",
        "retry_succeeds": "retry_succeeds",
        "retry_exhausted": "retry_exhausted",
        "no_retry_after_cancel": "retry_cancelled_in_wait",
    }.items()
}

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="A redrive runs what had not completed, and nothing else.",
        decides=(
            ("recovery/redrive_after_failure", "PART-5"),
            ("recovery/redrive_wide", "PART-5"),
            ("recovery/redrive_of_interrupted", "PART-5"),
            ("recovery/redrive_again", "PART-5"),
            ("recovery/redrive_of_completed", "PART-5"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="Stages of a redrive read the outputs of the first run as they were returned.",
        decides=(("recovery/redrive_reads_outputs", "PART-5"),),
    ),
    Hypothesis(
        id="H3",
        statement="Wherever a cancel lands, the run can be gone on with, by one redrive at a time.",
        decides=(
            ("recovery/redrive_after_caller_cancel", "PART-5"),
            ("recovery/redrives_at_once", "PART-5"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="What had completed is undone in reverse order when the run fails, each once.",
        decides=(
            ("recovery/undo_in_reverse", "PART-6"),
            ("recovery/undo_side_by_side", "PART-6"),
            ("recovery/undo_after_retries", "PART-6"),
        ),
    ),
    Hypothesis(
        id="H5",
        statement="A compensation that fails, or a caller that cancels, does not stop the undoing.",
        decides=(
            ("recovery/undo_failing", "PART-6"),
            ("recovery/undo_recancelled", "PART-6"),
        ),
    ),
    Hypothesis(
        id="H6",
        statement="Attempts and the waits between them are as declared, and end with the run.",
        decides=(
            ("recovery/retry_succeeds", "RETRY-1"),
            ("recovery/retry_exhausted", "RETRY-1"),
            ("recovery/retry_cancelled_in_wait", "RETRY-1"),
            ("recovery/retry_cancelled_anywhere", "RETRY-1"),
        ),
    ),
)

REDRIVE = Mission(
    id="REDRIVE",
    title="Going on after a failure: retry, redrive, compensation",
    pack="recovery",
    priority="P1",
    risk="High",
    summary=(
        "A run of an hour fails in its last minute. The mission asks what can be done then "
        "without doing the hour again: are failing stages tried again as declared, can the run be "
        "gone on with from what had completed, and, where it cannot, is what was done undone in "
        "the right order. Runs are ended by failures, timeouts and cancels, also in the midst of "
        "a wait, of a cleanup and of an undoing, and it is counted how often each stage ran."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=tuple(claim for claim in CLAIMS if claim.id in ("IMP-040", "IMP-041")),
    industry=(
        ("Travel", "A trip of which the flight is booked when the hotel is full", "High"),
        ("Banking", "A transfer that was debited and could not be credited", "Critical"),
        ("Genomics", "A night's sequencing run that fails in the report stage", "High"),
        ("Media", "An encoding of which nineteen of twenty parts are done", "Medium"),
    ),
    state_of_the_art=(
        "The saga pattern gives each step of a long transaction a compensating one, and runs them "
        "in reverse order of the steps that were done when a later one fails.",
        "Write-ahead logging puts what has happened on the disk before anything is built on it, "
        "so that a process that dies leaves either the whole of a step or nothing.",
        "Durable execution records each step's result and, after a crash, replays the code up to "
        "the first step without one.",
        "A lease that names its holder keeps two workers from going on with the same job; an "
        "operating system's file lock is one that ends with the process.",
        "Exponential backoff with jitter spreads the repeats of many clients; a budget or a "
        "deadline bounds them.",
    ),
    failure_modes=(
        "A checkpoint is written before the output that it stands for, and a crash in between "
        "makes a redrive take unfinished work for done.",
        "A checkpoint is written after the next stage was started, and the stage is run twice.",
        "Two operators redrive the same run and each stage is run by both.",
        "A pipeline is changed, and outputs of the old one are fed to stages of the new.",
        "Compensations run in the order of declaration, and undo what others still build on.",
        "A cancel in the midst of the undoing leaves half of it undone.",
        "A stage is tried again after its run was cancelled, because it slept through the cancel.",
        "Attempts are counted from one in one place and from zero in another.",
    ),
    questions=(
        ("Redrive from a checkpoint", "checkpoint"),
        ("Compensation", "compensation"),
        ("Retries", "retry"),
        ("A stage may end the run", "cancel_run"),
        ("Stages read outputs of others", "inputs"),
    ),
    persona=(
        "Engineer on call for overnight workflows",
        "A travel company that books flights, hotels and cars in one order",
        (
            "A failed night is repaired in minutes, not in another night",
            "No customer is charged twice because a step was repeated",
            "What was booked for a failed order is cancelled, and what could not be is on a list",
            "Pressing the button for a redrive twice does no harm",
        ),
    ),
    more_scenarios=(
        "recovery/redrive_wide",
        "recovery/redrive_of_interrupted",
        "recovery/redrive_after_retries",
        "recovery/redrive_past_skipped",
        "recovery/redrive_with_others_going_on",
        "recovery/undo_nothing",
        "recovery/undo_completed_only",
        "recovery/undo_after_retries",
        "recovery/undo_after_timeout",
        "recovery/undo_beyond_grace",
        "recovery/undo_cancelled_anywhere",
        "recovery/retry_cancelled_anywhere",
        "recovery/retry_while_sibling_fails",
        "recovery/retry_while_stage_ends_run",
        "recovery/retries_side_by_side",
        "recovery/retry_releases",
        "recovery/retry_after_timeout",
    ),
)
