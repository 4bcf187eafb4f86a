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
import random
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, ClassVar, Unpack

from harness.engine.breaker import CircuitBreaker
from harness.engine.checkpoint import Checkpoints, CheckpointStore
from harness.engine.context import Context
from harness.engine.errors import PipelineError
from harness.engine.graph import Graph, Settings, StageFn, StageSpec, find_faults, seconds
from harness.engine.idempotency import Idempotency
from harness.engine.identity import Origin, Request, origin_of
from harness.engine.layer import LAYERS_MAX, LayerFn, LayerSpec, Passage, layered
from harness.engine.rate import RateLimit
from harness.engine.result import RunResult
from harness.engine.retry import Retry, checked_retry
from harness.engine.run import Run
from harness.engine.sink import EventQueue, Sink

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
        rng: where the jitter of retries comes from.
        layers: put around every stage, outermost first; see `layer`.

    Raises:
        PipelineError: if a setting cannot be used.
    """

    run_type: ClassVar[type[Run]] = Run
    checkpoints_type: ClassVar[type[Checkpoints]] = Checkpoints
    passage_type: ClassVar[type[Passage]] = Passage
    breaker_type: ClassVar[type[CircuitBreaker]] = CircuitBreaker
    rate_type: ClassVar[type[RateLimit]] = RateLimit
    idempotency_type: ClassVar[type[Idempotency]] = Idempotency
    queue_type: ClassVar[type[EventQueue]] = EventQueue

    def __init__(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        stage_timeout_s: float | None = None,
        cleanup_grace_s: float = 10.0,
        on_failure: str = "cancel",
        chunks_max: int = 1_000,
        rng: random.Random | None = None,
        layers: Iterable[LayerFn] = (),
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
        rng = rng if rng is not None else random.Random()
        self._settings = Settings(name, limit, grace, on_failure, chunks_max, rng)
        self._stage_timeout_s = stage_timeout_s
        self._stages: dict[str, StageSpec] = {}
        self._layers: list[LayerSpec] = []
        self._graph: Graph | None = None
        self._runs = itertools.count(1)
        for fn in layers:
            self.layer(fn)

    def stage(
        self,
        name: str,
        fn: StageFn,
        *,
        needs: Iterable[str] = (),
        timeout_s: float | None = None,
        idle_timeout_s: float | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Declare a stage.

        Args:
            needs: stages whose completion it waits for; they may be declared later.
            timeout_s: seconds from its start after which it is ended; 0 ends it at its first
                wait. None stands for the pipeline's `stage_timeout_s`.
            idle_timeout_s: seconds without a `heartbeat` after which it is ended.
            retry: how it is tried again if it fails or times out; None for not at all. Its
                timeouts hold for each attempt.

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
            None if retry is None else checked_retry(retry, where),
        )

    def layer(
        self, fn: LayerFn, *, name: str | None = None, stages: Iterable[str] | None = None
    ) -> None:
        """Put a layer around stages, within those declared before; see `layer.py` for its rules.

        Args:
            fn: an async function of the stage's context and of `call_next`, which runs the
                layers within it and the stage; what it returns is the stage's output.
            name: to be named by in errors; what is None is named after the function or type.
            stages: those that it is put around; None means all, also those declared later.

        Raises:
            PipelineError: if it cannot be used.
        """
        where = f"pipeline {self.name!r}: a layer"
        if not callable(fn):
            raise PipelineError(f"{where}: expected an async function, got {fn!r}")
        if isinstance(stages, str):
            raise PipelineError(f"{where}: stages: expected a list of names, got {stages!r}")
        if len(self._layers) >= LAYERS_MAX:
            raise PipelineError(f"{where}: at most {LAYERS_MAX}, got one more")
        known = getattr(fn, "name", None) or getattr(fn, "__name__", type(fn).__name__)
        wrapped = None if stages is None else frozenset(stages)
        self._graph = None
        self._layers.append(LayerSpec(str(name or known), fn, wrapped))

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
            if self._layers:
                stages = {name: self._layered(s) for name, s in stages.items()}
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
            "layers": [
                {"name": one.name, "stages": None if one.stages is None else sorted(one.stages)}
                for one in self._layers
            ],
            "stages": [
                {
                    "name": spec.name,
                    "needs": list(spec.needs),
                    "timeout_s": spec.timeout_s,
                    "idle_timeout_s": spec.idle_timeout_s,
                    **({} if spec.retry is None else {"retry": asdict(spec.retry)}),
                }
                for spec in graph.stages.values()
            ],
        }

    def prepare(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        sink: Sink | None = None,
        parent: Context | None = None,
        checkpoints: CheckpointStore | None = None,
        redrives: str | None = None,
        **request: Unpack[Request],
    ) -> Run:
        """Return a run that was not started: keep it to read `result` after a cancel.

        Args:
            sink: a function that is called with each event of a stage, or an `EventQueue`.
            parent: the context of the stage that it is a child of; see `Context.subpipeline`.
            checkpoints: where completed stages are kept, under `run_id`.
            redrives: id of the run in `checkpoints` that is gone on with; its inputs are used.
            request: whom it is for, and what it comes under; see `identity.Request`.

        Raises:
            PipelineError: if the pipeline is declared wrongly, or the run has no id to be
                known by in `checkpoints`, or what is asked for cannot be used.
            TenancyError: if it is started inside a run of another tenant.
        """
        kept = None
        origin = self._origin(request, parent)
        if checkpoints is not None:
            run_id = run_id or redrives
            if run_id is None:
                raise PipelineError(
                    f"pipeline {self.name!r}: a run with checkpoints needs a run_id, to be "
                    "redriven by"
                )
            kept = self.checkpoints_type(checkpoints, run_id, redrives)
        run_id = run_id or f"{self.name}-{next(self._runs)}"
        return self.run_type(
            self.check(),
            run_id,
            inputs or {},
            sink,
            parent=parent,
            checkpoints=kept,
            origin=origin,
        )

    async def run(
        self,
        inputs: Mapping[str, Any] | None = None,
        *,
        run_id: str | None = None,
        sink: Sink | None = None,
        checkpoints: CheckpointStore | None = None,
        **request: Unpack[Request],
    ) -> RunResult:
        """Run the pipeline to its end; with `checkpoints` it can be gone on with by `redrive`.

        Whom it is for, and what it comes under, is said by `tenant`, `correlation_id`,
        `traceparent` and the rest of `identity.Request`.

        Raises:
            PipelineError: if it is declared wrongly; nothing is run.
            TenancyError: if it is started inside a run of another tenant; nothing is run.
            RunFailed: if a stage failed or timed out.
            RunCancelled: if a stage asked to end the run.
            asyncio.CancelledError: if the caller was cancelled; all stages have ended and all
                cleanups have run by then.
        """
        run = self.prepare(inputs, run_id=run_id, sink=sink, checkpoints=checkpoints, **request)
        return await run.execute()

    async def redrive(
        self,
        run_id: str,
        *,
        checkpoints: CheckpointStore,
        new_id: str | None = None,
        sink: Sink | None = None,
        **request: Unpack[Request],
    ) -> RunResult:
        """Go on with a run that ended early, also one whose process did.

        Stages that had completed are not run again: the result and the stages that need them
        have their outputs from the checkpoints. A run that had completed as a whole gives its
        result once more. See `checkpoint`.

        Args:
            run_id: of the run, or of a redrive of it.
            new_id: an id of the redrive's own, if it is to have one.

        Raises:
            RedriveRefused: if its tenant has no such run, if it is being run or redriven, or if
                the pipeline has changed in a way that matters; nothing is run.
            RunFailed, RunCancelled, asyncio.CancelledError: as `run` does.
        """
        run = self.prepare(
            run_id=new_id, sink=sink, checkpoints=checkpoints, redrives=run_id, **request
        )
        return await run.execute()

    async def run_stage(
        self,
        name: str,
        inputs: Mapping[str, Any] | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        sink: Sink | None = None,
        **request: Unpack[Request],
    ) -> RunResult:
        """Run one stage by itself, as a test would; `given` stands for the outputs it reads."""
        whole = self.check()
        if name not in whole.stages:
            raise PipelineError(f"pipeline {self.name!r}: stage {name!r} is not declared")
        graph = replace(whole, stages={name: whole.stages[name]}, dependents={name: ()})
        run_id = run_id or f"{self.name}-{next(self._runs)}"
        origin = self._origin(request, None)
        run = self.run_type(graph, run_id, inputs or {}, sink, given=given or {}, origin=origin)
        return await run.execute()

    def _origin(self, request: Request, parent: Context | None) -> Origin:
        return origin_of(request, parent, self._settings.rng)

    def _limit(self, value: float | None, what: str) -> float | None:
        return None if value is None else seconds(value, what)

    def _faults(self) -> list[str]:
        return [*find_faults(tuple(self._stages.values())), *self._layer_faults()]

    def _layer_faults(self) -> list[str]:
        return [
            f"layer {layer.name!r} is put around stage {name!r}, which is not declared"
            for layer in self._layers
            for name in sorted(layer.stages or ())
            if name not in self._stages
        ]

    def _layered(self, spec: StageSpec) -> StageSpec:
        return replace(spec, fn=layered(spec, self._layers, self.passage_type))

    def _with_default(self, spec: StageSpec) -> StageSpec:
        """Give a stage the pipeline's timeout if it has none; a bad one names the stage."""
        if spec.timeout_s is not None:
            return spec
        what = f"stage {spec.name!r}: timeout_s, from the pipeline's stage_timeout_s"
        return replace(spec, timeout_s=self._limit(self._stage_timeout_s, what))
