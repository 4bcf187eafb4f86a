"""A stream: the chunks of one stage, consumed while the run goes on.

    run = pipeline.prepare(inputs)
    async with asyncio.TaskGroup() as tasks:
        stream = run.stream("answer")
        tasks.create_task(run.execute())
        async with stream:
            async for chunk in stream:
                print(chunk)

The rules:
- at most `buffer_max` chunks wait for the consumer; a stage that has produced that many waits
  in `Context.chunk` until one is taken. So the consumer sees each of them, in order.
- the stream ends when its stage has been reported: what waits can still be taken after that.
- a consumer that leaves the `async with` (at its own end, by an error, by a cancel) before that
  has stopped: the stage is cancelled, and the consumer waits until it has ended. Its chunks are
  in its report as ever, its status is "cancelled"; what needs it is skipped.
- the attempts of a stage that is retried are one stream.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

from harness.engine.errors import EngineError
from harness.engine.layer import whole_number

__all__ = ["Stream"]


class Stream:
    """The chunks of one stage of one run; made by `Run.stream`, for one consumer.

    Attributes:
        stopped: the consumer has stopped; nothing is buffered any more.
        ended: the stage has been reported; nothing will come that is not buffered.
    """

    def __init__(self, stage: str, buffer_max: int, on_stop: Callable[[str], bool]) -> None:
        self.stage = stage
        self.buffer_max = whole_number(buffer_max, f"stream of stage {stage!r}: buffer_max")
        self.stopped = False
        self.ended = False
        self._on_stop = on_stop
        self._chunks: deque[Any] = deque()
        self._room: list[asyncio.Future[None]] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._taking = False

    # The consumer's side.

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _exc: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        if self._taking:
            raise EngineError(f"stream of stage {self.stage!r}: it has a consumer; one at a time")
        self._taking = True
        try:
            while not self._chunks:
                if self.ended or self.stopped:
                    raise StopAsyncIteration
                await _wait(self._watchers)
        finally:
            self._taking = False
        value = self._chunks.popleft()
        self._make_room()
        return value

    async def aclose(self) -> None:
        """Stop consuming: drop what waits, cancel the stage, and wait until it has ended."""
        self.stopped = True
        self._chunks.clear()
        self._make_room()
        self._tell()
        if not self.ended and self._on_stop(self.stage):
            while not self.ended:
                await _wait(self._watchers)

    # The engine's side.

    async def put(self, value: Any) -> None:
        """Add a chunk, when there is room for it; without effect once nobody consumes."""
        while len(self._chunks) >= self.buffer_max and not self.stopped and not self.ended:
            await _wait(self._room)
        if not self.stopped and not self.ended:
            self._chunks.append(value)
            self._tell()

    def end(self) -> None:
        """The stage has been reported."""
        self.ended = True
        self._make_room()
        self._tell()

    def _make_room(self) -> None:
        """Let go on who waits for room; each looks by itself whether there is enough for it."""
        _wake(self._room)

    def _tell(self) -> None:
        _wake(self._watchers)


async def _wait(waiting: list[asyncio.Future[None]]) -> None:
    one = asyncio.get_running_loop().create_future()
    waiting.append(one)
    try:
        await one
    finally:
        if one in waiting:  # it was cancelled
            waiting.remove(one)


def _wake(waiting: list[asyncio.Future[None]]) -> None:
    for one in waiting:
        if not one.done():
            one.set_result(None)
    waiting.clear()
