"""Layers of a plan, as the reference engine has them: see `reference`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from harness.kernel.adapter import Bodies
from harness.kernel.around import LayerBody
from harness.kernel.plan import Layer, Plan

if TYPE_CHECKING:
    from harness.engine import CallNext, Context, Pipeline

__all__ = ["LAYER_CAPABILITIES", "add_layers"]

LAYER_CAPABILITIES = frozenset(
    {"interceptors", "guard", "circuit_breaker", "rate_limit", "idempotency"}
)


def add_layers(pipeline: Pipeline, plan: Plan, bodies: Bodies) -> None:
    """Put the plan's layers around the pipeline's stages, in the plan's order."""
    for layer in plan.layers:
        fn = _own(pipeline, layer) or _of_the_user(bodies.layer(layer))
        pipeline.layer(fn, name=layer.name, stages=layer.stages or None)


def _own(pipeline: Pipeline, layer: Layer) -> Any:
    """Return the engine's own layer of that kind, or None if it is one of the user's."""
    options: Mapping[str, Any] = layer.options
    match layer.kind:
        case "circuit_breaker":
            return pipeline.breaker_type(**options)
        case "rate_limit":
            return pipeline.rate_type(**options)
        case "idempotency":
            key = options["key"]
            return pipeline.idempotency_type(lambda _context: key)
    return None


def _of_the_user(body: LayerBody) -> Any:
    from harness.engine import Deny

    async def layer(context: Context, call_next: CallNext) -> Any:
        run, stage = context.run_id, context.stage
        if not body.before(run, stage):
            return Deny("told to")
        try:
            value = await call_next()
        except BaseException as exc:
            body.after(run, stage, f"raise:{type(exc).__name__}")
            raise
        body.after(run, stage)
        return value

    return layer
