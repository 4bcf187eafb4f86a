"""The simulated loop with another order of its ready queue: what asyncio promises not to do.

asyncio calls callbacks in the order in which they were registered. A run in this loop breaks
that promise on purpose, so what it shows is never a defect of the program's: it says where
the program leans on the order. Two modes:

`shuffle` takes any callback that is ready, each as likely.

`pct` is probabilistic concurrency testing. Source: Burckhardt, Kothari, Musuvathi and
Nagarakatte, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", ASPLOS
2010. The rule: each thread gets a random priority above d; of the threads that can run, that
of the highest priority does; before the run, d-1 steps are drawn from its k, and the thread
that is to take the i-th of these gets priority i, below all others. With n threads a defect
that needs d ordering constraints is met with a probability of at least 1/(n k^(d-1)). Here a
thread is a task; a callback that is no task's is a thread of its own with one step. As strict
priorities starve whoever waits for a task that spins, a task that has had `TURNS_MAX` turns on
end while others were waiting goes below all; for such runs the bound does not hold.

The legal loop knows nothing of this: it is only given another queue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.loop import SimLoop, SimTask
from harness.kernel.tape import Tape

__all__ = ["ORDER_MODES", "STREAM", "Order", "OrderLoop"]

ORDER_MODES = ("shuffle", "pct")
# The tape's stream; not one of `PERTURBATIONS`, which are those that asyncio allows.
STREAM = "order"
DEPTH = 3
PRIORITIES = 1 << 30
TURNS_MAX = 64


@dataclass(frozen=True, slots=True)
class Order:
    """How the ready queue of a run is ordered.

    Attributes:
        mode: one of `ORDER_MODES`.
        steps: callbacks that a run is expected to take: PCT's k.
        depth: PCT's d.

    Raises:
        InputError: if there is no such mode, or no room for the change points.
    """

    mode: str
    steps: int = 1
    depth: int = DEPTH

    def __post_init__(self) -> None:
        if self.mode not in ORDER_MODES:
            raise InputError(f"order: no mode {self.mode!r}; there are {', '.join(ORDER_MODES)}")
        if self.depth < 1 or self.steps < 1:
            raise InputError(f"order: depth and steps must be at least 1, got {self}")


class OrderLoop(SimLoop):
    """A `SimLoop` whose callbacks do not run in the order in which they were registered."""

    def __init__(self, tape: Tape, order: Order, *, horizon_s: float, steps_max: int) -> None:
        super().__init__(tape, horizon_s=horizon_s, steps_max=steps_max)
        queue = _Shuffled(tape) if order.mode == "shuffle" else _Prioritised(tape, order)
        self._ready = queue


class _Shuffled(deque[Any]):
    """A ready queue of which any callback comes next."""

    def __init__(self, tape: Tape) -> None:
        super().__init__()
        self.tape = tape

    def popleft(self) -> Any:
        at = self.tape.choose(STREAM, len(self))
        handle = self[at]
        del self[at]
        return handle


class _Prioritised(deque[Any]):
    """A ready queue of which the callback of the highest priority comes next.

    Tasks are known by their ordinals: to hold one would keep its end from being noticed.
    """

    def __init__(self, tape: Tape, order: Order) -> None:
        super().__init__()
        self.tape = tape
        self.depth = order.depth
        drawn = [1 + tape.choose(STREAM, order.steps) for _ in range(order.depth - 1)]
        # step -> the priority that its thread is given then.
        self.changes = {step: i for i, step in enumerate(drawn, 1)}
        self.threads: deque[int] = deque()
        self.priorities: dict[int, int] = {}
        self.step = 0
        self.below = 0
        self.single = 0
        self.last = 0
        self.turns = 0

    def append(self, handle: Any, /) -> None:
        task = getattr(handle._callback, "__self__", None)
        if isinstance(task, SimTask):
            thread = 1 + task.ordinal
        else:
            self.single -= 1
            thread = self.single
        if thread not in self.priorities:
            self.priorities[thread] = self.depth + self.tape.choose(STREAM, PRIORITIES)
        self.threads.append(thread)
        super().append(handle)

    def extend(self, handles: Iterable[Any], /) -> None:
        for handle in handles:
            self.append(handle)

    def popleft(self) -> Any:
        self.step += 1
        at = self._leader()
        if self.step in self.changes:
            self.priorities[self.threads[at]] = self.changes[self.step]
            at = self._leader()
        thread = self.threads[at]
        self.turns = self.turns + 1 if thread == self.last and len(self) > 1 else 0
        if self.turns >= TURNS_MAX:
            self.below -= 1
            self.priorities[thread] = self.below
        self.last = thread
        handle = self[at]
        del self[at], self.threads[at]
        if thread < 0:
            del self.priorities[thread]
        return handle

    def _leader(self) -> int:
        threads, priorities = self.threads, self.priorities
        return max(range(len(threads)), key=lambda i: priorities[threads[i]])

    def clear(self) -> None:
        super().clear()
        self.threads.clear()
