"""What a stage is given: its inputs and the engine's services, under its own name.

Every stage gets the same context on every entry point: a pipeline's run, a subpipeline,
a single stage run by itself. Nothing reachable from it is shared with another stage but
what the user put there on purpose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from harness.engine.errors import EngineError, ToolTimeout
from harness.engine.graph import StageSpec, isolated, seconds
from harness.engine.job import Job
from harness.engine.result import RunResult

if TYPE_CHECKING:
    from harness.engine.pipeline import Pipeline
    from harness.engine.run import Run

__all__ = ["Context"]

T = TypeVar("T")


class Context:
    """The engine's services for one execution of one stage.

    Attributes:
        run_id, pipeline, stage: who runs.
        needs: the stages whose outputs `input` gives.
        chunks_dropped: how many chunks came when `chunks_max` were kept.
    """

    def __init__(self, run: Run, job: Job, spec: StageSpec) -> None:
        self._run = run
        self._job = job
        self._chunks: list[Any] = []
        self.run_id = run.run_id
        self.pipeline = run.graph.settings.name
        self.stage = spec.name
        self.needs = spec.needs
        self.chunks_dropped = 0
        self._timeout_s = spec.timeout_s

    @property
    def inputs(self) -> Mapping[str, Any]:
        """The inputs of the run: a copy of the stage's own."""
        return self._copy(self._run.inputs, "the run's inputs")  # type: ignore[no-any-return]

    def input(self, stage: str) -> Any:
        """Return the output of a stage that this one needs; None if that one was skipped.

        It is a copy of the reader's own: changing it changes it for nobody else.
        """
        if stage not in self.needs:
            raise EngineError(
                f"stage {self.stage!r} reads {stage!r} without needing it; add it to its needs"
            )
        return self._copy(self._run.output_of(stage), f"the output of stage {stage!r}")

    @property
    def deadline_s(self) -> float | None:
        """When, on the loop's clock, the first of this stage's deadlines expires, or None.

        Counted are its own timeout, its run's, and those of all that this run is a child of.
        """
        started = self._job.started_s
        own = None if self._timeout_s is None or started is None else started + self._timeout_s
        return min((d for d in (own, self._run.deadline_s) if d is not None), default=None)

    @property
    def remaining_s(self) -> float | None:
        """Seconds until `deadline_s`, or None."""
        deadline = self.deadline_s
        if deadline is None:
            return None
        return max(0.0, deadline - asyncio.get_running_loop().time())

    @property
    def grace_left_s(self) -> float | None:
        """Seconds that this stage has left to end in, if it has been told to stop, else None."""
        end_s = self._job.given_up_at_s
        return None if end_s is None else max(0.0, end_s - asyncio.get_running_loop().time())

    def emit(self, type: str, data: Any = None) -> None:
        """Hand an event to the run's sink, if it has one. A sink that raises fails no stage."""
        self._run.emit(self.stage, type, data)

    def chunk(self, value: Any) -> None:
        """Keep a partial result in the stage's report, also if the stage ends early.

        The first `chunks_max` are kept; of what follows only the number.
        """
        if len(self._chunks) >= self._run.graph.settings.chunks_max:
            self.chunks_dropped += 1
        else:
            self._chunks.append(self._copy(value, "a chunk"))

    @property
    def chunks(self) -> tuple[Any, ...]:
        """The partial results kept so far."""
        return tuple(self._chunks)

    def heartbeat(self) -> None:
        """Say that the stage is alive: its idle timeout starts anew."""
        self._job.beat_s = asyncio.get_running_loop().time()

    def cleanup(self, name: str, fn: Callable[[], Awaitable[Any]]) -> None:
        """Have `fn` awaited at the end of the run, whatever becomes of it.

        Cleanups run when all stages have ended, the last registered first, each once.
        """
        self._run.add_cleanup(name, self.stage, fn)

    async def call(
        self, tool: str, fn: Callable[[], Awaitable[T]], *, timeout_s: float | None = None
    ) -> T:
        """Await a tool under a timeout of its own, in seconds.

        Raises:
            ToolTimeout: if it was this timeout that ended the call.
        """
        if timeout_s is None:
            return await fn()
        limit = seconds(timeout_s, f"stage {self.stage!r}: timeout_s of tool {tool!r}")
        try:
            async with asyncio.timeout(limit) as scope:
                value = await fn()
        except TimeoutError as exc:
            # The tool's own TimeoutError is not ours, even if the two look alike.
            if scope.expired() and isinstance(exc.__cause__, asyncio.CancelledError):
                raise ToolTimeout(self.stage, tool, limit) from exc
            raise
        if scope.expired():  # the tool swallowed its cancellation; it is late all the same
            raise ToolTimeout(self.stage, tool, limit)
        return value

    async def to_thread(self, fn: Callable[..., T], *args: Any) -> T:
        """Await `fn(*args)` in a worker thread.

        A timeout or cancel ends the stage, not the thread; the result names such stages.
        """
        result: T = await self._run.threads.call(self.stage, fn, *args)
        return result

    async def subpipeline(
        self, pipeline: Pipeline, inputs: Mapping[str, Any] | None = None
    ) -> RunResult:
        """Run another pipeline as a child of this run.

        It ends when this stage is ended, and sees this stage's deadline. Its failure is
        raised here, once.

        Raises:
            RunFailed, RunCancelled: as `Pipeline.run` does.
        """
        return await self._run.run_child(self, pipeline, inputs)

    def _copy(self, value: Any, what: str) -> Any:
        return isolated(value, f"stage {self.stage!r}: {what}")
