"""Plain asyncio: what the language gives a careful user for free, with no engine around it.

What is put to the test is the idiom in `asyncio_plain_idiom`; this module only lets
programs run in it. Whom a run is for stands in a context variable: tasks and threads
carry it along. What asyncio has no notion of is not claimed, and `_MISSING` says what
was looked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import graphlib
import os
import platform
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from harness.adapters.asyncio_plain_idiom import EndRun, Stage, StageTimeout, in_order, run_stages
from harness.adapters.asyncio_plain_script import render_script
from harness.kernel.adapter import CAPABILITIES, Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import NotOffered
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Plan, RunSpec, required_capabilities
from harness.kernel.port import StageBody, StagePort
from harness.kernel.program import Program
from harness.kernel.script import Unrenderable
from harness.kernel.witness import traceback_location

__all__ = ["Adapter"]

MESSAGE_MAX = 2_000
CHAIN_MAX = 20
IDS = ("run", "tenant", "correlation")

_for_whom: contextvars.ContextVar[RunSpec] = contextvars.ContextVar("for_whom")

_OFFERED = frozenset(
    {
        "stage_timeout",
        "stage_timeout_each",
        "tool_timeout",
        "continue_on_failure",
        "heartbeat",
        "subpipeline",
        "cancel_run",
        "inputs",
        "run_inputs",
        "identity",
        "concurrent_runs",
    }
)

_MISSING = {
    "worker_thread": "asyncio.to_thread runs a call in a thread, but nothing (loop, executor, "
    "future) names the calls that still run after their await was cancelled",
    "cancel_branch": "a task has no notion of the tasks that depend on it; no name with 'branch'",
    "skip": "a task ends with a result, an exception or a cancellation; there is no fourth ending",
    "events": "no event, sink or emit in asyncio (asyncio.Event is a flag)",
    "streaming": "asyncio.Queue and async generators belong to the code that makes them; nothing "
    "hands on a task's partial results",
    "cleanup_registry": "neither Task, TaskGroup nor the loop takes cleanups; "
    "contextlib.AsyncExitStack is a stage's own",
    "context": "a task's context is contextvars, which hold what the user puts there",
    "event_queue": "asyncio.Queue(maxsize) is bounded, but it stands before no sink and keeps no "
    "account of what was put and taken",
    "delivery_count": "no queue that keeps an account",
    "stream_consumer": "no stream of a task's partial results that could be consumed",
    "log_records": "logging takes no ids from a task's context unless the user writes the filter",
    "trace_context": "no name with 'trace' or 'span' in asyncio or contextvars",
    "tenancy": "a context variable says whom a task is for; nothing holds the task to it",
    "tenant_store": "asyncio stores nothing",
    "guard": "nothing stands between a task and its coroutine that could deny it",
    "circuit_breaker": "no name with 'circuit' or 'breaker'",
    "rate_limit": "a Semaphore limits how many run at once, not how often",
    "idempotency": "a coroutine function runs as often as it is called",
    "checkpoint": "nothing of a task can be stored",
    "compensation": "no name with 'compensat', 'rollback' or 'undo'",
    "retry": "no name with 'retry' or 'attempt'",
    "interceptors": "a task factory is put around the creation of tasks, not around what they run",
}

_SEMANTICS = {
    "GRAPH-1": "asyncio has no pipeline, so none is built or refused: graphlib (cycles) and a "
    "dict's look-up (unknown names) are all there is; a dict keeps the last of two equal "
    "keys, and a task group without tasks ends at once, both by documented rule",
    "CANCEL-4": "leaving a task group waits for all its tasks, by documented rule and with no "
    "grace: a task that swallows its cancellation is waited for as long as it runs",
    "CTX-2": "names are references and nothing is copied on the way from one task to another: "
    "the language's own rule for objects",
}


class _Native(NamedTuple):
    """A pipeline, and what is needed to build its subpipelines alike."""

    program: Program
    bodies: Bodies
    timeouts: dict[str, float]


class Adapter:
    """Makes plain asyncio runnable."""

    def __init__(self, subject: str = "asyncio") -> None:
        self.subject = subject
        self._root = os.path.dirname(asyncio.__file__) + os.sep

    def info(self) -> EngineInfo:
        missing = {name: _MISSING[name] for name in CAPABILITIES if name not in _OFFERED}
        return EngineInfo(
            name=self.subject,
            version=platform.python_version(),
            capabilities=_OFFERED,
            package="asyncio",
            semantics=_SEMANTICS,
            missing=missing,
        )

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> _Native:
        limits = {s.name: _limit(s.timeout_s, plan) for s in program.stages}
        native = _Native(program, bodies, {n: t for n, t in limits.items() if t is not None})
        try:
            self._stages(native, RunSpec(), plan)
        except (graphlib.CycleError, KeyError) as exc:
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc
        return native

    def _stages(self, native: _Native, run: RunSpec, plan: Plan) -> dict[str, Stage]:
        return in_order(
            {
                s.name: Stage(
                    self._work(native, native.bodies.body(s.name), run, plan),
                    s.needs,
                    native.timeouts.get(s.name),
                    s.idle_timeout_s,
                )
                for s in native.program.stages
            }
        )

    def _work(
        self, native: _Native, body: StageBody, run: RunSpec, plan: Plan
    ) -> Callable[[dict[str, Any], Callable[[], None]], Awaitable[Any]]:
        async def subpipeline(program: Program) -> Outcome:
            child = self.build(program, plan, native.bodies.child(program))
            spec = replace(run, id=f"{run.id}/{program.name}")
            return await self._run(child, spec, plan)

        async def work(inputs: dict[str, Any], alive: Callable[[], None]) -> Any:
            def read(stage: str, key: str) -> Any:
                value = inputs[stage]
                return value if key == "value" or value is None else value[key]

            verdict = await body(
                StagePort(
                    run=run.id,
                    read=read,
                    input=run.inputs.get,
                    identity=_identity,
                    heartbeat=alive,
                    call=_call,
                    subpipeline=subpipeline,
                )
            )
            match verdict.kind:
                case "ok":
                    # A copy of the program's own value: no run may change it for the next.
                    return copy.deepcopy(verdict.value)
                case "fail":
                    raise RuntimeError(verdict.message)
                case "cancel_run":
                    raise EndRun(verdict.message)
            raise NotOffered(f"asyncio: no verdict {verdict.kind!r}")

        return work

    async def run(self, native: _Native, run: RunSpec, plan: Plan) -> Outcome:
        """Run once; `CancelledError` goes through to the caller."""
        return await self._run(native, run, plan)

    async def _run(self, native: _Native, run: RunSpec, plan: Plan) -> Outcome:
        before = _for_whom.set(run)
        try:
            return await self._run_here(native, run, plan)
        finally:
            _for_whom.reset(before)

    async def _run_here(self, native: _Native, run: RunSpec, plan: Plan) -> Outcome:
        tasks: dict[str, asyncio.Task[Any]] = {}
        go_on = plan.on_failure == "continue"
        raised: ErrorReport | None = None
        order: tuple[Exception, ...] = ()
        try:
            await run_stages(self._stages(native, run, plan), tasks, go_on)
        except ExceptionGroup as group:
            raised, order = self._error(group), group.exceptions
        stages = {name: _report(task) for name, task in tasks.items()}
        failures = tuple(_failures(native.program, tasks))
        ended = _ended(tasks, order)
        status = "failed" if any(one.status != "completed" for one in stages.values()) else "ok"
        if ended and not failures:
            status = "cancelled"
        return Outcome(
            run.id,
            status,
            raised,
            stages,
            failures,
            reason=str(ended[0][1]) if ended else None,
            cancelled_by=ended[0][0] if ended else None,
            timeouts=native.timeouts,
        )

    def _error(self, exc: Exception) -> ErrorReport:
        return ErrorReport(
            type=type(exc).__name__,
            message=str(exc)[:MESSAGE_MAX],
            chain=tuple(_chain(exc))[:CHAIN_MAX],
            location=traceback_location(exc, self._root),
        )

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str:
        """Return a script that prints the idiom as it stands above."""
        lacks = required_capabilities(program, plan) - _OFFERED
        if lacks:
            raise Unrenderable(", ".join(sorted(lacks)))
        return render_script(program, plan, clause, check)


def _limit(own: float | None, plan: Plan) -> float | None:
    return own if own is not None else plan.stage_timeout_s


def _identity() -> dict[str, str]:
    spec = _for_whom.get()
    ids = dict(zip(IDS, (spec.id, spec.tenant, spec.correlation), strict=True))
    return {name: value for name, value in ids.items() if value}


async def _call(_tool: str, work: Callable[[], Awaitable[Any]], timeout_s: float | None) -> Any:
    async with asyncio.timeout(timeout_s):
        return await work()


def _exception(task: asyncio.Task[Any]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


def _ended(
    tasks: Mapping[str, asyncio.Task[Any]], order: Sequence[Exception]
) -> list[tuple[str, EndRun]]:
    """Return who asked to end the run, the first to do so first: a task group keeps its errors in
    their order, and whoever asked first had not been cancelled for it."""
    found = [(n, e) for n, t in tasks.items() if isinstance(e := _exception(t), EndRun)]
    if order:
        return sorted(found, key=lambda one: order.index(one[1]) if one[1] in order else len(order))
    return sorted(found, key=lambda one: tasks[one[0]].cancelling())


def _report(task: asyncio.Task[Any]) -> StageReport:
    if task.cancelled():
        return StageReport("cancelled")
    exc = task.exception()
    if exc is None:
        return StageReport("completed", task.result())
    if isinstance(exc, EndRun):
        return StageReport("cancelled")
    status = "timed_out" if isinstance(exc, StageTimeout) else "failed"
    return StageReport(status, error=type(exc).__name__)


def _failures(program: Program, tasks: Mapping[str, asyncio.Task[Any]]) -> Iterator[FailureReport]:
    raised = any(_exception(task) is not None for task in tasks.values())
    for name, task in tasks.items():
        exc = _exception(task)
        needs = [tasks[need] for need in program.stage(name).needs]
        if task.cancelled() and not raised and not any(need.cancelled() for need in needs):
            # Nobody failed or ended the run, and a cancelled caller does not get here.
            yield FailureReport(name, "cancelled", f"task {name} was cancelled by itself")
        # A stage that raises the very exception of what it needs has never begun.
        repeated = any(exc is _exception(need) for need in needs)
        if exc is None or repeated or isinstance(exc, EndRun):
            continue
        seconds = exc.seconds if isinstance(exc, StageTimeout) else None
        kind = "error" if seconds is None else "timeout"
        yield FailureReport(name, kind, str(exc)[:MESSAGE_MAX], seconds, type(exc).__name__)


def _chain(exc: BaseException) -> Iterator[str]:
    """Yield the classes that a traceback of `exc` would show below it: members, then causes."""
    inner = exc.exceptions if isinstance(exc, BaseExceptionGroup) else ()
    below = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
    for one in (*inner, *([below] if below is not None else [])):
        yield type(one).__name__
        yield from _chain(one)
