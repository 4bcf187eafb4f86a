"""Idempotency: a stage that has completed under a key is not run again under it.

A key holds for one tenant, pipeline and stage. Only what completed is kept: a stage that
failed, was denied, timed out or was cancelled has left its key as if it had never run, and the
next execution runs it. Of executions that come while one is under way none runs; they wait, and
get its output if it completes, or else the first of them runs the stage.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from harness.engine.errors import EngineError, PipelineError
from harness.engine.graph import isolated
from harness.engine.layer import CallNext, Instead, place, whole_number
from harness.engine.result import CancelBranch, CancelRun, Skip

if TYPE_CHECKING:
    from harness.engine.context import Context

__all__ = ["Idempotency"]


NOTHING = object()


class _Runner:
    """The execution under way under a key, and what its stage put out, if it did."""

    __slots__ = ("context", "output", "over")

    def __init__(self, context: Context) -> None:
        self.context = context
        self.output: Any = NOTHING
        self.over = asyncio.Event()


class Idempotency:
    """A layer; see the module.

    Args:
        key: of the execution, from its context; None stands for none, and the stage runs.
        keys_max: how many outputs are kept; the oldest go first, and their stages run again.

    Raises:
        PipelineError: if a setting cannot be used.
    """

    def __init__(
        self, key: Callable[[Context], Hashable | None], *, keys_max: int = 10_000
    ) -> None:
        if not callable(key):
            raise PipelineError(f"key: expected a function of the context, got {key!r}")
        self.name = "idempotency"
        self.keys_max = whole_number(keys_max, "keys_max")
        self._key = key
        self._outputs: OrderedDict[Hashable, Any] = OrderedDict()
        self._running: dict[Hashable, _Runner] = {}

    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        key = self._key(context)
        if key is None:
            return await call_next()
        whole = self._whole_key(context, key)
        while whole not in self._outputs and whole in self._running:
            await self._wait(context, self._running[whole])
        if whole in self._outputs:
            return Instead(isolated(self._outputs[whole], f"the output kept for key {key!r}"))
        runner = self._running[whole] = _Runner(context)
        context.when_ended(lambda completed: self._end(whole, runner, completed=completed))
        return await self._run(runner, call_next)

    async def _run(self, runner: _Runner, call_next: CallNext) -> Any:
        value = await call_next()
        if not isinstance(value, (Skip, CancelRun, CancelBranch)):
            runner.output = isolated(value, "an output to be kept under an idempotency key")
        return value

    async def _wait(self, context: Context, runner: _Runner) -> None:
        if context.is_within(runner.context):
            raise EngineError(
                f"stage {context.stage!r} would wait for itself: a run above this one runs it "
                "under the same idempotency key"
            )
        await runner.over.wait()

    def _end(self, whole: Hashable, runner: _Runner, *, completed: bool) -> None:
        """Keep the output, now that nothing can change what the stage is reported as."""
        del self._running[whole]
        if completed and runner.output is not NOTHING:
            self._keep(whole, runner.output)
        runner.over.set()

    def _keep(self, whole: Hashable, output: Any) -> None:
        self._outputs[whole] = output
        while len(self._outputs) > self.keys_max:
            self._outputs.popitem(last=False)

    def _whole_key(self, context: Context, key: Hashable) -> tuple[Hashable, ...]:
        return (*place(context), key)
