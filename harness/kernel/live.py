"""The live laboratory: the same programs on the real clock, on the stock event loop.

Nothing is simulated here but the caller: timers, threads, sockets and the garbage
collector are the machine's own. So nothing is exact, either. While a run goes on, a
ticker measures how late timers fire; that is what checks are told to tolerate, and a run
on a machine that was too busy proves nothing (`RunRecord.late_s` says so).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from harness.kernel.adapter import Adapter
from harness.kernel.errors import InputError
from harness.kernel.interpreter import ToolMock
from harness.kernel.laboratory import Laboratory
from harness.kernel.loop import ThreadJob
from harness.kernel.order import Order
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.kernel.tape import Tape

__all__ = ["LIVE_HORIZON_S", "LiveLaboratory", "LiveLoop"]

TICK_S = 0.005
# What is left has so long to end by itself before it is called left behind.
GRACE_S = 0.05
TEARDOWN_S = 1.0
# No live run takes longer, whatever its plan allows.
LIVE_HORIZON_S = 20.0
# Timers of an idle machine are a millisecond late, and two stages need time to take turns.
LATE_MIN_S = 0.01


class LiveLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, its clock begun at zero, that stops when its runs are over.

    Attributes:
        stalled: "" or "horizon", if the runs were not over by then.
        points: always 0; callbacks are not counted here.
    """

    def __init__(self, horizon_s: float) -> None:
        super().__init__()
        self._began_s = super().time()
        self.stalled = ""
        self.points = 0
        self.inject: Any = None
        self.inject_at = 0
        self.steps_max = 0
        self._lag_s = 0.0
        self._own: set[asyncio.TimerHandle] = set()
        self._ticker = self.call_later(TICK_S, self._tick)
        self.horizon_s = min(horizon_s, LIVE_HORIZON_S)
        self._own |= {self.call_later(self.horizon_s, self._stall), self._ticker}

    def time(self) -> float:
        """Return the seconds since this loop was made."""
        return super().time() - getattr(self, "_began_s", 0.0)

    @property
    def now_s(self) -> float:
        return self.time()

    @property
    def late_s(self) -> float:
        """How late a timer may have fired so far, in seconds, by what was measured."""
        return LATE_MIN_S + 2 * self._lag_s

    def settle(self) -> None:
        """Stop after a grace in which what is about to end may end."""
        self._own.add(self.call_later(GRACE_S, self.stop))

    def resume(self) -> None:
        """Allow the loop to run again for a teardown, for a bounded time."""
        self.stalled = ""
        self._own.add(self.call_later(TEARDOWN_S, self.stop))

    def is_own_timer(self, handle: Any) -> bool:
        return handle in self._own

    def _tick(self) -> None:
        self._own.discard(self._ticker)
        self._lag_s = max(self._lag_s, self.time() - self._ticker.when())
        self._ticker = self.call_later(TICK_S, self._tick)
        self._own.add(self._ticker)

    def _stall(self) -> None:
        self.stalled = "horizon"
        self.stop()


class LiveLaboratory(Laboratory):
    """One engine in the live laboratory; made once a worker process.

    Args:
        beside: the simulated laboratory of the same engine in this process, if there is one:
            the two take turns in having their clocks in the engine's modules.
    """

    name = "live"

    def __init__(
        self, adapter: Adapter, tool: ToolMock, *, beside: Laboratory | None = None
    ) -> None:
        super().__init__(adapter, tool)
        if beside is not None:
            self.clocks = beside.clocks

    def run(
        self,
        program: Program,
        plan: Plan,
        *,
        seed: int = 0,
        recorded: Mapping[str, Sequence[int]] | None = None,
        cancel_point: int | None = None,
        clean_points: int = 0,
        order: Order | None = None,
    ) -> RunRecord:
        """Run `program` under `plan` once, in real time; as `Laboratory.run` says otherwise.

        Raises:
            InputError: if the plan cancels at a suspension point: there are none to count here;
                or if the ready queue is to be out of order.
        """
        if order is not None:
            raise InputError(f"order {order.mode}: the live laboratory runs on the stock loop")
        if cancel_point is not None or any(c.at_point is not None for c in plan.cancels):
            raise InputError("plan: at_point: the live laboratory counts no points; use at_s")
        try:
            return super().run(program, plan, seed=seed, recorded=recorded)
        finally:
            if ThreadJob.ended is not None:
                ThreadJob.ended.set()
            ThreadJob.ended = None

    def make_loop(self, tape: Tape, plan: Plan) -> Any:
        return LiveLoop(plan.horizon_s)

    def begin(self, loop: Any, seed: int, plan: Plan) -> None:
        """Clear the engine's process-wide state; its clocks are the real ones here, unless the
        plan sets the wall clock: then they are stand-ins that keep real time."""
        if plan.clock_steps:
            self.clocks.follow(loop.time, seed, plan.clock_steps)
        else:
            self.clocks.withdraw()
        ThreadJob.ended = threading.Event()
        asyncio.set_event_loop(loop)
        if self._reset is not None:
            self._reset()
