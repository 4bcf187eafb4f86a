"""Engines that break the CANCEL clauses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.context import Context
from harness.engine.errors import RunFailed, StageFailed, StrayCancel
from harness.engine.job import Job, Stop
from harness.engine.pipeline import Pipeline
from harness.engine.result import CancelBranch, CancelRun, Failure, RunResult, StageResult
from harness.engine.run import Run

__all__ = ["CANCELS"]


class CancelRunIgnored(Run):
    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        return super()._judge_returned(job, None if isinstance(value, CancelRun) else value)


class ReasonLost(Run):
    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        return super()._judge_returned(job, CancelRun() if isinstance(value, CancelRun) else value)


class CancelRunAbandons(Run):
    def _stop_all(self, why: Stop) -> None:
        """When a stage asked to end the run: cancel the others, and wait for none of them."""
        super()._stop_all(why)
        if not self._asked_to_end:
            return
        for job in list(self._running.values()):
            del self._running[job.name]
            self._note(self._stage_result(job, "cancelled"))

    def _stage_closed(self, job: Job) -> None:
        if job.name in self._running:
            super()._stage_closed(job)


class CancelRunWaits(Run):
    def _stop_all(self, why: Stop) -> None:
        """When a stage asked to end the run: start no more, but let the others finish."""
        if not self._asked_to_end:
            super()._stop_all(why)
            return
        self._stopping = True
        for name in self.graph.stages:
            if name not in self._running and name not in self._reports:
                self._skip(name, why.reason)


class BranchEndsRun(Run):
    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        if isinstance(value, CancelBranch):
            value = CancelRun(value.reason)
        return super()._judge_returned(job, value)


class BranchGoesOn(Run):
    def _lets_pass(self, report: StageResult) -> bool:
        return report.status == "cancelled" or super()._lets_pass(report)


class CallerAbandons(Run):
    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        raise exc


class CallerNotAwaited(Run):
    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        """Cancel the stages, and wait for none of them."""
        for job in self._running.values():
            job.stop(Stop("cancelled", "the caller cancelled the run"), 0)
        raise exc


class CallerSwallowed(Run):
    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        self._want_stop(Stop("cancelled", "the caller cancelled the run"))
        self._asked_to_end.append(("", "the caller cancelled the run"))


class CallerIgnoredInCleanup(Run):
    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        if self._open:
            super()._caller_cancelled(exc)


class NeverGivesUp(Job):
    def _give_up(self, turns: int) -> None:
        """Do nothing."""


class GivesUpSilently(Run):
    def _sum_up(self) -> RunResult:
        return replace(super()._sum_up(), still_running=())


class SecondCancelAbandons(Run):
    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        if self._caller_cancel is not None:
            raise exc
        super()._caller_cancelled(exc)


class ChildDetached(Run):
    async def run_child(
        self, context: Context, pipeline: Pipeline, inputs: Mapping[str, Any] | None
    ) -> RunResult:
        """Run the child in a task of its own, which nobody ends."""
        return await asyncio.shield(super().run_child(context, pipeline, inputs))


class ChildFailureLost(Run):
    async def run_child(
        self, context: Context, pipeline: Pipeline, inputs: Mapping[str, Any] | None
    ) -> RunResult:
        try:
            return await super().run_child(context, pipeline, inputs)
        except RunFailed as exc:
            return replace(exc.result, status="completed")


class ChildFailureTwice(Run):
    async def run_child(
        self, context: Context, pipeline: Pipeline, inputs: Mapping[str, Any] | None
    ) -> RunResult:
        try:
            return await super().run_child(context, pipeline, inputs)
        except RunFailed as exc:
            self._fail(Failure(context.stage, exc))
            raise


class CancelledIsFailed(Run):
    def _judge_returned(self, job: Job, value: Any) -> StageResult:
        if isinstance(value, CancelRun):
            self._fail(Failure(job.name, StageFailed(value.reason)))
        return super()._judge_returned(job, value)


class FailedIsCancelled(Run):
    def _status(self) -> str:
        status = super()._status()
        return "cancelled" if status == "failed" else status


class SelfCancelIsSuccess(Run):
    async def _stage_main(self, *args: Any) -> Any:
        try:
            return await super()._stage_main(*args)
        except StrayCancel:
            return None


class SelfCancelIsRunCancel(Run):
    async def _stage_main(self, *args: Any) -> Any:
        try:
            return await super()._stage_main(*args)
        except StrayCancel:
            return CancelBranch("cancelled")


CANCELS = (
    defect(
        "cancel-run-ignored",
        "CANCEL-1",
        "A stage that asks to end the run counts as completed, and the run goes on.",
        run=CancelRunIgnored,
    ),
    defect(
        "cancel-run-no-reason",
        "CANCEL-1",
        "The reason that a stage gives for ending the run is lost.",
        run=ReasonLost,
    ),
    defect(
        "cancel-run-abandons",
        "CANCEL-1",
        "When a stage ends the run the others are cancelled but not awaited.",
        run=CancelRunAbandons,
    ),
    defect(
        "cancel-run-waits",
        "CANCEL-1",
        "When a stage ends the run the others run on to their own end.",
        run=CancelRunWaits,
    ),
    defect(
        "cancel-branch-ends-run",
        "CANCEL-2",
        "A stage that cancels its branch ends the whole run.",
        run=BranchEndsRun,
    ),
    defect(
        "cancel-branch-goes-on",
        "CANCEL-2 GRAPH-2",
        "Stages below one that cancelled its branch are run all the same.",
        run=BranchGoesOn,
    ),
    defect(
        "caller-cancel-abandons",
        "CANCEL-3 CLEAN-1 CLEAN-5",
        "When the caller is cancelled the stages are left running.",
        run=CallerAbandons,
    ),
    defect(
        "caller-cancel-no-await",
        "CANCEL-3 CLEAN-1 CLEAN-2",
        "When the caller is cancelled the stages are cancelled but not awaited.",
        run=CallerNotAwaited,
    ),
    defect(
        "caller-cancel-swallowed",
        "CANCEL-3 CANCEL-5",
        "A cancel of the caller ends the run, but the caller never sees it.",
        run=CallerSwallowed,
    ),
    defect(
        "caller-cancel-lost-in-cleanup",
        "CANCEL-3",
        "A cancel of the caller that comes while cleanups run is lost.",
        run=CallerIgnoredInCleanup,
    ),
    defect(
        "stubborn-stage-hangs",
        "CANCEL-4",
        "A stage that swallows its cancellation hangs the run.",
        job=NeverGivesUp,
    ),
    defect(
        "stubborn-stage-unreported",
        "CANCEL-4",
        "A stage that does not stop is left running without a word.",
        run=GivesUpSilently,
    ),
    defect(
        "second-cancel-abandons",
        "CANCEL-5 CLEAN-2",
        "A second cancel of the caller abandons what the first one was waiting for.",
        run=SecondCancelAbandons,
    ),
    defect(
        "child-detached",
        "CANCEL-6 TIME-10",
        "A subpipeline is left running when its stage is cancelled.",
        run=ChildDetached,
    ),
    defect(
        "child-failure-lost",
        "CANCEL-6",
        "The failure of a subpipeline is reported to its stage as success.",
        run=ChildFailureLost,
    ),
    defect(
        "child-failure-twice",
        "CANCEL-6",
        "The failure of a subpipeline is reported twice.",
        run=ChildFailureTwice,
    ),
    defect(
        "cancelled-as-failed",
        "CANCEL-7",
        "A run that a stage cancelled is reported as failed.",
        run=CancelledIsFailed,
    ),
    defect(
        "failed-as-cancelled",
        "CANCEL-7",
        "A failed run is reported as cancelled.",
        run=FailedIsCancelled,
    ),
    defect(
        "self-cancel-success",
        "CANCEL-8",
        "A CancelledError that a stage raises by itself counts as success.",
        run=SelfCancelIsSuccess,
    ),
    defect(
        "self-cancel-skipped",
        "CANCEL-8",
        "A stage that raises CancelledError by itself is quietly skipped, and the run succeeds.",
        run=SelfCancelIsRunCancel,
    ),
)
