"""Engines whose defects no simulation shows: they take a process that dies, stops or starves."""

from __future__ import annotations

from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.checkpoint import Checkpoints
from harness.engine.errors import EngineError, StageTimeout
from harness.engine.graph import StageSpec
from harness.engine.job import Job
from harness.engine.pipeline import Pipeline
from harness.engine.result import StageResult
from harness.engine.run import Run

__all__ = ["DURABILITIES"]

TICK_S = 0.02


class KeptAtTheEnd(Checkpoints):
    """Gathers the stages in memory, and writes them all when the run is over."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._gathered: list[StageResult] = []

    def keep(self, report: StageResult) -> None:
        self._gathered.append(report)

    def close(self) -> None:
        for report in self._gathered:
            super().keep(report)
        super().close()


class WritesLate(Pipeline):
    checkpoints_type = KeptAtTheEnd


class FailureUnseen(Checkpoints):
    def keep(self, report: StageResult) -> None:
        """Take a checkpoint that could not be written for one that was."""
        try:
            super().keep(report)
        except EngineError:
            pass


class HidesStoreFailure(Pipeline):
    checkpoints_type = FailureUnseen


class KeptBeforeRun(Checkpoints):
    """Writes that a stage is done as soon as what it needs is done."""

    def keep(self, report: StageResult) -> None:
        super().keep(report)
        for stage in self.after.get(report.name, ()):
            super().keep(StageResult(stage, "completed"))

    def open(self, graph: Any, inputs: Any, tenant: str) -> Any:
        self.after = graph.dependents
        return super().open(graph, inputs, tenant)


class RunsAhead(Pipeline):
    checkpoints_type = KeptBeforeRun


class CountsTicks(Run):
    """Counts the turns of a timer instead of looking at a clock: a pause is time that it lost."""

    def _arm(self, job: Job, spec: StageSpec) -> None:
        super()._arm(job, spec)
        if spec.timeout_s:
            ticks = max(1, round(spec.timeout_s / TICK_S))
            self._count(job, StageTimeout(spec.name, spec.timeout_s), ticks)

    def _count(self, job: Job, error: StageTimeout, left: int) -> None:
        if left:
            job.after("timeout", TICK_S, self._count, job, error, left - 1)
        else:
            self._expire(job, error)


DURABILITIES = (
    defect(
        "checkpoint-at-the-end",
        "PART-5",
        "Checkpoints are gathered in memory and written when the run is over.",
        pipeline=WritesLate,
    ),
    defect(
        "checkpoint-ahead",
        "PART-5",
        "A stage's checkpoint is written when what it needs is done, before it has run.",
        pipeline=RunsAhead,
    ),
    defect(
        "checkpoint-failure-hidden",
        "PART-5",
        "A checkpoint that could not be written is taken for one that was.",
        pipeline=HidesStoreFailure,
    ),
    defect(
        "timeout-by-ticks",
        "TIME-1",
        "Timeouts count turns of a timer, so a process that was stopped is late by the pause.",
        run=CountsTicks,
    ),
)
