"""One run of a pipeline: starts stages, ends them, cleans up, and says what came of it.

The caller's own task supervises. It waits in one place only (`Run._pause`), where a
cancel of the caller is remembered instead of obeyed at once: the stages, each a task of
its own, are then told to stop, are awaited, cleanups run, and only then does the caller
see its `CancelledError`. So a cancel can land at any suspension point, any number of
times, and changes nothing in this order.

When the engine tells stages to stop, it gives them `cleanup_grace_s` to end; registered
cleanups then have the same time again, all together.

The module is longer than its neighbours because the rules in it hold only together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from harness.engine.account import EventAccount
from harness.engine.checkpoint import CheckpointError, Checkpoints
from harness.engine.cleanup import Cleanup, CleanupRegistry
from harness.engine.compensation import Compensations
from harness.engine.context import Context
from harness.engine.errors import (
    EngineError,
    GraceExceeded,
    PipelineError,
    RunCancelled,
    RunFailed,
    RunTimeout,
    StageTimeout,
    StrayCancel,
)
from harness.engine.graph import Graph, StageSpec, isolated
from harness.engine.identity import NOWHERE, Origin
from harness.engine.job import TURNS, Job, Stop
from harness.engine.measure import Measurement
from harness.engine.result import (
    CancelBranch,
    CancelRun,
    CleanupFailure,
    Event,
    Failure,
    RunResult,
    Skip,
    StageResult,
)
from harness.engine.retry import Retries, failures_of
from harness.engine.sink import Sink, intake_of
from harness.engine.stream import Stream
from harness.engine.threads import Threads
from harness.engine.trace import OpenSpan, SpanMaker

if TYPE_CHECKING:
    from harness.engine.pipeline import Pipeline

__all__ = ["Run"]

# A child run must be over before its parent stage is given up, or the parent could not
# tell what is still running: so it takes this share of the grace that the parent has left.
CHILD_GRACE = 0.9


class Run:
    """One run; made by `Pipeline.prepare`, awaited once by `execute`.

    Attributes:
        result: what came of it, once it is over; also after the caller was cancelled.
        deadline_s: on the loop's clock, of this run and of all that it is a child of.
        origin: whom it is for, and what it comes under.
        span: the run's own, if it is traced.
    """

    context_type: ClassVar[type[Context]] = Context
    job_type: ClassVar[type[Job]] = Job
    registry_type: ClassVar[type[CleanupRegistry]] = CleanupRegistry
    retries_type: ClassVar[type[Retries]] = Retries
    stream_type: ClassVar[type[Stream]] = Stream
    compensations_type: ClassVar[type[Compensations]] = Compensations

    def __init__(
        self,
        graph: Graph,
        run_id: str,
        inputs: Mapping[str, Any],
        sink: Sink | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        parent: Context | None = None,
        checkpoints: Checkpoints | None = None,
        origin: Origin = NOWHERE,
    ) -> None:
        self.graph = graph
        self.run_id = run_id
        self.inputs = isolated(dict(inputs), f"run {run_id!r}: its inputs")
        self.origin = origin
        self.span: OpenSpan | None = None
        self.result: RunResult | None = None
        self.deadline_s = None if parent is None else parent.deadline_s
        self.threads = Threads()
        self._events = intake_of(sink)
        self._closes_events = self._events is not sink
        self._streams: dict[str, Stream] = {}
        self._given = given or {}
        self._parent = parent
        self._loop: asyncio.AbstractEventLoop
        self._began_s = -1.0
        self._deadline: asyncio.Handle | None = None
        self._wake: asyncio.Future[None] | None = None
        self._open = len(graph.stages)
        self._waits = {
            name: sum(need in graph.stages for need in spec.needs)
            for name, spec in graph.stages.items()
        }
        self._ready = [name for name, count in self._waits.items() if not count]
        self._running: dict[str, Job] = {}
        self._contexts: dict[str, Context] = {}
        self._begun: dict[str, Context] = {}
        self._ended: list[Job] = []
        self._reports: dict[str, StageResult] = {}
        self._blocked: set[str] = set()
        self._cleanups = self.registry_type()
        self._compensations = self.compensations_type()
        self._compensation_failures: list[CleanupFailure] = []
        self._retries = self.retries_type()
        self._checkpoints = checkpoints
        self._reused: tuple[str, ...] = ()
        self._failures: list[Failure] = []
        self._cleanup_failures: list[CleanupFailure] = []
        self._still_running: list[str] = []
        self._threads_running: list[str] = []
        self._asked_to_end: list[tuple[str, str]] = []
        self._branches_ended: list[tuple[str, str]] = []
        self._children: dict[str, int] = {}
        self._stop_wanted: Stop | None = None
        self._stopping = False
        self._caller_cancel: asyncio.CancelledError | None = None

    async def execute(self) -> RunResult:
        """Run to the end and return the result.

        Raises:
            RunFailed, RunCancelled: carrying the result.
            RedriveRefused: if it is a redrive that cannot be; nothing was run.
            asyncio.CancelledError: if the caller was cancelled, after all has ended; `result`
                then says what came of the run.
        """
        if self._began_s >= 0:
            raise EngineError(f"run {self.run_id!r} was started before; prepare() another")
        self._begin()
        while self._open:
            await self._pause()
            self._settle()
        await self._compensate()
        await self._clean_up()
        await self._settle_events()
        self.threads.close()
        if self._checkpoints is not None:
            self._checkpoints.close()
        self.result = self._sum_up()
        return self._deliver(self.result)

    # Waiting, and being cancelled.

    async def _pause(self) -> None:
        """Wait until something has happened. The only place in which the caller's task waits."""
        self._wake = self._loop.create_future()
        try:
            await self._wake
        except asyncio.CancelledError as exc:
            self._caller_cancelled(exc)
        finally:
            self._wake = None

    def _notify(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        # No uncancel(): the request is the caller's, and asyncio.timeout() counts on it.
        if self._caller_cancel is None:
            self._caller_cancel = exc
        self._want_stop(Stop("cancelled", "the caller cancelled the run"))
        for job in self._running.values():
            job.hurry(self._grace_s())  # a child's caller may have less time left

    # Starting stages.

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        if self._checkpoints is not None:
            self._go_on_from(self._checkpoints)
        self._began_s = self._loop.time()
        if self.origin.spans is not None:
            self._begin_span(self.origin.spans)
        limit = self.graph.settings.timeout_s
        if limit is not None:
            own = self._began_s + limit
            self.deadline_s = own if self.deadline_s is None else min(own, self.deadline_s)
            self._deadline = (
                self._loop.call_later(limit, self._run_expired, limit)
                if limit
                else self._loop.call_soon(self._run_expired, limit)
            )
        self._start_ready()

    def _go_on_from(self, checkpoints: Checkpoints) -> None:
        """Take over what an earlier run of which this is a redrive has completed, if it is one."""
        found = checkpoints.open(self.graph, self.inputs, self.origin.tenant)
        self.inputs = found.head.inputs
        self._reused = tuple(one.stage for one in found.stages)
        for one in found.stages:
            report = StageResult(one.stage, one.status, output=one.output, reason=one.reason)
            if one.status == "cancelled":
                self._branches_ended.append((one.stage, one.reason))
            self._report(report)
        self._ready = [name for name in self._ready if name not in self._reports]

    def _start_ready(self) -> None:
        ready, self._ready = self._ready, []
        for name in ready:
            self._start(self.graph.stages[name])

    def _start(self, spec: StageSpec) -> None:
        job = self.job_type(spec.name, self._loop)
        self._running[spec.name] = job
        self._contexts[spec.name] = context = self.context_type(self, job, spec)
        job.start(self._stage_main(job, spec, context), self._stage_closed)
        if self._streams and self._stream_stopped(spec.name):
            self._stop_producer(spec.name)

    async def _stage_main(self, job: Job, spec: StageSpec, context: Context) -> Any:
        """The stage's own task: starts its clocks, runs its function, hands its output over."""
        context.enter()
        self._begun[spec.name] = context
        self._arm(job, spec)
        try:
            value = await spec.fn(context)
        except asyncio.CancelledError as exc:
            if job.stopped is None:
                raise StrayCancel(f"stage {spec.name!r}") from exc
            raise
        return self._kept(spec.name, value)

    def _kept(self, stage: str, value: Any) -> Any:
        """Return a stage's output as the run keeps it: out of the stage's own reach."""
        if isinstance(value, (Skip, CancelRun, CancelBranch)):
            return value
        return isolated(value, f"stage {stage!r}: its output")

    def _arm(self, job: Job, spec: StageSpec) -> None:
        job.started_s = job.beat_s = self._loop.time()
        if spec.timeout_s is not None:
            error = StageTimeout(spec.name, spec.timeout_s)
            job.after("timeout", spec.timeout_s, self._expire, job, error)
        if spec.idle_timeout_s is not None:
            job.after("idle", spec.idle_timeout_s, self._idle, job, spec, job.beat_s)

    def _idle(self, job: Job, spec: StageSpec, since_s: float) -> None:
        limit = spec.idle_timeout_s
        assert limit is not None  # the timer is set only if there is one
        if job.beat_s > since_s:
            left = job.beat_s + limit - self._loop.time()
            job.after("idle", left, self._idle, job, spec, job.beat_s)
        else:
            self._expire(job, StageTimeout(spec.name, limit, idle=True))

    # Ending stages.

    def _expire(self, job: Job, error: StageTimeout) -> None:
        if job.stop(Stop("timed_out", str(error), error), self._grace_s()):
            if not self._tries_left(job):
                self._fail(Failure(job.name, error))
            # A turn later, so that what ends in this very tick has ended when the run reacts.
            self._loop.call_soon(self._notify)

    def _run_expired(self, limit: float) -> None:
        if self._open and self._stop_wanted is None:
            error = RunTimeout(self.graph.settings.name, limit)
            self._failures.append(Failure(None, error))
            self._want_stop(Stop("cancelled", str(error), error))
            self._loop.call_soon(self._notify)

    def _fail(self, failure: Failure) -> None:
        self._failures.append(failure)
        if self.graph.settings.on_failure == "cancel":
            self._want_stop(Stop("cancelled", f"stage {failure.stage!r} failed"))

    def _want_stop(self, why: Stop) -> None:
        if self._stop_wanted is None:
            self._stop_wanted = why

    def _stop_all(self, why: Stop) -> None:
        """Tell every running stage to stop, and skip every one that was not started."""
        self._stopping = True
        for job, failures in self._retries.drop():
            self._report(self._not_tried_again(job, failures, why))
        for job in self._running.values():
            job.stop(why, self._grace_s())
        for name in self.graph.stages:
            if name not in self._running and name not in self._reports:
                self._skip(name, why.reason)

    def _grace_s(self) -> float:
        own = self.graph.settings.cleanup_grace_s
        left = None if self._parent is None else self._parent.grace_left_s
        return own if left is None else min(own, CHILD_GRACE * left)

    # What has ended.

    def _stage_closed(self, job: Job) -> None:
        context = self._contexts[job.name]
        if context.span is not None:
            self._end_span(context.span, job)
        watchers = context.at_end
        if watchers is not None:
            completed = self._has_completed(job)
            for call in watchers:
                call(completed)
        self._ended.append(job)
        self._notify()

    def _settle(self) -> None:
        """Take in all that has ended by now, and only then act on it.

        So stages that end in one tick with a failure count as what they are.
        """
        ended, self._ended = self._ended, []
        for job in ended:
            del self._running[job.name]
            if self._tries_left(job) and self._try_again(job):
                continue
            self._report(self._judge(job))
        if self._stop_wanted is None:
            self._start_ready()
        elif not self._stopping:
            self._stop_all(self._stop_wanted)

    # Trying again.

    def _tries_left(self, job: Job) -> bool:
        return self._retries.left(job.name, self.graph.stages[job.name].retry)

    def _try_again(self, job: Job) -> bool:
        """Deal with an attempt that is not the last; False if it decides about its stage."""
        failures = failures_of(job)
        if not failures:
            return False
        why = self._stop_wanted
        if why is not None and not job.given_up:
            self._report(self._not_tried_again(job, failures, why))
            return True
        retry = self.graph.stages[job.name].retry
        assert retry is not None  # there are tries left
        wait_s = retry.wait_s(self._retries.attempts(job.name), self.graph.settings.rng)
        in_time = self.deadline_s is None or self._loop.time() + wait_s < self.deadline_s
        if job.given_up or not in_time:
            if job.stopped is not None:  # it timed out, which was not told while it had tries left
                self._fail(failures[0])
            return False
        self._retries.wait(job, failures, wait_s, self._loop, self._wait_over)
        return True

    def _wait_over(self, stage: str) -> None:
        if self._stop_wanted is None:  # else the wait is dropped when the run reacts
            self._retries.begin(stage)
            self._start(self.graph.stages[stage])

    def _not_tried_again(self, job: Job, failures: tuple[Failure, ...], why: Stop) -> StageResult:
        """Report a stage that had tries left when the run was told to stop: that is what ended
        it, and what failed before is told as the error of its last attempt."""
        note = "it had failed and was to be tried again"
        return self._stage_result(
            job, "cancelled", error=failures[0].error, reason=why.reason, note=note
        )

    def _judge(self, job: Job) -> StageResult:
        """Say what became of a stage; why the engine told it to stop goes before all else."""
        if job.stopped is not None:
            return self._judge_stopped(job, job.stopped)
        error = job.error()
        if error is None and not job.returned():
            error = StrayCancel(f"stage {job.name!r}")
        if error is not None:
            self._fail(Failure(job.name, error))
            return self._stage_result(job, "failed", error=error)
        assert job.task is not None  # it has returned
        return self._judge_returned(job, job.task.result())

    def _has_completed(self, job: Job) -> bool:
        """Say of a job that has closed whether it will be judged to have completed."""
        if job.stopped is not None or not job.returned() or job.task is None:
            return False
        return not isinstance(job.task.result(), (Skip, CancelRun, CancelBranch))

    def _judge_stopped(self, job: Job, why: Stop) -> StageResult:
        note = "" if job.started_s is not None else "it had not begun"
        if job.given_up:
            note = "it did not stop within the grace; its task is left running"
            self._still_running.append(job.name)
        elif job.returned():
            note = "it swallowed its cancellation and returned; what it returned is dropped"
        else:
            error = job.error()
            if error is not None:
                # Told, but no reason to stop others: what it was stopped for has decided that.
                note = "it failed while it was stopping"
                self._failures.append(Failure(job.name, error, stopping=True))
        return self._stage_result(job, why.status, error=why.error, reason=why.reason, note=note)

    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        if isinstance(value, Skip):
            return self._kept_for_redrive(
                job, self._stage_result(job, "skipped", reason=value.reason)
            )
        if isinstance(value, CancelBranch):
            self._branches_ended.append((job.name, value.reason))
            return self._kept_for_redrive(
                job, self._stage_result(job, "cancelled", reason=value.reason)
            )
        if isinstance(value, CancelRun):
            self._asked_to_end.append((job.name, value.reason))
            self._want_stop(Stop("cancelled", f"stage {job.name!r} ended the run: {value.reason}"))
            return self._stage_result(job, "cancelled", reason=value.reason)
        self._compensations.completed(self._contexts[job.name].compensations)
        return self._kept_for_redrive(job, self._stage_result(job, "completed", output=value))

    def _kept_for_redrive(self, job: Job, report: StageResult) -> StageResult:
        """Keep a report before anything that needs its stage can start; a stage whose output
        cannot be kept has failed."""
        if self._checkpoints is not None:
            try:
                self._checkpoints.keep(report)
            except EngineError as error:
                self._fail(Failure(job.name, error))
                return self._stage_result(job, "failed", error=error)
        return report

    def _stage_result(self, job: Job, status: str, **more: Any) -> StageResult:
        # An attempt that had not begun leaves the partial results of the one before it.
        context = self._begun.get(job.name)
        return StageResult(
            job.name,
            status,
            chunks=() if context is None else context.chunks,
            chunks_dropped=0 if context is None else context.chunks_dropped,
            started_s=job.started_s,
            ended_s=job.ended_s,
            attempts=self._retries.attempts(job.name) - (job.started_s is None),
            earlier=self._retries.earlier(job.name),
            **more,
        )

    def _report(self, report: StageResult) -> None:
        """Note a stage's result and find out what that means for the stages that need it."""
        self._note(report)
        reports = [report]
        for one in reports:  # grows: what needs a stage that did not complete is skipped
            for name in self.graph.dependents[one.name]:
                if name in self._reports:
                    continue
                if self._lets_pass(one):
                    self._waits[name] -= 1
                    if not self._waits[name]:
                        self._ready.append(name)
                else:
                    reason = f"it needs stage {one.name!r} ({one.status})"
                    reports.append(self._skip(name, reason))

    def _lets_pass(self, report: StageResult) -> bool:
        return report.complete and report.name not in self._blocked

    def _skip(self, name: str, reason: str) -> StageResult:
        report = StageResult(name, "skipped", reason=reason)
        self._blocked.add(name)
        self._note(report)
        return report

    def _note(self, report: StageResult) -> None:
        if self.origin.measures is not None:
            self._measure("stage.duration_s", report.duration_s, report.status, stage=report.name)
        self._reports[report.name] = report
        self._open -= 1
        if report.name in self._streams:
            self._streams[report.name].end()

    # Being consumed.

    def stream(self, stage: str, *, buffer_max: int = 16) -> Stream:
        """Return the chunks of a stage, to be consumed while the run goes on; see `stream.py`.

        Raises:
            EngineError: if the run has begun, or the stage has a consumer already.
            PipelineError: if there is no such stage, or the bound cannot be used.
        """
        if stage not in self.graph.stages:
            raise PipelineError(f"run {self.run_id!r}: stream of stage {stage!r}: not declared")
        if stage in self._streams or self._began_s >= 0:
            why = "it has one" if stage in self._streams else "the run has begun"
            raise EngineError(f"run {self.run_id!r}: stage {stage!r} gets no stream: {why}")
        self._streams[stage] = stream = self.stream_type(stage, buffer_max, self._consumer_stopped)
        return stream

    def _stream_stopped(self, stage: str) -> bool:
        return stage in self._streams and self._streams[stage].stopped

    def _consumer_stopped(self, stage: str) -> bool:
        """Stop a stage that nobody consumes any more; say whether its end is to be awaited."""
        if self._began_s < 0 or stage in self._reports:
            return False
        self._stop_producer(stage)
        return True

    def _stop_producer(self, stage: str) -> None:
        if stage in self._running:
            why = Stop("cancelled", "the consumer of its stream has stopped")
            self._running[stage].stop(why, self._grace_s())

    # Undoing and cleaning up.

    async def _compensate(self) -> None:
        """Undo what has completed if the run has failed; see `compensation`."""
        stages = self._compensations.stages()
        if not stages or not self._failed_by_itself():
            return
        if self._checkpoints is not None:
            try:
                self._checkpoints.withdraw(stages, self.graph)
            except CheckpointError as exc:
                # What a redrive would take for done must not be undone.
                self._compensation_failures += [
                    CleanupFailure(one.name, one.stage, exc)
                    for one in self._compensations.take_all()
                ]
        await self._in_turn(
            "compensation", self._compensations.take, self._undo, self._judge_undone
        )

    async def _undo(self, compensation: Cleanup) -> None:
        await compensation.fn()

    def _judge_undone(self, compensation: Cleanup, job: Job) -> None:
        self._judge_done(compensation, job, self._compensation_failures)

    async def _clean_up(self) -> None:
        """Run registered cleanups, the last registered first."""
        await self._in_turn("cleanup", self._next_cleanup, self._cleanup_main, self._judge_cleanup)

    def _next_cleanup(self) -> Cleanup | None:
        return self._cleanups.take()

    async def _in_turn(
        self,
        kind: str,
        take: Callable[[], Cleanup | None],
        main: Callable[[Cleanup], Coroutine[Any, Any, None]],
        judge: Callable[[Cleanup, Job], None],
    ) -> None:
        """Run cleanups or compensations, one after the other, as tasks that no cancel reaches.

        When the grace for all of them is over, the rest is still started, for the sake of
        those that need not wait; those that must are cut, and reported.
        """
        grace_s = self._grace_s()
        end_s = self._loop.time() + grace_s
        while (one := take()) is not None:
            what = f"{kind} {one.name!r}"
            job = self.job_type(what, self._loop)
            job.start(main(one), lambda _job: self._notify(), one.variables)
            why = Stop("cancelled", "", GraceExceeded(what, grace_s))
            job.after("limit", end_s - self._loop.time(), self._cut, job, why, TURNS)
            while not job.closed:
                await self._pause()
            judge(one, job)

    async def _cleanup_main(self, cleanup: Cleanup) -> None:
        await cleanup.fn()

    def _cut(self, job: Job, why: Stop, turns: int) -> None:
        if turns:
            job.after("limit", 0, self._cut, job, why, turns - 1)
        else:
            job.stop(why, 0)

    def _judge_cleanup(self, cleanup: Cleanup, job: Job) -> None:
        self._judge_done(cleanup, job, self._cleanup_failures)

    def _judge_done(self, cleanup: Cleanup, job: Job, failures: list[CleanupFailure]) -> None:
        error = job.error()
        if job.stopped is not None:
            error = job.stopped.error
        elif error is None and not job.returned():
            error = StrayCancel(job.name)
        if job.given_up:
            self._still_running.append(job.name)
        if error is not None:
            failures.append(CleanupFailure(cleanup.name, cleanup.stage, error))

    async def _settle_events(self) -> None:
        """Give the events that are still on their way the time that their queue has for it."""
        if self._events is None or not self._closes_events or self._events.close():
            return
        job = self.job_type("drain of events", self._loop)
        job.start(self._events.drain(self._grace_s()), lambda _job: self._notify())
        while not job.closed:
            await self._pause()
        if self._events.stuck:
            self._still_running.append("event sink")

    # What came of it.

    def _status(self) -> str:
        """A failure in its own right makes a run a failed one, whatever came after it."""
        if self._caller_cancel is not None:
            return "cancelled"
        if self._failed_by_itself():
            return "failed"
        return "cancelled" if self._asked_to_end else "completed"

    def _failed_by_itself(self) -> bool:
        return any(not failure.stopping for failure in self._failures)

    def _sum_up(self) -> RunResult:
        if self._deadline is not None:
            self._deadline.cancel()
        ender, reason = (*self._asked_to_end, *self._branches_ended, (None, ""))[0]
        if self._caller_cancel is not None:
            ender, reason = None, "the caller cancelled the run"
        if self.span is not None and self.origin.spans is not None:
            told = {"completed": "ok", "failed": "error"}.get(self._status(), "cancelled")
            self.origin.spans.end(self.span, self._loop.time(), told)
        self._measure("run.duration_s", self._loop.time() - self._began_s, self._status())
        return RunResult(
            run_id=self.run_id,
            pipeline=self.graph.settings.name,
            status=self._status(),
            stages=MappingProxyType({name: self._reports[name] for name in self.graph.stages}),
            failures=tuple(self._failures),
            cleanup_failures=tuple(self._cleanup_failures),
            compensated=tuple(self._compensations.run),
            compensation_failures=tuple(self._compensation_failures),
            reused=self._reused,
            still_running=tuple(self._still_running),
            threads_running=(*self.threads.busy(), *self._threads_running),
            reason=reason,
            cancelled_by=ender,
            events=None if self._events is None else self._events.account(),
            duration_s=self._loop.time() - self._began_s,
            tenant=self.origin.tenant,
            correlation_id=self.origin.correlation_id,
            trace_id="" if self.span is None else self.span.place.trace_id,
        )

    def _deliver(self, result: RunResult) -> RunResult:
        """Return the result, or raise what says that there is more to it."""
        name = f"run {self.run_id!r} of pipeline {self.graph.settings.name!r}"
        cancel, self._caller_cancel = self._caller_cancel, None
        if cancel is not None:
            raise cancel
        if result.status == "failed":
            told = "; ".join(f.message for f in result.failures if not f.stopping)
            first = next(f.error for f in result.failures if not f.stopping)
            raise RunFailed(result, f"{name} failed: {told}") from first
        if result.status == "cancelled":
            by = f"stage {result.cancelled_by!r}"
            raise RunCancelled(result, f"{name} was cancelled by {by}: {result.reason}")
        return result

    # Being traced and measured.

    def _measure(self, name: str, value: float | None, status: str, **labels: str) -> None:
        """Hand on a measurement; whoever is told and raises fails nobody."""
        if self.origin.measures is None or value is None:
            return
        labels |= {
            "tenant": self.origin.tenant,
            "pipeline": self.graph.settings.name,
            "status": status,
        }
        with contextlib.suppress(Exception):
            self.origin.measures(Measurement(name, value, labels))

    def _begin_span(self, spans: SpanMaker) -> None:
        name = self.graph.settings.name
        self.span = spans.begin(
            name, "run", self.origin.above, self._began_s, self.span_attributes()
        )

    def span_attributes(self) -> dict[str, Any]:
        """Return what spans of the run, and of its stages, say of it."""
        return {
            "run_id": self.run_id,
            "pipeline": self.graph.settings.name,
            "tenant": self.origin.tenant,
            "correlation_id": self.origin.correlation_id,
        }

    def _end_span(self, span: OpenSpan, job: Job) -> None:
        failed = job.error() is not None or (
            job.stopped is not None and job.stopped.status == "timed_out"
        )
        told = "ok" if self._has_completed(job) else "error" if failed else "cancelled"
        assert self.origin.spans is not None  # it has begun the span
        self.origin.spans.end(span, self._loop.time(), told)

    # What contexts ask for.

    def output_of(self, stage: str) -> Any:
        """Return what a stage put out, None if it was skipped."""
        if stage in self._given:
            return self._given[stage]
        report = self._reports.get(stage)
        return None if report is None else report.output

    def emit(self, stage: str, type: str, data: Any) -> bool:
        """Hand an event on without waiting; False if it is lost already. See `sink`."""
        if self._events is None:
            return True
        return self._events.offer(self._event(stage, type, data))

    async def send(self, stage: str, type: str, data: Any) -> bool:
        """Hand an event on as `emit` does; wait for room where the queue's policy says so."""
        if self._events is None:
            return True
        return await self._events.send(self._event(stage, type, data))

    def _event(self, stage: str, type: str, data: Any) -> Event:
        return Event(self.run_id, stage, type, data, self._contexts[stage].identity)

    def event_account(self) -> EventAccount | None:
        """Return the account of the run's events, its subpipelines' and parent's included."""
        return None if self._events is None else self._events.account()

    def stream_of(self, stage: str) -> Stream | None:
        """Return the stream that the chunks of a stage go to, if somebody consumes them."""
        return self._streams.get(stage)

    def add_cleanup(self, name: str, stage: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Register a cleanup; refused when the run is over, because nobody would run it."""
        if self.result is not None:
            raise EngineError(f"stage {stage!r}: cleanup {name!r} comes after the run's end")
        self._cleanups.add(Cleanup(name, stage, fn))

    def attempt_of(self, stage: str) -> int:
        """Return the number of a stage's present attempt, from 1."""
        return self._retries.attempts(stage)

    async def run_child(
        self, context: Context, pipeline: Pipeline, inputs: Mapping[str, Any] | None
    ) -> RunResult:
        """Run a subpipeline in a stage's task: what ends the stage cancels the child's caller."""
        name = pipeline.name
        count = self._children[name] = self._children.get(name, 0) + 1
        child_id = f"{self.run_id}/{name}" + (f"#{count}" if count > 1 else "")
        child = pipeline.prepare(inputs, run_id=child_id, sink=self._events, parent=context)
        try:
            return await child.execute()
        finally:
            self._absorb(context.stage, child)

    def _absorb(self, stage: str, child: Run) -> None:
        """Take over what a child run leaves behind, so that the top run's result names it."""
        if child.result is not None:
            # What the child completed has to be undone if this run fails, and only then.
            self._compensations.completed(
                replace(one, stage=stage) for one in child._compensations.take_all()
            )
            self._compensation_failures += child.result.compensation_failures
            self._still_running += [f"{stage}/{name}" for name in child.result.still_running]
            self._threads_running += [f"{stage}/{name}" for name in child.result.threads_running]
            self._cleanup_failures += child.result.cleanup_failures
