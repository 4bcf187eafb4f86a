"""PARTIAL-RESULTS: the same access to what was done, however a run ended.

The mission was recommended by the summary of January 2026 that followed CONTRACT-003: carry
completed outputs on the failure, and show that a failed and a cancelled run can be observed
alike. Its claims are CONTRACT-003's own, judged by the same rules.
"""

from __future__ import annotations

from harness.contract.scenario import Hypothesis, Mission
from scenarios.partial_results.mission import CLAIMS

__all__ = ["PARTIAL_RESULTS"]

TESTS = {
    "reported_failure": "partial_results/parity_reported_failure",
    "exception": "partial_results/parity_exception",
    "cancel": "partial_results/parity_cancel",
    "timeout": "partial_results/parity_timeout",
    "others_go_on": "partial_results/others_go_on",
    "failure_in_subpipeline": "partial_results/failure_in_subpipeline",
}

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="Outputs can be reached after a failure, whether reported or raised.",
        decides=(
            ("partial_results/parity_reported_failure", "PART-1"),
            ("partial_results/parity_exception", "PART-1"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="Outputs can be reached after a stage has ended the run by its own wish.",
        decides=(("partial_results/parity_cancel", "PART-2"),),
    ),
    Hypothesis(
        id="H3",
        statement="Outputs can be reached after a timeout.",
        decides=(("partial_results/parity_timeout", "PART-1"),),
    ),
    Hypothesis(
        id="H4",
        statement="Outputs of siblings that complete with the failure are not lost to the tie.",
        decides=(
            ("partial_results/same_tick_outputs", "PART-3"),
            ("partial_results/many_in_the_tick", "PART-3"),
        ),
    ),
    Hypothesis(
        id="H5",
        statement="Every failure is told with its stage and cause, however many there are.",
        decides=(
            ("partial_results/many_failures", "PART-4"),
            ("partial_results/every_failure_reported", "PART-4"),
        ),
    ),
)

REVIEWED = ("BUG-020", "BUG-021", "DX-025", "STR-042")

PARTIAL_RESULTS = Mission(
    id="PARTIAL-RESULTS",
    title="The same access to outputs, however a run ended",
    pack="partial_results",
    priority="P1",
    risk="High",
    summary=(
        "One program, with two branches done, one at work and one that ends the run, is ended by "
        "a reported failure, an exception, a timeout and a stage's own wish. What a caller can "
        "learn afterwards is compared: which outputs, whether they are what was returned, which "
        "failures with which causes. Then the endings are made harder: in a subpipeline, in one "
        "tick with forty completions, with twenty failures, among stages that do not stop."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=tuple(claim for claim in CLAIMS if claim.id in REVIEWED),
    industry=(
        ("Insurance", "A claim of which the documents were read before the check failed", "High"),
        ("Market data", "A batch of quotes of which one source sent nonsense", "High"),
        ("Language models", "An answer of which all parts but the last were paid for", "Medium"),
        ("Laboratories", "A plate of samples of which one could not be read", "Critical"),
    ),
    state_of_the_art=(
        "A result type that holds values and errors side by side makes a caller look at both, "
        "where an exception makes it look at one.",
        "asyncio.gather() with return_exceptions=True gives each result or exception in its "
        "place; a TaskGroup gives the exceptions and leaves results to the tasks.",
        "An except* clause takes apart a group of failures by their types.",
        "Build systems such as make and Bazel keep the targets that were built when one fails.",
    ),
    failure_modes=(
        "A reported failure and an exception go through different code, and one of them forgets "
        "the outputs.",
        "A timeout is raised from a place that knows of no outputs.",
        "An output is there, and is not what the stage returned, because another changed it.",
        "A None that a stage returned cannot be told from an output that is missing.",
        "Of twenty failures the first is raised, and the others are told to the garbage collector.",
    ),
    questions=(
        ("A stage may end the run", "cancel_run"),
        ("Timeouts of stages", "stage_timeout"),
        ("Others go on when one fails", "continue_on_failure"),
        ("Subpipelines", "subpipeline"),
        ("Partial outputs documented", "documented_partial_outputs"),
    ),
    persona=(
        "Developer of a service on top of the engine",
        "A company that sells document processing by the page",
        (
            "Pages that were processed are delivered, also when one page fails",
            "One function reads the result of a run, however it ended",
            "The error shown to support names each page that failed and why",
            "Nothing that was paid for is computed twice",
        ),
    ),
    more_scenarios=(
        "partial_results/failure_after_retries",
        "partial_results/many_in_the_tick",
        "partial_results/many_failures",
        "partial_results/failure_among_stubborn",
        "partial_results/failures_in_cleanups",
        "partial_results/same_tick_outputs",
        "partial_results/every_failure_reported",
        "partial_results/fail_partial_outputs",
        "partial_results/raise_partial_outputs",
        "partial_results/cancel_partial_outputs",
        "partial_results/parallel_branch_cancel",
        "partial_results/parallel_branch_outputs",
        "partial_results/failure_with_wide_fan_out",
    ),
)
