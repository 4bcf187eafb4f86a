"""A link as a chain of stages; what every stage does, whatever its toxic.

A stage takes chunks into its inbox and, asked to `work`, moves what may go to the next one
(`out`: a stage, or the link itself, which writes). All that a stage holds stays in its inbox
until it goes out, so a stage can be removed or replaced at any moment: the inbox moves on, in
order. Nothing here waits or blocks; a stage that must wait asks to be woken. A stage has room
for a fixed number of chunks, and pushes back when it is full.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING, Protocol

from harness.proxy.alarms import Alarm
from harness.proxy.toxics import Toxic

if TYPE_CHECKING:
    from harness.proxy.link import Link

__all__ = ["Chunk", "Sink", "Stage"]


class Chunk:
    """Bytes on their way.

    Attributes:
        at: when they were read, plus the delay of each latency toxic that they have passed
            (so that delays add up and none is counted twice).
        due: when the stage that holds them lets them go.
    """

    __slots__ = ("at", "data", "due")

    def __init__(self, data: memoryview, at: float) -> None:
        self.data = data
        self.at = at
        self.due = at


class Sink(Protocol):
    """Where a stage sends what it lets go."""

    def accepts(self) -> bool: ...

    def take(self, chunk: Chunk) -> None: ...

    def end(self) -> None: ...


class Stage:
    """A toxic on a link; as it stands, the one that does nothing (`noop`).

    Attributes:
        active: whether the draw against the toxic's toxicity hit this link.
        ended: the end of the stream has come in.
        over: the end of the stream has gone out; nothing follows.
        dropped: bytes that the toxic threw away.
    """

    capacity = 1
    closes_when_removed = False

    def __init__(self, link: Link, toxic: Toxic) -> None:
        self.link = link
        self.toxic = toxic
        self.inbox: deque[Chunk] = deque()
        self.ended = self.over = False
        self.held = 0
        self.dropped = 0
        self._alarm: Alarm | None = None
        self._lots = link.dice(toxic.name, "toxicity")
        self._chance: random.Random | None = None
        self.active = self._lots.random() < toxic.toxicity
        self.refresh()

    @property
    def chance(self) -> random.Random:
        """The draws of the toxic itself (jitter, sizes, losses), apart from its toxicity's."""
        if self._chance is None:
            self._chance = self.link.dice(self.toxic.name, self.toxic.type)
        return self._chance

    def accepts(self) -> bool:
        """Is there room for one more chunk?"""
        inbox = self.inbox
        if not inbox:
            return True
        core = self.link.core
        return len(inbox) < self.capacity and core.held_bytes < core.limits.held_bytes_max

    def take(self, chunk: Chunk) -> None:
        size = len(chunk.data)
        self.held += size
        self.link.core.held_bytes += size
        self.inbox.append(chunk)

    def end(self) -> None:
        self.ended = True

    def run(self, out: Sink) -> bool:
        """Move on what may go now; return whether anything was moved."""
        if self.over:
            return False
        return self.work(out) if self.active else self.pass_on(out)

    def work(self, out: Sink) -> bool:
        return self.pass_on(out)

    def pass_on(self, out: Sink) -> bool:
        moved = False
        while self.inbox and out.accepts():
            out.take(self.shift())
            moved = True
        return self.pass_end(out) or moved

    def pass_end(self, out: Sink) -> bool:
        if self.inbox or not self.ended or self.over:
            return False
        self.over = True
        out.end()
        return True

    def shift(self) -> Chunk:
        chunk = self.inbox.popleft()
        self.release(len(chunk.data))
        return chunk

    def split(self, size: int) -> Chunk:
        """Take the first bytes of the first chunk away."""
        chunk = self.inbox[0]
        piece = Chunk(chunk.data[:size], chunk.at)
        chunk.data = chunk.data[size:]
        self.release(size)
        return piece

    def release(self, size: int) -> None:
        self.held -= size
        self.link.core.held_bytes -= size

    def update(self) -> None:
        """The toxic's attributes or toxicity have changed: draw again, start again."""
        self.active = self._lots.random() < self.toxic.toxicity
        self.sleep()
        self.refresh()

    def refresh(self) -> None:
        """Take what is needed from the toxic's attributes."""

    def wake_at(self, when: float) -> None:
        alarm = self._alarm
        if alarm is not None and alarm.pending:
            if alarm.when == when:
                return
            alarm.cancel()
        self._alarm = self.link.core.alarms.at(when, self.link.advance)

    def sleep(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def flush(self, out: Sink) -> None:
        """The stage is being removed: everything goes out, in order, room or no room."""
        self.sleep()
        while self.inbox:
            out.take(self.shift())
        self.pass_end(out)

    def discard(self) -> None:
        """The link is gone: so is what was held."""
        self.sleep()
        self.release(self.held)
        self.inbox.clear()
        self.over = True
