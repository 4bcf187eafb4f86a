"""The errors of the engine: each names the stage concerned, and the timeout if it is one.

`PipelineError` says that a pipeline was declared wrongly; `RunFailed` and `RunCancelled`
are what `Pipeline.run` raises, and carry the whole result. The others appear in a
result as the error of a stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.engine.result import RunResult

__all__ = [
    "CircuitOpen",
    "EngineError",
    "GraceExceeded",
    "LayerFailed",
    "PipelineError",
    "RateLimited",
    "RunCancelled",
    "RunFailed",
    "RunTimeout",
    "StageDenied",
    "StageFailed",
    "StageTimeout",
    "StrayCancel",
    "TenancyError",
    "ToolTimeout",
]


class EngineError(Exception):
    """Base of every error that the engine raises on purpose."""


class PipelineError(EngineError, ValueError):
    """The pipeline is declared wrongly; nothing was run."""


class StageFailed(EngineError):
    """For a stage to raise that has no better exception at hand."""


class StageTimeout(EngineError, TimeoutError):
    """A stage outlived its timeout, or its idle timeout (`idle`)."""

    def __init__(self, stage: str, timeout_s: float, *, idle: bool = False) -> None:
        self.stage = stage
        self.timeout_s = timeout_s
        self.idle = idle
        what = f"gave no heartbeat for {timeout_s:g} s" if idle else f"timed out: {timeout_s:g} s"
        super().__init__(f"stage {stage!r} {what}")


class ToolTimeout(EngineError, TimeoutError):
    """A tool call outlived its own timeout inside a stage."""

    def __init__(self, stage: str, tool: str, timeout_s: float) -> None:
        self.stage = stage
        self.tool = tool
        self.timeout_s = timeout_s
        super().__init__(f"stage {stage!r}: call of tool {tool!r} timed out: {timeout_s:g} s")


class RunTimeout(EngineError, TimeoutError):
    """A run outlived the timeout of its pipeline."""

    def __init__(self, pipeline: str, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"pipeline {pipeline!r} timed out: {timeout_s:g} s")


class GraceExceeded(EngineError, TimeoutError):
    """A cleanup was still at work when the grace for cleanups was over."""

    def __init__(self, what: str, grace_s: float) -> None:
        self.timeout_s = grace_s
        super().__init__(f"{what} was not done within the cleanup grace of {grace_s:g} s")


class StrayCancel(EngineError):
    """A stage or cleanup ended by a `CancelledError` that the engine had not sent.

    Its own code raised it, or let it out of a task of its own, or someone else cancelled
    its task. It has failed: its work was not done, and nobody asked the run to end.
    """

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} ended by a CancelledError that the engine did not send")


class LayerFailed(EngineError):
    """A layer around a stage failed, before or after it; its cause is the layer's own error."""

    def __init__(self, stage: str, layer: str, error: BaseException) -> None:
        self.stage = stage
        self.layer = layer
        self.error = error
        told = f"{type(error).__name__}: {error}".removesuffix(": ")
        super().__init__(f"layer {layer!r} around stage {stage!r} failed: {told}")


class StageDenied(EngineError):
    """A layer did not let a stage run."""

    def __init__(self, stage: str, layer: str, reason: str = "") -> None:
        self.stage = stage
        self.layer = layer
        self.reason = reason
        told = f": {reason}" if reason else ""
        super().__init__(f"stage {stage!r} was denied by layer {layer!r}{told}")


class CircuitOpen(StageDenied):
    """A circuit breaker cuts a stage off because it kept failing; try after `retry_after_s`."""

    def __init__(self, stage: str, layer: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(stage, layer, f"the circuit is open, for {retry_after_s:g} s more")


class RateLimited(StageDenied):
    """A stage has run as often as its rate limit allows; try after `retry_after_s`."""

    def __init__(self, stage: str, layer: str, retry_after_s: float) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(stage, layer, f"its rate limit is reached, for {retry_after_s:g} s more")


class TenancyError(EngineError):
    """Something would have crossed from one tenant to another; it was not done."""


class _RunEnded(EngineError):
    def __init__(self, result: RunResult, message: str) -> None:
        self.result = result
        super().__init__(message)

    @property
    def tenant(self) -> str:
        return self.result.tenant

    @property
    def correlation_id(self) -> str:
        return self.result.correlation_id

    @property
    def trace_id(self) -> str:
        return self.result.trace_id


class RunFailed(_RunEnded):
    """A run failed; `result` holds every failure, and all outputs that were completed.

    Its cause is the first failure's error.
    """


class RunCancelled(_RunEnded):
    """A stage asked to end the run; `result` holds the reason and the completed outputs."""
