"""What a stage is given: its inputs and the engine's services, under its own name.

Every stage gets the same context on every entry point: a pipeline's run, a subpipeline,
a single stage run by itself. Nothing reachable from it is shared with another stage but
what the user put there on purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine.account import EventAccount
from harness.engine.cleanup import Cleanup
from harness.engine.errors import EngineError, ToolTimeout
from harness.engine.graph import StageSpec, isolated, seconds
from harness.engine.identity import Identity, Origin, current
from harness.engine.job import Job
from harness.engine.result import RunResult
from harness.engine.tenancy import TenantRows
from harness.engine.trace import OpenSpan

if TYPE_CHECKING:
    from harness.engine.pipeline import Pipeline
    from harness.engine.run import Run

__all__ = ["Context"]

T = TypeVar("T")


class Context:
    """The engine's services for one execution of one stage.

    Attributes:
        run_id, pipeline, stage: who runs.
        needs: the stages whose outputs `input` gives.
        attempt: which attempt of the stage this is, from 1; see `Retry`.
        compensations: what this attempt has declared by `compensate`.
        chunks_dropped: how many chunks came when `chunks_max` were kept.
        at_end: see `when_ended`.
        span: the stage's own, if the run is traced.
    """

    def __init__(self, run: Run, job: Job, spec: StageSpec) -> None:
        self._run = run
        self._job = job
        self._chunks: list[Any] = []
        self.run_id = run.run_id
        self.pipeline = run.graph.settings.name
        self.stage = spec.name
        self.needs = spec.needs
        self.chunks_dropped = 0
        self._timeout_s = spec.timeout_s
        self.attempt = 1 if spec.retry is None else run.attempt_of(spec.name)
        self.compensations: tuple[Cleanup, ...] = ()
        self.at_end: list[Callable[[bool], None]] | None = None
        self.span: OpenSpan | None = None

    def enter(self) -> None:
        """Let the task that calls this, and all that comes of it, know for whom it works."""
        current.set(self)
        origin = self._run.origin
        if origin.spans is not None:
            attributes = self._run.span_attributes() | {
                "stage": self.stage,
                "attempt": self.attempt,
            }
            now_s = asyncio.get_running_loop().time()
            self.span = origin.spans.begin(self.stage, "stage", self._run.span, now_s, attributes)
            origin.spans.enter(self.span)

    @property
    def origin(self) -> Origin:
        """Where the run comes from."""
        return self._run.origin

    @property
    def tenant(self) -> str:
        """Whom the run is for, "" for nobody; see `tenancy`."""
        return self._run.origin.tenant

    @property
    def correlation_id(self) -> str:
        """What the caller knows the run by, "" if it gave nothing."""
        return self._run.origin.correlation_id

    @property
    def traceparent(self) -> str:
        """The W3C header for calls that this stage makes, "" if the run is not traced."""
        return "" if self.span is None else self.span.place.traceparent

    @property
    def tracestate(self) -> str:
        """The header that goes with `traceparent`, as the run's caller gave it."""
        return "" if self.span is None else self.span.place.state

    @property
    def identity(self) -> Identity:
        """All ids of this execution; `current_identity` gives them where there is no context."""
        origin, span = self._run.origin, self.span
        ids = ("", "", "")
        if span is not None:
            ids = (span.place.trace_id, span.place.span_id, span.parent_id)
        return Identity(
            self.run_id, self.pipeline, self.stage, origin.tenant, origin.correlation_id, *ids
        )

    @property
    def store(self) -> TenantRows:
        """The rows of the run's tenant in the store that the run was given."""
        return TenantRows(self._run.origin.store, self._run.origin.tenant)

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs of the run: a copy of the stage's own."""
        return self._copy(self._run.inputs, "the run's inputs")  # type: ignore[no-any-return]

    def input(self, stage: str) -> Any:
        """Return the output of a stage that this one needs; None if that one was skipped.

        It is a copy of the reader's own: changing it changes it for nobody else.
        """
        if stage not in self.needs:
            raise EngineError(
                f"stage {self.stage!r} reads {stage!r} without needing it; add it to its needs"
            )
        return self._copy(self._run.output_of(stage), f"the output of stage {stage!r}")

    @property
    def deadline_s(self) -> float | None:
        """When, on the loop's clock, the first of this stage's deadlines expires, or None.

        Counted are its own timeout, its run's, and those of all that this run is a child of.
        """
        started = self._job.started_s
        own = None if self._timeout_s is None or started is None else started + self._timeout_s
        return min((d for d in (own, self._run.deadline_s) if d is not None), default=None)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until `deadline_s`, or None."""
        deadline = self.deadline_s
        if deadline is None:
            return None
        return max(0.0, deadline - asyncio.get_running_loop().time())

    @property
    def grace_left_s(self) -> float | None:
        """Seconds that this stage has left to end in, if it has been told to stop, else None."""
        end_s = self._job.given_up_at_s
        return None if end_s is None else max(0.0, end_s - asyncio.get_running_loop().time())

    @property
    def told_to_stop(self) -> str:
        """Why the engine has told this stage to stop: "timed_out", "cancelled", or "" if not."""
        why = self._job.stopped
        return "" if why is None else why.status

    @property
    def ended(self) -> bool:
        """True when the stage has ended, or was given up."""
        return self._job.closed

    def when_ended(self, call: Callable[[bool], None]) -> None:
        """Have `call` called once, without waiting, when the stage has ended or was given up:
        with True if it has completed, and will be reported so."""
        if self.at_end is None:
            self.at_end = []
        self.at_end.append(call)

    def is_within(self, other: Context) -> bool:
        """Say whether this stage is `other`, or runs in a subpipeline of it."""
        at: Context | None = self
        while at is not None and at is not other:
            at = at._run._parent
        return at is other

    def emit(self, type: str, data: Any = None) -> bool:
        """Hand an event to the run's sink, if it has one, without waiting; see `sink`.

        False if the event is lost already. Nothing that the sink does fails a stage.
        """
        return self._run.emit(self.stage, type, data)

    async def send(self, type: str, data: Any = None) -> bool:
        """Hand an event to the run's sink as `emit` does; but where the sink's queue is full,
        and its policy is to block, wait for room."""
        return await self._run.send(self.stage, type, data)

    @property
    def events(self) -> EventAccount | None:
        """The account of the run's events at this moment, or None if it has no sink."""
        return self._run.event_account()

    async def chunk(self, value: Any) -> None:
        """Keep a partial result in the stage's report, also if the stage ends early.

        The first `chunks_max` are kept; of what follows only the number. If the stage's chunks
        are consumed (see `Run.stream`), wait until there is room for this one.
        """
        if len(self._chunks) >= self._run.graph.settings.chunks_max:
            self.chunks_dropped += 1
        else:
            self._chunks.append(self._copy(value, "a chunk"))
        stream = self._run.stream_of(self.stage)
        if stream is not None:
            await stream.put(self._copy(value, "a chunk"))

    @property
    def chunks(self) -> tuple[Any, ...]:
        """The partial results kept so far."""
        return tuple(self._chunks)

    def heartbeat(self) -> None:
        """Say that the stage is alive: its idle timeout starts anew."""
        self._job.beat_s = asyncio.get_running_loop().time()

    def cleanup(self, name: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Have `fn` awaited at the end of the run, whatever becomes of it.

        Cleanups run when all stages have ended, the last registered first, each once.
        """
        self._run.add_cleanup(name, self.stage, fn)

    def compensate(self, name: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Have `fn` awaited if this stage completes and the run fails later.

        Compensations run when all stages have ended, those of the stage that completed last
        first, each once; see `compensation`.
        """
        if self._job.closed:
            raise EngineError(f"stage {self.stage!r}: compensation {name!r} comes after its end")
        self.compensations += (Cleanup(name, self.stage, fn),)

    async def call(
        self, tool: str, fn: Callable[[], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        """Await a tool under a timeout of its own, in seconds.

        Raises:
            ToolTimeout: if it was this timeout that ended the call.
        """
        if timeout_s is None:
            return await fn()
        limit = seconds(timeout_s, f"stage {self.stage!r}: timeout_s of tool {tool!r}")
        try:
            async with asyncio.timeout(limit) as scope:
                value = await fn()
        except TimeoutError as exc:
            # The tool's own TimeoutError is not ours, even if the two look alike.
            if scope.expired() and isinstance(exc.__cause__, asyncio.CancelledError):
                raise ToolTimeout(self.stage, tool, limit) from exc
            raise
        if scope.expired():  # the tool swallowed its cancellation; it is late all the same
            raise ToolTimeout(self.stage, tool, limit)
        return value

    async def to_thread(self, fn: Callable[..., T], *args: Any) -> T:
        """Await `fn(*args)` in a worker thread.

        A timeout or cancel ends the stage, not the thread; the result names such stages.
        """
        result: T = await self._run.threads.call(self.stage, fn, *args)
        return result

    async def subpipeline(
        self, pipeline: Pipeline, inputs: Mapping[str, Any] | None = None
    ) -> RunResult:
        """Run another pipeline as a child of this run.

        It ends when this stage is ended, and sees this stage's deadline. Its failure is
        raised here, once.

        Raises:
            RunFailed, RunCancelled: as `Pipeline.run` does.
        """
        return await self._run.run_child(self, pipeline, inputs)

    def _copy(self, value: Any, what: str) -> Any:
        return isolated(value, f"stage {self.stage!r}: {what}")
