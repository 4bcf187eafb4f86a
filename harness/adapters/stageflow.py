"""Stageflow: one adapter for every released version and for both of its graphs.

What a version offers is found by looking (see `stageflow_probe`), never by comparing
version numbers. The subject "stageflow" is `Pipeline` with the `UnifiedStageGraph` that
it builds; "stageflow-legacy" is the older `StageGraph`, run with a `PipelineContext`.
Both are used as their own documentation shows, through public names only.

Stage classes are made once a program; the graph is built anew each time, because it
carries state between runs (circuit breakers, idempotency, cleanups).
"""

from __future__ import annotations

import builtins
import contextvars
import copy
import io
import logging
import os
import re
import sys
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from harness.adapters.stageflow_probe import Probe, describe_context, probe
from harness.adapters.stageflow_script import milliseconds, render_script
from harness.kernel.adapter import Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import HarnessFault, NotOffered
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StageBody, StagePort
from harness.kernel.program import Program
from harness.kernel.witness import traceback_location

__all__ = ["SUBJECTS", "Adapter"]

SUBJECTS = ("stageflow", "stageflow-legacy")
LIVE_MAX = 10_000
MESSAGE_MAX = 2_000
CHAIN_MAX = 20

# What the engine's own default is for; another value takes a graph made by hand.
CLEANUP_GRACE_S = Plan().cleanup_grace_s

# The only place where Stageflow names a timeout's length is the text of its message.
_TIMEOUT_TEXT = re.compile(r"timed out after (-?\d+(?:\.\d+)?)ms")
_STATUS = {"ok": "completed", "skip": "skipped", "fail": "failed", "cancel": "cancelled"}
_NAMESPACE = uuid.UUID("6f0e4a52-7a53-5d0c-9a55-0d6a57083d09")

_failed_cleanups: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "failed_cleanups", default=None
)


@dataclass(slots=True)
class _Native:
    """A built pipeline, and what is needed to run it."""

    graph: Any
    bodies: Bodies
    plan: Plan


@dataclass(slots=True)
class _Live:
    """One run under way; stages find it by the run id in the context they are given."""

    run: str
    native: _Native
    executor: Any = None
    pending: dict[uuid.UUID, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    actions: int = 0
    children: dict[str, int] = field(default_factory=dict)


class _Sink:
    """An event sink that keeps what reaches it."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data))

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data))


@dataclass(frozen=True, slots=True)
class _Action:
    """An action as Stageflow's tool executor wants it."""

    id: uuid.UUID
    type: str
    payload: dict[str, Any]


class Adapter:
    """Makes one of Stageflow's two graphs runnable.

    Args:
        subject: "stageflow" for the unified graph, "stageflow-legacy" for the older one.

    Attributes:
        debug_writes: how often the legacy graph opened its debug files since `quiet()`.
    """

    def __init__(self, subject: str = "stageflow") -> None:
        if subject not in SUBJECTS:
            raise HarnessFault(f"stageflow adapter: subject {subject!r} is not of {SUBJECTS}")
        self.subject = subject
        self.legacy = subject == "stageflow-legacy"
        self.debug_writes = 0
        self._probe: Probe | None = None
        self._live: dict[uuid.UUID, _Live] = {}
        self._ids: dict[str, uuid.UUID] = {}
        self._last: tuple[Program, Bodies, Any] | None = None
        self._root = ""
        self._listening = False

    def info(self) -> EngineInfo:
        """Import Stageflow, probe it and say what it offers."""
        found = self._engine()
        if self.legacy:
            self.quiet()  # the probe runs the graph as well
        return EngineInfo(
            name=self.subject,
            version=found.version,
            capabilities=found.capabilities,
            package="stageflow",
            missing=found.missing,
            facts=found.facts(self),
        )

    def _engine(self) -> Probe:
        if self._probe is None:
            self._probe = probe(self.legacy)
            self._root = os.path.dirname(sys.modules["stageflow"].__file__ or "")
            if os.environ.get("DAGSTORM_QUIET_ENGINE") == "1":
                self.quiet()
        return self._probe

    def quiet(self) -> None:
        """Shadow `open` in the graph's module: the legacy graph logs to fixed files under /tmp.

        Each run appends to them for every stage, so 100,000 runs would fill a disk.
        """
        names = vars(self._engine().dag)
        if names.get("open", builtins.open) is not builtins.open:
            return

        def opened(*_args: Any, **_kwargs: Any) -> io.StringIO:
            self.debug_writes += 1
            return io.StringIO()

        names["open"] = opened

    def reset(self) -> None:
        """Forget what runs before this one left in the process: ids, spawner, child tracker."""
        self._live.clear()
        engine = self._engine()
        engine.clear_spawner()
        engine.clear_tracker()

    # Building

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> _Native:
        """Return a fresh graph of the program's stages."""
        if self.legacy:
            self.quiet()
        if self._last is None or self._last[0] is not program or self._last[1] is not bodies:
            self._last = (program, bodies, self._declare(program, bodies))
            if any(step.op == "cleanup" for _stage, step in program.walk()):
                self._listen()
        return _Native(self._assemble(self._last[2], plan), bodies, plan)

    def _declare(self, program: Program, bodies: Bodies) -> Any:
        """Make the stage classes and whatever the engine builds its graph from."""
        engine = self._engine()
        if self.legacy:
            return [
                engine.StageSpec(
                    name=stage.name,
                    runner=self._legacy_stage(stage.name, bodies.body(stage.name)),
                    dependencies=stage.needs,
                )
                for stage in program.stages
            ]
        kind = engine.StageKind.TRANSFORM
        pipeline = engine.Pipeline()
        try:
            for stage in program.stages:
                runner = self._unified_stage(stage.name, bodies.body(stage.name))
                pipeline = pipeline.with_stage(stage.name, runner, kind, dependencies=stage.needs)
        except Exception as exc:
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc
        return pipeline

    def _assemble(self, declared: Any, plan: Plan) -> Any:
        engine = self._engine()
        try:
            if self.legacy:
                # That it is deprecated is a fact about a version, not an event of a run.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    return engine.StageGraph(declared)
            graph = declared.build()
            if plan.cleanup_grace_s != CLEANUP_GRACE_S:
                graph = engine.UnifiedStageGraph(
                    graph.stage_specs, cleanup_timeout=plan.cleanup_grace_s
                )
            return graph
        except Exception as exc:
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc

    def _unified_stage(self, name: str, body: StageBody) -> type:
        output = self._engine().StageOutput
        kind_ = self._engine().StageKind.TRANSFORM
        live_runs = self._live
        adapter = self

        class ProgramStage:
            """A stage of a program, written as a user of Stageflow writes one."""

            kind = kind_

            async def execute(self, ctx: Any) -> Any:
                live = live_runs[ctx.snapshot.pipeline_run_id]
                verdict = await body(_UnifiedServices(adapter, live, ctx, name).port())
                match verdict.kind:
                    case "ok":
                        return output.ok(value=_own(verdict.value))
                    case "fail":
                        return output.fail(error=verdict.message)
                    case "skip":
                        return output.skip(reason=verdict.message)
                    case "cancel_run":
                        return output.cancel(reason=verdict.message)
                raise NotOffered(f"stageflow: no verdict {verdict.kind!r}")

        ProgramStage.name = name  # type: ignore[attr-defined]
        ProgramStage.__name__ = ProgramStage.__qualname__ = f"Stage_{name}"
        return ProgramStage

    def _legacy_stage(self, name: str, body: StageBody) -> type:
        engine = self._engine()
        output = engine.StageOutput
        live_runs = self._live
        adapter = self

        class ProgramStage:
            """A stage of a program; it shares its output through `ctx.data`, as this graph's do."""

            async def execute(self, ctx: Any) -> Any:
                live = live_runs[ctx.pipeline_run_id]
                verdict = await body(_LegacyServices(adapter, live, ctx, name).port())
                match verdict.kind:
                    case "ok":
                        data = ctx.data[name] = {"value": _own(verdict.value)}
                        return output.ok(data)
                    case "fail":
                        return output.fail(error=verdict.message)
                    case "cancel_run":
                        engine.mark_canceled(ctx, verdict.message)
                        return output.cancel(reason=verdict.message)
                raise NotOffered(f"stageflow-legacy: no verdict {verdict.kind!r}")

        ProgramStage.__name__ = ProgramStage.__qualname__ = f"Stage_{name}"
        return ProgramStage

    # Running

    async def run(self, native: _Native, run: RunSpec, plan: Plan) -> Outcome:
        """Run the graph once; `CancelledError` goes through to the caller."""
        engine = self._engine()
        sink = _Sink()
        failed_cleanups: list[str] = []
        _failed_cleanups.set(failed_cleanups)
        engine.set_event_sink(sink)
        ids = {
            "pipeline_run_id": self._uuid(f"run {run.id}"),
            "request_id": self._uuid(f"request {run.id}"),
            "session_id": self._uuid(f"session {run.id}"),
            "user_id": self._uuid(f"user {run.tenant}"),
            "org_id": self._uuid(f"tenant {run.tenant}"),
            "interaction_id": None,
        }
        self._remember(ids["pipeline_run_id"], _Live(run.id, native))  # type: ignore[arg-type]
        data: dict[str, Any] = {}
        if plan.stage_timeout_s is not None:
            data["_timeout_ms"] = milliseconds(plan.stage_timeout_s)
        ctx = engine.entry_context(ids, sink, data)
        try:
            results = await native.graph.run(ctx)
        except engine.UnifiedPipelineCancelled as exc:
            outcome = self._cancelled(run.id, exc)
        except Exception as exc:
            outcome = self._failed(run.id, exc)
        else:
            outcome = (
                self._legacy_returned(run.id, results, ctx)
                if self.legacy
                else self._returned(run.id, results)
            )
        return _with(outcome, tuple(sink.events), tuple(failed_cleanups))

    def _uuid(self, text: str) -> uuid.UUID:
        found = self._ids.get(text)
        if found is None:
            if len(self._ids) > LIVE_MAX:
                self._ids.clear()
            found = self._ids[text] = uuid.uuid5(_NAMESPACE, text)
        return found

    def _remember(self, run_id: uuid.UUID, live: _Live) -> None:
        # Kept after the run's end: a stage that outlives it must still find its run.
        if len(self._live) >= LIVE_MAX:
            self._live.pop(next(iter(self._live)))
        self._live[run_id] = live

    def _returned(self, run: str, results: Mapping[str, Any]) -> Outcome:
        return Outcome(run, "ok", stages=_unified_stages(results))

    def _cancelled(self, run: str, exc: Any) -> Outcome:
        return Outcome(
            run,
            "cancelled",
            raised=self._error(exc),
            stages=_reachable(exc),
            reason=str(exc.reason),
            cancelled_by=str(exc.stage),
        )

    def _failed(self, run: str, exc: Exception) -> Outcome:
        return Outcome(
            run,
            "failed",
            raised=self._error(exc),
            stages=_reachable(exc),
            failures=(_failure(exc),),
        )

    def _legacy_returned(self, run: str, results: Mapping[str, Any], ctx: Any) -> Outcome:
        stages: dict[str, StageReport] = {}
        failures: list[FailureReport] = []
        for name, result in results.items():
            status = "completed"
            if result.status == "failed":
                status, failure = _legacy_failure(name, str(result.error or ""))
                failures.append(failure)
            stages[name] = StageReport(
                status=status,
                value=_value(result.data),
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

    def _error(self, exc: BaseException) -> ErrorReport:
        stage = getattr(exc, "stage", None)
        return ErrorReport(
            type=type(exc).__name__,
            message=str(exc)[:MESSAGE_MAX],
            chain=tuple(type(one).__name__ for one in _chain(exc)),
            location=traceback_location(exc, self._root),
            stage=stage if isinstance(stage, str) else None,
        )

    def _listen(self) -> None:
        """Keep the engine's log lines on failed cleanups: they are its only report of them."""
        if self._listening:
            return
        self._listening = True
        logger = logging.getLogger("stageflow.cancellation")
        logger.addHandler(_CleanupLog())
        # Simulations switch logging off as a whole; this one logger goes on telling us.
        logger.manager = logging.Manager(logging.root)
        logger.propagate = False

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str | None:
        """Return a stand-alone script in Stageflow's API; see `stageflow_script`."""
        return render_script(self._engine(), program, plan, clause, check)


class _CleanupLog(logging.Handler):
    """Hands warnings and errors of the cleanup registry to the run that is under way."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        failed = _failed_cleanups.get()
        if failed is not None:
            failed.append(record.getMessage())


class _Services:
    """What a stage may ask of the engine, in the form of a port."""

    __slots__ = ("adapter", "ctx", "live", "stage")

    def __init__(self, adapter: Adapter, live: _Live, ctx: Any, stage: str) -> None:
        self.adapter = adapter
        self.live = live
        self.ctx = ctx
        self.stage = stage

    def emit(self, type: str, data: Any) -> None:
        self.ctx.try_emit_event(type=type, data=data if isinstance(data, dict) else {"data": data})

    def context(self) -> dict[str, Any]:
        return describe_context(self.ctx)

    async def call(
        self, tool: str, function: Callable[[], Awaitable[Any]], timeout_s: float | None
    ) -> Any:
        """Call a tool through the engine's `AdvancedToolExecutor`."""
        if timeout_s is not None:
            raise NotOffered("stageflow: a tool call takes no timeout")
        live, engine = self.live, self.adapter._engine()
        if live.executor is None:
            live.executor = engine.AdvancedToolExecutor()
        if not live.executor.can_execute(tool):
            live.executor.register(
                engine.ToolDefinition(
                    name=tool, action_type=tool, handler=_tool_handler(engine, live.pending)
                )
            )
        live.actions += 1
        action = _Action(self.adapter._uuid(f"action {live.run} {live.actions}"), tool, {})
        live.pending[action.id] = function
        output = await live.executor.execute(action, self.ctx)
        return (output.data or {}).get("value")

    def parent_context(self) -> Any:
        raise NotImplementedError

    def check_child(self, results: Mapping[str, Any]) -> None:
        """Raise if the child's results say that it failed."""

    async def subpipeline(self, program: Program) -> Outcome:
        """Run a child pipeline through the engine's `SubpipelineSpawner`."""
        adapter, live = self.adapter, self.live
        engine = adapter._engine()
        bodies = live.native.bodies.child(program)
        child = _Native(
            adapter._assemble(adapter._declare(program, bodies), live.native.plan),
            bodies,
            live.native.plan,
        )
        count = live.children[program.name] = live.children.get(program.name, 0) + 1
        run = f"{live.run}/{program.name}" + (f"#{count}" if count > 1 else "")

        async def runner(ctx: Any) -> dict[str, Any]:
            adapter._remember(ctx.pipeline_run_id, _Live(run, child))
            results = await child.graph.run(engine.child_entry(ctx))
            self.check_child(results)
            return {name: one.data for name, one in results.items()}

        result = await engine.get_spawner().spawn(
            pipeline_name=program.name,
            ctx=self.parent_context(),
            correlation_id=adapter._uuid(f"spawn {run}"),
            parent_stage_id=self.stage,
            runner=runner,
        )
        if result.success:
            stages = {n: StageReport("completed", _value(d)) for n, d in result.data.items()}
            return Outcome(run, "ok", stages=stages)
        failure = FailureReport(None, _kind(result.error), str(result.error))
        return Outcome(run, "failed", failures=(failure,))


class _UnifiedServices(_Services):
    __slots__ = ()

    def port(self) -> StagePort:
        return StagePort(
            run=self.live.run,
            read=self.ctx.inputs.get_from,
            emit=self.emit,
            cleanup=self.cleanup,
            call=self.call,
            subpipeline=self.subpipeline,
            context=self.context,
        )

    def cleanup(self, name: str, callback: Callable[[], Awaitable[None]]) -> None:
        self.live.native.graph.register_cleanup(callback, name=name)

    def parent_context(self) -> Any:
        return self.adapter._engine().parent_context(self.ctx)


class _LegacyServices(_Services):
    __slots__ = ()

    def port(self) -> StagePort:
        return StagePort(
            run=self.live.run,
            read=self.read,
            emit=self.emit,
            call=self.call,
            subpipeline=self.subpipeline,
            context=self.context,
        )

    def read(self, stage: str, key: str) -> Any:
        return self.ctx.data.get(stage, {}).get(key)

    def parent_context(self) -> Any:
        return self.ctx

    def check_child(self, results: Mapping[str, Any]) -> None:
        for name, result in results.items():
            if result.status == "failed":
                raise RuntimeError(f"stage {name} of the child failed: {result.error}")


def _tool_handler(
    engine: Probe, pending: dict[uuid.UUID, Callable[[], Awaitable[Any]]]
) -> Callable[[Any], Awaitable[Any]]:
    async def handler(tool_input: Any) -> Any:
        value = await pending.pop(tool_input.action_id)()
        return engine.ToolOutput(success=True, data={"value": value})

    return handler


def _own(value: Any) -> Any:
    """Copy a value of the program, so that no run can change the program for the next."""
    return copy.deepcopy(value) if isinstance(value, (dict, list)) else value


def _value(data: Any) -> Any:
    return data.get("value") if isinstance(data, Mapping) else None


def _unified_stages(results: Mapping[str, Any]) -> dict[str, StageReport]:
    stages: dict[str, StageReport] = {}
    for name, output in results.items():
        status = output.status.value
        milliseconds_taken = output.duration_ms
        stages[name] = StageReport(
            status=_STATUS.get(status, status),
            value=_value(output.data),
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


def _kind(message: object, original: BaseException | None = None) -> str:
    if _TIMEOUT_TEXT.search(str(message)):
        return "timeout"
    if original is not None:
        for one in (original, *_chain(original)):
            if isinstance(one, TimeoutError):
                return "timeout"
    return "error"


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
        kind=_kind(message, shown),
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


def _with(
    outcome: Outcome, events: tuple[tuple[str, Any], ...], cleanups: tuple[str, ...]
) -> Outcome:
    if not events and not cleanups:
        return outcome
    return replace(outcome, events=events, cleanup_failures=cleanups)
