"""Engines that break PART-5, PART-6 and RETRY-1."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.checkpoint import Checkpointed, Checkpoints
from harness.engine.cleanup import Cleanup
from harness.engine.compensation import Compensations
from harness.engine.context import Context
from harness.engine.errors import StageTimeout
from harness.engine.graph import Graph, StageSpec
from harness.engine.job import Job
from harness.engine.pipeline import Pipeline
from harness.engine.result import Failure, RunResult, StageResult
from harness.engine.retry import Retries, Retry
from harness.engine.run import Run

__all__ = ["RECOVERIES"]


# Retries.


class CountsFromZero(Retries):
    def left(self, stage: str, retry: Retry | None) -> bool:
        return retry is not None and self.attempts(stage) <= retry.attempts


class OneMore(Run):
    retries_type = CountsFromZero


class CountsRepeats(Retries):
    def left(self, stage: str, retry: Retry | None) -> bool:
        return retry is not None and self.attempts(stage) + 1 < retry.attempts


class OneFewer(Run):
    retries_type = CountsRepeats


def _with_waits(run: Run, wait_s: Callable[[Retry, int, random.Random], float]) -> None:
    """Have the run's stages wait by another rule."""

    class Other(Retry):
        def wait_s(self, failed: int, rng: random.Random) -> float:
            return wait_s(self, failed, rng)

    def other(spec: StageSpec) -> StageSpec:
        one = spec.retry
        if one is None:
            return spec
        return replace(spec, retry=Other(one.attempts, one.backoff_s, one.factor, one.jitter_s))

    stages = {name: other(spec) for name, spec in run.graph.stages.items()}
    run.graph = replace(run.graph, stages=stages)


class SameWait(Run):
    def _begin(self) -> None:
        _with_waits(self, lambda retry, _failed, _rng: retry.backoff_s)
        super()._begin()


class JitterBothWays(Run):
    def _begin(self) -> None:
        def wait_s(retry: Retry, failed: int, rng: random.Random) -> float:
            base = retry.backoff_s * retry.factor ** (failed - 1)
            return max(0.0, base + rng.uniform(-retry.jitter_s, retry.jitter_s))

        _with_waits(self, wait_s)
        super()._begin()


class WaitsOn(Retries):
    def drop(self) -> list[tuple[Job, tuple[Failure, ...]]]:
        """Leave the timers be."""
        return []


class TriesOnAfterStop(Run):
    retries_type = WaitsOn

    def _wait_over(self, stage: str) -> None:
        self._retries.begin(stage)
        self._start(self.graph.stages[stage])

    def _settle(self) -> None:
        """Take in what ends, but for attempts of stages that have been reported."""
        self._ended = [job for job in self._ended if job.name not in self._reports]
        super()._settle()


class NothingIsFailure(Run):
    def _try_again(self, job: Job) -> bool:
        """Take a stage that returned nothing for one that failed."""
        nothing = job.returned() and job.task is not None and job.task.result() is None
        retry = self.graph.stages[job.name].retry
        if not nothing or retry is None or self._stop_wanted is not None:
            return super()._try_again(job)
        self._retries.wait(job, (), retry.backoff_s, self._loop, self._wait_over)
        return True


class FailureRemembered(Run):
    def _try_again(self, job: Job) -> bool:
        again = super()._try_again(job)
        error = job.error()
        if again and error is not None:
            self._failures.append(Failure(job.name, error))
        return again


class RepeatsCounted(Run):
    def _stage_result(self, job: Job, status: str, **more: Any) -> StageResult:
        report = super()._stage_result(job, status, **more)
        return replace(report, attempts=report.attempts - 1) if report.attempts > 1 else report


# Redrives.


class KeptAtStart(Run):
    def _start(self, spec: StageSpec) -> None:
        """Write the checkpoint first, so that it is there in any case."""
        if self._checkpoints is not None:
            self._checkpoints.keep(StageResult(spec.name, "completed"))
        super()._start(spec)


class KeepsNothing(Checkpoints):
    def keep(self, report: StageResult) -> None:
        pass


class RunsAll(Pipeline):
    checkpoints_type = KeepsNothing


class NotKeptInTie(Run):
    def _kept_for_redrive(self, job: Job, report: StageResult) -> StageResult:
        """Write no checkpoints any more once a failure has been seen."""
        return report if self._stop_wanted is not None else super()._kept_for_redrive(job, report)


class FirstRunOnly(Checkpoints):
    def keep(self, report: StageResult) -> None:
        """Keep what the first run completes, not what a redrive does."""
        if self._redrives is None:
            super().keep(report)


class RedrivesNotKept(Pipeline):
    checkpoints_type = FirstRunOnly


def _without_none(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_none(v) for v in value if v is not None]
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value


class KeepsNoNone(Checkpoints):
    def keep(self, report: StageResult) -> None:
        super().keep(replace(report, output=_without_none(report.output)))


class NoneNotKept(Pipeline):
    checkpoints_type = KeepsNoNone


class ClaimsNothing(Checkpoints):
    def open(self, graph: Graph, inputs: Mapping[str, Any], tenant: str) -> Checkpointed:
        if self._redrives is not None:
            self._store.release(self._store.look(self._redrives).root)
        return super().open(graph, inputs, tenant)


class RedrivenByMany(Pipeline):
    checkpoints_type = ClaimsNothing


class SkippedForgotten(Checkpoints):
    def keep(self, report: StageResult) -> None:
        if report.status == "completed":
            super().keep(report)


class SkippedRunAgain(Pipeline):
    checkpoints_type = SkippedForgotten


# Compensations.


class InOrder(Compensations):
    def take(self) -> Cleanup | None:
        if not self._stack:
            return None
        self._stack.reverse()
        one = super().take()
        self._stack.reverse()
        return one


class UndoneForwards(Run):
    compensations_type = InOrder


class UndoneAsDeclared(Run):
    async def _compensate(self) -> None:
        """Undo in reverse order of declaration, whichever stage completed first."""
        order = list(self.graph.stages)
        self._compensations._stack.sort(key=lambda one: order.index(one.stage))
        await super()._compensate()


class UndoneTwice(Run):
    async def _undo(self, compensation: Cleanup) -> None:
        """Try once more if it fails, which it may have done after its effect."""
        try:
            await super()._undo(compensation)
        except Exception:
            await super()._undo(compensation)


class UndoneAlways(Run):
    def _failed_by_itself(self) -> bool:
        return True

    def _status(self) -> str:
        if self._caller_cancel is None and not super()._failed_by_itself():
            return "cancelled" if self._asked_to_end else "completed"
        return super()._status()


class CountsAtOnce(Context):
    def compensate(self, name: str, fn: Any) -> None:
        super().compensate(name, fn)
        self._run._compensations.completed(self.compensations)
        self.compensations = ()


class StopsUndoing(Run):
    def _judge_undone(self, compensation: Cleanup, job: Job) -> None:
        super()._judge_undone(compensation, job)
        if self._compensation_failures:
            self._compensations.take_all()


class UndoFailureSilent(Run):
    def _sum_up(self) -> RunResult:
        return replace(super()._sum_up(), compensation_failures=())


class UndoCutByCancel(Run):
    _undoing: asyncio.Task[Any] | None = None

    async def _undo(self, compensation: Cleanup) -> None:
        self._undoing = asyncio.current_task()
        await super()._undo(compensation)

    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        super()._caller_cancelled(exc)
        if self._undoing is not None:
            self._undoing.cancel()


class UndoNotAwaited(Run):
    async def _compensate(self) -> None:
        if self._failed_by_itself():
            while (one := self._compensations.take()) is not None:
                job = self.job_type("compensation", self._loop)
                job.start(self._undo(one), lambda _job: None)


class NotUndoneOnTimeout(Run):
    async def _compensate(self) -> None:
        if not any(isinstance(failure.error, StageTimeout) for failure in self._failures):
            await super()._compensate()


class AllAttempts(Context):
    """Keeps what all attempts of a stage have declared."""

    def __init__(self, run: Run, job: Job, spec: StageSpec) -> None:
        super().__init__(run, job, spec)
        before = run._contexts.get(spec.name)
        if before is not None and before is not self:
            self.compensations = before.compensations


class TieNotUndone(Run):
    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        """Forget the compensations of what completes in the tick of a failure."""
        if self._stop_wanted is not None:
            self._contexts[job.name].compensations = ()
        return super()._judge_returned(job, value)


RECOVERIES = (
    defect(
        "retry-one-more",
        "RETRY-1",
        "A failing stage is tried once more than declared.",
        run=OneMore,
    ),
    defect(
        "retry-one-fewer",
        "RETRY-1",
        "The declared number of attempts is taken for the number of repeats, less one.",
        run=OneFewer,
    ),
    defect("retry-same-wait", "RETRY-1", "The wait before an attempt does not grow.", run=SameWait),
    defect(
        "retry-jitter-both-ways",
        "RETRY-1",
        "Jitter can make a wait shorter than declared.",
        run=JitterBothWays,
    ),
    defect(
        "retry-after-stop",
        "RETRY-1",
        "A wait goes on when the run is told to stop, and the stage is tried again after it.",
        run=TriesOnAfterStop,
    ),
    defect(
        "retry-of-nothing",
        "RETRY-1",
        "A stage that completes with None is taken for one that failed, and tried again.",
        run=NothingIsFailure,
    ),
    defect(
        "retry-success-lost",
        "RETRY-1",
        "The failure of an earlier attempt fails the run, though a later one succeeded.",
        run=FailureRemembered,
    ),
    defect(
        "retry-miscounted",
        "RETRY-1",
        "The report counts repeats instead of attempts.",
        run=RepeatsCounted,
    ),
    defect(
        "checkpoint-before-output",
        "PART-5",
        "A stage's checkpoint is written when it starts, before there is an output.",
        run=KeptAtStart,
    ),
    defect(
        "redrive-runs-all",
        "PART-5",
        "Completed stages leave no checkpoint, and a redrive runs them all again.",
        pipeline=RunsAll,
    ),
    defect(
        "checkpoint-lost-in-tie",
        "PART-5",
        "A stage that completes in the tick of a failure leaves no checkpoint.",
        run=NotKeptInTie,
    ),
    defect(
        "redrive-keeps-nothing",
        "PART-5",
        "What a redrive completes leaves no checkpoint.",
        pipeline=RedrivesNotKept,
    ),
    defect(
        "checkpoint-drops-none",
        "PART-5",
        "An output loses its empty values in the checkpoint.",
        pipeline=NoneNotKept,
    ),
    defect(
        "redrive-by-many",
        "PART-5",
        "Two redrives of one run may be under way at once.",
        pipeline=RedrivenByMany,
    ),
    defect(
        "redrive-runs-skipped",
        "PART-5",
        "A stage that was skipped leaves no checkpoint, and is run again by a redrive.",
        pipeline=SkippedRunAgain,
    ),
    defect(
        "undo-forwards",
        "PART-6",
        "Compensations run in the order of completion, the first completed first.",
        run=UndoneForwards,
    ),
    defect(
        "undo-as-declared",
        "PART-6",
        "Compensations run in reverse order of declaration instead of completion.",
        run=UndoneAsDeclared,
    ),
    defect(
        "undo-twice", "PART-6", "A compensation that fails is run a second time.", run=UndoneTwice
    ),
    defect(
        "undo-always",
        "PART-6",
        "Compensations run at the end of every run, however it went.",
        run=UndoneAlways,
    ),
    defect(
        "undo-uncompleted",
        "PART-6",
        "A compensation counts as soon as it is declared, also if its stage then fails.",
        context=CountsAtOnce,
    ),
    defect(
        "undo-stops-at-failure",
        "PART-6",
        "After a compensation that fails the rest is not run.",
        run=StopsUndoing,
    ),
    defect(
        "undo-failure-silent",
        "PART-6",
        "A compensation's failure is not reported.",
        run=UndoFailureSilent,
    ),
    defect(
        "undo-cut-by-cancel",
        "PART-6",
        "A caller who cancels interrupts the compensation that is under way.",
        run=UndoCutByCancel,
    ),
    defect(
        "undo-not-awaited",
        "PART-6",
        "Compensations are started, and the run is over before they are done.",
        run=UndoNotAwaited,
    ),
    defect(
        "undo-not-on-timeout",
        "PART-6",
        "Nothing is undone when the run failed by a timeout.",
        run=NotUndoneOnTimeout,
    ),
    defect(
        "undo-all-attempts",
        "PART-6",
        "What earlier attempts of a stage declared is undone along with the last one's.",
        context=AllAttempts,
    ),
    defect(
        "undo-lost-in-tie",
        "PART-6",
        "What completes in the tick of the failure is not undone.",
        run=TieNotUndone,
    ),
)
