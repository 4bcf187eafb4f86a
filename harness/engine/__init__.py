"""The reference engine: an asyncio DAG engine with structured concurrency, as a specification.

Where the contract leaves no choice, this is what keeping it looks like in code; where it
leaves one, this is the choice that dagstorm compares others with. It is meant to be read
in one sitting, from `pipeline` over `run` to `job`.
"""

from __future__ import annotations

from harness.engine.context import Context
from harness.engine.errors import (
    EngineError,
    GraceExceeded,
    PipelineError,
    RunCancelled,
    RunFailed,
    RunTimeout,
    StageFailed,
    StageTimeout,
    StrayCancel,
    ToolTimeout,
)
from harness.engine.pipeline import Pipeline
from harness.engine.result import (
    CancelBranch,
    CancelRun,
    CleanupFailure,
    Event,
    Failure,
    RunResult,
    Skip,
    StageResult,
)
from harness.engine.run import Run

__all__ = [
    "CancelBranch",
    "CancelRun",
    "CleanupFailure",
    "Context",
    "EngineError",
    "Event",
    "Failure",
    "GraceExceeded",
    "Pipeline",
    "PipelineError",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunResult",
    "RunTimeout",
    "Skip",
    "StageFailed",
    "StageResult",
    "StageTimeout",
    "StrayCancel",
    "ToolTimeout",
]
