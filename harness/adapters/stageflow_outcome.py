"""What a run of Stageflow came to, read from what its user is given and from nothing else.

The unified graph raises; the older one returns failed results. Neither has more than a
text to say that a stage was ended by a timeout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.witness import traceback_location

__all__ = [
    "cancelled",
    "failed",
    "legacy_returned",
    "returned",
    "value_of",
    "with_partial",
    "words_kind",
]

MESSAGE_MAX = 2_000
CHAIN_MAX = 20

# The only place where Stageflow names a timeout's length is the text of its message.
_TIMEOUT_TEXT = re.compile(r"timed out after (-?\d+(?:\.\d+)?)ms")
_STATUS = {"ok": "completed", "skip": "skipped", "fail": "failed", "cancel": "cancelled"}


def returned(run: str, results: Mapping[str, Any]) -> Outcome:
    """Read the results that the unified graph returned."""
    return Outcome(run, "ok", stages=_unified_stages(results))


def cancelled(run: str, exc: Any, root: str) -> Outcome:
    """Read `UnifiedPipelineCancelled`, which carries the results so far."""
    return Outcome(
        run,
        "cancelled",
        raised=_error(exc, root),
        stages=_reachable(exc),
        reason=str(exc.reason),
        cancelled_by=str(exc.stage),
    )


def failed(run: str, exc: Exception, root: str) -> Outcome:
    """Read whatever else came out of a graph."""
    return Outcome(
        run,
        "failed",
        raised=_error(exc, root),
        stages=_reachable(exc),
        failures=(_failure(exc),),
    )


def legacy_returned(run: str, results: Mapping[str, Any], ctx: Any) -> Outcome:
    """Read the results of the older graph: what failed is among them."""
    stages: dict[str, StageReport] = {}
    failures: list[FailureReport] = []
    for name, result in results.items():
        status = "completed"
        if result.status == "failed":
            status, failure = _legacy_failure(name, str(result.error or ""))
            failures.append(failure)
        stages[name] = StageReport(
            status=status,
            value=value_of(result.data),
            error=result.error,
            duration_s=(result.ended_at - result.started_at).total_seconds(),
        )
    if ctx.canceled:
        return Outcome(
            run,
            "cancelled",
            stages=stages,
            failures=tuple(f for f in failures if f.kind != "cancelled"),
            reason=getattr(ctx, "cancellation_reason", None) or _legacy_reason(results),
        )
    status = "failed" if failures else "ok"
    return Outcome(run, status, stages=stages, failures=tuple(failures))


def with_partial(outcome: Outcome, partial: Mapping[str, tuple[Any, ...]]) -> Outcome:
    """Add what the user could read from the stages' channels.

    Nothing in a channel says whether its stage came to its end; what the run's own
    failure says of the stage is all there is.
    """
    stages = dict(outcome.stages)
    said = {f.stage: f.kind for f in outcome.failures}
    for stage, values in partial.items():
        report = stages.get(stage)
        if report is None:
            status = "unknown"
            if stage in said:
                status = "timed_out" if said[stage] == "timeout" else "failed"
            report = StageReport(status)
        whole = report.status in ("completed", "unknown")
        stages[stage] = replace(report, partial=values, complete=whole)
    return replace(outcome, stages=stages)


def _error(exc: BaseException, root: str) -> ErrorReport:
    stage = getattr(exc, "stage", None)
    return ErrorReport(
        type=type(exc).__name__,
        message=str(exc)[:MESSAGE_MAX],
        chain=tuple(type(one).__name__ for one in _chain(exc)),
        location=traceback_location(exc, root),
        stage=stage if isinstance(stage, str) else None,
    )


def value_of(data: Any) -> Any:
    return data.get("value") if isinstance(data, Mapping) else None


def _unified_stages(results: Mapping[str, Any]) -> dict[str, StageReport]:
    stages: dict[str, StageReport] = {}
    for name, output in results.items():
        status = output.status.value
        milliseconds_taken = output.duration_ms
        stages[name] = StageReport(
            status=_STATUS.get(status, status),
            value=value_of(output.data),
            error=output.error,
            duration_s=None if milliseconds_taken is None else milliseconds_taken / 1000,
        )
    return stages


def _reachable(exc: BaseException) -> dict[str, StageReport]:
    """Return the outputs that an exception carries, under whatever public name."""
    for attribute in ("results", "outputs", "partial_results"):
        results = getattr(exc, attribute, None)
        if isinstance(results, Mapping):
            return _unified_stages(results)
    return {}


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield the causes and contexts that a traceback of `exc` would show, outermost first."""
    seen = {id(exc)}
    for _ in range(CHAIN_MAX):
        below = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
        if below is None or id(below) in seen:
            return
        seen.add(id(below))
        yield below
        exc = below


def words_kind(message: object) -> str:
    """Return "timeout" if the engine's words say that it ended something at a timeout.

    A `TimeoutError` of the stage's own in the chain does not: it is the stage's failure.
    """
    return "timeout" if _TIMEOUT_TEXT.search(str(message)) else "error"


def _timeout_s(message: str) -> float | None:
    named = _TIMEOUT_TEXT.search(message)
    return float(named.group(1)) / 1000 if named else None


def _failure(exc: Exception) -> FailureReport:
    """Say what an exception from the graph reports of the stage that failed."""
    stage = getattr(exc, "stage", None)
    original = getattr(exc, "original", None)
    shown = original if isinstance(original, BaseException) else exc
    message = str(shown)[:MESSAGE_MAX]
    return FailureReport(
        stage=stage if isinstance(stage, str) else None,
        kind=words_kind(message),
        message=message,
        timeout_s=_timeout_s(message),
        error=type(original).__name__ if isinstance(original, BaseException) else None,
    )


def _legacy_failure(name: str, error: str) -> tuple[str, FailureReport]:
    """Translate a failed `StageResult`, which has nothing but a text, into status and report."""
    message = error[:MESSAGE_MAX]
    if error == "Pipeline canceled":
        return "cancelled", FailureReport(name, "cancelled", message)
    if _TIMEOUT_TEXT.search(error):
        report = FailureReport(name, "timeout", message, timeout_s=_timeout_s(error))
        return "timed_out", report
    return "failed", FailureReport(name, "error", message)


def _legacy_reason(results: Mapping[str, Any]) -> str | None:
    for result in results.values():
        reason = result.data.get("cancel_reason") if isinstance(result.data, Mapping) else None
        if reason is not None:
            return str(reason)
    return None
