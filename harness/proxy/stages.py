"""What each toxic does to a link: chunks are held back, cut up or dropped, or the link ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from harness.proxy.stage import Chunk, Sink, Stage
from harness.proxy.toxics import Toxic

if TYPE_CHECKING:
    from harness.proxy.link import Link

__all__ = ["STAGES", "stage_for"]

_PIECES_PER_TURN = 64
_CHUNK_BYTES = 32 << 10


class Latency(Stage):
    """Each chunk leaves at the time it was read + latency +- jitter, but behind its forerunner."""

    capacity = 1024

    def refresh(self) -> None:
        self._latency_s = self.toxic.number("latency") / 1000
        self._jitter_s = max(0.0, self.toxic.number("jitter") / 1000)
        for chunk in self.inbox:
            chunk.due = chunk.at + self._delay_s()

    def _delay_s(self) -> float:
        jitter = self._jitter_s
        return self._latency_s + (jitter * (2 * self.chance.random() - 1) if jitter else 0.0)

    def take(self, chunk: Chunk) -> None:
        chunk.due = chunk.at + self._delay_s()
        super().take(chunk)

    def work(self, out: Sink) -> bool:
        moved = False
        now = time.monotonic()
        while self.inbox and out.accepts():
            chunk = self.inbox[0]
            if chunk.due > now:
                self.wake_at(chunk.due)
                return moved
            chunk.at = max(chunk.at, chunk.due)
            out.take(self.shift())
            moved = True
        return self.pass_end(out) or moved


class Bandwidth(Stage):
    """A chunk leaves when, at this rate, its last byte would have come through.

    What comes next waits behind it (a tenth of a second's worth, within bounds), so that the
    line is not idle between two reads, nor while the process waits for its turn.
    """

    def refresh(self) -> None:
        self._rate = max(0.0, self.toxic.number("rate")) * 1000
        self._piece = int(min(max(1.0, self._rate / 10), 1 << 30))
        self.capacity = int(min(max(2.0, self._rate / 10 / _CHUNK_BYTES), 64.0))
        self._free_at = time.monotonic()
        self._due: float | None = None
        self._late = False

    def take(self, chunk: Chunk) -> None:
        chunk.due = time.monotonic()
        super().take(chunk)

    def work(self, out: Sink) -> bool:
        moved = False
        while self.inbox and self._rate > 0:
            chunk = self.inbox[0]
            size = min(len(chunk.data), self._piece)
            if self._due is None:
                self._due = max(self._free_at, chunk.due) + size / self._rate
            now = time.monotonic()
            if self._due > now:
                self.wake_at(self._due)
                return moved
            if not out.accepts():
                self._late = True
                return moved
            # Who could not take it for a while gets no burst afterwards.
            self._free_at = now if self._late else self._due
            self._due, self._late = None, False
            out.take(self.shift() if size == len(chunk.data) else self.split(size))
            moved = True
        return self.pass_end(out) or moved


class SlowClose(Stage):
    """Data pass; the end of the stream waits."""

    def refresh(self) -> None:
        self._close_at: float | None = None

    def work(self, out: Sink) -> bool:
        moved = False
        while self.inbox and out.accepts():
            out.take(self.shift())
            moved = True
        if self.inbox or not self.ended:
            return moved
        now = time.monotonic()
        if self._close_at is None:
            self._close_at = now + max(0.0, self.toxic.number("delay") / 1000)
        if now < self._close_at:
            self.wake_at(self._close_at)
            return moved
        return self.pass_end(out) or moved


class Timeout(Stage):
    """All data are dropped; the connection is closed when none has come for a while."""

    closes_when_removed = True

    def refresh(self) -> None:
        timeout_s = self.toxic.number("timeout") / 1000
        self._timeout_s = timeout_s if timeout_s > 0 else None
        self._restart()

    def _restart(self) -> None:
        if self._timeout_s is not None and self.active:
            self._close_at = time.monotonic() + self._timeout_s
            self.wake_at(self._close_at)

    def work(self, out: Sink) -> bool:
        if self.inbox:
            while self.inbox:
                self.dropped += len(self.shift().data)
            self._restart()
        if self.pass_end(out):
            return True
        if self._timeout_s is not None:
            if time.monotonic() >= self._close_at:
                self.link.cut(self)
            else:
                self.wake_at(self._close_at)
        return False


class ResetPeer(Stage):
    """The first chunk (or the end) of this direction starts a clock; then both sides get RST."""

    def refresh(self) -> None:
        self._timeout_s = max(0.0, self.toxic.number("timeout") / 1000)

    def take(self, chunk: Chunk) -> None:
        chunk.due = time.monotonic()
        super().take(chunk)

    def end(self) -> None:
        super().end()
        self._ended_at = time.monotonic()

    def work(self, out: Sink) -> bool:
        if not self.inbox and not self.ended:
            return False
        began = self.inbox[0].due if self.inbox else self._ended_at
        if time.monotonic() < began + self._timeout_s:
            self.wake_at(began + self._timeout_s)
        else:
            self.link.reset()
        return False


class Slicer(Stage):
    """A chunk is halved until its pieces are small enough; each is followed by a delay."""

    def refresh(self) -> None:
        self._average = int(max(1.0, self.toxic.number("average_size")))
        self._variation = int(max(0.0, self.toxic.number("size_variation")))
        self._delay_s = max(0.0, self.toxic.number("delay") / 1_000_000)
        self._sizes: list[int] = []
        self._next_at = 0.0

    def _slice(self, size: int) -> list[int]:
        """Return the sizes of the pieces, the last one first.

        The cut is kept inside of the chunk, whatever the variation: so each half is smaller
        and the halving ends.
        """
        sizes, parts = [], [size]
        enough, variation = self._average + self._variation, self._variation
        while parts:
            part = parts.pop()
            if part <= enough or part < 2:
                sizes.append(part)
                continue
            middle = part // 2
            if variation:
                middle += self.chance.randrange(-variation, variation)
            middle = min(max(middle, 1), part - 1)
            parts += [part - middle, middle]
        sizes.reverse()
        return sizes

    def work(self, out: Sink) -> bool:
        moved = False
        for _ in range(_PIECES_PER_TURN):
            if self._delay_s and self._next_at > time.monotonic():
                self.wake_at(self._next_at)
                return moved
            if not self.inbox or not out.accepts():
                return self.pass_end(out) or moved
            chunk = self.inbox[0]
            if not self._sizes:
                self._sizes = self._slice(len(chunk.data))
            size = self._sizes.pop()
            piece = self.split(size) if self._sizes else self.shift()
            if self._delay_s:
                self._next_at = time.monotonic() + self._delay_s
            out.take(piece)
            moved = True
        return moved

    def pass_on(self, out: Sink) -> bool:
        self._sizes.clear()
        return super().pass_on(out)


class LimitData(Stage):
    """So many bytes pass, counted from when the toxic came to the link; then the link ends."""

    passed = 0

    def refresh(self) -> None:
        self._bytes = int(max(0.0, self.toxic.number("bytes")))

    def work(self, out: Sink) -> bool:
        moved = False
        while self.inbox:
            chunk = self.inbox[0]
            left = max(0, self._bytes - self.passed)
            if left and not out.accepts():
                return moved
            if left >= len(chunk.data):
                self.passed += len(chunk.data)
                out.take(self.shift())
            elif left:
                self.passed += left
                out.take(self.split(left))
            moved = True
            if self.passed >= self._bytes:
                self.link.cut(self)
                return True
        return self.pass_end(out) or moved


class PacketLoss(Stage):
    """Each chunk is dropped by chance; after a drop the chance is higher by `correlation`."""

    _dropped_last = False

    def refresh(self) -> None:
        self._rate = min(max(self.toxic.number("loss_rate"), 0.0), 1.0)
        self._more = min(max(self.toxic.number("correlation"), 0.0), 1.0)

    def work(self, out: Sink) -> bool:
        moved = False
        while self.inbox and out.accepts():
            chunk = self.shift()
            moved = True
            odds = self._rate + (self._more if self._dropped_last else 0.0)
            self._dropped_last = self.chance.random() < odds
            if self._dropped_last:
                self.dropped += len(chunk.data)
            else:
                out.take(chunk)
        return self.pass_end(out) or moved


STAGES: dict[str, type[Stage]] = {
    "bandwidth": Bandwidth,
    "latency": Latency,
    "limit_data": LimitData,
    "noop": Stage,
    "packet_loss": PacketLoss,
    "reset_peer": ResetPeer,
    "slicer": Slicer,
    "slow_close": SlowClose,
    "timeout": Timeout,
}


def stage_for(link: Link, toxic: Toxic) -> Stage:
    """Put a toxic to work on a link."""
    return STAGES[toxic.type](link, toxic)
