"""Spans by a tracer of OpenTelemetry, where its user has one; the engine does without it.

The stage's span is made the current one in the stage's own task, so that spans that a stage
opens by itself, in its tasks, threads and cleanups as well, come under it. It is never put
back: the context of that task ends with the task, and a token must be used where it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.engine.trace import OpenSpan, Parent, SpanMaker, TraceContext, own_parent

__all__ = ["OtelSpanMaker"]


class OtelSpanMaker(SpanMaker):
    """Begins and ends spans of an `opentelemetry.trace.Tracer`.

    Without a traceparent a run comes under the span that is current where it was started.
    """

    def __init__(self, tracer: Any) -> None:
        from opentelemetry import context, trace

        self._tracer = tracer
        self._context = context
        self._trace = trace
        self.lost = 0

    def begin(
        self, name: str, kind: str, parent: Parent, start_s: float, attributes: Mapping[str, Any]
    ) -> OpenSpan:
        trace = self._trace
        place_above = own_parent(parent)
        if isinstance(parent, OpenSpan) and parent.native is not None:
            above = trace.set_span_in_context(parent.native)
            parent_id = parent.place.span_id
        elif place_above is not None:
            above = trace.set_span_in_context(trace.NonRecordingSpan(self._remote(place_above)))
            parent_id = place_above.span_id
        else:
            above = None
            current = trace.get_current_span().get_span_context()
            parent_id = trace.format_span_id(current.span_id) if current.is_valid else ""
        native = self._tracer.start_span(name, context=above, attributes=_plain(attributes))
        own = native.get_span_context()
        place = TraceContext(
            trace.format_trace_id(own.trace_id),
            trace.format_span_id(own.span_id),
            int(own.trace_flags),
            own.trace_state.to_header() if own.trace_state else "",
        )
        return OpenSpan(name, kind, place, parent_id, start_s, attributes, native)

    def enter(self, span: OpenSpan) -> None:
        self._context.attach(self._trace.set_span_in_context(span.native))

    def end(self, span: OpenSpan, end_s: float, status: str) -> None:
        if status == "error":
            span.native.set_status(self._trace.Status(self._trace.StatusCode.ERROR))
        span.native.set_attribute("status", status)
        span.native.end()

    def _remote(self, place: TraceContext) -> Any:
        trace = self._trace
        return trace.SpanContext(
            trace_id=int(place.trace_id, 16),
            span_id=int(place.span_id, 16),
            is_remote=True,
            trace_flags=trace.TraceFlags(place.flags),
            trace_state=trace.TraceState.from_header([place.state] if place.state else []),
        )


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
