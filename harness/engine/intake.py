"""Where the events of one run go in, with the account of them.

A run has one intake, which its subpipelines use as well, and which it closes at its end: at
once where a function takes the events, after a drain where a queue does. See `sink`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.engine.account import EventAccount, Ledger
from harness.engine.job import TURNS
from harness.engine.result import Event

if TYPE_CHECKING:
    from harness.engine.sink import EventQueue

__all__ = ["Intake", "QueueIntake"]


class Intake:
    """Where one run's events go in, with the account of them; this one calls a function."""

    def __init__(self, call: Callable[[Event], object], total: Ledger | None = None) -> None:
        self._call = call
        self.ledger = Ledger(total)

    def offer(self, event: Event) -> bool:
        """Hand an event over without waiting; False if it is lost already."""
        try:
            self._call(event)
        except Exception:
            self.ledger.refuse("sink_failed")
            return False
        self.ledger.accept()
        self.ledger.deliver()
        return True

    async def send(self, event: Event) -> bool:
        """Hand an event over; where there is a queue that blocks, wait for room in it."""
        return self.offer(event)

    def account(self) -> EventAccount:
        return self.ledger.account()

    def close(self) -> bool:
        """Take no more events; say whether there is nothing left to `drain`."""
        return True

    async def drain(self, grace_s: float) -> None:
        """Come to an end with what is pending, a cancelled delivery within `grace_s`."""

    @property
    def stuck(self) -> bool:
        """Say whether the sink is at work still, and cannot be stopped."""
        return False


class QueueIntake(Intake):
    """Where the events of one run enter a queue."""

    def __init__(self, queue: EventQueue) -> None:
        super().__init__(queue.deliver, queue.total)
        self.queue = queue
        self.closed = False
        self._settled: asyncio.Future[None] | None = None

    def offer(self, event: Event) -> bool:
        return self.queue.offer(self, event)

    async def send(self, event: Event) -> bool:
        return await self.queue.send(self, event)

    def account(self) -> EventAccount:
        return self.ledger.account(self.queue.queue_max)

    def close(self) -> bool:
        self.closed = True
        return not self.ledger.pending

    async def drain(self, grace_s: float) -> None:
        if not self.ledger.pending:
            return  # the sink has taken the last one since `close`: nothing is left to settle
        loop = asyncio.get_running_loop()
        self._settled = loop.create_future()
        timer = loop.call_later(self.queue.drain_s, self._expire, grace_s, TURNS)
        try:
            await self._settled
        finally:
            timer.cancel()

    def _expire(self, grace_s: float, turns: int) -> None:
        """Give up on what is left, but let end what ends in this very tick."""
        if self._settled is None or self._settled.done():
            return
        if turns:
            asyncio.get_running_loop().call_soon(self._expire, grace_s, turns - 1)
        else:
            self.queue.abandon(self, grace_s)

    def settle(self, reason: str) -> None:
        """One of its pending events has been delivered, or dropped for a reason."""
        if reason:
            self.ledger.drop(reason)
        else:
            self.ledger.deliver()
        if not self.ledger.pending and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)

    @property
    def stuck(self) -> bool:
        return self.queue.stuck
