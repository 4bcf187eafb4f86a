"""Engines that break STREAM-3 and STREAM-4: streams that hold too much, or do not let go."""

from __future__ import annotations

import asyncio
from typing import Any

from harness.engine.broken.defect import Defect, defect
from harness.engine.context import Context
from harness.engine.run import Run
from harness.engine.stream import Stream

__all__ = ["STREAMS"]

PATIENCE_S = 0.005


class NeverWaits(Stream):
    async def put(self, value: Any) -> None:
        if not self.stopped:
            self._chunks.append(value)
            self._tell()


class LosesPatience(Stream):
    async def put(self, value: Any) -> None:
        """Wait for room for a while, and then add the chunk all the same."""
        try:
            await asyncio.wait_for(super().put(value), PATIENCE_S)
        except TimeoutError:
            self._chunks.append(value)


class RunsOn(Run):
    def _consumer_stopped(self, stage: str) -> bool:
        return False


class StopsAtNextChunk(Run):
    def _stop_producer(self, stage: str) -> None:
        """Leave it to the stage's next chunk."""


class StoppedByChunk(Context):
    async def chunk(self, value: Any) -> None:
        stream = self._run.stream_of(self.stage)
        if stream is not None and stream.stopped:
            raise RuntimeError("nobody consumes this stage's chunks any more")
        await super().chunk(value)


def streaming(stream: type[Stream]) -> type[Run]:
    return type("StreamingRun", (Run,), {"stream_type": stream})


STREAMS: tuple[Defect, ...] = (
    defect(
        "stream-unbounded",
        "STREAM-3",
        "A stage's chunks wait for their consumer without bound.",
        run=streaming(NeverWaits),
    ),
    defect(
        "stream-bound-given-up",
        "STREAM-3",
        "A stage that has waited for its consumer for a while goes on all the same.",
        run=streaming(LosesPatience),
    ),
    defect(
        "stream-stop-ignored",
        "STREAM-4",
        "A stage goes on when the consumer of its chunks has stopped.",
        run=RunsOn,
    ),
    defect(
        "stream-stopped-by-chunk",
        "STREAM-4",
        "A stage whose consumer has stopped is told so when it hands over its next chunk, if ever.",
        run=StopsAtNextChunk,
        context=StoppedByChunk,
    ),
)
