"""W3C trace context: a run and its stages as spans of one trace.

A run's span is a child of what its caller names by a `traceparent` header; a stage's span is a
child of its run's, and the run of a subpipeline is a child of the stage that runs it. Every
attempt of a stage is a span of its own. Spans are handed to an exporter, a plain callable,
when they end; one that raises loses its span and fails nobody. A header that breaks the rules
of the recommendation is ignored, and the trace begins anew: a caller's mistake is no reason to
run nothing.

Ids are drawn from a `random.Random` that is given in. With a tracer of OpenTelemetry the ids
are that one's own; see `trace_otel`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["OpenSpan", "Span", "SpanMaker", "TraceContext", "own_parent"]

SAMPLED = 0x01
# Besides "sampled", level 2 knows "the trace id is random"; all else is to be set to zero.
FLAGS_KNOWN = 0x03
VERSION_0_CHARS = 55
STATE_CHARS_MAX = 512

_HEADER = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A place in a trace; ids as lower-case hexadecimal text.

    Attributes:
        flags: as in the header.
        state: the `tracestate` header, handed on as it came.
    """

    trace_id: str
    span_id: str
    flags: int = SAMPLED
    state: str = ""

    @classmethod
    def parse(cls, traceparent: str, tracestate: str = "") -> TraceContext | None:
        """Return what a `traceparent` header says, or None if it breaks the rules.

        A later version than 00 is read as far as it is like 00, as the rules want it.
        """
        text = traceparent.strip(" \t")
        found = _HEADER.match(text)
        if found is None:
            return None
        version, trace_id, span_id, flags = found.groups()
        rest = text[VERSION_0_CHARS:]
        if version == "ff" or (version == "00" and rest) or (rest and not rest.startswith("-")):
            return None
        if not int(trace_id, 16) or not int(span_id, 16):
            return None
        state = tracestate if len(tracestate) <= STATE_CHARS_MAX else ""
        return cls(trace_id, span_id, int(flags, 16) & FLAGS_KNOWN, state)

    @property
    def sampled(self) -> bool:
        return bool(self.flags & SAMPLED)

    @property
    def traceparent(self) -> str:
        """The header for a call made from this place."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


@dataclass(frozen=True, slots=True)
class Span:
    """A span that has ended, as the exporter gets it.

    Attributes:
        kind: "run" or "stage".
        parent_id: "" if it is the first of its trace.
        start_s, end_s: on the loop's clock.
        status: "ok", "error" or "cancelled".
        attributes: run_id, pipeline, tenant and correlation_id; of a stage its name and attempt.
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    start_s: float
    end_s: float
    status: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class OpenSpan:
    """A span that has not ended; `native` is a foreign tracer's own."""

    name: str
    kind: str
    place: TraceContext
    parent_id: str
    start_s: float
    attributes: Mapping[str, Any]
    native: Any = None


Parent = OpenSpan | TraceContext | None


def own_parent(parent: Parent) -> TraceContext | None:
    """Return the place that a parent stands for."""
    return parent.place if isinstance(parent, OpenSpan) else parent


class SpanMaker:
    """Begins spans and hands them to an exporter when they end.

    Args:
        exporter: called with each span that has ended and that is sampled; None for nobody.
        rng: where ids come from.
    """

    def __init__(self, exporter: Callable[[Span], None] | None, rng: random.Random) -> None:
        self._exporter = exporter
        self._rng = rng
        self.lost = 0

    def begin(
        self, name: str, kind: str, parent: Parent, start_s: float, attributes: Mapping[str, Any]
    ) -> OpenSpan:
        above = own_parent(parent)
        span_id = self._id(64)
        if above is None:
            place = TraceContext(self._id(128), span_id)
        else:
            place = TraceContext(above.trace_id, span_id, above.flags, above.state)
        parent_id = "" if above is None else above.span_id
        return OpenSpan(name, kind, place, parent_id, start_s, attributes)

    def enter(self, span: OpenSpan) -> None:
        """Make a span the current one of the task that this is called in."""

    def end(self, span: OpenSpan, end_s: float, status: str) -> None:
        if self._exporter is None or not span.place.sampled:
            return
        place = span.place
        try:
            self._exporter(
                Span(
                    name=span.name,
                    kind=span.kind,
                    trace_id=place.trace_id,
                    span_id=place.span_id,
                    parent_id=span.parent_id,
                    start_s=span.start_s,
                    end_s=end_s,
                    status=status,
                    attributes=span.attributes,
                )
            )
        except Exception:
            self.lost += 1

    def _id(self, bits: int) -> str:
        # All zeros would be no id.
        while not (drawn := self._rng.getrandbits(bits)):
            pass
        return f"{drawn:0{bits // 4}x}"
