"""Engines that break the TIME clauses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from harness.engine.broken.defect import defect
from harness.engine.context import Context
from harness.engine.errors import PipelineError, StageTimeout
from harness.engine.graph import StageSpec
from harness.engine.job import Job, Stop
from harness.engine.pipeline import Pipeline
from harness.engine.result import Failure, RunResult, StageResult
from harness.engine.run import Run

__all__ = ["TIMEOUTS"]

T = TypeVar("T")


def _arm_at(run: Run, job: Job, spec: StageSpec, delay_s: float) -> None:
    """Arm a stage's timeout for another moment than its own."""
    assert spec.timeout_s is not None  # callers look first
    error = StageTimeout(spec.name, spec.timeout_s)
    job.after("timeout", delay_s, run._expire, job, error)


class NeverEnforced(Run):
    def _arm(self, job: Job, spec: StageSpec) -> None:
        super()._arm(job, replace(spec, timeout_s=None))


class FiresLate(Run):
    def _arm(self, job: Job, spec: StageSpec) -> None:
        super()._arm(job, spec)
        if spec.timeout_s:
            _arm_at(self, job, spec, 2 * spec.timeout_s)


class OnWallClock(Run):
    """Keeps deadlines by the clock on the wall, which may be set, and looks at it now and then."""

    def _arm(self, job: Job, spec: StageSpec) -> None:
        super()._arm(job, spec)
        if spec.timeout_s:
            self._look(job, StageTimeout(spec.name, spec.timeout_s), time.time() + spec.timeout_s)

    def _look(self, job: Job, error: StageTimeout, deadline: float) -> None:
        left_s = deadline - time.time()
        if left_s <= 0:
            self._expire(job, error)
        else:
            job.after("timeout", min(left_s, 0.05), self._look, job, error, deadline)


class FiresEarly(Run):
    def _arm(self, job: Job, spec: StageSpec) -> None:
        super()._arm(job, spec)
        if spec.timeout_s:
            _arm_at(self, job, spec, 0.9 * spec.timeout_s)


class NamesNoStage(Run):
    def _fail(self, failure: Failure) -> None:
        if isinstance(failure.error, StageTimeout):
            failure = Failure(None, TimeoutError("a stage timed out"))
        super()._fail(failure)


class NamesNoTimeout(Run):
    def _fail(self, failure: Failure) -> None:
        if isinstance(failure.error, StageTimeout):
            failure = replace(failure, error=TimeoutError("timed out"))
        super()._fail(failure)


class TieCountsTwice(Run):
    def _expire(self, job: Job, error: StageTimeout) -> None:
        """Report the timeout at once, and tell the stage a turn later."""
        if not job.closed and job.stopped is None:
            self._fail(Failure(job.name, error))
            self._loop.call_soon(self._expire_late, job, error)

    def _expire_late(self, job: Job, error: StageTimeout) -> None:
        job.stop(Stop("timed_out", str(error), error), self._grace_s())
        self._loop.call_soon(self._notify)


class TimedOutAfterwards(Run):
    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        limit = self.graph.stages[job.name].timeout_s
        took = (job.ended_s or 0) - (job.started_s or 0)
        if limit and took >= limit / 2:
            error = StageTimeout(job.name, limit)
            self._fail(Failure(job.name, error))
            return self._stage_result(job, "timed_out", error=error)
        return super()._judge_returned(job, value)


class SiblingsAbandoned(Run):
    def _stop_all(self, why: Stop) -> None:
        """Cancel the siblings of a timed-out stage, and wait for none of them."""
        super()._stop_all(why)
        if not any(isinstance(failure.error, StageTimeout) for failure in self._failures):
            return
        for job in list(self._running.values()):
            del self._running[job.name]
            self._note(self._stage_result(job, "cancelled"))

    def _stage_closed(self, job: Job) -> None:
        if job.name in self._running:
            super()._stage_closed(job)


class SiblingsGoOn(Run):
    def _want_stop(self, why: Stop) -> None:
        latest = self._failures[-1].error if self._failures else None
        if not isinstance(latest, StageTimeout):
            super()._want_stop(why)


class OwnTakenForEngines(Run):
    def _fail(self, failure: Failure) -> None:
        if type(failure.error) is TimeoutError and failure.stage is not None:
            limit = self.graph.stages[failure.stage].timeout_s or 0.0
            failure = Failure(failure.stage, StageTimeout(failure.stage, limit))
        super()._fail(failure)


class ZeroMeansNone(Run):
    def _arm(self, job: Job, spec: StageSpec) -> None:
        super()._arm(job, replace(spec, timeout_s=spec.timeout_s or None))


class AcceptsAnyNumber(Pipeline):
    def _limit(self, value: float | None, what: str) -> float | None:
        return value


class RefusesWithoutName(Pipeline):
    def _limit(self, value: float | None, what: str) -> float | None:
        try:
            return super()._limit(value, what)
        except PipelineError:
            raise PipelineError("timeout must be a non-negative number") from None


class SecondInTickLost(Run):
    _latest_s = -1.0

    def _expire(self, job: Job, error: StageTimeout) -> None:
        """Keep one slot for the timeout of a tick."""
        if self._latest_s != self._loop.time():
            self._latest_s = self._loop.time()
            super()._expire(job, error)


class FiresTwice(Run):
    def _expire(self, job: Job, error: StageTimeout) -> None:
        super()._expire(job, error)
        if job.task is not None:
            job.after("again", 0.01, job.task.cancel)


class OwnValueIgnored(Pipeline):
    def _with_default(self, spec: StageSpec) -> StageSpec:
        return super()._with_default(replace(spec, timeout_s=None))


class NotDescribed(Pipeline):
    def describe(self) -> dict[str, Any]:
        described = super().describe()
        for stage in described["stages"]:
            stage["timeout_s"] = None
        return described


class ToolTimeoutIgnored(Context):
    async def call(
        self, tool: str, fn: Callable[[], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        return await fn()


class HeartbeatIgnored(Context):
    def heartbeat(self) -> None:
        """Do nothing."""


class IdleNeverEnds(Run):
    def _idle(self, job: Job, spec: StageSpec, since_s: float) -> None:
        """Do nothing."""


class ChildOutlivesDeadline(Run):
    async def run_child(
        self, context: Context, pipeline: Pipeline, inputs: Mapping[str, Any] | None
    ) -> RunResult:
        """Wait for the child to end by itself, whatever the stage is told meanwhile."""
        child = asyncio.ensure_future(super().run_child(context, pipeline, inputs))
        cancelled: asyncio.CancelledError | None = None
        while not child.done():
            try:
                await asyncio.wait([child])
            except asyncio.CancelledError as exc:
                cancelled = exc
        if cancelled is not None:
            child.exception()
            raise cancelled
        return child.result()


class WaitsForThread(Context):
    async def to_thread(self, fn: Callable[..., T], *args: Any) -> T:
        job = asyncio.ensure_future(super().to_thread(fn, *args))
        try:
            return await asyncio.shield(job)
        except asyncio.CancelledError:
            await asyncio.wait([job])
            raise


class ThreadNotReported(Run):
    def _sum_up(self) -> RunResult:
        return replace(super()._sum_up(), threads_running=())


TIMEOUTS = (
    defect(
        "timeout-never",
        "TIME-1 TIME-7 TIME-6",
        "No stage timeout is ever enforced.",
        run=NeverEnforced,
    ),
    defect("timeout-late", "TIME-1", "A stage timeout fires at twice its time.", run=FiresLate),
    defect(
        "timeout-unnamed", "TIME-1", "A timeout is reported without its stage.", run=NamesNoStage
    ),
    defect(
        "timeout-valueless",
        "TIME-1",
        "A timeout is reported as a bare TimeoutError without its value.",
        run=NamesNoTimeout,
    ),
    defect(
        "timeout-wall-clock",
        "TIME-1 TIME-2",
        "Timeouts are kept by the wall clock, and so move when it is set.",
        run=OnWallClock,
    ),
    defect(
        "timeout-early",
        "TIME-2",
        "A stage timeout fires at nine tenths of its time.",
        run=FiresEarly,
    ),
    defect(
        "timeout-both",
        "TIME-2",
        "A stage that ends in the tick of its timeout counts as completed and as timed out.",
        run=TieCountsTwice,
    ),
    defect(
        "timeout-afterwards",
        "TIME-2",
        "A stage that completed in time is declared timed out afterwards.",
        run=TimedOutAfterwards,
    ),
    defect(
        "timeout-abandons-siblings",
        "TIME-3",
        "When a stage times out its siblings are cancelled but not awaited.",
        run=SiblingsAbandoned,
    ),
    defect(
        "timeout-spares-siblings",
        "TIME-3",
        "When a stage times out its siblings go on, though the policy is to cancel them.",
        run=SiblingsGoOn,
    ),
    defect(
        "timeout-own-mistaken",
        "TIME-4",
        "A TimeoutError that the stage's own code raised is reported as the engine's timeout.",
        run=OwnTakenForEngines,
    ),
    defect("timeout-zero-none", "TIME-5", "A timeout of zero means none.", run=ZeroMeansNone),
    defect(
        "timeout-unchecked",
        "TIME-5",
        "Negative and NaN timeouts are accepted.",
        pipeline=AcceptsAnyNumber,
    ),
    defect(
        "timeout-refusal-unnamed",
        "TIME-5",
        "A bad timeout is refused without naming the stage.",
        pipeline=RefusesWithoutName,
    ),
    defect(
        "timeout-one-a-tick",
        "TIME-6",
        "Of several timeouts that expire in one tick only the first is enforced.",
        run=SecondInTickLost,
    ),
    defect(
        "timeout-twice",
        "CLEAN-2 TIME-6",
        "A timed-out stage is cancelled a second time while it cleans up.",
        run=FiresTwice,
    ),
    defect(
        "timeout-own-ignored",
        "TIME-7",
        "A stage's own timeout is ignored in favour of the pipeline's.",
        pipeline=OwnValueIgnored,
    ),
    defect(
        "timeout-undescribed",
        "TIME-7",
        "The pipeline's description does not show timeouts.",
        pipeline=NotDescribed,
    ),
    defect(
        "tool-timeout-ignored",
        "TIME-8",
        "The timeout of a tool call is ignored.",
        context=ToolTimeoutIgnored,
    ),
    defect(
        "heartbeat-ignored",
        "TIME-9",
        "A heartbeat does not move the idle timeout.",
        context=HeartbeatIgnored,
    ),
    defect("idle-never", "TIME-9", "An idle timeout is never enforced.", run=IdleNeverEnds),
    defect(
        "child-outlives-deadline",
        "TIME-10 CANCEL-6",
        "A subpipeline runs to its own end when its stage has timed out.",
        run=ChildOutlivesDeadline,
    ),
    defect(
        "thread-awaited",
        "TIME-11",
        "A timed-out stage is not over until its thread has finished.",
        context=WaitsForThread,
    ),
    defect(
        "thread-unreported",
        "TIME-11",
        "Threads that outlive their stage are not reported.",
        run=ThreadNotReported,
    ),
)
