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
import sys
import uuid
import warnings
from dataclasses import replace
from typing import Any

from harness.adapters.stageflow_outcome import cancelled, failed, legacy_returned, returned
from harness.adapters.stageflow_probe import Probe, probe
from harness.adapters.stageflow_script import milliseconds, render_script
from harness.adapters.stageflow_stages import LegacyServices, Live, Native, UnifiedServices
from harness.kernel.adapter import Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import HarnessFault, NotOffered
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StageBody
from harness.kernel.program import Program

__all__ = ["SUBJECTS", "Adapter"]

SUBJECTS = ("stageflow", "stageflow-legacy")
LIVE_MAX = 10_000

# What the engine's own default is for; another value takes a graph made by hand.
CLEANUP_GRACE_S = Plan().cleanup_grace_s

_NAMESPACE = uuid.UUID("6f0e4a52-7a53-5d0c-9a55-0d6a57083d09")

_failed_cleanups: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar(
    "failed_cleanups", default=None
)


class _Sink:
    """An event sink that keeps what reaches it."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data))

    def try_emit(self, *, type: str, data: dict[str, Any] | None) -> None:
        self.events.append((type, data))


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
        self._live: dict[uuid.UUID, Live] = {}
        self._ids: dict[str, uuid.UUID] = {}
        self._last: tuple[Program, Bodies, Any] | None = None
        self._root = ""
        self._listening = False

    def info(self) -> EngineInfo:
        """Import Stageflow, probe it and say what it offers."""
        found = self.engine()
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

    def engine(self) -> Probe:
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
        names = vars(self.engine().dag)
        if names.get("open", builtins.open) is not builtins.open:
            return

        def opened(*_args: Any, **_kwargs: Any) -> io.StringIO:
            self.debug_writes += 1
            return io.StringIO()

        names["open"] = opened

    def reset(self) -> None:
        """Forget what runs before this one left in the process: ids, spawner, child tracker."""
        self._live.clear()
        engine = self.engine()
        engine.clear_spawner()
        engine.clear_tracker()

    # Building

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> Native:
        """Return a fresh graph of the program's stages."""
        if self.legacy:
            self.quiet()
        if self._last is None or self._last[0] is not program or self._last[1] is not bodies:
            self._last = (program, bodies, self.declare(program, bodies))
            if any(step.op == "cleanup" for _stage, step in program.walk()):
                self._listen()
        return Native(self.assemble(self._last[2], plan), bodies, plan)

    def declare(self, program: Program, bodies: Bodies) -> Any:
        """Make the stage classes and whatever the engine builds its graph from."""
        engine = self.engine()
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

    def assemble(self, declared: Any, plan: Plan) -> Any:
        engine = self.engine()
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
        output = self.engine().StageOutput
        kind_ = self.engine().StageKind.TRANSFORM
        live_runs = self._live
        adapter = self

        class ProgramStage:
            """A stage of a program, written as a user of Stageflow writes one."""

            kind = kind_

            async def execute(self, ctx: Any) -> Any:
                live = live_runs[ctx.snapshot.pipeline_run_id]
                verdict = await body(UnifiedServices(adapter, live, ctx, name).port())
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
        engine = self.engine()
        output = engine.StageOutput
        live_runs = self._live
        adapter = self

        class ProgramStage:
            """A stage of a program; it shares its output through `ctx.data`, as this graph's do."""

            async def execute(self, ctx: Any) -> Any:
                live = live_runs[ctx.pipeline_run_id]
                verdict = await body(LegacyServices(adapter, live, ctx, name).port())
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

    async def run(self, native: Native, run: RunSpec, plan: Plan) -> Outcome:
        """Run the graph once; `CancelledError` goes through to the caller."""
        engine = self.engine()
        sink = _Sink()
        failed_cleanups: list[str] = []
        _failed_cleanups.set(failed_cleanups)
        engine.set_event_sink(sink)
        ids = {
            "pipeline_run_id": self.uuid_of(f"run {run.id}"),
            "request_id": self.uuid_of(f"request {run.id}"),
            "session_id": self.uuid_of(f"session {run.id}"),
            "user_id": self.uuid_of(f"user {run.tenant}"),
            "org_id": self.uuid_of(f"tenant {run.tenant}"),
            "interaction_id": None,
        }
        self.remember(ids["pipeline_run_id"], Live(run.id, native))  # type: ignore[arg-type]
        data: dict[str, Any] = {}
        if plan.stage_timeout_s is not None:
            data["_timeout_ms"] = milliseconds(plan.stage_timeout_s)
        ctx = engine.entry_context(ids, sink, data)
        try:
            results = await native.graph.run(ctx)
        except engine.UnifiedPipelineCancelled as exc:
            outcome = cancelled(run.id, exc, self._root)
        except Exception as exc:
            outcome = failed(run.id, exc, self._root)
        else:
            outcome = (
                legacy_returned(run.id, results, ctx) if self.legacy else returned(run.id, results)
            )
        if not sink.events and not failed_cleanups:
            return outcome
        return replace(outcome, events=tuple(sink.events), cleanup_failures=tuple(failed_cleanups))

    def uuid_of(self, text: str) -> uuid.UUID:
        found = self._ids.get(text)
        if found is None:
            if len(self._ids) > LIVE_MAX:
                self._ids.clear()
            found = self._ids[text] = uuid.uuid5(_NAMESPACE, text)
        return found

    def remember(self, run_id: uuid.UUID, live: Live) -> None:
        # Kept after the run's end: a stage that outlives it must still find its run.
        if len(self._live) >= LIVE_MAX:
            self._live.pop(next(iter(self._live)))
        self._live[run_id] = live

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
        return render_script(self.engine(), program, plan, clause, check)


class _CleanupLog(logging.Handler):
    """Hands warnings and errors of the cleanup registry to the run that is under way."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        failed = _failed_cleanups.get()
        if failed is not None:
            failed.append(record.getMessage())


def _own(value: Any) -> Any:
    """Copy a value of the program, so that no run can change the program for the next."""
    return copy.deepcopy(value) if isinstance(value, (dict, list)) else value
