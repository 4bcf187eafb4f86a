"""Whom a run of Stageflow is for: its ids, as UUIDs there and as names here.

Stageflow wants UUIDs, programs have names. The table below keeps both, so that an id
that an engine hands on can be read back; one that is in no table is shown as it is. The
caller's correlation id goes where Stageflow's documentation has it: into `request_id`,
which events and children of a run carry along, and into the context variable behind
`set_correlation_id()`, which is what code far from any context can ask.
"""

from __future__ import annotations

import contextvars
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from harness.kernel.outcome import EventReport, LogReport
from harness.kernel.plan import RunSpec

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["INPUTS", "Heard", "Ids", "event_reports", "hear_logs", "heard", "write_log"]

LOGGER = "dagstorm.program"
NAMES_MAX = 100_000

# Under this key the older graph's stages find what their run was given: its contexts share
# one mapping for inputs and outputs.
INPUTS = "run_inputs"

# What `try_emit_event` adds to a stage's own data.
_ADDED = ("pipeline_run_id", "request_id", "execution_mode", "topology", "service")

_NAMESPACE = uuid.UUID("6f0e4a52-7a53-5d0c-9a55-0d6a57083d09")


class Heard:
    """What the user's log handlers heard of one run: failed cleanups, and its stages' records."""

    __slots__ = ("cleanups", "ids", "logs")

    def __init__(self, ids: Ids) -> None:
        self.ids = ids
        self.cleanups: list[str] = []
        self.logs: list[LogReport] = []


heard: contextvars.ContextVar[Heard | None] = contextvars.ContextVar("heard", default=None)


class Ids:
    """The table of ids: text of a kind and a name -> UUID, and back to the name."""

    __slots__ = ("_names", "_uuids")

    def __init__(self) -> None:
        self._uuids: dict[str, uuid.UUID] = {}
        self._names: dict[str, str] = {}

    def uuid_of(self, kind: str, name: str) -> uuid.UUID:
        key = f"{kind} {name}"
        found = self._uuids.get(key)
        if found is None:
            found = self._uuids[key] = uuid.uuid5(_NAMESPACE, key)
            self._names[str(found)] = name
        return found

    def call(self, uid: Any, name: str) -> None:
        """Note the name of an id that the engine made."""
        self._names[str(uid)] = name

    def name_of(self, uid: Any) -> str:
        """Return the name behind an id, "" for none, the id's own text if nobody knows it."""
        return "" if uid is None else self._names.get(str(uid), str(uid))

    def reset(self) -> None:
        """Forget everything if it has become much; never in the middle of a run."""
        if len(self._names) > NAMES_MAX:
            self._uuids.clear()
            self._names.clear()

    def forget(self, run: RunSpec, actions: int) -> None:
        """Forget the ids of one run and its tool calls; a tenant's may be another run's as well."""
        keys = [f"{kind} {run.id}" for kind in ("run", "session", "request of", "spawn")]
        keys += [f"action {run.id} {n}" for n in range(1, actions + 1)]
        for key in (*keys, f"correlation {run.correlation}"):
            found = self._uuids.pop(key, None)
            self._names.pop(str(found), None)

    def of_run(self, run: RunSpec) -> dict[str, Any]:
        """Return the identity fields with which a run is started."""
        return {
            "pipeline_run_id": self.uuid_of("run", run.id),
            "request_id": self.request_of(run),
            "session_id": self.uuid_of("session", run.id),
            "user_id": self.uuid_of("user", run.tenant),
            "org_id": self.uuid_of("tenant", run.tenant),
            "interaction_id": None,
        }

    def request_of(self, run: RunSpec) -> uuid.UUID:
        if run.correlation:
            return self.uuid_of("correlation", run.correlation)
        return self.uuid_of("request of", run.id)

    def told(self, engine: Probe, ctx: Any) -> dict[str, str]:
        """Return for whom the code works, by its context and by the engine's context variables."""
        tracing = engine.tracing
        correlation = None if tracing is None else tracing.get_correlation_id()
        ids = {
            "run": self.name_of(engine.id_of(ctx, "pipeline_run_id")),
            "tenant": self.name_of(engine.id_of(ctx, "org_id")),
            "correlation": self.name_of(correlation or engine.id_of(ctx, "request_id")),
        }
        if tracing is not None:
            ids |= {"trace": tracing.get_trace_id() or "", "span": tracing.get_span_id() or ""}
        return {k: v for k, v in ids.items() if v}


def event_reports(
    ids: Ids, events: Iterable[tuple[str, Any]], own: frozenset[str]
) -> tuple[EventReport, ...]:
    """Return the stages' own events (of the types `own`) with the ids that they carry."""
    reports = []
    for type_, data in events:
        if type_ not in own:
            continue
        data = data if isinstance(data, dict) else {}
        carried = {
            "run": ids.name_of(data.get("pipeline_run_id")),
            "correlation": ids.name_of(data.get("request_id")),
            "tenant": ids.name_of(data.get("org_id")),
        }
        rest = {k: v for k, v in data.items() if k not in _ADDED}
        plain = rest["data"] if rest.keys() == {"data"} else rest
        reports.append(EventReport(type_, plain, {k: v for k, v in carried.items() if v}))
    return tuple(reports)


def write_log(engine: Probe, ctx: Any, message: str) -> None:
    """Write a record with the engine's tenant-aware logger, and its trace ids as documented."""
    tenant = engine.TenantContext(
        org_id=engine.id_of(ctx, "org_id"),
        user_id=engine.id_of(ctx, "user_id"),
        session_id=engine.id_of(ctx, "session_id"),
    )
    # A "%" in a message is no format here: nothing is given to be put in.
    extra = {} if engine.tracing is None else engine.tracing.get_trace_context_dict()
    tenant.get_logger(LOGGER).info(message, extra=extra)


class _Handler(logging.Handler):
    """A handler of the user's, that finds the run by the context that the record is written in."""

    def __init__(self, level: int, take: Callable[[Heard, logging.LogRecord], None]) -> None:
        super().__init__(level)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        run = heard.get()
        if run is not None:
            self._take(run, record)


def _own(run: Heard, record: logging.LogRecord) -> None:
    named = {"tenant": "org_id", "run": "pipeline_run_id", "correlation": "correlation_id"}
    carried = {k: run.ids.name_of(getattr(record, a, None)) for k, a in named.items()}
    for name in ("trace_id", "span_id"):
        carried[name.removesuffix("_id")] = getattr(record, name, None) or ""
    run.logs.append(LogReport(record.getMessage(), {k: v for k, v in carried.items() if v}))


def _cleanup(run: Heard, record: logging.LogRecord) -> None:
    run.cleanups.append(record.getMessage())


def hear_logs(cleanups: str) -> None:
    """Attach the user's handlers, once a process: for stages' own records, and for `cleanups`,
    the logger on which the engine tells of cleanups that failed."""
    for name, level, take in (
        (LOGGER, logging.INFO, _own),
        (cleanups, logging.WARNING, _cleanup),
    ):
        logger = logging.getLogger(name)
        if any(isinstance(one, _Handler) for one in logger.handlers):
            continue
        logger.addHandler(_Handler(level, take))
        logger.setLevel(level)
        # Simulations switch logging off as a whole; these two go on telling us.
        logger.manager = logging.Manager(logging.root)
        logger.propagate = False
