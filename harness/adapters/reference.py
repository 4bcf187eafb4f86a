"""The adapter of the reference engine and of its deliberately broken variants."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.adapters.reference_events import (
    EVENT_CAPABILITIES,
    Surroundings,
    event_port,
    sink_report,
)
from harness.adapters.reference_ids import (
    ID_CAPABILITIES,
    Heard,
    Needs,
    error_ids,
    event_reports,
    hear_logs,
    identity_port,
    told,
)
from harness.adapters.reference_layers import LAYER_CAPABILITIES, add_layers
from harness.adapters.reference_recovery import (
    DURABLE,
    RECOVERY_CAPABILITIES,
    kept_stages,
    recovered,
    redriven,
    retry_of,
    store_for,
)
from harness.kernel.adapter import Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import InputError
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StageBody, StagePort, Verdict
from harness.kernel.program import Program
from harness.kernel.witness import traceback_location

if TYPE_CHECKING:
    from harness.engine import (
        CheckpointStore,
        Context,
        Event,
        Failure,
        Pipeline,
        RunResult,
        StageResult,
    )

__all__ = ["Adapter", "describe_context"]

BROKEN = "broken:"

CAPABILITIES = frozenset(
    {
        "stage_timeout",
        "stage_timeout_each",
        "tool_timeout",
        "worker_thread",
        "continue_on_failure",
        "heartbeat",
        "subpipeline",
        "cancel_run",
        "cancel_branch",
        "skip",
        "inputs",
        "cleanup_registry",
        "context",
        "concurrent_runs",
    }
)
STATUS = {"completed": "ok", "failed": "failed", "cancelled": "cancelled"}
MESSAGE_MAX = 2_000
CHAIN_MAX = 20


class _Native(NamedTuple):
    """A built pipeline with what is needed to build its subpipelines alike."""

    pipeline: Pipeline
    timeouts: dict[str, float]
    around: Surroundings
    store: CheckpointStore | None = None
    tenants: Any = None


class Adapter:
    """The reference engine (`reference`), or one of its broken variants (`broken:<name>`).

    Raises:
        InputError: if there is no such subject.
    """

    def __init__(self, subject: str = "reference") -> None:
        self.subject = subject
        self._pipeline_type = _pipeline_type(subject)
        self._needs = Needs()

    def info(self) -> EngineInfo:
        import harness.engine

        self._root = os.path.dirname(harness.engine.__file__) + os.sep
        return EngineInfo(
            name=self.subject,
            version="",
            capabilities=CAPABILITIES
            | EVENT_CAPABILITIES
            | ID_CAPABILITIES
            | LAYER_CAPABILITIES
            | RECOVERY_CAPABILITIES,
            package="harness.engine",
            facts={
                "context_attributes": {"run_stage": asyncio.run(self._context_direct())},
                "durable": DURABLE,
            },
        )

    async def _context_direct(self) -> dict[str, bool]:
        """Return what a stage finds in its context when it is run by itself."""
        seen: dict[str, bool] = {}

        async def look(context: Context) -> None:
            seen.update(describe_context(context))

        pipeline = self._pipeline_type("probe")
        pipeline.stage("look", look)
        await pipeline.run_stage("look")
        return seen

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> _Native:
        from harness.engine import PipelineError

        try:
            pipeline = self._assemble(program, plan, bodies)
            add_layers(pipeline, plan, bodies)
            described = pipeline.describe()
            needs = self._needs.of(program)
            if "log_records" in needs:
                hear_logs(self._pipeline_type)
        except PipelineError as exc:
            raise BuildRefused(str(exc)) from exc
        except Exception as exc:  # a broken variant may fail where the reference refuses
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc
        shown = {s["name"]: s["timeout_s"] for s in described["stages"]}
        timeouts = {n: t for n, t in shown.items() if t is not None}
        tenants = bodies.store() if "tenant_store" in needs else None
        around = Surroundings(self._pipeline_type, plan, bodies)
        return _Native(pipeline, timeouts, around, store_for(plan), tenants)

    def _assemble(self, program: Program, plan: Plan, bodies: Bodies) -> Pipeline:
        pipeline = self._pipeline_type(
            program.name,
            stage_timeout_s=plan.stage_timeout_s,
            cleanup_grace_s=plan.cleanup_grace_s,
            on_failure=plan.on_failure,
            rng=random.Random(0),
        )
        for stage in program.stages:
            pipeline.stage(
                stage.name,
                self._stage_fn(bodies.body(stage.name), program, plan, bodies),
                needs=stage.needs,
                timeout_s=stage.timeout_s,
                idle_timeout_s=stage.idle_timeout_s,
                retry=retry_of(stage),
            )
        return pipeline

    def _stage_fn(
        self, body: StageBody, program: Program, plan: Plan, bodies: Bodies
    ) -> Callable[[Context], Awaitable[Any]]:
        from harness.engine import CancelBranch, CancelRun, Skip, StageFailed

        endings = {"skip": Skip, "cancel_run": CancelRun, "cancel_branch": CancelBranch}
        asks_for_ids = bool(self._needs.of(program))

        async def stage(context: Context) -> Any:
            port = self._port(context, plan, bodies)
            event_port(port, context, plan)
            if asks_for_ids:
                identity_port(port, context)
            verdict: Verdict = await body(port)
            if verdict.kind == "ok":
                return verdict.value
            if verdict.kind == "fail":
                raise StageFailed(verdict.message)
            return endings[verdict.kind](verdict.message)

        return stage

    def _port(self, context: Context, plan: Plan, bodies: Bodies) -> StagePort:
        def read(stage: str, key: str) -> Any:
            value = context.input(stage)
            return value if key == "value" or value is None else value[key]

        async def call(tool: str, fn: Callable[[], Awaitable[Any]], timeout_s: float | None) -> Any:
            return await context.call(tool, fn, timeout_s=timeout_s)

        async def subpipeline(program: Program) -> Outcome:
            child = self._assemble(program, plan, bodies.child(program))
            result = await context.subpipeline(child, context.inputs)
            return self._outcome(result, None, {}, [])

        return StagePort(
            run=context.run_id,
            read=read,
            heartbeat=context.heartbeat,
            cleanup=context.cleanup,
            compensation=context.compensate,
            call=call,
            subpipeline=subpipeline,
            context=lambda: describe_context(context),
            thread=context.to_thread,
        )

    async def run(self, native: _Native, run: RunSpec, plan: Plan) -> Outcome:
        from harness.engine import RunCancelled, RunFailed

        events = native.around.events(run.id)
        raised: RunFailed | RunCancelled | None = None
        heard = Heard(run, native.tenants)
        try:
            prepared = native.pipeline.prepare(
                run.inputs,
                run_id=run.id,
                sink=native.around.sink(run.id),
                **redriven(run, native.store),
                **heard.request(run, plan),
            )
            result = await native.around.execute(prepared)
        except (RunFailed, RunCancelled) as exc:
            raised, result = exc, exc.result
        except Exception as exc:  # no error of the reference's: what a crash looks like
            return Outcome(run.id, "failed", raised=self._error(exc), timeouts=native.timeouts)
        return self._outcome(result, raised, native.timeouts, events, heard)

    def kept(self, native: _Native, run: str) -> list[str] | None:
        """Return the stages that the engine says are kept of a run, or None if it has no such
        run. What `dagstorm faults` holds against what really happened."""
        return None if native.store is None else kept_stages(native.store, run)

    def _outcome(
        self,
        result: RunResult,
        raised: Exception | None,
        timeouts: dict[str, float],
        events: list[Event],
        heard: Heard | None = None,
    ) -> Outcome:
        return Outcome(
            run=result.run_id,
            status=STATUS[result.status],
            raised=None if raised is None else self._error(raised),
            stages={name: _stage(one) for name, one in result.stages.items()},
            failures=tuple(_failure(one) for one in result.failures),
            reason=result.reason or None,
            cancelled_by=result.cancelled_by,
            cleanup_failures=tuple(
                f"{one.name}: {type(one.error).__name__}: {one.error}"
                for one in result.cleanup_failures
            ),
            # A stage of a subpipeline is reported as parent/stage; programs know it as stage.
            still_running=tuple(
                dict.fromkeys(
                    name.rsplit("/", 1)[-1]
                    for name in (*result.still_running, *result.threads_running)
                )
            ),
            timeouts=timeouts,
            events=tuple((event.type, event.data) for event in events),
            event_reports=event_reports(events),
            sink=sink_report(result.events),
            error_ids=error_ids(raised),
            **({} if heard is None else told(heard)),
            **recovered(result),
        )

    def _error(self, exc: Exception) -> ErrorReport:
        return ErrorReport(
            type=type(exc).__name__,
            message=str(exc)[:MESSAGE_MAX],
            chain=_chain(exc),
            location=traceback_location(exc, self._root),
        )

    def forget(self, native: _Native, run: RunSpec) -> None:
        """Drop what is kept here of a run that is over; a server would keep all of them."""
        native.around.forget(run.id)

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str | None:
        """Return None: no finding on this engine has needed a script yet."""
        return None


def _pipeline_type(subject: str) -> type[Pipeline]:
    if subject == "reference":
        from harness.engine import Pipeline as engine

        return engine
    from harness.engine.broken import CATALOGUE, LIVE_CATALOGUE

    every = {**CATALOGUE, **LIVE_CATALOGUE}
    name = subject.removeprefix(BROKEN)
    if not subject.startswith(BROKEN) or name not in every:
        raise InputError(
            f"engine {subject!r}: expected reference or {BROKEN}<name>; "
            "`dagstorm engines list` names them"
        )
    return every[name].engine


# What contexts of any engine are compared by -> how this one calls it.
CONTEXT_PARTS = {
    "timer": "remaining_s",
    "data": "inputs",
    "inputs": "input",
    "cancellation": "grace_left_s",
    "event_sink": "emit",
    "has_run_id": "run_id",
}


def describe_context(context: Context) -> dict[str, bool]:
    """Say in plain data what a stage's context offers."""
    return {part: hasattr(context, name) for part, name in CONTEXT_PARTS.items()}


def _stage(one: StageResult) -> StageReport:
    return StageReport(
        status=one.status,
        value=one.output,
        error=None if one.error is None else type(one.error).__name__,
        partial=one.chunks if one.chunks else None,
        complete=one.complete,
        duration_s=one.duration_s,
        attempts=one.attempts or None,
    )


def _failure(one: Failure) -> FailureReport:
    return FailureReport(
        stage=one.stage,
        kind="error" if one.timeout_s is None else "timeout",
        message=one.message[:MESSAGE_MAX],
        timeout_s=one.timeout_s,
        error=type(one.error).__name__,
    )


def _chain(exc: BaseException) -> tuple[str, ...]:
    names: list[str] = []
    seen = exc.__cause__ or exc.__context__
    while seen is not None and len(names) < CHAIN_MAX:
        names.append(type(seen).__name__)
        seen = seen.__cause__ or seen.__context__
    return tuple(names)
