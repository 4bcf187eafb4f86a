"""The tape: every choice of a run goes through one place, so that a seed replays it.

Each concern has a random stream of its own, so that a choice more in one concern does
not shift those of another. A tape of seed 0 chooses the first alternative everywhere:
that is the undisturbed run.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

__all__ = ["PERTURBATIONS", "Tape"]

# What asyncio allows. The stream "order" (order.py) is not among them.
PERTURBATIONS = {
    "ties": "the order in which timers of one deadline fire",
    "late": "timers that fire up to `LATE_S` late, as on any busy machine",
    "durations": "which of the durations listed for a step is taken",
    "yields": "extra turns given to the loop before a step of ours",
    "jobs": "how long jobs in worker threads take, and so their order",
    "tasks": "the order in which a set of tasks is iterated",
    "points": "where a cancel lands",
    "faults": "which calls of a tool fail, of those of which one in so many does",
    "network": "how much later than its latency a network delivers, within its jitter",
}

# Of these a seed switches some off altogether (swarm testing: a fault kind that is
# always on hides what happens without it).
SWITCHED = ("ties", "late", "yields", "jobs", "tasks")


_WORD = (1 << 64) - 1
_STARTS: dict[str, int] = {}


class Tape:
    """Choices of one run, by stream; drawn from a seed, or replayed from a record.

    Args:
        seed: any whole number; 0 takes alternative 0 everywhere.
        recorded: choices to replay by stream; past its end a stream gives alternative 0.
    """

    __slots__ = ("_drawn", "_on", "_streams", "recorded", "seed")

    def __init__(self, seed: int, recorded: Mapping[str, Sequence[int]] | None = None) -> None:
        self.seed = seed
        self.recorded: dict[str, list[int]] = {}
        self._streams = {k: list(reversed(v)) for k, v in recorded.items()} if recorded else None
        self._drawn: dict[str, int] = {}
        self._on: frozenset[str] | None = None

    def active(self, stream: str) -> bool:
        """Say whether a stream can give anything but alternative 0 (swarm configuration)."""
        if self._streams is not None:
            return bool(self._streams.get(stream))
        if not self.seed:
            return False
        if stream not in SWITCHED:
            return True
        if self._on is None:
            # One draw, a decimal digit for each: six of ten are on.
            digits = self._draw("swarm", 10 ** len(SWITCHED))
            self._on = frozenset(s for i, s in enumerate(SWITCHED) if digits // 10**i % 10 < 6)
        return stream in self._on

    def choose(self, stream: str, n: int) -> int:
        """Choose one of `n` alternatives (0 to n-1) and record the choice."""
        if n <= 1:
            return 0
        if self._streams is not None:
            left = self._streams.get(stream)
            value = min(left.pop(), n - 1) if left else 0
        elif self.active(stream):
            value = self._draw(stream, n)
        else:
            return 0
        self.recorded.setdefault(stream, []).append(value)
        return value

    def _draw(self, stream: str, n: int) -> int:
        """Draw the stream's next number below `n`, by SplitMix64.

        Making a `random.Random` for each stream costs more than a short run; here a stream
        is a counter. Source: Steele, Lea and Flood, "Fast splittable pseudorandom number
        generators", OOPSLA 2014.
        """
        count = self._drawn[stream] = self._drawn.get(stream, 0) + 1
        start = _STARTS.get(stream)
        if start is None:
            start = _STARTS[stream] = zlib.crc32(stream.encode()) << 32
        z = ((self.seed ^ start) * 0x9E3779B97F4A7C15 + count * 0xD1342543DE82EF95) & _WORD
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _WORD
        return ((z ^ (z >> 31)) * n) >> 64
