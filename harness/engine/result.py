"""What a run comes to: frozen records, the same however the run ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from harness.engine.account import EventAccount
from harness.engine.errors import StageTimeout, ToolTimeout

if TYPE_CHECKING:
    from harness.engine.identity import Identity

__all__ = [
    "CancelBranch",
    "CancelRun",
    "CleanupFailure",
    "Event",
    "Failure",
    "RunResult",
    "Skip",
    "StageResult",
]

CHAIN_MAX = 20


@dataclass(frozen=True, slots=True)
class Skip:
    """Returned by a stage that had nothing to do; what needs it runs, and reads None."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class CancelRun:
    """Returned by a stage that asks to end the run: no failure, outputs are kept."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class CancelBranch:
    """Returned by a stage that asks to skip all that needs it; other branches go on."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stage, as the sink gets it; `identity` has all ids of who emitted it."""

    run_id: str
    stage: str
    type: str
    data: Any
    identity: Identity | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """One failure.

    Attributes:
        stage: the stage that failed, or None if the run as a whole timed out.
        error: the stage's own exception with its causes, or the engine's timeout.
        stopping: the stage failed after the engine had told it to stop (in a `finally`, say).
    """

    stage: str | None
    error: BaseException
    stopping: bool = False

    @property
    def timeout_s(self) -> float | None:
        """The timeout that expired, if the engine ended the stage or tool call by one."""
        if isinstance(self.error, (StageTimeout, ToolTimeout)) and self.error.stage == self.stage:
            return self.error.timeout_s
        if self.stage is None:
            return getattr(self.error, "timeout_s", None)
        return None

    @property
    def message(self) -> str:
        """The stage, its error, and what led to that, in one line."""
        told = _told(self.error, CHAIN_MAX)
        if self.stage is None or repr(self.stage) in told:
            return told
        return f"stage {self.stage!r} failed: {told}"


def _told(error: BaseException, deep: int) -> str:
    """Describe an exception, its causes and contexts, and the members of a group."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, (StageTimeout, ToolTimeout)) or deep <= 0:
        return text  # what it interrupted is no cause of it
    if isinstance(error, BaseExceptionGroup):
        text += f" [{'; '.join(_told(one, deep - 1) for one in error.exceptions)}]"
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return text if before is None else f"{text}; after {_told(before, deep - 1)}"


@dataclass(frozen=True, slots=True)
class CleanupFailure:
    """A registered cleanup, or a compensation, that failed or was not done within its grace."""

    name: str
    stage: str
    error: BaseException


@dataclass(frozen=True, slots=True)
class StageResult:
    """What became of one stage.

    Attributes:
        status: completed, skipped, failed, timed_out or cancelled.
        output: what it returned, if it completed.
        error: why it failed or timed out.
        reason: why it was skipped or cancelled.
        note: what else is worth knowing, e.g. that it swallowed its cancellation.
        chunks: partial results in order, up to the pipeline's `chunks_max`.
        chunks_dropped: how many came after those.
        attempts: how often it began.
        earlier: failures of the attempts before the last; all else here is of the last.
        started_s, ended_s: on the loop's clock; None if it never started or never ended.
    """

    name: str
    status: str
    output: Any = None
    error: BaseException | None = None
    reason: str = ""
    note: str = ""
    chunks: tuple[Any, ...] = ()
    chunks_dropped: int = 0
    started_s: float | None = None
    ended_s: float | None = None
    attempts: int = 0
    earlier: tuple[Failure, ...] = ()

    @property
    def complete(self) -> bool:
        """False if it ended early, so that its chunks are all there is of its output."""
        return self.status in ("completed", "skipped")

    @property
    def duration_s(self) -> float | None:
        if self.started_s is None or self.ended_s is None:
            return None
        return self.ended_s - self.started_s


@dataclass(frozen=True, slots=True)
class RunResult:
    """What became of a run.

    Attributes:
        status: completed, failed or cancelled.
        stages: every stage of the pipeline, in order of declaration.
        failures: every failure, in the order in which they occurred.
        cleanup_failures: registered cleanups that failed; they do not fail the run.
        compensated: names of the compensations that were run, in that order.
        compensation_failures: those of them that failed, or could not be run.
        reused: stages that a redrive took over from the run that it goes on with.
        still_running: stages and cleanups that did not end within the grace after they were
            told to. Their tasks are left to themselves: a coroutine cannot be killed.
        threads_running: stages that handed jobs to threads which have not finished.
        reason, cancelled_by: of a run, or else a branch, that a stage cancelled.
        events: the account of the run's events, its subpipelines' included; None without a sink.
        tenant, correlation_id, trace_id: "" for what it does not have.
    """

    run_id: str
    pipeline: str
    status: str
    stages: Mapping[str, StageResult]
    failures: tuple[Failure, ...] = ()
    cleanup_failures: tuple[CleanupFailure, ...] = ()
    compensated: tuple[str, ...] = ()
    compensation_failures: tuple[CleanupFailure, ...] = ()
    reused: tuple[str, ...] = ()
    still_running: tuple[str, ...] = ()
    threads_running: tuple[str, ...] = ()
    reason: str = ""
    cancelled_by: str | None = None
    events: EventAccount | None = None
    duration_s: float = 0.0
    tenant: str = ""
    correlation_id: str = ""
    trace_id: str = ""

    @property
    def events_lost(self) -> int:
        """How many events did not reach the sink, or were refused by it."""
        return 0 if self.events is None else self.events.lost

    @property
    def outputs(self) -> Mapping[str, Any]:
        """Outputs of the stages that completed, whatever became of the run."""
        done = {n: s.output for n, s in self.stages.items() if s.status == "completed"}
        return MappingProxyType(done)
