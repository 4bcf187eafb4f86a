"""What an installed Stageflow offers, found by looking at it.

Everything here is asked of the package itself: which names it has, which parameters its
functions take, what its README and docstrings say, and what a stage's context holds
when a stage is really run. No version number is compared. Its length is the number of
questions: they stand together so that one can see what a claim rests on.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import os
import re
import threading
import uuid
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from harness.adapters.stageflow_hello import hello_source, run_hello
from harness.kernel.adapter import CAPABILITIES

if TYPE_CHECKING:
    from harness.adapters.stageflow import Adapter

__all__ = ["Probe", "describe_context", "probe"]

DISTRIBUTION = "stageflow-core"
MATCHES_MAX = 5

# How a text would tell a user where the outputs are after a failure.
_PARTIAL = re.compile(
    r"[^.\n]*(?:partial(?:ly)?[ _-](?:results?|outputs?|completed)"
    r"|(?:completed|prior|finished)[ _-](?:results|outputs)[^.\n]*(?:fail|error|cancel)"
    r"|(?:exc|error|err|e)\.(?:results|outputs|partial_results))[^.\n]*",
    re.IGNORECASE,
)

_MISSING = {
    "stage_timeout": "UnifiedStageGraph takes no interceptors, so the TimeoutInterceptor and "
    "its ctx.data['_timeout_ms'] never see its stages",
    "stage_timeout_each": "Pipeline.with_stage() and the stage specs take no timeout; the "
    "TimeoutInterceptor says 'configurable per-stage' but reads one key for the whole run",
    "tool_timeout": "neither ToolDefinition, ToolExecutorConfig nor AdvancedToolExecutor.execute() "
    "takes a timeout for a call (only approvals have one)",
    "heartbeat": "no name with 'heartbeat', 'keepalive' or 'idle' on the stage context, "
    "the graph or the interceptors",
    "cancel_branch": "StageOutput has no branch-wide verdict; `conditional` stages skip only "
    "direct dependents, and only if an input is called skip_reason",
    "streaming": "nothing on the stage context or StageOutput hands on a partial result; "
    "helpers.ChunkQueue stands alone and its chunks are not part of any outcome",
    "checkpoint": "no name with 'checkpoint' (of a run), 'redrive' or 'resume' in the package",
    "compensation": "no name with 'compensat', 'rollback' or 'saga' on stages or graphs "
    "(undo exists for single tool actions only)",
    "retry": "no RetryInterceptor or GuardRetryStrategy that this graph would use",
    "interceptors": "the graph's constructor takes no interceptors",
    "skip": "the older graph's results are started, completed or failed: a StageOutput.skip() "
    "comes back as completed",
    "cleanup_registry": "the older graph has no register_cleanup",
    "worker_thread": "nothing on the stage context or the graph runs a call in a thread; stages "
    "use asyncio.to_thread by themselves",
    "subpipeline": "no SubpipelineSpawner with a spawn() method",
    "inputs": "the stage context gives no access to other stages' outputs",
    "events": "the stage context has no try_emit_event",
    "cancel_run": "neither StageOutput.cancel() nor PipelineContext.mark_canceled() exists",
}


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _parameters(function: Any) -> frozenset[str]:
    try:
        return frozenset(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return frozenset()


class Probe:
    """The engine's names as the adapter uses them, and what was found out about it."""

    def __init__(self, legacy: bool) -> None:
        self.legacy = legacy
        self.package = importlib.import_module("stageflow")
        self.dag = importlib.import_module("stageflow.pipeline.dag")
        core = importlib.import_module("stageflow.core")
        context = importlib.import_module("stageflow.context")
        identity = importlib.import_module("stageflow.context.identity")
        inputs = importlib.import_module("stageflow.stages.inputs")
        tools = importlib.import_module("stageflow.tools")
        events = importlib.import_module("stageflow.events")
        child = importlib.import_module("stageflow.pipeline.subpipeline")
        self.Pipeline = importlib.import_module("stageflow.pipeline.pipeline").Pipeline
        self.PipelineContext = importlib.import_module("stageflow.stages.context").PipelineContext
        self.StageGraph = self.dag.StageGraph
        self.StageSpec = self.dag.StageSpec
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
        self.set_event_sink: Callable[[Any], None] = events.set_event_sink
        self.get_spawner: Callable[[], Any] = child.get_subpipeline_spawner
        self.clear_spawner: Callable[[], None] = child.clear_subpipeline_spawner
        self.clear_tracker: Callable[[], None] = child.clear_child_tracker
        self.version = _version()
        # From some version on the unified graph takes the context that the legacy one takes.
        self.pipeline_entry = hasattr(self.PipelineContext, "derive_root_stage_context")
        self.intercepted = legacy or "interceptors" in _parameters(self.UnifiedStageGraph.__init__)
        self.capabilities, self.missing = self._capabilities()

    # Entry points

    def entry_context(self, ids: Mapping[str, Any], sink: Any, data: dict[str, Any]) -> Any:
        """Return the context with which a user starts a run of this graph."""
        if self.legacy or self.pipeline_entry:
            return self.PipelineContext(**ids, event_sink=sink, data=data)
        snapshot = self.ContextSnapshot(run_id=self.RunIdentity(**ids))
        return self._root_stage_context(snapshot, sink)

    def child_entry(self, ctx: Any) -> Any:
        """Return what the graph of a child run is started with, from the forked context."""
        if self.legacy or self.pipeline_entry:
            return ctx
        names = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
        identity = self.RunIdentity(**{name: getattr(ctx, name) for name in names})
        return self._root_stage_context(self.ContextSnapshot(run_id=identity), ctx.event_sink)

    def _root_stage_context(self, snapshot: Any, sink: Any) -> Any:
        return self.StageContext(
            snapshot=snapshot,
            inputs=self.create_stage_inputs(snapshot=snapshot, stage_name="__root__"),
            stage_name="__root__",
            timer=self.PipelineTimer(),
            event_sink=sink,
        )

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
        if "reason" in _parameters(ctx.mark_canceled):
            ctx.mark_canceled(reason)
        else:
            ctx.mark_canceled()

    # Capabilities

    def _capabilities(self) -> tuple[frozenset[str], dict[str, str]]:
        graph = self.StageGraph if self.legacy else self.UnifiedStageGraph
        context = self.PipelineContext if self.legacy else self.StageContext
        interceptors = importlib.import_module("stageflow.pipeline.interceptors")
        takes_interceptors = "interceptors" in _parameters(graph.__init__)
        retry = _import("stageflow.pipeline.retry")
        tool_parameters = (
            _parameters(self.ToolDefinition)
            | _parameters(self.AdvancedToolExecutor.execute)
            | _parameters(importlib.import_module("stageflow.tools").ToolExecutorConfig)
        )
        spec = self.StageSpec if self.legacy else self.dag.UnifiedStageSpec
        stage_parameters = _parameters(spec) | _parameters(self.Pipeline.with_stage)
        names = {n.lower() for one in (context, graph, self.StageOutput) for n in dir(one)}
        found = {
            "stage_timeout": takes_interceptors and hasattr(interceptors, "TimeoutInterceptor"),
            "stage_timeout_each": _any(stage_parameters, "timeout"),
            "tool_timeout": _any({n for n in tool_parameters if "approval" not in n}, "timeout"),
            "heartbeat": _any(names, "heartbeat", "keepalive", "keep_alive"),
            "subpipeline": hasattr(self.get_spawner(), "spawn"),
            "cancel_run": hasattr(context, "mark_canceled")
            if self.legacy
            else hasattr(self.StageOutput, "cancel"),
            "cancel_branch": _any(names, "branch"),
            "skip": not self.legacy and hasattr(self.StageOutput, "skip"),
            # The older graph's stages share `ctx.data`: PipelineSpec calls it inputs and outputs.
            "inputs": hasattr(context, "data") or "inputs" in _fields(context),
            "events": hasattr(context, "try_emit_event"),
            "streaming": _any(names, "chunk", "stream", "partial"),
            "cleanup_registry": hasattr(graph, "register_cleanup"),
            "context": True,
            "concurrent_runs": hasattr(graph, "run"),
            "checkpoint": _any(names - {"cancellation_checkpoint"}, "checkpoint", "redrive"),
            "compensation": _any(names | stage_parameters, "compensat", "rollback"),
            "retry": (takes_interceptors and hasattr(retry, "RetryInterceptor"))
            or "guard_retry_strategy" in _parameters(graph.__init__),
            "interceptors": takes_interceptors,
            "worker_thread": _any(names, "thread", "executor"),
        }
        self.clear_spawner()
        self.clear_tracker()
        missing = {
            name: _MISSING[name] if name in found else "not looked for: no probe for it yet"
            for name in CAPABILITIES
            if not found.get(name)
        }
        return frozenset(n for n, there in found.items() if there), missing

    # Facts

    def facts(self, adapter: Adapter) -> dict[str, Any]:
        """Return probed facts, all of them plain data."""
        documented = self._documented_partial_outputs()
        hello = hello_source(self)
        public = self._public_api()
        interceptors = importlib.import_module("stageflow.pipeline.interceptors")
        default_ms = getattr(
            getattr(interceptors, "TimeoutInterceptor", None), "DEFAULT_TIMEOUT_MS", None
        )
        folder = os.path.dirname(self.package.__file__ or "")
        return {
            "documented_partial_outputs": bool(documented),
            "documented_partial_outputs_matches": documented,
            "public_api_documented": public[0] / public[1] if public[1] else 0.0,
            "public_api_documented_names": public[0],
            "public_api_names": public[1],
            "typed": os.path.exists(os.path.join(folder, "py.typed")),
            "hello_lines": sum(1 for line in hello.splitlines() if line.strip()),
            "hello_runs": _in_thread(lambda: run_hello(hello)),
            "context_attributes": _in_thread(lambda: asyncio.run(self._contexts())),
            "pipeline_context_has_timer": hasattr(self.PipelineContext, "timer"),
            "contexts_offer_alike": all(
                hasattr(self.PipelineContext, part) == hasattr(self.StageContext, part)
                for part in ("timer", "data", "inputs")
            ),
            "validates_graph": self._validates_graph(),
            "default_stage_timeout_s": (
                default_ms / 1000 if default_ms and self.intercepted else None
            ),
            "accepts_pipeline_context": self.legacy or self.pipeline_entry,
            "accepts_async_function_runner": self.legacy is False
            or "isinstance(runner, type)" in inspect.getsource(self.StageGraph),
            "deprecated": "DeprecationWarning" in inspect.getsource(self.StageGraph.__init__)
            if self.legacy
            else False,
            "writes_debug_files": "open(" in inspect.getsource(self.StageGraph.run)
            if self.legacy
            else False,
            "register_cleanup_needs_graph_object": hasattr(
                self.UnifiedStageGraph, "register_cleanup"
            )
            and not hasattr(self.StageContext, "register_cleanup"),
        }

    def _documented_partial_outputs(self) -> list[str]:
        """Search README and docstrings for how to reach outputs after a failure."""
        texts = {"README": _readme()}
        for name in ("StageExecutionError", "UnifiedStageExecutionError", "StageError"):
            texts[name] = _docstring(getattr(self.dag, name, None))
        graph = self.StageGraph if self.legacy else self.UnifiedStageGraph
        texts[graph.__name__] = _docstring(graph)
        texts[f"{graph.__name__}.run"] = _docstring(graph.run)
        return [
            f"{where}: {' '.join(match.group(0).split())}"
            for where, text in texts.items()
            for match in list(_PARTIAL.finditer(text))[:MATCHES_MAX]
        ]

    def _public_api(self) -> tuple[int, int]:
        """Count public classes and functions with a docstring of their own, and all of them."""
        documented = total = 0
        for name in getattr(self.package, "__all__", ()):
            value = getattr(self.package, name, None)
            if not (inspect.isclass(value) or inspect.isroutine(value)):
                continue
            total += 1
            documented += bool(_docstring(value))
        return documented, total

    def _validates_graph(self) -> dict[str, bool]:
        """Say which builders refuse a dependency on a stage that does not exist, and a cycle."""
        builder = importlib.import_module("stageflow.pipeline.builder").PipelineBuilder
        kind = self.StageKind.TRANSFORM

        class Nothing:
            async def execute(self, ctx: Any) -> None:
                return None

        def pipeline(*edges: tuple[str, tuple[str, ...]]) -> Any:
            made = self.Pipeline()
            for name, needs in edges:
                made = made.with_stage(name, Nothing, kind, dependencies=needs)
            return made.build()

        def built(*edges: tuple[str, tuple[str, ...]]) -> Any:
            spec = importlib.import_module("stageflow.pipeline.spec").PipelineSpec
            stages = {n: spec(name=n, runner=Nothing, dependencies=d) for n, d in edges}
            return builder(stages=stages).build()

        def graph(*edges: tuple[str, tuple[str, ...]]) -> Any:
            return self.StageGraph(
                [self.StageSpec(name=n, runner=Nothing, dependencies=d) for n, d in edges]
            )

        unknown = (("a", ("missing",)),)
        cycle = (("a", ("b",)), ("b", ("a",)))
        out: dict[str, bool] = {}
        for name, make in (
            ("Pipeline.build", pipeline),
            ("PipelineBuilder", built),
            ("StageGraph", graph),
        ):
            out[f"{name} unknown"] = _refuses(make, unknown)
            out[f"{name} cycle"] = _refuses(make, cycle)
        return out

    async def _contexts(self) -> dict[str, dict[str, Any]]:
        """Run one stage through each entry point, and note what its context offers."""
        seen: dict[str, dict[str, Any]] = {}
        ok = self.StageOutput.ok

        def stage(entry: str) -> type:
            class Looking:
                name = "looking"
                kind = self.StageKind.TRANSFORM

                async def execute(self, ctx: Any) -> Any:
                    seen[entry] = {
                        k: v for k, v in describe_context(ctx).items() if isinstance(v, bool)
                    }
                    return ok()

            return Looking

        names = ("pipeline_run_id", "request_id", "session_id", "user_id", "org_id")
        ids: dict[str, Any] = {name: uuid.uuid5(uuid.NAMESPACE_URL, name) for name in names}
        ids["interaction_id"] = None
        sink = importlib.import_module("stageflow.events").NoOpEventSink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            unified = self.Pipeline().with_stage(
                "looking", stage("UnifiedStageGraph.run"), self.StageKind.TRANSFORM
            )
            if self.pipeline_entry:
                entry = self.PipelineContext(**ids, event_sink=sink)
            else:
                snapshot = self.ContextSnapshot(run_id=self.RunIdentity(**ids))
                entry = self._root_stage_context(snapshot, sink)
            await unified.build().run(entry)
            testing = _import("stageflow.testing")
            if testing is not None:
                ctx = testing.create_test_stage_context()
                await stage("stage.execute(create_test_stage_context())")().execute(ctx)
            if self.legacy:  # the older graph writes files on each run; ask it only if it is ours
                specs = [self.StageSpec(name="looking", runner=stage("StageGraph.run"))]
                await self.StageGraph(specs).run(self.PipelineContext(**ids, event_sink=sink))
        return seen


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


def _in_thread(function: Callable[[], Any]) -> Any:
    """Call `function` in a thread of its own: this one may have a loop running already."""
    answers: list[Any] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            answers.append(function())
        except Exception as exc:
            failures.append(exc)

    thread = threading.Thread(target=work, name="stageflow-probe")
    thread.start()
    thread.join()
    if failures:
        return f"failed: {type(failures[0]).__name__}: {failures[0]}"
    return answers[0]


def _any(names: Any, *words: str) -> bool:
    return any(word in name for name in names for word in words)


def _fields(cls: Any) -> frozenset[str]:
    return frozenset(getattr(cls, "__dataclass_fields__", ()))


def _refuses(make: Callable[..., Any], edges: tuple[Any, ...]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            make(*edges)
        except Exception:
            return True
    return False


def _docstring(value: Any) -> str:
    """Return the docstring that its author wrote, "" for none or one that dataclass made."""
    text = getattr(value, "__doc__", None) or ""
    name = getattr(value, "__name__", "")
    return "" if inspect.isclass(value) and text.startswith(f"{name}(") else text


def _version() -> str:
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _readme() -> str:
    """Return the installed distribution's metadata, which ends with its README."""
    try:
        return importlib.metadata.distribution(DISTRIBUTION).read_text("METADATA") or ""
    except importlib.metadata.PackageNotFoundError:
        return ""
