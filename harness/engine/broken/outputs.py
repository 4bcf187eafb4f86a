"""Engines that break the STREAM, PART and CTX clauses."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.context import Context
from harness.engine.job import Job
from harness.engine.pipeline import Pipeline
from harness.engine.result import Failure, RunResult, StageResult
from harness.engine.run import Run

__all__ = ["OUTPUTS"]


class ChunksLost(Run):
    def _stage_result(self, job: Job, status: str, **more: Any) -> StageResult:
        report = super()._stage_result(job, status, **more)
        return report if report.complete else replace(report, chunks=())


class LastChunkLost(Run):
    def _stage_result(self, job: Job, status: str, **more: Any) -> StageResult:
        report = super()._stage_result(job, status, **more)
        return report if report.complete else replace(report, chunks=report.chunks[:-1])


class ChunkTwice(Context):
    async def chunk(self, value: Any) -> None:
        await super().chunk(value)
        if len(self._chunks) % 3 == 0:
            await super().chunk(value)


class LooksComplete(StageResult):
    """A result that says of itself that it is complete."""

    __slots__ = ()

    @property
    def complete(self) -> bool:
        return True


class PartialUnmarked(Run):
    def _sum_up(self) -> RunResult:
        result = super()._sum_up()
        stages = {
            name: LooksComplete(**{field: getattr(one, field) for field in one.__match_args__})
            for name, one in result.stages.items()
        }
        return replace(result, stages=MappingProxyType(stages))


def _without_outputs(result: RunResult) -> RunResult:
    kept = {name: one for name, one in result.stages.items() if one.status != "completed"}
    return replace(result, stages=MappingProxyType(kept))


class LostOnFailure(Run):
    def _sum_up(self) -> RunResult:
        result = super()._sum_up()
        return _without_outputs(result) if result.status == "failed" else result


class LostOnCancel(Run):
    def _sum_up(self) -> RunResult:
        result = super()._sum_up()
        return _without_outputs(result) if result.status == "cancelled" else result


class TieLost(Run):
    def _judge(self, job: Job) -> StageResult:
        """Count nothing as completed that is looked at after a failure."""
        if self._stop_wanted is not None and job.returned():
            return self._stage_result(job, "cancelled")
        return super()._judge(job)


class FirstFailureOnly(Run):
    def _fail(self, failure: Failure) -> None:
        if not self._failures:
            super()._fail(failure)


class CauseLost(Run):
    def _fail(self, failure: Failure) -> None:
        if failure.timeout_s is None:
            failure = replace(failure, error=RuntimeError("stage failed"))
        super()._fail(failure)


class FailureUnnamed(Run):
    def _fail(self, failure: Failure) -> None:
        if failure.timeout_s is None:
            failure = replace(failure, stage=None)
        super()._fail(failure)


class PoorContext(Context):
    """A context without some of what stages find in it when they are run by themselves."""

    @property
    def inputs(self) -> Any:
        raise AttributeError("inputs")

    @property
    def remaining_s(self) -> float | None:
        raise AttributeError("remaining_s")


class RicherAlone(Pipeline):
    async def run_stage(self, name: str, *args: Any, **kwargs: Any) -> RunResult:
        plain = Pipeline(self.name)
        plain._stages = self._stages
        return await plain.run_stage(name, *args, **kwargs)


class OutputsShared(Context):
    def input(self, stage: str) -> Any:
        return self._run.output_of(stage)


OUTPUTS = (
    defect(
        "chunks-lost",
        "STREAM-1",
        "The chunks of a stage that ends early are lost.",
        run=ChunksLost,
    ),
    defect(
        "chunks-lose-last",
        "STREAM-1",
        "The last chunk of a stage that ends early is lost.",
        run=LastChunkLost,
    ),
    defect("chunks-doubled", "STREAM-1", "Some chunks are kept twice.", context=ChunkTwice),
    defect(
        "chunks-unmarked",
        "STREAM-2",
        "A partial result looks like a complete one.",
        run=PartialUnmarked,
    ),
    defect(
        "outputs-lost-on-failure",
        "PART-1",
        "When a run fails, the outputs of its completed stages are lost.",
        run=LostOnFailure,
    ),
    defect(
        "outputs-lost-on-cancel",
        "PART-2 CANCEL-1",
        "When a stage ends the run, the outputs of completed stages are lost.",
        run=LostOnCancel,
    ),
    defect(
        "tie-lost",
        "PART-3",
        "A stage that completes in the tick of a failure counts as cancelled.",
        run=TieLost,
    ),
    defect(
        "first-failure-only",
        "PART-4",
        "Of several failures only the first is reported.",
        run=FirstFailureOnly,
    ),
    defect(
        "failure-cause-lost",
        "PART-4",
        "A failure is reported without the exception that caused it.",
        run=CauseLost,
    ),
    defect(
        "failure-unnamed", "PART-4", "A failure is reported without its stage.", run=FailureUnnamed
    ),
    defect(
        "context-poorer-in-graph",
        "CTX-1",
        "A stage finds less in its context when a pipeline runs it than when it is run by itself.",
        pipeline=RicherAlone,
        context=PoorContext,
    ),
    defect(
        "outputs-shared",
        "CTX-2",
        "Stages read one and the same output object, and can change it under each other.",
        context=OutputsShared,
    ),
)
