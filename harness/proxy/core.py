"""What all links of one server share: its loop, clock, dice, limits and counters."""

from __future__ import annotations

import asyncio

from harness.proxy.alarms import Alarms
from harness.proxy.dice import Dice
from harness.proxy.limits import Limits
from harness.proxy.watch import Watch

__all__ = ["Core", "Series"]

# One buffer serves every link without toxics: what is read is sent on in the same turn.
_BUFFER_BYTES = 1 << 20

Series = tuple[str, str, str, str]  # direction, listener, proxy, upstream: a metric's labels


class Core:
    """The common ground of one server.

    Attributes:
        held_bytes: what all toxics hold back now.
        connections: open now, of all proxies.
        received, sent: bytes of the links that have ended, by their labels.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int | None, limits: Limits) -> None:
        self.loop = loop
        self.alarms = Alarms(loop)
        self.watch = Watch(loop)
        self.dice = Dice(seed)
        self.limits = limits
        self.view = memoryview(bytearray(_BUFFER_BYTES))
        self.held_bytes = 0
        self.connections = 0
        self.received: dict[Series, int] = {}
        self.sent: dict[Series, int] = {}

    def close(self) -> None:
        """Give the descriptors back; every proxy must have stopped before."""
        self.alarms.close()
        self.watch.close()

    def count(self, series: Series, received: int, sent: int) -> None:
        """Keep the bytes of a link that has ended."""
        for totals, value in ((self.received, received), (self.sent, sent)):
            totals[series] = totals.get(series, 0) + value
            if len(totals) > self.limits.metric_series_max:
                del totals[next(iter(totals))]
