"""What stands around stages: the event sink, layers of the user's, a consumer of a stream.

They are the program's own, as stage bodies are: an adapter puts them where its engine
wants such things, and they note in the journal what really reached them. A layer or sink
that is told to fail notes it first, so that a check knows that the fault was there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from harness.kernel.plan import Layer

if TYPE_CHECKING:
    from harness.kernel.interpreter import World

__all__ = ["LayerBody", "LayerDenied", "SinkMock", "consume"]

Worlds = Callable[[], "World"]


class LayerDenied(Exception):
    """For engines in which a guard denies by raising; others have their own way."""


def numbered(data: Any) -> tuple[str, int]:
    """Return (producer, number) of an event of a `flood` step, ("", -1) for any other."""
    if isinstance(data, dict) and "producer" in data and "n" in data:
        return str(data["producer"]), int(data["n"])
    return "", -1


class SinkMock:
    """The user's event sink. `deliver` and `deliver_now` are for sinks that are asynchronous
    and for those that are not; the latter cannot be slow or hang, and so never is."""

    __slots__ = ("_count", "_run", "_worlds")

    def __init__(self, worlds: Worlds, run: str = "") -> None:
        self._worlds = worlds
        self._run = run
        self._count = 0

    async def deliver(self, type: str, data: Any) -> None:
        """Take one event, as slowly as the plan says.

        Raises:
            Exception: what the plan's sink raises.
        """
        world = self._worlds()
        spec = world.plan.sink
        self._note("deliver.begin", data)
        self._count += 1
        number = self._count
        try:
            if spec is not None:
                if spec.delivery_s:
                    await world.tool.collect(self._run, number, type, data, spec.delivery_s)
                if spec.hangs_at is not None and number >= spec.hangs_at:
                    await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self._note("deliver.cut", data)
            raise
        self._end(number, data)

    def deliver_now(self, type: str, data: Any) -> None:
        """Take one event at once. Raises what the plan's sink raises."""
        self._note("deliver.begin", data)
        self._count += 1
        self._end(self._count, data)

    def _end(self, number: int, data: Any) -> None:
        spec = self._worlds().plan.sink
        if spec is not None and spec.error is not None and number % spec.error_every == 0:
            from harness.kernel.interpreter import ERROR_TYPES

            self._note("deliver.fail", data)
            raise ERROR_TYPES[spec.error]("the sink failed")
        self._note("deliver.end", data)

    def _note(self, kind: str, data: Any) -> None:
        world = self._worlds()
        world.journal.add(world.now(), self._run, "", kind, numbered(data))


class LayerBody:
    """A layer of the user's: an adapter calls `before` and `after` around each execution.

    `wants(stage)` says whether the layer is put around that stage.
    """

    __slots__ = ("_worlds", "layer")

    def __init__(self, worlds: Worlds, layer: Layer) -> None:
        self._worlds = worlds
        self.layer = layer

    def wants(self, stage: str) -> bool:
        return not self.layer.stages or stage in self.layer.stages

    def before(self, run: str, stage: str) -> bool:
        """Note that the stage is about to run; False if this layer denies it.

        Raises:
            Exception: what the plan has the layer raise.
        """
        self._note(run, stage, "layer.enter", self.layer.name)
        if self.layer.runs and run not in self.layer.runs:
            return True
        if self.layer.kind == "deny":
            self._note(run, stage, "layer.deny", self.layer.name)
            return False
        if self.layer.kind == "raise" and self.layer.phase == "before":
            self._fail(run, stage)
        return True

    def after(self, run: str, stage: str, how: str = "ok") -> None:
        """Note that the stage has run; `how` is "ok" or "raise:<type>". Raises as `before`."""
        self._note(run, stage, "layer.exit", (self.layer.name, how))
        if self.layer.runs and run not in self.layer.runs:
            return
        if self.layer.kind == "raise" and self.layer.phase == "after":
            self._fail(run, stage)

    def _fail(self, run: str, stage: str) -> None:
        from harness.kernel.interpreter import ERROR_TYPES

        self._note(run, stage, "layer.raise", self.layer.name)
        raise ERROR_TYPES[self.layer.error](f"layer {self.layer.name} failed")

    def _note(self, run: str, stage: str, kind: str, detail: Any) -> None:
        world = self._worlds()
        world.journal.add(world.now(), run, stage, kind, detail)


async def consume(world: World, run: str, source: AsyncIterator[Any]) -> None:
    """Consume partial results as the plan's `consumer` says; see `Bodies.consume`."""
    spec = world.plan.consumer
    assert spec is not None  # required_capabilities let no other plan come here
    taken = 0

    def note(kind: str, detail: Any) -> None:
        world.journal.add(world.now(), run, spec.stage, kind, detail)

    while spec.stop_after is None or taken < spec.stop_after:
        try:
            value = await anext(source)
        except StopAsyncIteration:
            break
        note("consume", value)
        taken += 1
        if spec.every_s:
            await asyncio.sleep(spec.every_s)
    note("consume.stop", taken)
