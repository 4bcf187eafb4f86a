"""What all links of one server share: its loop, clock, dice, limits and counters."""

from __future__ import annotations

import asyncio

from harness.proxy.alarms import Alarms
from harness.proxy.dice import Dice
from harness.proxy.limits import Limits
from harness.proxy.watch import Watch

__all__ = ["Core", "Labels"]

# One buffer serves every link without toxics: what is read is sent on in the same turn.
_BUFFER_BYTES = 1 << 20

Labels = tuple[str, str, str]  # listener, proxy, upstream: a metric's labels


class Core:
    """The common ground of one server.

    Attributes:
        held_bytes: what all toxics hold back now.
        connections: open now, of all proxies.
        ended: bytes of the connections that have ended, by their labels: what the upstream
            link received and sent, then the downstream one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int | None, limits: Limits) -> None:
        self.loop = loop
        self.watch = Watch(loop)
        self.alarms = Alarms(loop, self.watch)
        self.dice = Dice(seed)
        self.limits = limits
        self.view = memoryview(bytearray(_BUFFER_BYTES))
        self.held_bytes = 0
        self.connections = 0
        self.ended: dict[Labels, list[int]] = {}

    def close(self) -> None:
        """Give the descriptors back; every proxy must have stopped before."""
        self.alarms.close()
        self.watch.close()

    def count(self, labels: Labels, figures: tuple[int, int, int, int]) -> None:
        """Keep the bytes of a connection that has ended."""
        totals = self.ended.get(labels)
        if totals is None:
            if len(self.ended) >= self.limits.metric_series_max:
                del self.ended[next(iter(self.ended))]
            totals = self.ended[labels] = [0, 0, 0, 0]
        for index, figure in enumerate(figures):
            totals[index] += figure
