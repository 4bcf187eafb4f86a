"""The reference engine: an asyncio DAG engine with structured concurrency, as a specification.

Where the contract leaves no choice, this is what keeping it looks like in code; where it
leaves one, this is the choice that dagstorm compares others with. It is meant to be read
in one sitting, from `pipeline` over `run` to `job`.
"""

from __future__ import annotations

from harness.engine.account import EventAccount
from harness.engine.breaker import CircuitBreaker
from harness.engine.checkpoint import (
    CheckpointError,
    CheckpointStore,
    MemoryCheckpoints,
    RedriveRefused,
)
from harness.engine.checkpoint_sqlite import SqliteCheckpoints
from harness.engine.context import Context
from harness.engine.errors import (
    CircuitOpen,
    EngineError,
    GraceExceeded,
    LayerFailed,
    PipelineError,
    RateLimited,
    RunCancelled,
    RunFailed,
    RunTimeout,
    StageDenied,
    StageFailed,
    StageTimeout,
    StrayCancel,
    TenancyError,
    ToolTimeout,
)
from harness.engine.idempotency import Idempotency
from harness.engine.identity import Identity, current_identity
from harness.engine.layer import CallNext, Deny, Instead
from harness.engine.logs import IdentityFilter
from harness.engine.measure import Measurement
from harness.engine.pipeline import Pipeline
from harness.engine.rate import RateLimit
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
from harness.engine.retry import Retry
from harness.engine.run import Run
from harness.engine.sink import EventQueue
from harness.engine.stream import Stream
from harness.engine.tenancy import StoreSession, TenantRows, TenantStore
from harness.engine.trace import Span, TraceContext

__all__ = [
    "CallNext",
    "CancelBranch",
    "CancelRun",
    "CheckpointError",
    "CheckpointStore",
    "CircuitBreaker",
    "CircuitOpen",
    "CleanupFailure",
    "Context",
    "Deny",
    "EngineError",
    "Event",
    "EventAccount",
    "EventQueue",
    "Failure",
    "GraceExceeded",
    "Idempotency",
    "Identity",
    "IdentityFilter",
    "Instead",
    "LayerFailed",
    "Measurement",
    "MemoryCheckpoints",
    "Pipeline",
    "PipelineError",
    "RateLimit",
    "RateLimited",
    "RedriveRefused",
    "Retry",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunResult",
    "RunTimeout",
    "Skip",
    "Span",
    "SqliteCheckpoints",
    "StageDenied",
    "StageFailed",
    "StageResult",
    "StageTimeout",
    "StoreSession",
    "StrayCancel",
    "Stream",
    "TenancyError",
    "TenantRows",
    "TenantStore",
    "ToolTimeout",
    "TraceContext",
    "current_identity",
]
