"""A circuit breaker: a stage that keeps failing is not run for a while.

One circuit for each tenant, pipeline and stage, so that trouble of one is no trouble of
another. `threshold` failures in a row open it; while it is open the stage is denied by
`CircuitOpen`. `reset_s` later it lets one execution try (the probe), and only that one: if it
completes the circuit closes, if it fails the circuit is open again for as long.

A failure is an exception of the stage or of a layer within, or a timeout, counted once. A cancel
and a denial are none: they say nothing of the stage. What began before the circuit last opened
or closed does not count, however late it ends.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.engine.errors import CircuitOpen, StageDenied
from harness.engine.graph import seconds
from harness.engine.layer import CallNext, Table, place, whole_number

if TYPE_CHECKING:
    from harness.engine.context import Context

__all__ = ["Circuit", "CircuitBreaker"]


@dataclass(slots=True, eq=False)
class Circuit:
    """The state for one tenant, pipeline and stage.

    Attributes:
        failures: in a row, since the circuit last closed.
        open_until_s: on the loop's clock; None while it is closed.
        probe: the context of the execution that tries whether the stage works again.
        turn: counts openings and closings.
    """

    failures: int = 0
    open_until_s: float | None = None
    probe: Context | None = None
    turn: int = 0

    @property
    def idle(self) -> bool:
        return not self.failures and self.open_until_s is None


class CircuitBreaker:
    """A layer; see the module.

    Raises:
        PipelineError: if a setting cannot be used.
    """

    def __init__(
        self, *, threshold: int = 5, reset_s: float = 30.0, entries_max: int = 10_000
    ) -> None:
        self.name = "circuit_breaker"
        self.threshold = whole_number(threshold, "threshold")
        self.reset_s = seconds(reset_s, "reset_s")
        self._circuits: Table[Circuit] = Table(Circuit, entries_max, lambda one: one.idle)

    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        circuit = self._circuits.at(self._place(context))
        now_s = asyncio.get_running_loop().time()
        if circuit.open_until_s is not None:
            self._admit_probe(circuit, context, now_s)
        turn = circuit.turn
        counted = False

        def end(exc: BaseException | None) -> None:
            nonlocal counted
            if not counted:
                counted = True
                self._ended(circuit, context, turn, exc)

        # A stage that is given up never comes back here.
        context.when_ended(lambda _completed: end(None))
        try:
            value = await call_next()
        except BaseException as exc:
            end(exc)
            raise
        end(None)
        return value

    def _admit_probe(self, circuit: Circuit, context: Context, now_s: float) -> None:
        assert circuit.open_until_s is not None  # the caller asked
        if now_s < circuit.open_until_s or circuit.probe is not None:
            left_s = max(0.0, circuit.open_until_s - now_s)
            raise CircuitOpen(context.stage, self.name, left_s)
        circuit.probe = context

    def _ended(
        self, circuit: Circuit, context: Context, turn: int, exc: BaseException | None
    ) -> None:
        if circuit.probe is context:
            circuit.probe = None
        if circuit.turn != turn:
            return
        if self._is_failure(context, exc):
            self._count(circuit)
        elif exc is None and not context.told_to_stop:
            circuit.failures = 0
            if circuit.open_until_s is not None:
                circuit.open_until_s = None
                circuit.turn += 1

    def _is_failure(self, context: Context, exc: BaseException | None) -> bool:
        if context.told_to_stop:
            return context.told_to_stop == "timed_out"
        return exc is not None and not isinstance(exc, StageDenied)

    def _count(self, circuit: Circuit) -> None:
        circuit.failures += 1
        if circuit.open_until_s is not None or circuit.failures >= self.threshold:
            circuit.open_until_s = asyncio.get_running_loop().time() + self.reset_s
            circuit.turn += 1

    def _place(self, context: Context) -> Any:
        return place(context)
