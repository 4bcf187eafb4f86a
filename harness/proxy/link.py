"""One direction of a connection.

Without toxics a link reads into a buffer that all links share and sends it on in the same
turn of the event loop: no task, no queue, no copy. What the destination does not take at
once is kept, and nothing more is read until it is gone: that is the whole back-pressure. With
toxics, chunks go through a chain of stages. Either way one method, `_regulate`, decides
whether the source is read, after every change.

The end of a stream is passed on as a half-close, so that the other direction lives on. When a
toxic ends a stream (`cut`), or a socket breaks, the connection is over: whichever end comes
through a chain from then on closes its destination, as on the Go server.
"""

from __future__ import annotations

import random
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from harness.proxy.core import Core
from harness.proxy.sockets import Socket, drain
from harness.proxy.stage import Chunk, Stage
from harness.proxy.stages import stage_for
from harness.proxy.toxics import Toxic

if TYPE_CHECKING:
    from harness.proxy.connection import Connection

__all__ = ["Link"]

_CHUNK_BYTES = 32 << 10
_WRITES_PER_TURN = 16
_ROUNDS_PER_TURN = 16


class Link:
    """One direction: reads `source`, writes `dest`.

    Attributes:
        received, sent: bytes read from the source and handed to the destination, live.
        stages: the toxics at work, in their order.
        done: nothing will be written any more.
        drained: the source was read to its end.
    """

    def __init__(
        self, connection: Connection, direction: str, source: Socket, dest: Socket
    ) -> None:
        self.connection = connection
        self.core: Core = connection.core
        self.direction = direction
        self.source, self.dest = source, dest
        self._source_fd, self._dest_fd = source.fileno(), dest.fileno()
        self.other: Link
        self.received = self.sent = 0
        self.stages: list[Stage] = []
        self.done = False
        self.drained = self._source_over = False
        self._ending = False
        self._pending: deque[memoryview] = deque()
        self._reading = self._writing = False
        self._advancing = self._again = False

    def dice(self, *names: str) -> random.Random:
        """Return the draws of one purpose on this link."""
        connection = self.connection
        name, number = connection.proxy.name, connection.number
        return self.core.dice.stream(name, number, self.direction, *names)

    def start(self, toxics: list[Toxic]) -> None:
        if toxics:
            self.stages = [stage_for(self, toxic) for toxic in toxics]
            self.advance()
            return
        self._regulate()

    def go_on(self, passed: int, *, ended: bool) -> None:
        """Take over a direction on which bytes have passed, and on which its end may have."""
        self.received = self.sent = passed
        if ended:
            self.drained = self._source_over = self._ending = self.done = True
            return
        self._reading = self.core.watch.read_by(self._source_fd, self._readable)
        self._regulate()

    # The source.

    def _readable(self) -> None:
        if self.stages:
            self._read_chunk()
            return
        view = self.core.view
        try:
            count = self.source.recv_into(view)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.source_over(broken=True)
            return
        if not count:
            self.drained = True
            self.source_over()
            return
        try:
            sent = self.dest.send(view[:count])
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent = None
        self.read(view[:count], sent)

    def read(self, data: memoryview, sent: int | None) -> None:
        """These bytes were read, and so many of them sent on; None: the destination is gone."""
        self.received += len(data)
        if sent is None:
            self._broken()
            return
        self.sent += sent
        if sent < len(data):
            self._keep(memoryview(bytes(data[sent:])))
            self._regulate()

    def _read_chunk(self) -> None:
        try:
            data = self.source.recv(_CHUNK_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.source_over(broken=True)
            return
        if not data:
            self.drained = True
            self.source_over()
            return
        self.received += len(data)
        self.stages[0].take(Chunk(memoryview(data), time.monotonic()))
        self.advance()

    def source_over(self, *, broken: bool = False) -> None:
        """Nothing more comes from the source: it ended, or (`broken`) it is gone."""
        if broken:
            self.connection.over = True
        if self._source_over:
            return
        self._source_over = True
        if self.stages:
            self.stages[0].end()
            self.advance()
        else:
            self._ending = True
            if self._pending:
                self._regulate()
            elif not self.done:
                self._finish()

    # The chain of toxics.

    def advance(self) -> None:
        """Move everything that may move now, then read or not."""
        if self._advancing:
            self._again = True
            return
        self._advancing = True
        try:
            for _ in range(_ROUNDS_PER_TURN):
                if self.done:
                    return
                moved = False
                stages = self.stages
                for index in range(len(stages) - 1, -1, -1):
                    last = index + 1 == len(stages)
                    moved |= stages[index].run(self if last else stages[index + 1])
                    if stages is not self.stages:
                        break
                if not moved and not self._called_again():
                    break
            else:
                self.core.loop.call_soon(self.advance)
        finally:
            self._advancing = False
        self._regulate()

    def _called_again(self) -> bool:
        again, self._again = self._again, False
        return again

    def add(self, toxic: Toxic) -> None:
        """Put a toxic at the end of the chain; what has passed there is not called back."""
        if self.done:
            return
        stage = stage_for(self, toxic)
        if self._ending:
            stage.discard()
        self.stages = [*self.stages, stage]
        self.advance()

    def update(self, toxic: Toxic) -> None:
        for stage in self.stages:
            if stage.toxic is toxic and not stage.over:
                stage.update()
        self.advance()

    def remove(self, toxic: Toxic) -> None:
        """Take a toxic out; what it holds goes on at once, in order."""
        stage = next((one for one in self.stages if one.toxic is toxic), None)
        if stage is None:
            return
        index = self.stages.index(stage)
        if stage.closes_when_removed and stage.active and not stage.over:
            self.cut(stage)
            return
        following = self.stages[index + 1] if index + 1 < len(self.stages) else self
        self.stages = [one for one in self.stages if one is not stage]
        stage.flush(following)
        self.advance()

    def cut(self, stage: Stage) -> None:
        """A toxic ends the stream here: what is past it still goes out, the rest is dropped."""
        self.connection.over = True
        if self.done:
            return
        index = self.stages.index(stage)
        for one in self.stages[: index + 1]:
            one.discard()
        self._source_over = True
        if index + 1 < len(self.stages):
            self.stages[index + 1].end()
        else:
            self.end()
        self.advance()

    def reset(self) -> None:
        self.connection.close(reset=True)

    # The destination. The link is its last stage's sink.

    def accepts(self) -> bool:
        return not self._pending

    def take(self, chunk: Chunk) -> None:
        data = chunk.data
        if self.done:
            return
        if self._pending:
            self._pending.append(data)
            return
        try:
            sent = self.dest.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._broken()
            return
        self.sent += sent
        if sent < len(data):
            self._keep(data[sent:])

    def end(self) -> None:
        """The stream ends here; the end is passed on when all before it is written."""
        self._ending = True
        if not self._pending and not self.done:
            self._finish()

    def _keep(self, data: memoryview) -> None:
        if self.done:
            return
        self._pending.append(data)
        if not self._writing:
            self._writing = True
            self.core.watch.write(self._dest_fd, self._writable)

    def _writable(self) -> None:
        pending = self._pending
        for _ in range(_WRITES_PER_TURN):
            if not pending:
                break
            try:
                sent = self.dest.send(pending[0])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._broken()
                return
            self.sent += sent
            if sent < len(pending[0]):
                pending[0] = pending[0][sent:]
                return
            pending.popleft()
        if pending:
            return
        self._writing = False
        self.core.watch.stop_writing(self._dest_fd)
        if self._ending:
            self._finish()
        else:
            self.advance()

    def _finish(self) -> None:
        """The stream has ended and all of it is written."""
        if self.other.done:
            self.connection.close()
            return
        self.stop()
        if self.connection.over:
            self._close_dest()
            return
        try:
            self.dest.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def _broken(self) -> None:
        """The destination is gone, so what was meant for it is lost."""
        self.connection.over = True
        self.stop()
        self._close_dest()

    def _close_dest(self) -> None:
        """Close the destination for good; the other direction learns that its source is gone."""
        if self.other.done:
            self.connection.close()
            return
        self.other.forget_source()
        drain(self.dest, self.core.view)
        self.dest.close()
        self.other.source_over(broken=True)

    def forget_source(self) -> None:
        """Watch the source no longer: it is about to be closed."""
        if self._reading:
            self._reading = False
            self.core.watch.stop_reading(self._source_fd)

    def stop(self) -> None:
        """Read and write no more; what is held is lost."""
        self.done = True
        if self.stages:
            for stage in self.stages:
                stage.discard()
            self.stages = []
        if self._pending:
            self._pending.clear()
        if self._writing:
            self._writing = False
            self.core.watch.stop_writing(self._dest_fd)
        if self._reading:
            self._reading = False
            self.core.watch.stop_reading(self._source_fd)

    def _regulate(self) -> None:
        """Read the source if, and only if, there is room for what comes."""
        room = self.stages[0].accepts() if self.stages else not self._pending
        wanted = room and not self._source_over and not self.done
        if wanted != self._reading:
            self._reading = wanted
            if wanted:
                self.core.watch.read(self._source_fd, self._readable)
            else:
                self.core.watch.stop_reading(self._source_fd)

    @property
    def dropped_bytes(self) -> int:
        """Bytes that the toxics now at work have thrown away."""
        return sum(stage.dropped for stage in self.stages)

    @property
    def held_bytes(self) -> int:
        """Bytes read and not yet handed to the destination, nor dropped."""
        return sum(s.held for s in self.stages) + sum(map(len, self._pending))
