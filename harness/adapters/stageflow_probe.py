"""The names of an installed Stageflow as the adapter uses them, found by looking.

Which names there are, which parameters its functions take, how a run is started: asked
of the package itself. No version number is compared. What that amounts to in
capabilities is `stageflow_offers`, what else was measured `stageflow_facts`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from harness.adapters.stageflow_ids import INPUTS
from harness.adapters.stageflow_offers import (
    capabilities,
    fields_of,
    import_or_none,
    parameters_of,
)

__all__ = ["Probe", "describe_context", "probe"]

DISTRIBUTION = "stageflow-core"


class Probe:
    """The engine's names as the adapter uses them, and what it offers by them."""

    def __init__(self, legacy: bool) -> None:
        self.legacy = legacy
        self.package = importlib.import_module("stageflow")
        self.dag = importlib.import_module("stageflow.pipeline.dag")
        self.interceptors = importlib.import_module("stageflow.pipeline.interceptors")
        core = importlib.import_module("stageflow.core")
        context = importlib.import_module("stageflow.context")
        identity = importlib.import_module("stageflow.context.identity")
        inputs = importlib.import_module("stageflow.stages.inputs")
        tools = importlib.import_module("stageflow.tools")
        self.events = importlib.import_module("stageflow.events")
        child = importlib.import_module("stageflow.pipeline.subpipeline")
        self.Pipeline = importlib.import_module("stageflow.pipeline.pipeline").Pipeline
        self.PipelineContext = importlib.import_module("stageflow.stages.context").PipelineContext
        self.PipelineBuilder = importlib.import_module("stageflow.pipeline.builder").PipelineBuilder
        self.PipelineSpec = importlib.import_module("stageflow.pipeline.spec").PipelineSpec
        self.StageGraph = self.dag.StageGraph
        self.StageSpec = self.dag.StageSpec
        # Where the older graph takes stage classes only, nothing runs that its builder built.
        self.builder_runs = "isinstance(runner, type)" in inspect.getsource(self.StageGraph)
        self.UnifiedStageGraph = self.dag.UnifiedStageGraph
        self.UnifiedPipelineCancelled = self.dag.UnifiedPipelineCancelled
        self.StageContext = core.StageContext
        self.StageOutput = core.StageOutput
        self.StageKind = core.StageKind
        self.PipelineTimer = core.PipelineTimer
        self.ContextSnapshot = context.ContextSnapshot
        self.RunIdentity = identity.RunIdentity
        self.create_stage_inputs = inputs.create_stage_inputs
        self.AdvancedToolExecutor = tools.AdvancedToolExecutor
        self.ToolDefinition = tools.ToolDefinition
        self.ToolOutput = importlib.import_module("stageflow.tools.definitions").ToolOutput
        self.set_event_sink: Callable[[Any], None] = self.events.set_event_sink
        self.get_spawner: Callable[[], Any] = child.get_subpipeline_spawner
        self.clear_spawner: Callable[[], None] = child.clear_subpipeline_spawner
        self.clear_tracker: Callable[[], None] = child.clear_child_tracker
        self.version = _version()
        # From some version on the unified graph takes the context that the legacy one takes.
        self.pipeline_entry = hasattr(self.PipelineContext, "derive_root_stage_context")
        self.stage_context = self.PipelineContext if legacy else self.StageContext
        graph = self.StageGraph if legacy else self.UnifiedStageGraph
        self.intercepted = "interceptors" in parameters_of(graph.__init__)
        self._find_layers()
        self._find_surroundings()
        self.capabilities, self.missing = capabilities(self)

    def _find_layers(self) -> None:
        module = self.interceptors
        self.BaseInterceptor = module.BaseInterceptor
        self.InterceptorResult = module.InterceptorResult
        self.ErrorAction = module.ErrorAction
        self.default_interceptors: Callable[..., list[Any]] = module.get_default_interceptors
        retry = import_or_none("stageflow.pipeline.retry")
        self.RetryInterceptor: Any = getattr(retry, "RetryInterceptor", None)
        self.BackoffStrategy: Any = getattr(retry, "BackoffStrategy", None)
        self.JitterStrategy: Any = getattr(retry, "JitterStrategy", None)
        idempotency = import_or_none("stageflow.pipeline.idempotency")
        kinds = {
            "circuit_breaker": getattr(module, "CircuitBreakerInterceptor", None),
            "idempotency": getattr(idempotency, "IdempotencyInterceptor", None),
        }
        # Only what is in the default chain is there without further ado.
        default = {type(one) for one in self.default_interceptors()}
        self.layer_kinds = {name: kind for name, kind in kinds.items() if kind in default}

    def _find_surroundings(self) -> None:
        self.tracing = import_or_none("stageflow.observability.tracing")
        tenant = import_or_none("stageflow.auth.tenant")
        self.TenantContext: Any = getattr(tenant, "TenantContext", None)
        self.QueuedSink: Any = getattr(self.events, "BackpressureAwareEventSink", None)
        self.QueueMetrics: Any = getattr(self.events, "BackpressureMetrics", None)
        self.queue_default = 0
        if self.QueuedSink is not None:
            size = inspect.signature(self.QueuedSink).parameters.get("max_queue_size")
            self.queue_default = 0 if size is None else int(size.default)
        ports = import_or_none("stageflow.stages.ports")
        streaming = import_or_none("stageflow.helpers.streaming")
        self.create_ports: Any = getattr(ports, "create_core_ports", None)
        self.RealtimeStageBus: Any = getattr(streaming, "RealtimeStageBus", None)
        held = "ports" in fields_of(self.PipelineContext)
        self.has_bus = (
            self.RealtimeStageBus is not None
            and "realtime_bus" in parameters_of(self.create_ports)
            and (held or not (self.legacy or self.pipeline_entry))
        )

        # As `Pipeline.build()` takes them, or the graph where that does not.
        builder = self.StageGraph.__init__ if self.legacy else self.Pipeline.build
        names = ("emit_stage_wide_events", "emit_pipeline_wide_event")
        self.wide_events = {name: True for name in names if name in parameters_of(builder)}

    def settled_options(self, kind: str) -> dict[str, float]:
        """Return the options of one of the engine's layers that are written into its code."""
        if kind != "circuit_breaker":
            return {}
        source = inspect.getsource(self.layer_kinds[kind])
        found = {
            "threshold": re.search(r"_failure_counts\[\w+\] >= (\d+)", source),
            "reset_s": re.search(r"last_failure > (\d+)", source),
        }
        return {name: float(match.group(1)) for name, match in found.items() if match}

    # Entry points

    def entry_context(
        self,
        ids: Mapping[str, Any],
        sink: Any,
        data: dict[str, Any],
        inputs: Mapping[str, Any],
        bus: Any = None,
    ) -> Any:
        """Return the context with which a user starts a run of this graph."""
        more: dict[str, Any] = {}
        if not (self.legacy or self.pipeline_entry):
            snapshot = self.ContextSnapshot(run_id=self.RunIdentity(**ids), metadata=dict(inputs))
            return self._root_stage_context(snapshot, sink, self._ports(bus))
        if bus is not None:
            more["ports"] = self._ports(bus)
        if inputs and self.legacy:
            data = {**data, INPUTS: dict(inputs)}
        elif inputs:
            more["metadata"] = dict(inputs)
        return self.PipelineContext(**ids, event_sink=sink, data=data, **more)

    def child_entry(self, ctx: Any, parent: Any) -> Any:
        """Return what the graph of a child run is started with, from the forked context.

        Args:
            parent: the context of the stage that starts the child.
        """
        if self.legacy or self.pipeline_entry:
            return ctx
        names = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
        identity = self.RunIdentity(**{name: getattr(ctx, name) for name in names})
        snapshot = self.ContextSnapshot(run_id=identity, metadata=dict(parent.snapshot.metadata))
        return self._root_stage_context(snapshot, ctx.event_sink, parent.inputs.ports)

    def _root_stage_context(self, snapshot: Any, sink: Any, ports: Any = None) -> Any:
        return self.StageContext(
            snapshot=snapshot,
            inputs=self.create_stage_inputs(
                snapshot=snapshot,
                stage_name="__root__",
                **({} if ports is None else {"ports": ports}),
            ),
            stage_name="__root__",
            timer=self.PipelineTimer(),
            event_sink=sink,
        )

    def _ports(self, bus: Any) -> Any:
        return None if bus is None else self.create_ports(realtime_bus=bus)

    def bus_of(self, ctx: Any) -> Any:
        """Return the bus in the ports that a stage was given."""
        ports = ctx.ports if self.legacy else ctx.inputs.ports
        return ports.realtime_bus

    def input_of(self, ctx: Any, key: str) -> Any:
        """Return an input of the run, from what the engine hands to the stage."""
        if not self.legacy:
            return ctx.snapshot.metadata[key]
        given = ctx.data.get(INPUTS)
        # A child's context has data of its own, and its parent's to read.
        return (ctx.get_parent_data(INPUTS) if given is None else given)[key]

    @staticmethod
    def id_of(ctx: Any, name: str) -> Any:
        """Return an id from a stage's context, or from the snapshot within."""
        value = getattr(ctx, name, None)
        return getattr(getattr(ctx, "snapshot", None), name, None) if value is None else value

    def parent_context(self, ctx: Any) -> Any:
        """Return the `PipelineContext` that a stage hands to the spawner of child runs."""
        if hasattr(ctx, "as_pipeline_context"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                return ctx.as_pipeline_context()
        snapshot = ctx.snapshot
        names = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
        ids = {name: getattr(snapshot, name) for name in (*names, "interaction_id")}
        return self.PipelineContext(**ids, event_sink=ctx.event_sink)

    def mark_canceled(self, ctx: Any, reason: str) -> None:
        """Flag a run's context as cancelled, with the reason where the version takes one."""
        if "reason" in parameters_of(ctx.mark_canceled):
            ctx.mark_canceled(reason)
        else:
            ctx.mark_canceled()


def probe(legacy: bool) -> Probe:
    """Import Stageflow and look at it."""
    return Probe(legacy)


def describe_context(ctx: Any) -> dict[str, Any]:
    """Say in plain data what a stage's context offers; ids as texts, services as yes or no."""
    snapshot = getattr(ctx, "snapshot", None)

    def known(name: str) -> Any:
        value = getattr(ctx, name, None)
        return getattr(snapshot, name, None) if value is None else value

    ids = {}
    for name in ("pipeline_run_id", "request_id", "correlation_id", "parent_run_id", "org_id"):
        value = known(name)
        ids[name] = None if value is None else str(value)
    return {
        "class": type(ctx).__name__,
        "stage": getattr(ctx, "stage_name", None),
        "timer": getattr(ctx, "timer", None) is not None,
        "data": hasattr(ctx, "data"),
        "inputs": getattr(ctx, "inputs", None) is not None,
        "snapshot": snapshot is not None,
        "event_sink": getattr(ctx, "event_sink", None) is not None,
        "cancellation": hasattr(ctx, "is_cancelled") or hasattr(ctx, "is_canceled"),
        "has_run_id": ids["pipeline_run_id"] is not None,
        "has_request_id": ids["request_id"] is not None,
        "has_correlation_id": hasattr(ctx, "correlation_id"),
        "has_tenant": ids["org_id"] is not None,
        **ids,
    }


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""
