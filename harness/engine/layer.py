"""Layers: code of the user's around stages, in the order of declaration, outermost first.

    async def authorise(context, call_next):
        if not allowed(context.inputs["user"]):
            return Deny("not allowed")
        return await call_next()

    pipeline = Pipeline("report", layers=[authorise, CircuitBreaker()])

Layers fail closed. A layer that raises, denies, or returns without having run the stage has
refused this execution: the stage has failed, and no layer further out can turn that into a
success. What the stage itself raises is the layers' to handle: they may answer for it. What
became of the stage in the end, after all layers, a layer learns by `Context.when_ended`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from harness.engine.errors import EngineError, LayerFailed, PipelineError, StageDenied
from harness.engine.graph import StageFn, StageSpec

if TYPE_CHECKING:
    from harness.engine.context import Context

__all__ = [
    "LAYERS_MAX",
    "CallNext",
    "Deny",
    "Instead",
    "LayerFn",
    "LayerSpec",
    "Passage",
    "Table",
    "layered",
    "place",
    "whole_number",
]

# Each layer is a few frames of the stack.
LAYERS_MAX = 50
NUMBER_MAX = 1_000_000

LayerFn = Callable[["Context", "CallNext"], Awaitable[Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deny:
    """Returned by a layer that does not let the stage run: the stage fails by `StageDenied`."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Instead:
    """Returned by a layer that answers in the stage's place; the stage does not run."""

    value: Any = None


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One declared layer; `stages` names those that it is put around, None means all."""

    name: str
    fn: LayerFn
    stages: frozenset[str] | None = None

    def wraps(self, stage: str) -> bool:
        return self.stages is None or stage in self.stages


@dataclass(slots=True)
class Passage:
    """One execution of one stage on its way through its layers.

    Attributes:
        refusal: the first failure or denial of a layer; it decides, whatever comes after it.
        open: False as soon as the outermost layer has ended: nothing may run after that.
    """

    context: Context
    fn: StageFn
    around: Sequence[LayerSpec]
    refusal: Exception | None = None
    open: bool = True

    async def run(self) -> Any:
        """Run the layers and the stage; what a layer has refused stays refused."""
        try:
            value = await self.enter(0)
        except Exception as exc:
            refusal = self._take_refusal()
            if refusal is None or refusal is exc:
                raise
            raise refusal from exc  # a layer further out failed over it
        finally:
            self.open = False
        refusal = self._take_refusal()
        if refusal is not None:
            raise refusal
        return value

    async def enter(self, depth: int) -> Any:
        """Run what is left of the way to the stage, from the layer at `depth` on."""
        if depth == len(self.around):
            if not self.open:
                raise EngineError(f"stage {self.context.stage!r}: its layers have ended")
            return await self.fn(self.context)
        layer = self.around[depth]
        call_next = CallNext(self, depth + 1)
        try:
            value = await layer.fn(self.context, call_next)
        except BaseException as exc:
            if exc is call_next.raised or not self._is_own(exc):
                raise
            refusal = self._refused(layer, exc)
            if refusal is exc:
                raise
            raise refusal from exc
        finally:
            call_next.closed = True
            call_next.raised = None  # an exception that one of its own frames holds is a cycle
        if isinstance(value, Deny):
            raise self._refused(layer, StageDenied(self.context.stage, layer.name, value.reason))
        if isinstance(value, Instead):
            return value.value
        if not call_next.used:
            error = EngineError("it neither ran the stage nor denied it nor answered for it")
            raise self._refused(layer, error) from error
        return value

    def _take_refusal(self) -> Exception | None:
        refusal, self.refusal = self.refusal, None
        return refusal

    def _is_own(self, exc: BaseException) -> bool:
        """Say whether a layer failed by itself, and is not only ended by the engine."""
        if isinstance(exc, asyncio.CancelledError):
            return not self.context.told_to_stop
        return isinstance(exc, Exception)

    def _refused(self, layer: LayerSpec, exc: BaseException) -> Exception:
        error: Exception
        if isinstance(exc, StageDenied):
            error = exc
        else:
            error = LayerFailed(self.context.stage, layer.name, exc)
        if self.refusal is None:
            self.refusal = error
        return error


class CallNext:
    """What a layer awaits to run the layers within it, and the stage; once at most."""

    __slots__ = ("_depth", "_passage", "closed", "raised", "used")

    def __init__(self, passage: Passage, depth: int) -> None:
        self._passage = passage
        self._depth = depth
        self.raised: BaseException | None = None
        self.used = False
        self.closed = False

    async def __call__(self) -> Any:
        if self.used or self.closed:
            raise EngineError(
                f"stage {self._passage.context.stage!r}: a layer can call call_next() once, and "
                "not when it has ended; declare a retry to run a stage again"
            )
        self.used = True
        try:
            return await self._passage.enter(self._depth)
        except BaseException as exc:
            self.raised = exc
            raise


def layered(
    spec: StageSpec, layers: Sequence[LayerSpec], passage_type: type[Passage] = Passage
) -> StageFn:
    """Return the stage's function with the layers that wrap it put around it."""
    around = [one for one in layers if one.wraps(spec.name)]
    if not around:
        return spec.fn

    async def stage(context: Context) -> Any:
        return await passage_type(context, spec.fn, around).run()

    return stage


def place(context: Context) -> tuple[str, str, str]:
    """Return whom an engine's layer keeps its state for: tenant, pipeline and stage."""
    return (context.tenant, context.pipeline, context.stage)


def whole_number(value: object, what: str) -> int:
    """Check a layer's setting.

    Raises:
        PipelineError: naming `what`, unless it is a whole number from 1 to `NUMBER_MAX`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= NUMBER_MAX:
        raise PipelineError(
            f"{what}: expected a whole number from 1 to {NUMBER_MAX}, got {value!r}"
        )
    return value


class Table(Generic[T]):
    """State of a layer by place, made on first use; the least recently used goes first when
    there are more than `entries_max` of them and `idle` says that it may go."""

    def __init__(
        self, make: Callable[[], T], entries_max: int, idle: Callable[[T], bool] = lambda _: True
    ) -> None:
        self._make = make
        self._entries_max = entries_max
        self._idle = idle
        self._entries: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def at(self, key: Hashable) -> T:
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        self._make_room()
        made = self._entries[key] = self._make()
        return made

    def _make_room(self) -> None:
        if len(self._entries) < self._entries_max:
            return
        idle = next((key for key, one in self._entries.items() if self._idle(one)), None)
        if idle is None:
            raise EngineError(
                f"the layer keeps state for {self._entries_max} tenants and stages, all of them "
                "in use; raise entries_max"
            )
        del self._entries[idle]
