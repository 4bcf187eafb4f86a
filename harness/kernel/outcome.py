"""The outcome: what an engine tells its user about one run.

An adapter fills it from the engine's public return value, exception, events and logs
only, never from the journal. What the engine does not tell stays None or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = [
    "ErrorReport",
    "EventReport",
    "FailureReport",
    "LogReport",
    "MetricReport",
    "Outcome",
    "SinkReport",
    "SpanReport",
    "StageReport",
]


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An exception as the user sees it.

    Attributes:
        type: name of the exception's class.
        message: its text, at most 2,000 characters.
        chain: class names of its causes and contexts, outermost first, without its own.
        location: `file:line function` of the innermost frame inside the engine in the task that
            drives the run, file relative to the engine's package; "" if no frame is.
        stage: the stage named by the exception in a structured way, or None.
    """

    type: str
    message: str = ""
    chain: tuple[str, ...] = ()
    location: str = ""
    stage: str | None = None


@dataclass(frozen=True, slots=True)
class FailureReport:
    """One failure that the engine reports: which stage, what kind, in which words.

    Attributes:
        kind: "timeout" if the engine says that it is one, "cancelled", else "error".
        timeout_s: the timeout that the engine names, in seconds, or None if it names none.
        error: class name of the original exception, if the engine passes it on.
    """

    stage: str | None
    kind: str = "error"
    message: str = ""
    timeout_s: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class StageReport:
    """What the user can learn of one stage after the run.

    Attributes:
        status: completed, failed, timed_out, cancelled or skipped, as the engine says.
        value: the stage's output as reachable by the user (None if there is none).
        partial: chunks produced before the stage ended early, if reachable, else None.
        complete: False if the engine marks the output as partial.
        duration_s: seconds the engine says the stage took, or None.
        attempts: how often the engine says that it ran the stage, or None.
    """

    status: str
    value: Any = None
    error: str | None = None
    partial: tuple[Any, ...] | None = None
    complete: bool = True
    duration_s: float | None = None
    attempts: int | None = None


@dataclass(frozen=True, slots=True)
class SinkReport:
    """The engine's account of events: offered = delivered + dropped + pending, at every moment.

    Attributes:
        dropped: lost for whatever reason, a sink that raised included.
        pending: accepted, neither delivered nor dropped yet; spilled ones included.
        queue_max: the most that may be pending in memory, or None if the engine names none.
    """

    offered: int
    delivered: int
    dropped: int
    pending: int
    queue_max: int | None = None


@dataclass(frozen=True, slots=True)
class EventReport:
    """One event as it reached the user's sink; `ids` as `StagePort.identity` names them."""

    type: str
    data: Any
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogReport:
    """One log record that a stage wrote, as a handler of the user's gets it."""

    message: str
    ids: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpanReport:
    """One span of a trace; `kind` is "run" or "stage"; ids as lower-case hexadecimal text."""

    name: str
    kind: str
    trace: str
    span: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class MetricReport:
    """One measurement that the engine exported; `labels` may hold ids, named as there."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to, in the engine's words.

    Attributes:
        status: "ok", "failed" or "cancelled", as the engine's way of ending tells a user.
        raised: the exception that came out of the engine's run call, if any.
        stages: stage name -> report, for every stage that the user can learn of from the
            return value, or from the exception's documented attributes.
        failures: every failure reported, in the engine's order.
        reason: the reason given for a cancellation, or None.
        cancelled_by: the stage said to have cancelled, or None.
        cleanup_failures: names or messages of failed cleanups that were reported.
        still_running: stages that the engine itself reports as not stopped.
        timeouts: stage -> timeout in seconds, as the pipeline's description shows them.
        events: (type, data) of the engine's own events that reached its sink.
        event_reports: the stages' own events with the ids that they carry.
        sink: the engine's account of the run's events when the run was over.
        logs: records that stages wrote.
        spans: of the run, its stages and subpipelines, as exported.
        error_ids: ids that the run's exception carries, by `StagePort.identity`'s names.
        reused: stages that a redrive took over without running them again.
        compensated: names of compensations that were run, in the order reported.
        compensation_failures: names or messages of compensations reported as failed.
        stored: (key, value) rows that the run's tenant finds in the engine's store when the run
            is over, or None if it has none.
        metrics: measurements of the run, as exported.
    """

    run: str
    status: str
    raised: ErrorReport | None = None
    stages: Mapping[str, StageReport] = field(default_factory=dict)
    failures: tuple[FailureReport, ...] = ()
    reason: str | None = None
    cancelled_by: str | None = None
    cleanup_failures: tuple[str, ...] = ()
    still_running: tuple[str, ...] = ()
    timeouts: Mapping[str, float] | None = None
    events: tuple[tuple[str, Any], ...] = ()
    event_reports: tuple[EventReport, ...] = ()
    sink: SinkReport | None = None
    logs: tuple[LogReport, ...] = ()
    spans: tuple[SpanReport, ...] = ()
    error_ids: Mapping[str, str] = field(default_factory=dict)
    reused: tuple[str, ...] = ()
    compensated: tuple[str, ...] = ()
    compensation_failures: tuple[str, ...] = ()
    stored: tuple[tuple[str, Any], ...] | None = None
    metrics: tuple[MetricReport, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as plain data (dataclasses as objects, tuples as lists)."""
        return asdict(self)
