"""Engines that break the CORR clauses: ids that are lost, changed or mixed up."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.broken.tenants import Home, HomeRun
from harness.engine.cleanup import Cleanup
from harness.engine.context import Context
from harness.engine.graph import StageSpec
from harness.engine.identity import Identity, Origin, Request, current
from harness.engine.job import Job
from harness.engine.logs import IdentityFilter
from harness.engine.pipeline import Pipeline
from harness.engine.result import Event, RunResult
from harness.engine.run import Run
from harness.engine.threads import Threads
from harness.engine.trace import OpenSpan, Parent, SpanMaker, TraceContext, own_parent

__all__ = ["CORRELATIONS"]


# CORR-1: lost on the way.


class _BareThreads(Threads):
    async def call(self, stage: str, fn: Callable[..., Any], *args: Any) -> Any:
        """Hand the job to the pool as it is, without the caller's context variables."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(8)
        return await asyncio.get_running_loop().run_in_executor(self._pool, fn, *args)


class LostInThreads(Run):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.threads = _BareThreads()


class LostInCleanups(Run):
    def add_cleanup(self, name: str, stage: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Register a cleanup to be run in the variables of the run's caller."""
        super().add_cleanup(name, stage, fn)
        if self._cleanups._stack:
            last = self._cleanups._stack[-1]
            bare = contextvars.Context()
            self._cleanups._stack[-1] = Cleanup(last.name, last.stage, last.fn, bare)


class LostInCancelledCleanups(LostInCleanups):
    """As `LostInCleanups`, but only for cleanups that are registered when a stop is under way or
    run after one: the supervisor builds them anew then."""

    def add_cleanup(self, name: str, stage: str, fn: Callable[[], Awaitable[Any]]) -> None:
        Run.add_cleanup(self, name, stage, fn)

    async def _clean_up(self) -> None:
        if self._caller_cancel is not None:
            stack = self._cleanups._stack
            stack[:] = [Cleanup(o.name, o.stage, o.fn, contextvars.Context()) for o in stack]
        await super()._clean_up()


class LostInChildren(Pipeline):
    def _origin(self, request: Request, parent: Context | None) -> Origin:
        origin = super()._origin(request, parent)
        return origin if parent is None else replace(origin, correlation_id="")


class LostOnErrors(Run):
    def _sum_up(self) -> RunResult:
        return replace(super()._sum_up(), correlation_id="")


class LostOnEvents(Run):
    def _event(self, stage: str, type: str, data: Any) -> Event:
        return replace(super()._event(stage, type, data), identity=None)


class _CutFilter(IdentityFilter):
    def identity(self) -> Identity | None:
        """Cut the correlation id to the width of a column."""
        known = super().identity()
        return known and replace(known, correlation_id=known.correlation_id[:8])


class CutInLogs(Pipeline):
    filter_type = _CutFilter


@types.coroutine
def _forgetting(coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Await a coroutine; put the variable back when it first waits."""
    step: Callable[[], Any] = functools.partial(coro.send, None)
    while True:
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value
        current.set(None)
        try:
            step = functools.partial(coro.send, (yield waits_for))
        except BaseException as exc:
            step = functools.partial(coro.throw, exc)


class LostAfterWaiting(Run):
    async def _stage_main(self, job: Job, spec: StageSpec, context: Context) -> Any:
        return await _forgetting(super()._stage_main(job, spec, context))


# CORR-2: spans that are no tree.


class _Spans(SpanMaker):
    """Makes spans as another one would, but for whose children they are."""

    def __init__(self, other: SpanMaker) -> None:
        super().__init__(other._exporter, other._rng)
        self.top: TraceContext | None = None
        self.last: OpenSpan | None = None

    def begin(
        self, name: str, kind: str, parent: Parent, start_s: float, attributes: Mapping[str, Any]
    ) -> OpenSpan:
        self.last = super().begin(name, kind, self.above(kind, parent), start_s, attributes)
        return self.last

    def above(self, kind: str, parent: Parent) -> Parent:
        return parent


class _StagesUnderCaller(_Spans):
    def above(self, kind: str, parent: Parent) -> Parent:
        """Keep the caller's place for all spans of the run, its stages' too."""
        if kind == "run" and self.top is None:
            self.top = own_parent(parent)
        return self.top if kind == "stage" and self.top is not None else parent


class _StagesUnderLast(_Spans):
    def above(self, kind: str, parent: Parent) -> Parent:
        """Take the span that was begun last for the current one."""
        return self.last if kind == "stage" and self.last is not None else parent


class _IdsNotPadded(_Spans):
    def _id(self, bits: int) -> str:
        return f"{self._rng.getrandbits(bits) or 1:x}"


class _FailuresNotEnded(_Spans):
    def end(self, span: OpenSpan, end_s: float, status: str) -> None:
        if status == "ok" or span.kind == "run":
            super().end(span, end_s, status)


def _with_spans(made: type[_Spans]) -> type[Pipeline]:
    class Traced(Pipeline):
        def _origin(self, request: Request, parent: Context | None) -> Origin:
            origin = super()._origin(request, parent)
            if origin.spans is None or isinstance(origin.spans, _Spans):
                return origin
            return replace(origin, spans=made(origin.spans))

    return Traced


class ChildrenBeginTraces(Pipeline):
    def _origin(self, request: Request, parent: Context | None) -> Origin:
        origin = super()._origin(request, parent)
        return origin if parent is None else replace(origin, above=None)


class ChildrenUnderRun(Pipeline):
    def _origin(self, request: Request, parent: Context | None) -> Origin:
        origin = super()._origin(request, parent)
        if parent is None or parent._run.span is None:
            return origin
        return replace(origin, above=parent._run.span)


class CallerIgnored(Pipeline):
    def _origin(self, request: Request, parent: Context | None) -> Origin:
        origin = super()._origin(request, parent)
        return origin if parent is not None else replace(origin, above=None)


# CORR-3: mixed up.


class IdentityOfLatest(Context):
    @property
    def identity(self) -> Identity:
        """Say what the pipeline keeps as its current ids: those of the run prepared last."""
        known = super().identity
        run = self._run
        if not isinstance(run, HomeRun) or run.home is None:
            return known
        return replace(known, correlation_id=run.home.latest.origin.correlation_id)


class IdentityOfStage(Context):
    """Keeps the ids of a stage under the stage's name while it runs: with two at once, the later
    one's are told to both."""

    def enter(self) -> None:
        super().enter()
        if isinstance(self._run, HomeRun) and self._run.home is not None:
            self._run.home.shared[self.stage] = self

    @property
    def identity(self) -> Identity:
        known = super().identity
        run = self._run
        if not isinstance(run, HomeRun) or run.home is None:
            return known
        last = run.home.shared.get(self.stage, self)
        if last is self or last.ended:
            return known
        return replace(known, run_id=last.run_id, correlation_id=last.correlation_id)


class _LatestFilter(IdentityFilter):
    """Keeps the ids of the record before, for all loggers, and stamps those on the next."""

    def __init__(self) -> None:
        super().__init__()
        self.latest: Identity | None = None

    def identity(self) -> Identity | None:
        known = super().identity()
        told, self.latest = self.latest, known
        return told or known


class LogsOfLatest(Pipeline):
    filter_type = _LatestFilter


class TraceOfFirst(Home):
    """Keeps the first caller's trace for all runs of the pipeline."""

    def _origin(self, request: Request, parent: Context | None) -> Origin:
        origin = super()._origin(request, parent)
        if parent is not None or origin.above is None:
            return origin
        return replace(origin, above=self.shared.setdefault("above", origin.above))


class EventsOfFirst(HomeRun):
    """Stamps events in a worker that has the ids of the run whose event began it."""

    def _event(self, stage: str, type: str, data: Any) -> Event:
        event = super()._event(stage, type, data)
        if self.home is None:
            return event
        first = self.home.shared.setdefault("worker", event.identity)
        return replace(event, identity=first)


class ErrorsOfOthers(HomeRun):
    """Keeps the ids of errors on the pipeline until the next run has ended."""

    def _sum_up(self) -> RunResult:
        result = super()._sum_up()
        if self.home is None:
            return result
        told = self.home.shared.get("correlation", result.correlation_id)
        self.home.shared["correlation"] = result.correlation_id
        return replace(result, correlation_id=told)


CORRELATIONS = (
    defect(
        "ids-lost-in-threads",
        "CORR-1",
        "Worker threads do not get the stage's context variables.",
        run=LostInThreads,
    ),
    defect(
        "ids-lost-in-cleanups",
        "CORR-1",
        "Cleanups run in no stage's context variables.",
        run=LostInCleanups,
    ),
    defect(
        "ids-lost-in-cancelled-cleanups",
        "CORR-1",
        "Cleanups lose the ids only when the run's caller has cancelled.",
        run=LostInCancelledCleanups,
    ),
    defect(
        "ids-lost-in-children",
        "CORR-1",
        "Child runs are not told the correlation id.",
        pipeline=LostInChildren,
    ),
    defect(
        "ids-lost-on-errors",
        "CORR-1",
        "A run's exception does not carry the correlation id.",
        run=LostOnErrors,
    ),
    defect("ids-lost-on-events", "CORR-1", "Events carry no ids.", run=LostOnEvents),
    defect(
        "ids-cut-in-logs",
        "CORR-1",
        "Log records carry the first eight characters of the correlation id.",
        pipeline=CutInLogs,
    ),
    defect(
        "ids-lost-after-waiting",
        "CORR-1",
        "The ids are put back when a stage first waits, while it is still running.",
        run=LostAfterWaiting,
    ),
    defect(
        "stage-spans-under-caller",
        "CORR-2",
        "Spans of stages are put under the caller's span, beside the run's.",
        pipeline=_with_spans(_StagesUnderCaller),
    ),
    defect(
        "stage-spans-under-last",
        "CORR-2",
        "A stage's span is put under whichever span was begun last.",
        pipeline=_with_spans(_StagesUnderLast),
    ),
    defect(
        "span-ids-not-padded",
        "CORR-2",
        "Ids that begin with zeros come out too short.",
        pipeline=_with_spans(_IdsNotPadded),
    ),
    defect(
        "failed-stages-have-no-span",
        "CORR-2",
        "The spans of stages that fail or are stopped are never ended.",
        pipeline=_with_spans(_FailuresNotEnded),
    ),
    defect(
        "children-begin-traces",
        "CORR-2",
        "A child run begins a trace of its own.",
        pipeline=ChildrenBeginTraces,
    ),
    defect(
        "children-under-run",
        "CORR-2",
        "A child run's span is put under its parent run's, not under the stage's.",
        pipeline=ChildrenUnderRun,
    ),
    defect(
        "traceparent-ignored",
        "CORR-2",
        "A run begins a trace of its own whatever its caller says.",
        pipeline=CallerIgnored,
    ),
    defect(
        "ids-of-latest-run",
        "CORR-3",
        "Code is told the correlation id of the run that was prepared last.",
        pipeline=Home,
        run=HomeRun,
        context=IdentityOfLatest,
    ),
    defect(
        "ids-by-stage-name",
        "CORR-3",
        "When two runs are in the same stage, both are told the later one's ids.",
        pipeline=Home,
        run=HomeRun,
        context=IdentityOfStage,
    ),
    defect(
        "log-ids-one-late",
        "CORR-3 TENANT-1",
        "A log record is stamped with the ids of whoever wrote the one before it.",
        pipeline=LogsOfLatest,
    ),
    defect(
        "trace-of-first-caller",
        "CORR-3 CORR-2",
        "All runs of a pipeline are put into the trace of its first caller.",
        pipeline=TraceOfFirst,
    ),
    defect(
        "events-of-first-run",
        "CORR-3 TENANT-1",
        "Events carry the ids of the run that emitted the pipeline's first one.",
        pipeline=Home,
        run=EventsOfFirst,
    ),
    defect(
        "error-ids-one-late",
        "CORR-3",
        "The error of a run carries the correlation id of the run that ended before it.",
        pipeline=Home,
        run=ErrorsOfOthers,
    ),
)
