"""Engines that break the GRAPH clauses."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import Any

from harness.engine.broken.defect import defect
from harness.engine.errors import EngineError, PipelineError
from harness.engine.graph import StageFn
from harness.engine.job import Job
from harness.engine.pipeline import Pipeline
from harness.engine.result import RunResult, StageResult
from harness.engine.run import Run

__all__ = ["GRAPHS"]


class CyclesAccepted(Pipeline):
    def _faults(self) -> list[str]:
        return [fault for fault in super()._faults() if "circle" not in fault]


class UnknownIgnored(Pipeline):
    def _faults(self) -> list[str]:
        for name, spec in self._stages.items():
            known = tuple(need for need in spec.needs if need in self._stages)
            self._stages[name] = replace(spec, needs=known)
        return super()._faults()


class DuplicateOverwrites(Pipeline):
    def stage(self, name: str, fn: StageFn, **options: Any) -> None:
        self._stages.pop(name, None)
        super().stage(name, fn, **options)


class EmptyAccepted(Pipeline):
    def _faults(self) -> list[str]:
        return super()._faults() if self._stages else []


class RefusesWithoutNames(Pipeline):
    def _faults(self) -> list[str]:
        return ["the graph is invalid"] if super()._faults() else []

    def stage(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().stage(*args, **kwargs)
        except PipelineError as exc:
            if "twice" not in str(exc):
                raise
            raise PipelineError("duplicate stage") from None


class FirstDependencyOnly(Run):
    def _begin(self) -> None:
        self._waits = {name: min(1, count) for name, count in self._waits.items()}
        super()._begin()


class StartsAfterFailed(Run):
    def _lets_pass(self, report: StageResult) -> bool:
        return True


class Serial(Run):
    def _start_ready(self) -> None:
        """Start a stage only when none is running."""
        if self._ready and not self._running:
            self._start(self.graph.stages[self._ready.pop(0)])


class OutputsByPosition(Run):
    def _sum_up(self) -> RunResult:
        """Match reports, in order of completion, with stages, in order of declaration."""
        result = super()._sum_up()
        mixed = dict(zip(result.stages, self._reports.values(), strict=True))
        return replace(result, stages=MappingProxyType(mixed))


class LatestOutput(Run):
    def output_of(self, stage: str) -> Any:
        """Return the output of the stage that completed last, whichever was asked for."""
        done = [one for one in self._reports.values() if one.status == "completed"]
        return done[-1].output if done else super().output_of(stage)


class WakesEveryStage(Run):
    def _stage_closed(self, job: Job) -> None:
        """Let every stage look whether it can start now."""
        super()._stage_closed(job)
        for _ in self.graph.stages:
            self._loop.call_soon(self._notify)


class Recursive(Run):
    def _begin(self) -> None:
        try:
            for name in self.graph.stages:
                self._depth_below(name, {})
        except RecursionError:
            # Raised anew from here: how deep the stack was filled differs from run to run.
            raise EngineError("maximum recursion depth exceeded") from None
        super()._begin()

    def _depth_below(self, name: str, known: dict[str, int]) -> int:
        """Count the longest chain below a stage, by recursion."""
        if name not in known:
            below = [self._depth_below(one, known) for one in self.graph.dependents[name]]
            known[name] = 1 + max(below, default=0)
        return known[name]


GRAPHS = (
    defect(
        "cycles-accepted",
        "GRAPH-1",
        "A pipeline with a cycle is built, and its run never ends.",
        pipeline=CyclesAccepted,
    ),
    defect(
        "unknown-dependency-ignored",
        "GRAPH-1",
        "A dependency that is not declared is ignored.",
        pipeline=UnknownIgnored,
    ),
    defect(
        "duplicate-overwrites",
        "GRAPH-1",
        "A second stage of one name replaces the first.",
        pipeline=DuplicateOverwrites,
    ),
    defect(
        "empty-accepted", "GRAPH-1", "A pipeline without stages is run.", pipeline=EmptyAccepted
    ),
    defect(
        "graph-refusal-unnamed",
        "GRAPH-1",
        "A faulty graph is refused without naming stages.",
        pipeline=RefusesWithoutNames,
    ),
    defect(
        "first-dependency-only",
        "GRAPH-2",
        "A stage starts when the first of its dependencies has completed.",
        run=FirstDependencyOnly,
    ),
    defect(
        "starts-after-failed",
        "GRAPH-2",
        "A stage starts although one that it needs did not complete.",
        run=StartsAfterFailed,
    ),
    defect("serial", "GRAPH-2", "Independent stages run one after the other.", run=Serial),
    defect(
        "outputs-by-position",
        "GRAPH-3",
        "Outputs in order of completion are taken for outputs in order of declaration.",
        run=OutputsByPosition,
    ),
    defect(
        "inputs-by-schedule",
        "GRAPH-3",
        "A stage reads the output of whichever stage completed last.",
        run=LatestOutput,
    ),
    defect(
        "wakes-every-stage",
        "GRAPH-4",
        "Whenever a stage ends every stage is woken, so that cost grows with the square.",
        run=WakesEveryStage,
    ),
    defect(
        "recursive",
        "GRAPH-4",
        "A long chain of stages exceeds the recursion limit.",
        run=Recursive,
    ),
)
