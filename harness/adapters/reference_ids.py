"""Whom a run of the reference engine is for: ids, log records, spans and the tenants' store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from harness.kernel.outcome import EventReport, LogReport, MetricReport, SpanReport
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StagePort
from harness.kernel.program import Program, needed_capabilities

if TYPE_CHECKING:
    from harness.engine import Context, Event, Identity, Measurement, Pipeline, RunResult, Span

__all__ = [
    "ID_CAPABILITIES",
    "Heard",
    "Needs",
    "error_ids",
    "event_reports",
    "hear_logs",
    "identity_port",
    "told",
]

ID_CAPABILITIES = frozenset(
    {"run_inputs", "identity", "log_records", "trace_context", "tenancy", "tenant_store"}
)
# Not that of another engine in this process, whose records the filter below would change.
LOGGER = "dagstorm.reference"
KIND = "output"
PROGRAMS_MAX = 1_000


class Heard:
    """What the user's handler, exporter and own session with the store got of one run."""

    __slots__ = ("logs", "measured", "spans", "store", "tenant")

    def __init__(self, run: RunSpec, store: Any) -> None:
        self.logs: list[LogReport] = []
        self.measured: list[Measurement] = []
        self.spans: list[Span] = []
        self.store = store
        self.tenant = run.tenant

    def request(self, run: RunSpec, plan: Plan) -> dict[str, Any]:
        """Return for whom the engine is to run, in its own words."""
        said: dict[str, Any] = {"tenant": run.tenant}
        if run.correlation:
            said["correlation_id"] = run.correlation
        if run.traceparent:
            said["traceparent"] = run.traceparent
        if any(one.traceparent for one in plan.runs):
            said["exporter"] = self.spans.append
        if run.inputs:
            said["measures"] = self.measured.append
        if self.store is not None:
            said["store"] = self.store
        _heard.set(self)
        return said

    def stored(self) -> tuple[tuple[str, Any], ...] | None:
        """Return the rows that the tenant finds in the store, by a session of its user's."""
        if self.store is None:
            return None
        with self.store.session(self.tenant) as session:
            return tuple((key, value) for key, value in session.rows(KIND))


# Set in the task that awaits the run. A stage's port is made in the stage's task, which comes
# of that one; what is found there is the run's own by the caller's word, not by the engine's.
_heard: ContextVar[Heard | None] = ContextVar("dagstorm_heard", default=None)


class Needs:
    """What programs need in these matters, found once for each of them."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[Program, frozenset[str]]] = {}

    def of(self, program: Program) -> frozenset[str]:
        found = self._found.get(id(program))
        if found is None or found[0] is not program:
            if len(self._found) >= PROGRAMS_MAX:
                self._found.clear()
            # Of a subpipeline it is its own bodies that ask.
            needs = needed_capabilities(program) & ID_CAPABILITIES
            found = self._found[id(program)] = (program, needs)
        return found[1]


def ids_of(identity: Identity | None) -> dict[str, str]:
    """Return the ids by the names of `StagePort.identity`, those that there are."""
    if identity is None:
        return {}
    named = {
        "run": identity.run_id,
        "tenant": identity.tenant,
        "correlation": identity.correlation_id,
        "trace": identity.trace_id,
        "span": identity.span_id,
        "parent": identity.parent_id,
    }
    return {name: value for name, value in named.items() if value}


def identity_port(port: StagePort, context: Context) -> None:
    """Fill in what a stage's port offers in these matters."""
    from harness.engine import current_identity

    heard = _heard.get()

    def log(message: str) -> None:
        # A "%" in a message is no format here: nothing is given to be put in.
        logging.getLogger(LOGGER).info(message, extra={"heard": heard})

    def store(key: str, value: Any) -> None:
        context.store.put(key, value, kind=KIND)

    def trespass(how: str, victim: str) -> tuple[bool, list[Any], int]:
        with context.store.session() as session:
            if session.tenant == victim:  # no need to break in
                return False, [value for _key, value in session.rows(KIND)], 0
            attempt = session.attempt(how, victim)  # type: ignore[attr-defined]
        return attempt.refused, list(attempt.seen), attempt.changed

    port.input = lambda key: context.inputs[key]
    port.identity = lambda: ids_of(current_identity())
    port.log = log
    port.store = store
    port.trespass = trespass


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        heard = getattr(record, "heard", None)
        if heard is None:
            return
        named = {
            "run": "run_id",
            "tenant": "tenant",
            "correlation": "correlation_id",
            "trace": "trace_id",
            "span": "span_id",
        }
        carried = {name: getattr(record, field, "") for name, field in named.items()}
        kept = {name: value for name, value in carried.items() if value}
        heard.logs.append(LogReport(record.getMessage(), kept))


def hear_logs(pipeline: type[Pipeline]) -> None:
    """Attach the user's handler, with the engine's filter on it, in place of an earlier one."""
    from harness.engine import IdentityFilter

    handler = _Handler(logging.INFO)
    # A broken engine may bring a filter of its own.
    handler.addFilter(getattr(pipeline, "filter_type", IdentityFilter)())
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    # Simulations switch logging off as a whole; this one goes on telling us.
    logger.manager = logging.Manager(logging.root)
    logger.propagate = False


def event_reports(events: Iterable[Event]) -> tuple[EventReport, ...]:
    """Return events as they reached the sink, with the ids that they carry."""
    return tuple(EventReport(one.type, one.data, ids_of(one.identity)) for one in events)


def error_ids(raised: BaseException | None) -> dict[str, str]:
    """Return the ids that the run's exception carries."""
    result: RunResult | None = getattr(raised, "result", None)
    if result is None:
        return {}
    named = {
        "run": result.run_id,
        "tenant": getattr(raised, "tenant", ""),
        "correlation": getattr(raised, "correlation_id", ""),
        "trace": getattr(raised, "trace_id", ""),
    }
    return {name: value for name, value in named.items() if value}


def told(heard: Heard) -> Mapping[str, Any]:
    """Return the parts of an outcome that are about ids, tenants and traces."""
    return {
        "logs": tuple(heard.logs),
        "spans": tuple(
            SpanReport(one.name, one.kind, one.trace_id, one.span_id, one.parent_id)
            for one in heard.spans
        ),
        "stored": heard.stored(),
        "metrics": tuple(
            MetricReport(one.name, one.value, dict(one.labels)) for one in heard.measured
        ),
    }
