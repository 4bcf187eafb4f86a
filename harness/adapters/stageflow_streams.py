"""Partial results of a stage, over the bus that Stageflow hands to stages in their ports.

A stage publishes to a channel named after it and closes the channel at its end, as the
bus's documentation has it. Who consumes it subscribes; what nobody consumed is
still in the channel after the run, within its bound, and can be read from there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from harness.kernel.adapter import Bodies
from harness.kernel.plan import Consumer

__all__ = ["Streams"]

UNREAD_MAX = 10_000


class Streams:
    """The streams of one run, its subpipelines' included.

    Attributes:
        bus: the engine's `RealtimeStageBus`, to be put into the run's ports.
    """

    __slots__ = ("_consuming", "_got", "_used", "bus")

    def __init__(self, factory: Any) -> None:
        self.bus = factory(default_max_size=UNREAD_MAX)
        self._got: dict[str, list[Any]] = {}
        self._used: set[str] = set()
        self._consuming: asyncio.Task[None] | None = None

    async def publish(self, bus: Any, prefix: str, stage: str, value: Any) -> bool:
        """Publish on the bus that the stage was given, which should be this one.

        Args:
            prefix: tells a subpipeline's stages from those of the same name in other runs;
                what they hand on is no part of this run's own outcome.

        Returns:
            What the bus says, as its documentation has it: False if the item was not added,
            which in a channel that drops nothing means that the channel is closed.
        """
        if not prefix:
            self._used.add(stage)
        return bool(await bus.publish(prefix + stage, value))

    async def end_of(self, prefix: str, stage: str) -> None:
        await self.bus.close_channel(prefix + stage)

    def consume(self, bodies: Bodies, run: str, consumer: Consumer) -> None:
        """Let the plan's consumer subscribe to its stage, beside the run."""
        self._used.add(consumer.stage)
        self._consuming = asyncio.create_task(self._consume(bodies, run, consumer))

    async def _consume(self, bodies: Bodies, run: str, consumer: Consumer) -> None:
        stage = consumer.stage
        # The plan's bound is for this channel: the others are read when the run is over.
        await self.bus.channel(stage, max_size=consumer.buffer_max)
        source = self.bus.subscribe(stage)
        kept = self._kept(stage, source)
        async with contextlib.aclosing(source), contextlib.aclosing(kept):
            await bodies.consume(run, kept)
        # This is how a consumer tells a producer that it has stopped: there is no other way.
        await self.bus.close_channel(stage)

    async def _kept(self, stage: str, source: AsyncIterator[Any]) -> AsyncGenerator[Any]:
        got = self._got.setdefault(stage, [])
        async for value in source:
            got.append(value)
            yield value

    async def finish(self, *, cancelled: bool) -> None:
        """Close every channel, and let the consumer come to its end, also when cancelled."""
        task = self._consuming
        try:
            await self.bus.close_all()
            if task is None:
                return
            if cancelled:
                task.cancel()
            await asyncio.wait([task])
        except asyncio.CancelledError:
            if task is not None:
                # The consumer is the user's: that it closes its subscription is not the engine's,
                # however often the caller cancels meanwhile.
                task.cancel()
                while not task.done():
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.wait([task])
            raise
        if not task.cancelled():
            task.result()

    async def partial(self) -> dict[str, tuple[Any, ...]]:
        """Return stage -> its partial results: those consumed, then those left in its channel."""
        out: dict[str, tuple[Any, ...]] = {}
        for stage in sorted(self._used):
            got = self._got.setdefault(stage, [])
            if stage in await self.bus.stats():
                async for value in self.bus.subscribe(stage):
                    got.append(value)
            out[stage] = tuple(got)
        return out
