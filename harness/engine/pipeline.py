"""A pipeline: stages and what they need, declared once and run as often as you like.

    pipeline = Pipeline("report", stage_timeout_s=30)
    pipeline.stage("fetch", fetch)
    pipeline.stage("parse", parse, needs=["fetch"], timeout_s=5)
    result = await pipeline.run({"url": url})

A stage is an async function of its `Context`; what it returns is its output. A pipeline
keeps no state of its runs, so runs of one pipeline may overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

from harness.engine.context import Context
from harness.engine.errors import PipelineError
from harness.engine.graph import Graph, Settings, StageFn, StageSpec, find_faults, seconds
from harness.engine.result import Event, RunResult
from harness.engine.run import Run

__all__ = ["Pipeline"]

POLICIES = ("cancel", "continue")


class Pipeline:
    """A pipeline under construction; checked as a whole when it is first run, or by `check`.

    Args:
        timeout_s: of a whole run, from its start to the end of its stages.
        stage_timeout_s: of every stage that declares none of its own.
        cleanup_grace_s: how long stages may take to end once they are told to, and then
            again how long all registered cleanups may take together.
        on_failure: "cancel" ends the other stages when one fails or times out; "continue"
            lets them go on, but for those that need it.
        chunks_max: partial results kept for each stage.

    Raises:
        PipelineError: if a setting cannot be used.
    """

    run_type: ClassVar[type[Run]] = Run

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        stage_timeout_s: float | None = None,
        cleanup_grace_s: float = 10.0,
        on_failure: str = "cancel",
        chunks_max: int = 1_000,
    ) -> None:
        where = f"pipeline {name!r}"
        if on_failure not in POLICIES:
            raise PipelineError(
                f"{where}: on_failure: expected one of {', '.join(POLICIES)}, got {on_failure!r}"
            )
        if chunks_max < 0:
            raise PipelineError(f"{where}: chunks_max: expected 0 or more, got {chunks_max!r}")
        limit = self._limit(timeout_s, f"{where}: timeout_s")
        grace = seconds(cleanup_grace_s, f"{where}: cleanup_grace_s")
        self.name = name
        self._settings = Settings(name, limit, grace, on_failure, chunks_max)
        self._stage_timeout_s = stage_timeout_s
        self._stages: dict[str, StageSpec] = {}
        self._graph: Graph | None = None
        self._runs = itertools.count(1)

    def stage(
        self,
        name: str,
        fn: StageFn,
        *,
        needs: Iterable[str] = (),
        timeout_s: float | None = None,
        idle_timeout_s: float | None = None,
    ) -> None:
        """Declare a stage.

        Args:
            needs: stages whose completion it waits for; they may be declared later.
            timeout_s: seconds from its start after which it is ended; 0 ends it at its first
                wait. None stands for the pipeline's `stage_timeout_s`.
            idle_timeout_s: seconds without a `heartbeat` after which it is ended.

        Raises:
            PipelineError: naming the stage.
        """
        where = f"stage {name!r}"
        if not name:
            raise PipelineError(f"pipeline {self.name!r}: a stage needs a name")
        if name in self._stages:
            raise PipelineError(f"pipeline {self.name!r}: {where} is declared twice")
        if not callable(fn):
            raise PipelineError(f"{where}: expected an async function, got {fn!r}")
        if isinstance(needs, str):
            raise PipelineError(f"{where}: needs: expected a list of names, got {needs!r}")
        self._graph = None
        self._stages[name] = StageSpec(
            name,
            fn,
            # Needing a stage twice is needing it once.
            tuple(dict.fromkeys(needs)),
            self._limit(timeout_s, f"{where}: timeout_s"),
            self._limit(idle_timeout_s, f"{where}: idle_timeout_s"),
        )

    def check(self) -> Graph:
        """Check the pipeline as a whole.

        Raises:
            PipelineError: naming everything that is wrong and the stages concerned.
        """
        if self._graph is None:
            faults = self._faults()
            if faults:
                raise PipelineError(f"pipeline {self.name!r}: {'; '.join(faults)}")
            stages = {s.name: self._with_default(s) for s in self._stages.values()}
            dependents: dict[str, list[str]] = {name: [] for name in stages}
            for spec in stages.values():
                for need in spec.needs:
                    dependents[need].append(spec.name)
            frozen = {name: tuple(names) for name, names in dependents.items()}
            self._graph = Graph(self._settings, stages, frozen)
        return self._graph

    def describe(self) -> dict[str, Any]:
        """Return the pipeline as plain data: settings, stages, what they need, timeouts."""
        graph = self.check()
        return {
            "name": self.name,
            "timeout_s": graph.settings.timeout_s,
            "cleanup_grace_s": graph.settings.cleanup_grace_s,
            "on_failure": graph.settings.on_failure,
            "chunks_max": graph.settings.chunks_max,
            "stages": [
                {
                    "name": spec.name,
                    "needs": list(spec.needs),
                    "timeout_s": spec.timeout_s,
                    "idle_timeout_s": spec.idle_timeout_s,
                }
                for spec in graph.stages.values()
            ],
        }

    def prepare(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        sink: Callable[[Event], None] | None = None,
        parent: Context | None = None,
    ) -> Run:
        """Return a run that was not started: keep it to read `result` after a cancel.

        Args:
            sink: called with each event of a stage.
            parent: the context of the stage that it is a child of; see `Context.subpipeline`.
        """
        run_id = run_id or f"{self.name}-{next(self._runs)}"
        return self.run_type(self.check(), run_id, inputs or {}, sink, parent=parent)

    async def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        sink: Callable[[Event], None] | None = None,
    ) -> RunResult:
        """Run the pipeline to its end.

        Raises:
            PipelineError: if it is declared wrongly; nothing is run.
            RunFailed: if a stage failed or timed out.
            RunCancelled: if a stage asked to end the run.
            asyncio.CancelledError: if the caller was cancelled; all stages have ended and all
                cleanups have run by then.
        """
        return await self.prepare(inputs, run_id=run_id, sink=sink).execute()

    async def run_stage(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        sink: Callable[[Event], None] | None = None,
    ) -> RunResult:
        """Run one stage by itself, as a test would; `given` stands for the outputs it reads."""
        whole = self.check()
        if name not in whole.stages:
            raise PipelineError(f"pipeline {self.name!r}: stage {name!r} is not declared")
        graph = replace(whole, stages={name: whole.stages[name]}, dependents={name: ()})
        run_id = run_id or f"{self.name}-{next(self._runs)}"
        run = self.run_type(graph, run_id, inputs or {}, sink, given=given or {})
        return await run.execute()

    def _limit(self, value: float | None, what: str) -> float | None:
        return None if value is None else seconds(value, what)

    def _faults(self) -> list[str]:
        return find_faults(tuple(self._stages.values()))

    def _with_default(self, spec: StageSpec) -> StageSpec:
        """Give a stage the pipeline's timeout if it has none; a bad one names the stage."""
        if spec.timeout_s is not None:
            return spec
        what = f"stage {spec.name!r}: timeout_s, from the pipeline's stage_timeout_s"
        return replace(spec, timeout_s=self._limit(self._stage_timeout_s, what))
