"""CORRELATION: what belongs to one request, found again afterwards.

The claims come from a report of January 2026 about Stageflow, which named the gap, proposed to
trace a request across five stages, and did not do it.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["CORRELATION"]

TESTS = {
    "one_run": "correlation/one_run",
    "ten_runs": "correlation/ten_runs",
    "log_records": "correlation/log_records",
    "events": "correlation/events",
    "child_runs": "correlation/child_runs",
    "five_stages_fifty_runs": "correlation/fifty_runs",
    "plain_errors": "correlation/plain_errors",
    "errors": "correlation/errors",
    "cleanups": "correlation/cleanups_of_cancelled_runs",
    "timeouts": "correlation/timeouts",
    "spans": "correlation/spans",
    "spans_of_child_runs": "correlation/spans_of_child_runs",
    "spans_of_fifty_runs": "correlation/spans_of_fifty_runs",
    "headers": "correlation/headers",
}

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="The correlation id is known in every stage, task and worker thread of a run.",
        decides=(
            ("correlation/one_run", "CORR-1"),
            ("correlation/ten_runs", "CORR-1"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="Events, log records, child runs, cleanups and errors carry the id as well.",
        decides=(
            ("correlation/log_records", "CORR-1"),
            ("correlation/events", "CORR-1"),
            ("correlation/child_runs", "CORR-1"),
            ("correlation/plain_errors", "CORR-1"),
            ("correlation/errors", "CORR-1"),
            ("correlation/cleanups_of_cancelled_runs", "CORR-1"),
            ("correlation/timeouts", "CORR-1"),
            ("correlation/fifty_runs", "CORR-1"),
        ),
    ),
    Hypothesis(
        id="H3",
        statement="Concurrent runs never carry each other's ids.",
        decides=(
            ("correlation/ten_runs", "CORR-3"),
            ("correlation/log_records", "CORR-3"),
            ("correlation/events", "CORR-3"),
            ("correlation/child_runs", "CORR-3"),
            ("correlation/fifty_runs", "CORR-3"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="The spans of a run are one tree under its caller's span, child runs included.",
        decides=(
            ("correlation/spans", "CORR-2"),
            ("correlation/spans_of_child_runs", "CORR-2"),
            ("correlation/spans_of_fifty_runs", "CORR-2"),
            ("correlation/headers", "CORR-2"),
        ),
    ),
)

CLAIMS = (
    Claim(
        id="Code Evidence 4",
        says="Correlation ids are lost where work is handed to another task or thread.",
        decides=(
            ("correlation/one_run", "CORR-1"),
            ("correlation/ten_runs", "CORR-1"),
            ("correlation/log_records", "CORR-1"),
        ),
        engine="stageflow",
        earlier="Code Evidence row 4: supported, because ids were stored in the context's data.",
        why=(
            "Where an id is kept does not tell whether it is lost: it was asked for in stages, in "
            "tasks and in threads, and it was there."
        ),
    ),
    Claim(
        id="Recommendation: OpenTelemetry Integration",
        says="There is no OpenTelemetry integration: no span is exported.",
        decides=(("capability", "trace_context"),),
        engine="stageflow",
        earlier="Part of Code Evidence row 4; starting a span for each stage was recommended.",
        why="This version starts spans for runs and stages.",
    ),
    Claim(
        id="Code Evidence 4 (events)",
        says="Events carry the ids of the run that they come of.",
        decides=(("correlation/events", "CORR-1"),),
        holds_if="pass",
        engine="stageflow",
        earlier="Part of Code Evidence row 4: events include correlation metadata.",
        why="Some of the events that reached the sink did not have the id of their run.",
    ),
    Claim(
        id="Observability Correlation IDs (test)",
        says="A request cannot be followed through all five stages by the log records.",
        decides=(("correlation/fifty_runs", "CORR-1"), ("correlation/log_records", "CORR-1")),
        engine="stageflow",
        earlier="The test was proposed (five stages, the id in all logs), and not run.",
        why="With the engine's documented helpers each log record had the id of its run.",
    ),
)

CORRELATION = Mission(
    id="CORRELATION",
    title="Correlation ids and trace context",
    pack="correlation",
    priority="P2",
    risk="Moderate",
    summary=(
        "When something goes wrong at night, someone has to find all that belongs to one request. "
        "The mission sends fifty requests at once through five stages with tasks, worker "
        "threads, child runs, events, log records, cleanups and errors, and asks in each place "
        "whose it is; then it looks at the spans of the trace that comes of it."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        ("Payments", "A disputed transfer, followed through a dozen services", "High"),
        ("Hospitals", "Who saw which record on whose behalf, for the audit", "Critical"),
        ("Online shops", "One slow checkout among thousands that are not", "High"),
        ("Support desks", "An answer of an assistant that has to be explained", "Medium"),
    ),
    state_of_the_art=(
        "W3C Trace Context has a traceparent header of version, trace id, parent id and flags; a "
        "header that is not well formed is to be ignored, and the trace begun anew.",
        "A task of asyncio gets a copy of the context variables of whoever created it; "
        "asyncio.to_thread() takes them into the thread, loop.run_in_executor() does not.",
        "A callback that is scheduled with call_soon() runs in the variables of the moment at "
        "which it was scheduled, unless it is given others.",
        "OpenTelemetry for Python keeps the current span in a context variable, and a token of "
        "attach() has to be given back in the context in which it was made.",
        "A logging.Filter can add ids to records; on a logger it is not asked about records of "
        "the loggers below it, on a handler it is.",
        "Structured concurrency gives each task one parent, which is what makes a span's parent a "
        "question with one answer.",
    ),
    failure_modes=(
        "A worker thread logs without an id, because it was started by run_in_executor().",
        "A background task that drains a queue stamps all events with the ids of whoever began it.",
        "A variable is set for each run in a task that all runs share, and the last one wins.",
        "Cleanups run in the supervisor's task, which belongs to no stage.",
        "A child run begins a trace of its own.",
        "A retry hangs its spans under the attempt before it.",
    ),
    questions=(
        ("Code can ask for whom it works", "identity"),
        ("Log records carry the run's ids", "log_records"),
        ("Spans of runs and stages", "trace_context"),
        ("Events", "events"),
        ("Child pipelines", "subpipeline"),
        ("Worker threads", "worker_thread"),
        ("Registered cleanups", "cleanup_registry"),
    ),
    persona=(
        "Engineer on call",
        "A marketplace whose checkout is a pipeline of five stages",
        (
            "One id finds every log record, event and error of a request",
            "No record is put down to the wrong request",
            "A trace shows child pipelines where they were run",
            "Cleanups and timeouts can be told whose they were",
        ),
    ),
    more_scenarios=(
        "correlation/events_through_a_queue",
        "correlation/spans_without_a_caller",
        "correlation/spans_of_failing_runs",
    ),
)
