"""For whom code works: the ids of the stage that is running, known wherever its code goes.

One context variable holds the context of the running stage. It is set in the stage's own
task before anything of the user's runs, and never put back: a task's variables end with the
task. What a stage starts inherits it: tasks of its own, worker threads, subpipelines. A cleanup
or a compensation runs in a copy of the variables as they were where it was registered. So there
is no place in which one run could meet the ids of another, and none that has to be cleared.

Where a run comes from is said once, when it is prepared. A run that is started inside a stage is
that stage's in this respect, whether or not it is a subpipeline: it has the tenant, the
correlation id, the trace and the store of the run that it is started in.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from harness.engine.errors import PipelineError, TenancyError
from harness.engine.measure import Measures
from harness.engine.tenancy import TenantStore, checked_tenant
from harness.engine.trace import Parent, Span, SpanMaker, TraceContext
from harness.engine.trace_otel import OtelSpanMaker

if TYPE_CHECKING:
    from harness.engine.context import Context

__all__ = ["Identity", "Origin", "Request", "current", "current_identity", "origin_of"]

CORRELATION_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """For whom code works; "" for what its run does not have.

    Attributes:
        trace_id, span_id: of the stage's span.
        parent_id: of the span that it is a child of.
    """

    run_id: str
    pipeline: str
    stage: str
    tenant: str = ""
    correlation_id: str = ""
    trace_id: str = ""
    span_id: str = ""
    parent_id: str = ""


class Request(TypedDict, total=False):
    """What the caller of a run may say of where it comes from, on every entry point.

    Keys:
        tenant: whom it is for.
        correlation_id: handed on unchanged to all that comes of the run.
        traceparent, tracestate: the W3C trace context that the run comes under.
        store: where the tenant's rows are kept; see `Context.store`.
        exporter: called with each span that has ended.
        tracer: of OpenTelemetry, if that is to make the spans.
        measures: called with each measurement; see `measure`.
    """

    tenant: str
    correlation_id: str
    traceparent: str
    tracestate: str
    store: TenantStore
    exporter: Callable[[Span], None]
    tracer: Any
    measures: Measures


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from.

    Attributes:
        tenant, correlation_id: "" for none.
        above: the span that the run's own comes under.
        spans: makes the run's spans; None if it is not traced.
        store: where its tenant's rows are kept.
        measures: who is told what was measured.
    """

    tenant: str = ""
    correlation_id: str = ""
    above: Parent = None
    spans: SpanMaker | None = None
    store: TenantStore | None = None
    measures: Measures | None = None


NOWHERE = Origin()

current: ContextVar[Context | None] = ContextVar("dagstorm_engine_stage", default=None)


def current_identity() -> Identity | None:
    """Return for whom the code works that calls this; None outside of stages."""
    context = current.get()
    return None if context is None else context.identity


def origin_of(request: Request, parent: Context | None, rng: random.Random) -> Origin:
    """Return where a run comes from, by what its caller says and the stage that it is within.

    Raises:
        TenancyError: if it is within a tenant's run and names another tenant.
        PipelineError: if what is said cannot be used.
    """
    unknown = request.keys() - Request.__annotations__.keys()
    if unknown:
        raise TypeError(f"a run has no argument {sorted(unknown)[0]!r}")
    within = parent if parent is not None else current.get()
    base = NOWHERE if within is None else _inherited(within)
    if not request:
        return base
    tenant = _tenant(request.get("tenant"), within, base.tenant)
    store = request.get("store", base.store)
    if store is not None and not tenant:
        raise PipelineError("store: a run with a store needs a tenant, whose rows it is to see")
    correlation = request.get("correlation_id")
    return Origin(
        tenant=tenant,
        correlation_id=base.correlation_id if correlation is None else _correlation(correlation),
        above=_above(request, base),
        spans=_spans(request, base, rng),
        store=store,
        measures=request.get("measures", base.measures),
    )


def _inherited(within: Context) -> Origin:
    origin = within.origin
    if origin.spans is None:
        return origin
    return replace(origin, above=within.span)


def _tenant(named: str | None, within: Context | None, inherited: str) -> str:
    if named is None:
        return inherited
    tenant = checked_tenant(named)
    if within is not None and inherited and tenant != inherited:
        raise TenancyError(
            f"stage {within.stage!r} of run {within.run_id!r} works for tenant {inherited!r} and "
            f"cannot start a run for tenant {tenant!r}; start it outside of that run"
        )
    return tenant


def _correlation(value: str) -> str:
    if not 0 < len(value) <= CORRELATION_CHARS_MAX:
        raise PipelineError(
            f"correlation_id: expected a text of 1 to {CORRELATION_CHARS_MAX} characters, "
            f"got {value!r}"
        )
    return value


def _above(request: Request, base: Origin) -> Parent:
    header = request.get("traceparent")
    if header is None:
        return base.above
    # A header that breaks the rules begins a trace anew, as the recommendation wants it.
    return TraceContext.parse(header, request.get("tracestate", ""))


def _spans(request: Request, base: Origin, rng: random.Random) -> SpanMaker | None:
    exporter, tracer = request.get("exporter"), request.get("tracer")
    if tracer is not None:
        if exporter is not None:
            raise PipelineError("exporter: a run with a tracer exports its spans by that tracer")
        return OtelSpanMaker(tracer)
    if exporter is not None or ("traceparent" in request and base.spans is None):
        return SpanMaker(exporter, rng)
    return base.spans
