"""Middleware: layers around stages, which hold whatever fails."""

from __future__ import annotations

from harness.contract.scenario import Pack
from scenarios.middleware.breaker import BREAKER
from scenarios.middleware.guards import GUARDS
from scenarios.middleware.idempotency import IDEMPOTENCY
from scenarios.middleware.rate import RATE

__all__ = ["PACK"]

PACK = Pack(
    id="middleware",
    title="Layers around stages",
    page=(
        "Code that an engine puts around stages decides who may run what: guards, circuit "
        "breakers, rate limits, idempotency keys. Such a layer must hold when another one fails. "
        "The pack makes layers of its own note when they are passed, has them fail before and "
        "after a stage and deny it, and watches the engine's own layers from outside: a stage "
        "that was refused did not run, is no success, and is not kept as one; what one stage or "
        "one tenant did is not held against another, nor handed to it. What is an engine's to "
        "choose is let pass: a limiter may wait or refuse, a window may be fixed or sliding, a "
        "duplicate may be refused, a failure may be kept as a failure."
    ),
    scenarios=(*GUARDS, *BREAKER, *RATE, *IDEMPOTENCY),
)
