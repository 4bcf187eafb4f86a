"""The adapter protocol: all that dagstorm needs to know of an engine.

To add an engine, write one file with a class `Adapter` of this shape (see
docs/adapters.md for a worked example) and name it by `--engine path/to/file.py:Adapter`,
or register it under the entry-point group `dagstorm.engines`. An adapter imports
the kernel and, lazily, its engine; nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.kernel.around import LayerBody, SinkMock
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Layer, Plan, RunSpec
from harness.kernel.port import StageBody
from harness.kernel.program import Program

__all__ = ["CAPABILITIES", "Adapter", "Bodies", "BuildRefused", "EngineInfo"]

CAPABILITIES: dict[str, str] = {
    "stage_timeout": "the engine enforces one timeout for all stages of a run",
    "stage_timeout_each": "each stage can declare its own timeout",
    "tool_timeout": "a tool call can declare its own timeout",
    "continue_on_failure": "when a stage fails, stages that do not depend on it go on",
    "worker_thread": "a stage can run a blocking call in a thread that the engine keeps account of",
    "heartbeat": "a stage can report that it is alive and so outlive an idle timeout",
    "subpipeline": "a stage can run another pipeline as a child of its run",
    "cancel_run": "a stage can end the run without an error",
    "cancel_branch": "a stage can end its own branch while the others go on",
    "skip": "a stage can finish as skipped",
    "inputs": "a stage can read the outputs of the stages it needs",
    "events": "a stage can emit events through the engine",
    "streaming": "a stage can hand on partial results through the engine",
    "cleanup_registry": "a stage can register a cleanup that the engine runs at the end",
    "context": "a stage is given a context object",
    "concurrent_runs": "one pipeline object can run several times at once",
    "run_inputs": "a run can be given inputs that its stages read",
    "event_queue": "a bounded queue stands between stages and a slow event sink, with an account",
    "delivery_count": "the queue's account tells how many events the sink has taken",
    "stream_consumer": "a stage's partial results can be consumed while the run goes on",
    "identity": "a stage can learn for whom it works: run, tenant and correlation id",
    "log_records": "log records of stages carry the ids of their run",
    "trace_context": "runs and stages are spans of a W3C trace",
    "tenancy": "a run belongs to a tenant, and the engine holds it to that",
    "tenant_store": "events and outputs are kept in a store that tells tenants apart",
    "guard": "a layer can deny a stage its run",
    "circuit_breaker": "calls of a stage that keeps failing are cut off for a while",
    "rate_limit": "a layer limits how often a stage may run",
    "idempotency": "a stage that ran under a key is not run again under it",
    "checkpoint": "a failed run can be redriven from its last checkpoint",
    "compensation": "a stage can declare a compensation that runs when the run fails",
    "retry": "a failed stage can be retried by the engine",
    "interceptors": "code can be put around every stage",
}


class BuildRefused(Exception):
    """Raised by `Adapter.build` when the engine refuses the pipeline.

    Carries the engine's own words: GRAPH-1 and TIME-5 judge whether they name the stage.
    """


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an adapter says of its engine.

    Attributes:
        name: the subject's name, as in `--engine NAME` (one adapter file may serve several).
        version: the installed version, or "" if the engine has none.
        capabilities: the subset of `CAPABILITIES` that the engine offers in this version.
        package: import name of the engine's top package; its modules get simulated clocks,
            and frames inside it are what a finding's location is taken from.
        semantics: clause id -> the documented behaviour by which the engine deliberately
            differs; reported as a note, never a bug.
        missing: capability -> what the probe looked for and did not find.
        facts: further probed facts (documented, typed, lines of a hello-world, …).
    """

    name: str
    version: str
    capabilities: frozenset[str]
    package: str
    semantics: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


class Bodies(Protocol):
    """Hands out the stage bodies of a program to an adapter."""

    def body(self, stage: str, /) -> StageBody:
        """Return the body of a stage of the program being built."""
        ...

    def child(self, program: Program, /) -> Bodies:
        """Return the bodies of a subpipeline's program."""
        ...

    def sink(self) -> SinkMock:
        """Return the event sink that the plan describes, to be put behind the engine's own."""
        ...

    def layer(self, layer: Layer, /) -> LayerBody:
        """Return the body of a layer of the plan, to be put around stages."""
        ...

    def store(self) -> Any:
        """Return the store that tells tenants apart, to be given to an engine that takes one.

        It has `session(tenant)`, whose value is used in a `with` block: `tenant`, `put`, `get`,
        `rows`, `count`, `delete`, and `attempt(how, victim)` for `trespass` steps.
        """
        ...

    def over(self, run: str, /) -> None:
        """Say that the engine's own call for a run has come out, one way or the other.

        To be called by an adapter that has still to end what is the user's beside that, a
        consumer for one: what stages do meanwhile they do after the run.
        """
        ...

    async def consume(self, run: str, source: AsyncIterator[Any], /) -> None:
        """Consume a stage's partial results as the plan's `consumer` says, and stop when it
        does. It closes nothing: how a consumer stops is the engine's own API, so the adapter
        does that as soon as this returns."""
        ...


class Adapter(Protocol):
    """One engine (or several subjects of one engine), made runnable."""

    def info(self) -> EngineInfo:
        """Import the engine, look at what it offers, and say so. Called once a worker."""
        ...

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> Any:
        """Return the engine's native pipeline; it may be run several times, also at once.

        Raises:
            BuildRefused: if the engine refuses the pipeline, from the engine's exception.
        """
        ...

    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        """Run the pipeline once and say what the engine tells its user.

        Lets `CancelledError` through: the laboratory turns it into an outcome, because
        what the caller of a cancelled run sees is a fact of its own. Leaves no task behind
        that the engine did not leave itself.
        """
        ...

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str | None:
        """Return a stand-alone script in the engine's own API, or None if there is none yet.

        The script imports the engine and the standard library only and runs on the stock
        event loop. It has what it needs for the function `violation` whose source is
        `check`: `seen` (what the stages recorded: (seconds since start, stage, kind, detail)
        with the kinds of the journal, at least those that the check names in double quotes),
        `error` (the exception that came out, or None), `outputs` (stage -> what it gave, of each
        that the engine lets its user see as completed, also through the exception), `left` (where
        the tasks are that go on after the run), `took` (seconds).
        A check may also look at `results` (of one run, as the engine gives them), `strays` (where
        tasks are a moment later), `dropped` and `pending` (by the engine's account of events) and
        `unretrieved` (what the loop was told of exceptions that nobody fetched).
        `violation` returns None or what was seen; the script prints `VIOLATION <clause>:
        <what was seen>` and exits 1, or `HOLDS <clause>` and exits 0; it exits 2 where it
        could not run, and ends within 30 seconds by itself. It may raise `Unrenderable` (of
        `kernel.script`) to say what the engine's own API has no words for.
        """
        ...
