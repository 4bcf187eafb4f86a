"""The plan's layers and the stages' retries, as Stageflow's interceptors.

Stageflow orders interceptors by `priority`, the lowest outermost. Its own keep theirs; a
layer of the user's gets one that puts it where the plan declares it. Of Stageflow's own
layers the circuit breaker and idempotency are in every graph by default, so a plan that
names them asks for no more than their key or for which stages they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.kernel.adapter import Bodies
from harness.kernel.around import LayerBody
from harness.kernel.errors import NotOffered
from harness.kernel.plan import Layer, Plan
from harness.kernel.program import Program, Stage
from harness.kernel.steps import walk

if TYPE_CHECKING:
    from harness.adapters.stageflow_probe import Probe

__all__ = ["idempotency_key", "interceptors", "priorities", "retry_options"]

OWN_PRIORITY = 100
DELAY_MAX_MS = 86_400_000

RunOf = Callable[[Any], str]


def idempotency_key(plan: Plan) -> str | None:
    """Return the key that a run's caller puts into `ctx.data`, if the plan asks for one."""
    for layer in plan.layers:
        if layer.kind == "idempotency":
            return str(layer.options.get("key", "key"))
    return None


def interceptors(
    engine: Probe, program: Program, plan: Plan, bodies: Bodies, run_of: RunOf
) -> list[Any] | None:
    """Return the graph's interceptors, or None where the engine's default ones will do.

    Args:
        run_of: the name of the run that a context belongs to.

    Raises:
        NotOffered: if the plan asks a layer for what Stageflow's cannot be told.
    """
    retried = [stage for stage in program.stages if stage.retry is not None]
    if not plan.layers and not retried:
        return None
    chain = list(engine.default_interceptors())
    for stage in retried:
        chain.append(_retry(engine, stage))
    for layer, priority in zip(plan.layers, priorities(engine, plan.layers), strict=True):
        if layer.kind in ("observe", "raise", "deny"):
            chain.append(_own(engine, bodies.layer(layer), priority, run_of))
            continue
        kind = engine.layer_kinds[layer.kind]
        _check_options(engine, layer)
        if layer.stages:
            chain = [one for one in chain if not isinstance(one, kind)]
            chain.append(_restricted(engine, kind, layer.stages))
        for one in chain:
            if isinstance(one, kind):
                one.priority = priority
    return chain


def priorities(engine: Probe, layers: Sequence[Layer]) -> list[int]:
    """Return priorities in the plan's order, the engine's own layers at theirs if that fits."""
    fixed = [
        engine.layer_kinds[one.kind].priority if one.kind in engine.layer_kinds else None
        for one in layers
    ]
    out: list[int] = []
    for i, own in enumerate(fixed):
        later = [(j - i, p) for j, p in enumerate(fixed) if j > i and p is not None]
        wanted = own if own is not None else later[0][1] - later[0][0] if later else OWN_PRIORITY
        out.append(max(wanted, out[-1] + 1) if out else wanted)
    return out


def _check_options(engine: Probe, layer: Layer) -> None:
    """Raise `NotOffered` for options that the engine's layer neither takes nor has by itself."""
    settled = engine.settled_options(layer.kind)
    for name, value in layer.options.items():
        if name != "key" and settled.get(name) != value:
            raise NotOffered(
                f"stageflow: {layer.kind} {layer.name}: {name}={value!r} cannot be set; "
                f"the engine's own is {settled.get(name, 'unknown')}"
            )


def _own(engine: Probe, body: LayerBody, priority_: int, run_of: RunOf) -> Any:
    raised: dict[tuple[str, str], str] = {}

    class ProgramLayer(engine.BaseInterceptor):  # type: ignore[misc, name-defined]
        """A layer of the user's; it denies as Stageflow's own auth interceptors do."""

        name = body.layer.name
        priority = priority_

        async def before(self, stage_name: str, ctx: Any) -> Any:
            if not body.wants(stage_name) or body.before(run_of(ctx), stage_name):
                return None
            return engine.InterceptorResult(stage_ran=False, error=f"denied by {self.name}")

        async def after(self, stage_name: str, result: Any, ctx: Any) -> None:
            if not body.wants(stage_name):
                return
            run = run_of(ctx)
            error = raised.pop((run, stage_name), "StageFailed")
            body.after(run, stage_name, f"raise:{error}" if result.status == "failed" else "ok")

        async def on_error(self, stage_name: str, error: Exception, ctx: Any) -> Any:
            raised[(run_of(ctx), stage_name)] = type(error).__name__
            return engine.ErrorAction.FAIL

    return ProgramLayer()


def _restricted(engine: Probe, kind: Any, stages: Iterable[str], **options: Any) -> Any:
    """Return one of the engine's interceptors that is put around some stages only."""
    wanted = frozenset(stages)

    class ForStages(kind):  # type: ignore[misc]
        async def before(self, stage_name: str, ctx: Any) -> Any:
            return await super().before(stage_name, ctx) if stage_name in wanted else None

        async def after(self, stage_name: str, result: Any, ctx: Any) -> None:
            if stage_name in wanted:
                await super().after(stage_name, result, ctx)

        async def on_error(self, stage_name: str, error: Exception, ctx: Any) -> Any:
            if stage_name not in wanted:
                return engine.ErrorAction.FAIL
            return await super().on_error(stage_name, error, ctx)

    ForStages.__name__ = kind.__name__
    return ForStages(**options)


def _retry(engine: Probe, stage: Stage) -> Any:
    """Return the engine's `RetryInterceptor`, set as the stage's retry says.

    Every exception counts as retryable: a program's errors are what the retry is for.
    """
    options = retry_options(engine, stage)
    return _restricted(engine, engine.RetryInterceptor, (stage.name,), **options)


def retry_options(engine: Probe, stage: Stage) -> dict[str, Any]:
    """Return the arguments of `RetryInterceptor` for a stage that declares a retry.

    A stage that may return a failure asks for that status to be retried as well.

    Raises:
        NotOffered: for a factor or a jitter that its strategies do not have.
    """
    retry = stage.retry
    assert retry is not None
    strategies = {2.0: engine.BackoffStrategy.EXPONENTIAL, 1.0: engine.BackoffStrategy.CONSTANT}
    if retry.factor not in strategies:
        raise NotOffered(f"stageflow: stage {stage.name}: no backoff strategy has {retry.factor=}")
    if retry.jitter_s:
        raise NotOffered(
            f"stageflow: stage {stage.name}: jitter is a part of the backoff, not {retry.jitter_s=}"
        )
    reports = any(one.op == "fail" for one in walk(stage.steps))
    return {
        "max_attempts": retry.attempts,
        "base_delay_ms": round(retry.backoff_s * 1000),
        "max_delay_ms": DELAY_MAX_MS,
        "backoff_strategy": strategies[retry.factor],
        "jitter_strategy": engine.JitterStrategy.NONE,
        "retryable_errors": (Exception,),
        **({"retry_on_status": ("failed",)} if reports else {}),
    }
