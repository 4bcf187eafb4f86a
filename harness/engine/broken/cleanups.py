"""Engines that break the CLEAN clauses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.cleanup import Cleanup, CleanupRegistry
from harness.engine.errors import StageTimeout
from harness.engine.job import Job
from harness.engine.pipeline import Pipeline
from harness.engine.result import RunResult
from harness.engine.run import Run

__all__ = ["CLEANUPS"]


class SkippedOnTimeout(Run):
    async def _clean_up(self) -> None:
        if not any(isinstance(failure.error, StageTimeout) for failure in self._failures):
            await super()._clean_up()


class SkippedOnCancel(Run):
    async def _clean_up(self) -> None:
        if self._caller_cancel is None:
            await super()._clean_up()


class SkippedOnFailure(Run):
    async def _clean_up(self) -> None:
        if not self._failures:
            await super()._clean_up()


class RunTwice(Run):
    async def _cleanup_main(self, cleanup: Cleanup) -> None:
        await super()._cleanup_main(cleanup)
        await super()._cleanup_main(cleanup)


class CutBySecondCancel(Run):
    _cleaning: asyncio.Task[Any] | None = None

    async def _cleanup_main(self, cleanup: Cleanup) -> None:
        self._cleaning = asyncio.current_task()
        await super()._cleanup_main(cleanup)

    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        super()._caller_cancelled(exc)
        if self._cleaning is not None:
            self._cleaning.cancel()


class StagesCancelledAgain(Run):
    def _caller_cancelled(self, exc: asyncio.CancelledError) -> None:
        again = self._caller_cancel is not None
        super()._caller_cancelled(exc)
        if again:
            for job in self._running.values():
                if job.task is not None:
                    job.task.cancel()


class NotAwaited(Run):
    async def _clean_up(self) -> None:
        """Start the cleanups, and wait for none of them."""
        while (cleanup := self._cleanups.take()) is not None:
            self.job_type("cleanup", self._loop).start(
                self._cleanup_main(cleanup), lambda _job: None
            )


class FirstInFirstOut(CleanupRegistry):
    def take(self) -> Cleanup | None:
        return self._stack.pop(0) if self._stack else None


class FifoRun(Run):
    registry_type = FirstInFirstOut


class StopsAtFailure(Run):
    def _judge_cleanup(self, cleanup: Cleanup, job: Job) -> None:
        super()._judge_cleanup(cleanup, job)
        if self._cleanup_failures:
            self._cleanups = self.registry_type()


class FailureSilent(Run):
    def _sum_up(self) -> RunResult:
        return replace(super()._sum_up(), cleanup_failures=())


class LeavesTask(Run):
    def _begin(self) -> None:
        super()._begin()
        self._watchdog = self._loop.create_task(asyncio.sleep(3_600), name="watchdog")


class LeavesTimer(Run):
    def _begin(self) -> None:
        super()._begin()
        self._loop.call_later(3_600, self._notify)


class LeavesException(Run):
    def _stage_closed(self, job: Job) -> None:
        """Keep a future for each stage, which nobody awaits."""
        super()._stage_closed(job)
        error = job.error()
        if error is not None:
            self._loop.create_future().set_exception(error)


class SharedRegistry(Pipeline):
    """Keeps the cleanups of all its runs in one place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._shared = CleanupRegistry()

    def prepare(self, *args: Any, **kwargs: Any) -> Run:
        run = super().prepare(*args, **kwargs)
        run._cleanups = self._shared
        return run


class ClearedByOthers(Pipeline):
    """Keeps the cleanups of the latest run only: a new run clears what the others registered."""

    _latest: Run | None = None

    def prepare(self, *args: Any, **kwargs: Any) -> Run:
        run = super().prepare(*args, **kwargs)
        if self._latest is not None and self._latest.result is None:
            self._latest._cleanups = CleanupRegistry()
        self._latest = run
        return run


class GraceHalved(Run):
    def _grace_s(self) -> float:
        return super()._grace_s() / 2


class NotRegistered(Run):
    def add_cleanup(self, name: str, stage: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Keep cleanups by name, so that a second one of that name replaces the first."""
        stack = self._cleanups._stack
        stack[:] = [cleanup for cleanup in stack if cleanup.stage != stage]
        super().add_cleanup(name, stage, fn)


CLEANUPS = (
    defect(
        "cleanup-not-on-timeout",
        "CLEAN-1",
        "Registered cleanups do not run when a stage timed out.",
        run=SkippedOnTimeout,
    ),
    defect(
        "cleanup-not-on-failure",
        "CLEAN-1",
        "Registered cleanups do not run when a stage failed.",
        run=SkippedOnFailure,
    ),
    defect(
        "cleanup-not-on-cancel",
        "CLEAN-1",
        "Registered cleanups do not run when the caller cancelled the run.",
        run=SkippedOnCancel,
    ),
    defect("cleanup-twice", "CLEAN-1", "Registered cleanups run twice.", run=RunTwice),
    defect(
        "cleanup-one-a-stage",
        "CLEAN-1",
        "A stage's second cleanup replaces its first.",
        run=NotRegistered,
    ),
    defect(
        "cleanup-cut-by-cancel",
        "CLEAN-2",
        "A cancel of the caller interrupts the cleanup that is running.",
        run=CutBySecondCancel,
    ),
    defect(
        "stage-cancelled-again",
        "CLEAN-2",
        "A second cancel of the caller interrupts stages in their `finally`.",
        run=StagesCancelledAgain,
    ),
    defect(
        "grace-halved",
        "CLEAN-2",
        "Cleanups are given half of the grace that was stated.",
        run=GraceHalved,
    ),
    defect(
        "cleanup-not-awaited",
        "CLEAN-1 CLEAN-5",
        "Registered cleanups are started but not awaited.",
        run=NotAwaited,
    ),
    defect("cleanup-fifo", "CLEAN-3", "Cleanups run in order of registration.", run=FifoRun),
    defect(
        "cleanup-stops-at-failure",
        "CLEAN-4 CLEAN-1",
        "The first cleanup that fails is the last that runs.",
        run=StopsAtFailure,
    ),
    defect(
        "cleanup-failure-silent",
        "CLEAN-4",
        "The failure of a cleanup is reported to nobody.",
        run=FailureSilent,
    ),
    defect("leaves-task", "CLEAN-5", "Each run leaves a task behind.", run=LeavesTask),
    defect("leaves-timer", "CLEAN-5", "Each run leaves a timer behind.", run=LeavesTimer),
    defect(
        "leaves-exception",
        "CLEAN-5",
        "The exception of a failed stage is kept in a future that nobody awaits.",
        run=LeavesException,
    ),
    defect(
        "cleanup-registry-shared",
        "CLEAN-6",
        "The runs of a pipeline share one registry: the first that ends runs all cleanups.",
        pipeline=SharedRegistry,
    ),
    defect(
        "cleanup-registry-cleared",
        "CLEAN-6 CLEAN-1",
        "A new run of a pipeline clears the cleanups that its other runs registered.",
        pipeline=ClearedByOthers,
    ),
)
