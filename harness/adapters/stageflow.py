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
import io
import os
import sys
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

from harness.adapters.stageflow_facts import facts
from harness.adapters.stageflow_ids import Heard, Ids, event_reports, hear_logs, heard
from harness.adapters.stageflow_layers import idempotency_key, interceptors, retry_options
from harness.adapters.stageflow_outcome import (
    cancelled,
    failed,
    legacy_returned,
    returned,
    with_partial,
)
from harness.adapters.stageflow_probe import Probe, probe
from harness.adapters.stageflow_script import milliseconds, render_script
from harness.adapters.stageflow_sinks import OwnSink, QueuedSink
from harness.adapters.stageflow_stages import (
    LegacyServices,
    Live,
    Native,
    Traits,
    UnifiedServices,
    own_value,
    traits_of,
)
from harness.adapters.stageflow_streams import Streams
from harness.kernel.adapter import Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import HarnessFault, NotOffered
from harness.kernel.outcome import EventReport, Outcome
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StageBody
from harness.kernel.program import Program

__all__ = ["SUBJECTS", "Adapter"]

SUBJECTS = ("stageflow", "stageflow-legacy")
LIVE_MAX = 10_000

# Said in its documentation (guides on context and interceptors), and the only way in which
# stages of this graph hand anything on.
_LEGACY_SEMANTICS = {
    "CTX-2": "PipelineContext.data is documented as the mutable mapping that all stages of a run "
    "share; the older graph hands no outputs on otherwise",
}

# What the engine's own default is for; another value takes a graph made by hand.
CLEANUP_GRACE_S = Plan().cleanup_grace_s


class Adapter:
    """Makes one of Stageflow's two graphs runnable.

    Args:
        subject: "stageflow" for the unified graph, "stageflow-legacy" for the older one.
    Attributes:
        ids: of its runs, as the engine has them.
    """

    def __init__(self, subject: str = "stageflow") -> None:
        if subject not in SUBJECTS:
            raise HarnessFault(f"stageflow adapter: subject {subject!r} is not of {SUBJECTS}")
        self.subject = subject
        self.legacy = subject == "stageflow-legacy"
        self._probe: Probe | None = None
        self.ids = Ids()
        self._live: dict[uuid.UUID, Live] = {}
        self._last: tuple[Program, Bodies, Any, Traits] | None = None
        self._root = ""

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
            semantics=_LEGACY_SEMANTICS if self.legacy else {},
            missing=found.missing,
            facts=facts(found),
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
            opened.times += 1  # type: ignore[attr-defined]
            return io.StringIO()

        opened.times = 0  # type: ignore[attr-defined]

        names["open"] = opened

    @property
    def debug_writes(self) -> int:
        """Return how often the legacy graph opened its debug files since they were shadowed."""
        return int(getattr(vars(self.engine().dag).get("open"), "times", 0))

    def reset(self) -> None:
        """Forget what runs before this one left in the process: ids, spawner, child tracker."""
        self._live.clear()
        self.ids.reset()
        engine = self.engine()
        engine.clear_spawner()
        engine.clear_tracker()

    # Building

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> Native:
        """Return a fresh graph of the program's stages."""
        if self.legacy:
            self.quiet()
        if self._last is None or self._last[0] is not program or self._last[1] is not bodies:
            traits = traits_of(program)
            self._last = (program, bodies, self.declare(program, bodies), traits)
            if traits.logs:
                # The log is the engine's only report of failed cleanups.
                hear_logs("stageflow.cancellation")
        _, _, declared, traits = self._last
        layers = interceptors(self.engine(), program, plan, bodies, self.run_of)
        for one in children(program):
            for stage in one.stages:
                if stage.retry is not None:  # refused now, and not in the midst of a stage
                    retry_options(self.engine(), stage)
        queue = None
        if plan.sink is not None:
            engine = self.engine()
            queue = QueuedSink(engine.QueuedSink, engine.queue_default, plan.sink, bodies.sink())
        return Native(self.assemble(declared, plan, layers), bodies, plan, traits, queue)

    def native(self, program: Program, plan: Plan, bodies: Bodies, parent: Native) -> Native:
        """Return the graph of a subpipeline, and what is needed to run it beside its parent."""
        layers = interceptors(self.engine(), program, plan, bodies, self.run_of)
        graph = self.assemble(self.declare(program, bodies), plan, layers)
        return Native(graph, bodies, plan, parent.traits, parent.queue)

    def declare(self, program: Program, bodies: Bodies) -> Any:
        """Make the stage classes and whatever the engine builds its graph from."""
        if self.legacy:
            return self._declare_legacy(program, bodies)
        engine = self.engine()
        kind = engine.StageKind.TRANSFORM
        pipeline = engine.Pipeline()
        try:
            for stage in program.stages:
                runner = self._unified_stage(stage.name, bodies.body(stage.name))
                pipeline = pipeline.with_stage(stage.name, runner, kind, dependencies=stage.needs)
        except Exception as exc:
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc
        return pipeline

    def _declare_legacy(self, program: Program, bodies: Bodies) -> list[Any]:
        """Return the stage specs of a `PipelineBuilder`, the builder that validates this graph.

        Given all its stages at once it does not mind their order; a name that comes twice is
        given to it a second time, because a dictionary of ours would lose the first itself. Where
        what it builds cannot run, the graph is given its stage specs as they are.
        """
        engine = self.engine()
        every = [
            (stage.name, self._legacy_stage(stage.name, bodies.body(stage.name)), stage.needs)
            for stage in program.stages
        ]
        if not engine.builder_runs:
            return [engine.StageSpec(name=n, runner=r, dependencies=d) for n, r, d in every]
        first: dict[str, tuple[Any, Any]] = {}
        again = []
        for name, runner, needs in every:
            if name in first:
                again.append((name, runner, needs))
            else:
                first[name] = (runner, needs)
        try:
            # That the builder is deprecated is a fact about a version, not an event of a run.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                stages = {
                    name: engine.PipelineSpec(name=name, runner=runner, dependencies=needs)
                    for name, (runner, needs) in first.items()
                }
                builder = engine.PipelineBuilder(stages=stages)
                for name, runner, needs in again:
                    builder = builder.with_stage(name, runner, dependencies=needs)
                return list(builder.build().stage_specs)
        except Exception as exc:
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc

    def assemble(self, declared: Any, plan: Plan, layers: list[Any] | None) -> Any:
        """Build the engine's graph, with interceptors where the default ones will not do."""
        engine = self.engine()
        options: dict[str, Any] = {} if layers is None else {"interceptors": layers}
        if len(plan.runs) > 1 and plan.sink is None and not plan.layers:
            # Events of the engine's own that tell of a whole stage or run: one more way by
            # which something of one run could come to another. Not where layers are under
            # test: they must be seen in the chain that a user gets by default.
            options |= engine.wide_events
        try:
            if self.legacy:
                # That it is deprecated is a fact about a version, not an event of a run.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    return engine.StageGraph(declared, **options)
            if plan.cleanup_grace_s == CLEANUP_GRACE_S:
                return declared.build(**options)
            return engine.UnifiedStageGraph(
                declared.build().stage_specs, cleanup_timeout=plan.cleanup_grace_s, **options
            )
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
                services = UnifiedServices(adapter, live, ctx, name)
                try:
                    verdict = await body(services.port())
                finally:
                    await services.ended()
                match verdict.kind:
                    case "ok":
                        return output.ok(value=own_value(verdict.value))
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
                services = LegacyServices(adapter, live, ctx, name)
                try:
                    verdict = await body(services.port())
                finally:
                    await services.ended()
                match verdict.kind:
                    case "ok":
                        data = ctx.data[name] = {"value": own_value(verdict.value)}
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
        engine, queue = self.engine(), native.queue
        sink = OwnSink() if queue is None else queue.queue
        hears = Heard(self.ids)
        heard.set(hears)
        engine.set_event_sink(sink)
        if run.correlation and engine.tracing is not None:
            engine.tracing.set_correlation_id(self.ids.request_of(run))
        streams = self._streams(native, run)
        ids = self.ids.of_run(run)
        self.remember(ids["pipeline_run_id"], Live(run.id, native, streams))
        ctx = engine.entry_context(
            ids, sink, _data(plan), run.inputs, None if streams is None else streams.bus
        )
        ended = False
        try:
            if queue is not None:
                await queue.open()
            try:
                outcome = await self._run(native, run, ctx)
            finally:
                if streams is not None or queue is not None:
                    native.bodies.over(run.id)
            ended = True
        finally:
            try:
                if streams is not None:
                    await streams.finish(cancelled=not ended)
            finally:
                if queue is not None:
                    await queue.close()
        if streams is not None:
            outcome = with_partial(outcome, await streams.partial())
        return self._around(outcome, native, sink, hears)

    async def _run(self, native: Native, run: RunSpec, ctx: Any) -> Outcome:
        try:
            results = await native.graph.run(ctx)
        except self.engine().UnifiedPipelineCancelled as exc:
            return cancelled(run.id, exc, self._root)
        except Exception as exc:
            return failed(run.id, exc, self._root)
        if self.legacy:
            return legacy_returned(run.id, results, ctx)
        return returned(run.id, results)

    def _streams(self, native: Native, run: RunSpec) -> Streams | None:
        consumer = native.plan.consumer
        if consumer is None and not native.traits.streams:
            return None
        streams = Streams(self.engine().RealtimeStageBus)
        if consumer is not None:
            streams.consume(native.bodies, run.id, consumer)
        return streams

    def _around(self, outcome: Outcome, native: Native, sink: Any, hears: Heard) -> Outcome:
        """Add what reached the user's sink and log handlers."""
        queue = native.queue
        if queue is not None:
            return self._with_queue(outcome, native, queue, hears)
        if not sink.events and not hears.cleanups and not hears.logs:
            return outcome
        own = native.traits.events
        return replace(
            outcome,
            events=tuple(sink.events),
            event_reports=event_reports(self.ids, sink.events, own) if own else (),
            logs=tuple(hears.logs),
            cleanup_failures=tuple(hears.cleanups),
        )

    def _with_queue(
        self, outcome: Outcome, native: Native, queue: QueuedSink, hears: Heard
    ) -> Outcome:
        own = native.traits.events
        events: list[tuple[str, Any]] = []
        reports: list[EventReport] = []

        def tell() -> None:
            events[:] = self._events_of(outcome.run, queue.events)
            reports[:] = event_reports(self.ids, events, own)

        queue.tell(tell)
        return replace(
            outcome,
            # Lists, because events of this run may reach the sink while others go on.
            events=cast("tuple[tuple[str, Any], ...]", events),
            event_reports=cast("tuple[EventReport, ...]", reports),
            sink=queue.account(),
            logs=tuple(hears.logs),
            cleanup_failures=tuple(hears.cleanups),
        )

    def _events_of(self, run: str, events: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """Return those events in a shared sink that say they are of a run, or of its children."""
        return [
            (type_, data)
            for type_, data in events
            if f"{self.ids.name_of((data or {}).get('pipeline_run_id'))}/".startswith(f"{run}/")
        ]

    def run_of(self, ctx: Any) -> str:
        """Return the name of the run that a context belongs to."""
        return self._live[ctx.pipeline_run_id].run

    def remember(self, run_id: uuid.UUID, live: Live) -> None:
        # Kept after the run's end: a stage that outlives it must still find its run.
        if len(self._live) >= LIVE_MAX:
            self._live.pop(next(iter(self._live)))
        self._live[run_id] = live
        self.ids.call(run_id, live.run)

    def forget(self, native: Native, run: RunSpec) -> None:
        """Drop what is kept here of a run that is over; a server would keep all of them."""
        live = self._live.pop(self.ids.of_run(run)["pipeline_run_id"], None)
        self.ids.forget(run, 0 if live is None else live.actions)

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str:
        """Return a stand-alone script in Stageflow's API; see `stageflow_script`."""
        return render_script(self.engine(), program, plan, clause, check)


def children(program: Program) -> Iterator[Program]:
    """Yield the subpipelines of a program, and theirs."""
    for _, one in program.walk():
        if one.op == "subpipeline":
            yield one.args["program"]
            yield from children(one.args["program"])


def _data(plan: Plan) -> dict[str, Any]:
    """Return what the caller of a run puts into `ctx.data`, where the interceptors look."""
    data: dict[str, Any] = {}
    if plan.stage_timeout_s is not None:
        data["_timeout_ms"] = milliseconds(plan.stage_timeout_s)
    key = idempotency_key(plan)
    if key is not None:
        data["idempotency_key"] = key
    return data
