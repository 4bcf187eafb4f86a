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
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from harness.engine.cleanup import Cleanup, CleanupRegistry
from harness.engine.context import Context
from harness.engine.errors import (
    EngineError,
    GraceExceeded,
    RunCancelled,
    RunFailed,
    RunTimeout,
    StageTimeout,
    StrayCancel,
)
from harness.engine.graph import Graph, StageSpec, isolated
from harness.engine.job import TURNS, Job, Stop
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
from harness.engine.threads import Threads

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
    """

    context_type: ClassVar[type[Context]] = Context
    job_type: ClassVar[type[Job]] = Job
    registry_type: ClassVar[type[CleanupRegistry]] = CleanupRegistry

    def __init__(
        self,
        graph: Graph,
        run_id: str,
        inputs: Mapping[str, Any],
        sink: Callable[[Event], None] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        parent: Context | None = None,
    ) -> None:
        self.graph = graph
        self.run_id = run_id
        self.inputs = isolated(dict(inputs), f"run {run_id!r}: its inputs")
        self.result: RunResult | None = None
        self.deadline_s = None if parent is None else parent.deadline_s
        self.threads = Threads()
        self._sink = sink
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
        self._ended: list[Job] = []
        self._reports: dict[str, StageResult] = {}
        self._blocked: set[str] = set()
        self._cleanups = self.registry_type()
        self._failures: list[Failure] = []
        self._cleanup_failures: list[CleanupFailure] = []
        self._still_running: list[str] = []
        self._threads_running: list[str] = []
        self._asked_to_end: list[tuple[str, str]] = []
        self._branches_ended: list[tuple[str, str]] = []
        self._children: dict[str, int] = {}
        self._events_lost = 0
        self._stop_wanted: Stop | None = None
        self._stopping = False
        self._caller_cancel: asyncio.CancelledError | None = None

    async def execute(self) -> RunResult:
        """Run to the end and return the result.

        Raises:
            RunFailed, RunCancelled: carrying the result.
            asyncio.CancelledError: if the caller was cancelled, after all has ended; `result`
                then says what came of the run.
        """
        if self._began_s >= 0:
            raise EngineError(f"run {self.run_id!r} was started before; prepare() another")
        self._begin()
        while self._open:
            await self._pause()
            self._settle()
        await self._clean_up()
        self.threads.close()
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

    # Starting stages.

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began_s = self._loop.time()
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

    def _start_ready(self) -> None:
        ready, self._ready = self._ready, []
        for name in ready:
            self._start(self.graph.stages[name])

    def _start(self, spec: StageSpec) -> None:
        job = self.job_type(spec.name, self._loop)
        self._running[spec.name] = job
        self._contexts[spec.name] = context = self.context_type(self, job, spec)
        job.start(self._stage_main(job, spec, context), self._stage_closed)

    async def _stage_main(self, job: Job, spec: StageSpec, context: Context) -> Any:
        """The stage's own task: starts its clocks, runs its function, hands its output over."""
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
        self._ended.append(job)
        self._notify()

    def _settle(self) -> None:
        """Take in all that has ended by now, and only then act on it.

        So stages that end in one tick with a failure count as what they are.
        """
        ended, self._ended = self._ended, []
        for job in ended:
            del self._running[job.name]
            self._report(self._judge(job))
        if self._stop_wanted is None:
            self._start_ready()
        elif not self._stopping:
            self._stop_all(self._stop_wanted)

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
                note = "it failed while it was stopping"
                self._fail(Failure(job.name, error, stopping=True))
        return self._stage_result(job, why.status, error=why.error, reason=why.reason, note=note)

    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        if isinstance(value, Skip):
            return self._stage_result(job, "skipped", reason=value.reason)
        if isinstance(value, CancelBranch):
            self._branches_ended.append((job.name, value.reason))
            return self._stage_result(job, "cancelled", reason=value.reason)
        if isinstance(value, CancelRun):
            self._asked_to_end.append((job.name, value.reason))
            self._want_stop(Stop("cancelled", f"stage {job.name!r} ended the run: {value.reason}"))
            return self._stage_result(job, "cancelled", reason=value.reason)
        return self._stage_result(job, "completed", output=value)

    def _stage_result(self, job: Job, status: str, **more: Any) -> StageResult:
        context = self._contexts[job.name]
        return StageResult(
            job.name,
            status,
            chunks=context.chunks,
            chunks_dropped=context.chunks_dropped,
            started_s=job.started_s,
            ended_s=job.ended_s,
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
        self._reports[report.name] = report
        self._open -= 1

    # Cleaning up.

    async def _clean_up(self) -> None:
        """Run registered cleanups, one after the other, as tasks that no cancel reaches.

        When the grace for all of them is over, the rest is still started, for the sake of
        those that need not wait; those that must are cut, and reported.
        """
        grace_s = self._grace_s()
        end_s = self._loop.time() + grace_s
        while (cleanup := self._cleanups.take()) is not None:
            what = f"cleanup {cleanup.name!r}"
            job = self.job_type(what, self._loop)
            job.start(self._cleanup_main(cleanup), lambda _job: self._notify())
            why = Stop("cancelled", "", GraceExceeded(what, grace_s))
            job.after("limit", end_s - self._loop.time(), self._cut, job, why, TURNS)
            while not job.closed:
                await self._pause()
            self._judge_cleanup(cleanup, job)

    async def _cleanup_main(self, cleanup: Cleanup) -> None:
        await cleanup.fn()

    def _cut(self, job: Job, why: Stop, turns: int) -> None:
        if turns:
            job.after("limit", 0, self._cut, job, why, turns - 1)
        else:
            job.stop(why, 0)

    def _judge_cleanup(self, cleanup: Cleanup, job: Job) -> None:
        error = job.error()
        if job.stopped is not None:
            error = job.stopped.error
        elif error is None and not job.returned():
            error = StrayCancel(job.name)
        if job.given_up:
            self._still_running.append(job.name)
        if error is not None:
            self._cleanup_failures.append(CleanupFailure(cleanup.name, cleanup.stage, error))

    # What came of it.

    def _status(self) -> str:
        """A failure in its own right makes a run a failed one, whatever came after it."""
        if self._caller_cancel is not None:
            return "cancelled"
        if any(not failure.stopping for failure in self._failures):
            return "failed"
        return "cancelled" if self._asked_to_end else "completed"

    def _sum_up(self) -> RunResult:
        if self._deadline is not None:
            self._deadline.cancel()
        ender, reason = (*self._asked_to_end, *self._branches_ended, (None, ""))[0]
        if self._caller_cancel is not None:
            ender, reason = None, "the caller cancelled the run"
        return RunResult(
            run_id=self.run_id,
            pipeline=self.graph.settings.name,
            status=self._status(),
            stages=MappingProxyType({name: self._reports[name] for name in self.graph.stages}),
            failures=tuple(self._failures),
            cleanup_failures=tuple(self._cleanup_failures),
            still_running=tuple(self._still_running),
            threads_running=(*self.threads.busy(), *self._threads_running),
            reason=reason,
            cancelled_by=ender,
            events_lost=self._events_lost,
            duration_s=self._loop.time() - self._began_s,
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

    # What contexts ask for.

    def output_of(self, stage: str) -> Any:
        """Return what a stage put out, None if it was skipped."""
        if stage in self._given:
            return self._given[stage]
        report = self._reports.get(stage)
        return None if report is None else report.output

    def emit(self, stage: str, type: str, data: Any) -> None:
        """Hand an event to the sink; a sink that raises is counted, and fails nobody."""
        if self._sink is None:
            return
        try:
            self._sink(Event(self.run_id, stage, type, data))
        except Exception:
            self._events_lost += 1

    def add_cleanup(self, name: str, stage: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Register a cleanup; refused when the run is over, because nobody would run it."""
        if self.result is not None:
            raise EngineError(f"stage {stage!r}: cleanup {name!r} comes after the run's end")
        self._cleanups.add(Cleanup(name, stage, fn))

    async def run_child(
        self, context: Context, pipeline: Pipeline, inputs: Mapping[str, Any] | None
    ) -> RunResult:
        """Run a subpipeline in a stage's task: what ends the stage cancels the child's caller."""
        name = pipeline.name
        count = self._children[name] = self._children.get(name, 0) + 1
        child_id = f"{self.run_id}/{name}" + (f"#{count}" if count > 1 else "")
        child = pipeline.prepare(inputs, run_id=child_id, sink=self._sink, parent=context)
        try:
            return await child.execute()
        finally:
            self._absorb(context.stage, child)

    def _absorb(self, stage: str, child: Run) -> None:
        """Take over what a child run leaves behind, so that the top run's result names it."""
        if child.result is not None:
            self._still_running += [f"{stage}/{name}" for name in child.result.still_running]
            self._threads_running += [f"{stage}/{name}" for name in child.result.threads_running]
            self._cleanup_failures += child.result.cleanup_failures
