"""Engines that break GRAPH-5: layers around stages that do not hold; and TENANT-2 by them.

Its length is the number of defects: each is a few lines, and none knows of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from harness.engine.breaker import Circuit, CircuitBreaker
from harness.engine.broken.defect import defect
from harness.engine.context import Context
from harness.engine.errors import CircuitOpen, LayerFailed, RateLimited, StageDenied
from harness.engine.graph import StageSpec
from harness.engine.idempotency import Idempotency
from harness.engine.layer import CallNext, Instead, Passage, layered
from harness.engine.pipeline import Pipeline
from harness.engine.rate import RateLimit
from harness.engine.result import Skip

__all__ = ["LAYERS"]


# Order.


class InnermostFirst(Pipeline):
    def _layered(self, spec: StageSpec) -> StageSpec:
        return replace(spec, fn=layered(spec, self._layers[::-1], self.passage_type))


class ByName(Pipeline):
    def _layered(self, spec: StageSpec) -> StageSpec:
        by_name = sorted(self._layers, key=lambda one: one.name)
        return replace(spec, fn=layered(spec, by_name, self.passage_type))


class OnlyFirstStages(Pipeline):
    def _layered(self, spec: StageSpec) -> StageSpec:
        return spec if spec.needs else super()._layered(spec)


# Layers that fail or deny.


class _Watched(Passage):
    """Notes whether the stage was run, and what it put out."""

    ran = False
    outputs: tuple[Any, ...] = ()

    async def enter(self, depth: int) -> Any:
        if depth < len(self.around):
            return await self._through(depth)
        self.ran = True
        output = await super().enter(depth)
        self.outputs = (output,)
        return output

    async def _through(self, depth: int) -> Any:
        try:
            return await super().enter(depth)
        except LayerFailed as exc:
            if exc.layer != self.around[depth].name:
                raise
            return await self._after_failure(depth, exc)

    async def _after_failure(self, depth: int, exc: LayerFailed) -> Any:
        raise exc


class _Isolating(_Watched):
    async def _after_failure(self, depth: int, exc: LayerFailed) -> Any:
        """Go on without the layer, if the stage has not run."""
        if self.ran:
            raise exc
        self.refusal = None
        return await self.enter(depth + 1)


class FailingLayerSkipped(Pipeline):
    passage_type = _Isolating


class _FailingOpen(_Watched):
    async def _after_failure(self, depth: int, exc: LayerFailed) -> Any:
        """Run the stage without this layer and all that are within it."""
        if self.ran:
            raise exc
        self.refusal = None
        return await self.enter(len(self.around))


class FailingLayerOpensAll(Pipeline):
    passage_type = _FailingOpen


class _FailureAnswered(_Watched):
    async def _after_failure(self, depth: int, exc: LayerFailed) -> Any:
        """Take a layer that failed before the stage for one that answered with nothing."""
        if self.ran:
            raise exc
        self.refusal = None
        return None


class FailingLayerCompletes(Pipeline):
    passage_type = _FailureAnswered


class _AfterSwallowed(_Watched):
    async def _after_failure(self, depth: int, exc: LayerFailed) -> Any:
        """The stage has run: what a layer has to say after that is only logged."""
        if not self.outputs:
            raise exc
        self.refusal = None
        return self.outputs[0]


class AfterSwallowed(Pipeline):
    passage_type = _AfterSwallowed


class _DenialSkips(Passage):
    async def run(self) -> Any:
        try:
            return await super().run()
        except StageDenied as exc:
            return self._instead(exc)

    def _instead(self, exc: StageDenied) -> Any:
        return Skip(str(exc))


class DenialSkips(Pipeline):
    passage_type = _DenialSkips


class _DenialCompletes(_DenialSkips):
    def _instead(self, exc: StageDenied) -> Any:
        return {}


class DenialCompletes(Pipeline):
    passage_type = _DenialCompletes


class _DecidedOnce(Passage):
    """A layer that has once let a stage run is not asked again."""

    passed: ClassVar[WeakKeyDictionary[Any, set[str]]] = WeakKeyDictionary()

    async def enter(self, depth: int) -> Any:
        if depth == len(self.around):
            return await super().enter(depth)
        passed = self.passed.setdefault(self.around[depth].fn, set())
        if self.context.stage in passed:
            return await self.enter(depth + 1)
        value = await super().enter(depth)
        passed.add(self.context.stage)
        return value


class DecidedOnce(Pipeline):
    passage_type = _DecidedOnce


# Circuit breakers.


class _OpenCompletes(CircuitBreaker):
    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        try:
            return await super().__call__(context, call_next)
        except CircuitOpen:
            return Instead()


class OpenCompletes(Pipeline):
    breaker_type = _OpenCompletes


class _CountsCancels(CircuitBreaker):
    def _is_failure(self, context: Context, exc: BaseException | None) -> bool:
        return exc is not None and not isinstance(exc, StageDenied)


class CountsCancels(Pipeline):
    breaker_type = _CountsCancels


class _CountsDenials(CircuitBreaker):
    def _is_failure(self, context: Context, exc: BaseException | None) -> bool:
        return super()._is_failure(context, exc) or isinstance(exc, StageDenied)


class CountsDenials(Pipeline):
    breaker_type = _CountsDenials


class _OneCircuit(CircuitBreaker):
    def _place(self, context: Context) -> Any:
        tenant, pipeline, _ = super()._place(context)
        return (tenant, pipeline)


class OneCircuit(Pipeline):
    breaker_type = _OneCircuit


class _CircuitOfAllTenants(CircuitBreaker):
    def _place(self, context: Context) -> Any:
        return super()._place(context)[1:]


class CircuitOfAllTenants(Pipeline):
    breaker_type = _CircuitOfAllTenants


class _OneTooMany(CircuitBreaker):
    def __init__(self, *, threshold: int = 5, **more: Any) -> None:
        super().__init__(threshold=threshold + 1, **more)


class OneTooMany(Pipeline):
    breaker_type = _OneTooMany


class _StaysOpen(CircuitBreaker):
    def _admit_probe(self, circuit: Circuit, context: Context, now_s: float) -> None:
        """Each one that is refused begins the wait anew, and there is no probe."""
        raise CircuitOpen(context.stage, self.name, self.reset_s)


class StaysOpen(Pipeline):
    breaker_type = _StaysOpen


# Rate limits.


class _LimitOfAllTenants(RateLimit):
    def _place(self, context: Context) -> Any:
        return super()._place(context)[1:]


class LimitOfAllTenants(Pipeline):
    rate_type = _LimitOfAllTenants


class _OneLimit(RateLimit):
    def _place(self, context: Context) -> Any:
        return super()._place(context)[:2]


class OneLimit(Pipeline):
    rate_type = _OneLimit


class _CountsWhenOver(RateLimit):
    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        """Look at the count before the stage, and count after it."""
        begun = self._begun.at(self._place(context))
        now_s = asyncio.get_running_loop().time()
        if len(begun) == self.limit and now_s < begun[0] + self.window_s:
            raise RateLimited(context.stage, self.name, begun[0] + self.window_s - now_s)
        try:
            return await call_next()
        finally:
            begun.append(now_s)


class CountsWhenOver(Pipeline):
    rate_type = _CountsWhenOver


# Idempotency.


class _KeepsFailures(Idempotency):
    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        try:
            return await super().__call__(context, call_next)
        except Exception as exc:
            if self._counts(exc):
                self._keep(self._whole_key(context, self._key(context)), {"error": str(exc)})
            raise

    def _counts(self, exc: Exception) -> bool:
        return not isinstance(exc, StageDenied)


class KeepsFailures(Pipeline):
    idempotency_type = _KeepsFailures


class _KeepsRefusals(_KeepsFailures):
    def _counts(self, exc: Exception) -> bool:
        return isinstance(exc, StageDenied)


class KeepsRefusals(Pipeline):
    idempotency_type = _KeepsRefusals


class _KeepsCancelled(Idempotency):
    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        try:
            return await super().__call__(context, call_next)
        except asyncio.CancelledError:
            self._keep(self._whole_key(context, self._key(context)), None)
            raise


class KeepsCancelled(Pipeline):
    idempotency_type = _KeepsCancelled


class _KeepsEarly(Idempotency):
    async def _run(self, runner: Any, call_next: CallNext) -> Any:
        """Keep an output as soon as there is one, whatever layers further out say to it."""
        value = await super()._run(runner, call_next)
        self._keep(self._whole_key(runner.context, self._key(runner.context)), value)
        return value


class KeepsEarly(Pipeline):
    idempotency_type = _KeepsEarly


class _KeyOfAllStages(Idempotency):
    def _whole_key(self, context: Context, key: Hashable) -> tuple[Hashable, ...]:
        tenant, pipeline, _, whole = super()._whole_key(context, key)
        return (tenant, pipeline, whole)


class KeyOfAllStages(Pipeline):
    idempotency_type = _KeyOfAllStages


class _KeyOfAllTenants(Idempotency):
    def _whole_key(self, context: Context, key: Hashable) -> tuple[Hashable, ...]:
        return super()._whole_key(context, key)[1:]


class KeyOfAllTenants(Pipeline):
    idempotency_type = _KeyOfAllTenants


class _NoWaiting(Idempotency):
    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        """Look whether an output is kept; that the stage may be under way is forgotten."""
        whole = self._whole_key(context, self._key(context))
        if whole in self._outputs:
            return Instead(self._outputs[whole])
        outputs: list[Any] = []

        def keep(completed: bool) -> None:
            if completed:
                self._keep(whole, outputs[-1])

        context.when_ended(keep)
        outputs.append(await call_next())
        return outputs[-1]


class NoWaiting(Pipeline):
    idempotency_type = _NoWaiting


LAYERS = (
    defect(
        "layers-innermost-first",
        "GRAPH-5",
        "Layers are entered in the reverse of the order in which they are declared.",
        pipeline=InnermostFirst,
    ),
    defect(
        "layers-by-name",
        "GRAPH-5",
        "Layers are entered in the order of their names.",
        pipeline=ByName,
    ),
    defect(
        "layers-around-first-stages",
        "GRAPH-5",
        "Layers are put around stages that need no other, and forgotten around the rest.",
        pipeline=OnlyFirstStages,
    ),
    defect(
        "failing-layer-skipped",
        "GRAPH-5",
        "A layer that fails before its stage is passed over, and the stage runs.",
        pipeline=FailingLayerSkipped,
    ),
    defect(
        "failing-layer-opens-all",
        "GRAPH-5",
        "When a layer fails the stage runs without all layers within it as well.",
        pipeline=FailingLayerOpensAll,
    ),
    defect(
        "failing-layer-completes",
        "GRAPH-5",
        "A stage whose layer failed before it is reported as completed without output.",
        pipeline=FailingLayerCompletes,
    ),
    defect(
        "failure-after-stage-swallowed",
        "GRAPH-5",
        "What a layer raises after its stage is swallowed, and the stage completed.",
        pipeline=AfterSwallowed,
    ),
    defect(
        "denial-skips",
        "GRAPH-5",
        "A denied stage counts as skipped, so that what needs it runs.",
        pipeline=DenialSkips,
    ),
    defect(
        "denial-completes",
        "GRAPH-5",
        "A denied stage is reported as completed, with an empty output.",
        pipeline=DenialCompletes,
    ),
    defect(
        "guard-asked-once",
        "GRAPH-5",
        "A guard that has let a stage run is not asked again in later runs.",
        pipeline=DecidedOnce,
    ),
    defect(
        "open-circuit-completes",
        "GRAPH-5",
        "An open circuit answers for its stage, which then counts as completed.",
        pipeline=OpenCompletes,
    ),
    defect(
        "circuit-counts-cancels",
        "GRAPH-5",
        "Cancelled runs count as failures of the stage they were cancelled in.",
        pipeline=CountsCancels,
    ),
    defect(
        "circuit-counts-denials",
        "GRAPH-5",
        "A stage that a guard denies counts as a failing one for its circuit.",
        pipeline=CountsDenials,
    ),
    defect(
        "one-circuit", "GRAPH-5", "All stages of a pipeline share one circuit.", pipeline=OneCircuit
    ),
    defect(
        "circuit-of-all-tenants",
        "TENANT-2",
        "All tenants share a stage's circuit.",
        pipeline=CircuitOfAllTenants,
    ),
    defect(
        "circuit-opens-late",
        "GRAPH-5",
        "A circuit opens one failure later than its threshold says.",
        pipeline=OneTooMany,
    ),
    defect(
        "circuit-stays-open",
        "GRAPH-5",
        "A circuit that has opened never lets an execution try again.",
        pipeline=StaysOpen,
    ),
    defect(
        "limit-of-all-tenants",
        "TENANT-2",
        "All tenants share a stage's rate limit.",
        pipeline=LimitOfAllTenants,
    ),
    defect(
        "one-limit", "GRAPH-5", "All stages of a pipeline share one rate limit.", pipeline=OneLimit
    ),
    defect(
        "limit-counts-when-over",
        "GRAPH-5",
        "An execution counts towards its rate limit only when it is over.",
        pipeline=CountsWhenOver,
    ),
    defect(
        "failure-kept-under-key",
        "GRAPH-5",
        "A stage that failed under an idempotency key counts as completed under it.",
        pipeline=KeepsFailures,
    ),
    defect(
        "refusal-kept-under-key",
        "GRAPH-5",
        "A refusal of a layer within an idempotency key is kept as an output.",
        pipeline=KeepsRefusals,
    ),
    defect(
        "cancel-kept-under-key",
        "GRAPH-5",
        "A stage that was cancelled under an idempotency key counts as completed.",
        pipeline=KeepsCancelled,
    ),
    defect(
        "output-kept-early",
        "GRAPH-5",
        "An output is kept under its key before layers further out have passed it.",
        pipeline=KeepsEarly,
    ),
    defect(
        "key-of-all-stages",
        "GRAPH-5",
        "An idempotency key is shared by all stages of a pipeline.",
        pipeline=KeyOfAllStages,
    ),
    defect(
        "key-of-all-tenants",
        "TENANT-2",
        "An idempotency key is shared by all tenants.",
        pipeline=KeyOfAllTenants,
    ),
    defect(
        "key-without-waiting",
        "GRAPH-5",
        "Executions under one key that come at once all run the stage.",
        pipeline=NoWaiting,
    ),
)
