"""Which capabilities an installed Stageflow has, and what was looked for where it has not.

A capability is claimed if a user of the graph in question can have it through public
names; a helper that stands in the package but is wired to nothing is no capability of the
graph. Nothing is concluded from a version number.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any

from harness.kernel.adapter import CAPABILITIES

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["capabilities", "has_any", "import_or_none", "parameters_of"]

_UNINTERCEPTED = "the graph's constructor takes no interceptors"

_MISSING = {
    "stage_timeout": "UnifiedStageGraph takes no interceptors, so the TimeoutInterceptor and "
    "its ctx.data['_timeout_ms'] never see its stages",
    "stage_timeout_each": "Pipeline.with_stage() and the stage specs take no timeout; the "
    "TimeoutInterceptor says 'configurable per-stage' but reads one key for the whole run",
    "tool_timeout": "neither ToolDefinition, ToolExecutorConfig nor AdvancedToolExecutor.execute() "
    "takes a timeout for a call (only approvals have one)",
    "continue_on_failure": "the graph ends the run at the first failure; failure_tolerance."
    "FailureCollector, where there is one, is used by no graph",
    "heartbeat": "no name with 'heartbeat', 'keepalive' or 'idle' on the stage context, "
    "the graph or the interceptors",
    "cancel_branch": "StageOutput has no branch-wide verdict; `conditional` stages skip only "
    "direct dependents, and only if an input is called skip_reason",
    "streaming": "nothing on the stage context or StageOutput hands on a partial result, and what "
    "a run is started with takes no ports with a realtime_bus; helpers.ChunkQueue stands alone",
    "stream_consumer": "no bus or stream in what a run is started with and a stage is given, that "
    "somebody else could subscribe to; helpers.ChunkQueue stands alone",
    "checkpoint": "no name with 'checkpoint' (of a run), 'redrive' or 'resume' in the package",
    "compensation": "no name with 'compensat', 'rollback' or 'saga' on stages or graphs "
    "(undo exists for single tool actions only)",
    "retry": "no RetryInterceptor that this graph would use: it takes no interceptors, or there "
    "is none; StageOutput.retry() is acted on by nobody, and a GuardRetryStrategy runs another "
    "stage again when a guard that depends on it says fail",
    "interceptors": _UNINTERCEPTED,
    "guard": f"{_UNINTERCEPTED}, and nothing else can keep a stage from running",
    "circuit_breaker": f"{_UNINTERCEPTED}: the CircuitBreakerInterceptor never sees its stages",
    "idempotency": "no IdempotencyInterceptor that this graph would use",
    "rate_limit": "no interceptor or class that limits rates: a RateLimitError to raise, and in "
    "some versions an import of a RateLimitInterceptor that does not exist",
    "skip": "the older graph's results are started, completed or failed: a StageOutput.skip() "
    "comes back as completed",
    "cleanup_registry": "the older graph has no register_cleanup",
    "worker_thread": "nothing on the stage context or the graph runs a call in a thread; stages "
    "use asyncio.to_thread by themselves",
    "subpipeline": "no SubpipelineSpawner with a spawn() method",
    "inputs": "the stage context gives no access to other stages' outputs",
    "run_inputs": "neither ContextSnapshot nor PipelineContext takes data of the user's",
    "events": "the stage context has no try_emit_event",
    "event_queue": "no event sink with a max_queue_size and metrics",
    "delivery_count": "BackpressureMetrics has no figure of deliveries: emitted counts what was "
    "put into the queue, dropped what found it full, and nothing what the sink took or refused",
    "identity": "the stage's context has no run id, org id and request id",
    "log_records": "no logger that adds the run's ids to its records",
    "trace_context": "no graph starts a span: the TracingInterceptor notes names in ctx.data, and "
    "StageflowTracer, which can start spans, is used by nothing in the package",
    "tenancy": "no org id in the run's context, or nothing that refuses another's",
    "tenant_store": "RunStore and the output store are protocols or dictionaries without tenants; "
    "auth.tenant says that row-level security is the infrastructure's",
    "cancel_run": "neither StageOutput.cancel() nor PipelineContext.mark_canceled() exists",
}


def capabilities(engine: Probe) -> tuple[frozenset[str], dict[str, str]]:
    """Return what this graph offers, and capability -> what was looked for and not found."""
    found = _of_stages(engine) | _of_layers(engine) | _around_runs(engine)
    engine.clear_spawner()
    engine.clear_tracker()
    missing = {name: _MISSING[name] for name in CAPABILITIES if not found.get(name)}
    return frozenset(n for n, there in found.items() if there), missing


def _of_stages(engine: Probe) -> dict[str, bool]:
    graph = engine.StageGraph if engine.legacy else engine.UnifiedStageGraph
    context = engine.stage_context
    tool_parameters = (
        parameters_of(engine.ToolDefinition)
        | parameters_of(engine.AdvancedToolExecutor.execute)
        | parameters_of(importlib.import_module("stageflow.tools").ToolExecutorConfig)
    )
    spec = engine.StageSpec if engine.legacy else engine.dag.UnifiedStageSpec
    stage_parameters = parameters_of(spec) | parameters_of(engine.Pipeline.with_stage)
    names = {n.lower() for one in (context, graph, engine.StageOutput) for n in dir(one)}
    return {
        "stage_timeout_each": has_any(stage_parameters, "timeout"),
        "tool_timeout": has_any({n for n in tool_parameters if "approval" not in n}, "timeout"),
        # The older graph ends no run early: what has not failed goes on, as it is written.
        "continue_on_failure": engine.legacy or has_any(parameters_of(graph.__init__), "failure"),
        "heartbeat": has_any(names, "heartbeat", "keepalive", "keep_alive"),
        "subpipeline": hasattr(engine.get_spawner(), "spawn"),
        "cancel_run": hasattr(context, "mark_canceled")
        if engine.legacy
        else hasattr(engine.StageOutput, "cancel"),
        "cancel_branch": has_any(names, "branch"),
        "skip": not engine.legacy and hasattr(engine.StageOutput, "skip"),
        # The older graph's stages share `ctx.data`: PipelineSpec calls it inputs and outputs.
        "inputs": hasattr(context, "data") or "inputs" in fields_of(context),
        "streaming": engine.has_bus,
        "stream_consumer": engine.has_bus,
        "cleanup_registry": hasattr(graph, "register_cleanup"),
        "context": True,
        "concurrent_runs": hasattr(graph, "run"),
        "checkpoint": has_any(names - {"cancellation_checkpoint"}, "checkpoint", "redrive"),
        "compensation": has_any(names | stage_parameters, "compensat", "rollback"),
        "worker_thread": has_any(names, "thread", "executor"),
    }


def _of_layers(engine: Probe) -> dict[str, bool]:
    auth = import_or_none("stageflow.auth.interceptors")
    layers = {n.lower() for n in (*dir(engine.interceptors), *dir(auth))}
    taken = engine.intercepted
    return {
        "stage_timeout": taken and hasattr(engine.interceptors, "TimeoutInterceptor"),
        "interceptors": taken,
        "guard": taken and "stage_ran" in parameters_of(engine.InterceptorResult),
        "circuit_breaker": taken and "circuit_breaker" in engine.layer_kinds,
        "idempotency": taken and "idempotency" in engine.layer_kinds,
        "rate_limit": taken and has_any(layers, "ratelimit", "rate_limit"),
        "retry": taken and engine.RetryInterceptor is not None,
    }


def _around_runs(engine: Probe) -> dict[str, bool]:
    context = engine.stage_context
    queue, tenant = engine.QueuedSink, engine.TenantContext
    held = {"pipeline_run_id", "org_id", "request_id"}
    known = fields_of(engine.PipelineContext) | fields_of(engine.RunIdentity)
    return {
        "events": hasattr(context, "try_emit_event"),
        "event_queue": "max_queue_size" in parameters_of(queue) and hasattr(queue, "metrics"),
        "delivery_count": has_any(dir(engine.QueueMetrics), "deliver", "processed", "sent"),
        "run_inputs": hasattr(context, "data") or "metadata" in fields_of(engine.ContextSnapshot),
        "identity": held <= known,
        "log_records": hasattr(tenant, "get_logger"),
        "tenancy": "org_id" in known and hasattr(tenant, "validate_access"),
        "trace_context": "start_span" in inspect.getsource(engine.dag)
        or "start_span" in inspect.getsource(engine.interceptors),
        "tenant_store": False,
    }


def import_or_none(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def parameters_of(function: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


def fields_of(cls: Any) -> frozenset[str]:
    return frozenset(getattr(cls, "__dataclass_fields__", ()))


def has_any(names: Any, *words: str) -> bool:
    return any(word in name for name in names for word in words)
