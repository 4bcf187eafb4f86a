"""The tape: every choice of a run goes through one place, so that a seed replays it.

Each concern has a random stream of its own, so that a choice more in one concern does
not shift those of another. A tape of seed 0 chooses the first alternative everywhere:
that is the undisturbed run.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence

__all__ = ["PERTURBATIONS", "Tape"]

PERTURBATIONS = {
    "ties": "the order in which timers of one deadline fire",
    "late": "timers that fire up to `LATE_S` late, as on any busy machine",
    "durations": "which of the durations listed for a step is taken",
    "yields": "extra turns given to the loop before a step of ours",
    "jobs": "how long jobs in worker threads take, and so their order",
    "tasks": "the order in which a set of tasks is iterated",
    "points": "where a cancel lands",
}

# Of these a seed switches some off altogether (swarm testing: a fault kind that is
# always on hides what happens without it).
SWITCHED = ("ties", "late", "yields", "jobs", "tasks")


class Tape:
    """Choices of one run, by stream; drawn from a seed, or replayed from a record.

    Args:
        seed: any whole number; 0 takes alternative 0 everywhere.
        recorded: choices to replay by stream; past its end a stream gives alternative 0.
    """

    __slots__ = ("_on", "_rngs", "_streams", "recorded", "seed")

    def __init__(self, seed: int, recorded: Mapping[str, Sequence[int]] | None = None) -> None:
        self.seed = seed
        self.recorded: dict[str, list[int]] = {}
        self._streams = {k: list(reversed(v)) for k, v in recorded.items()} if recorded else None
        self._rngs: dict[str, random.Random] = {}
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
            rng = random.Random(f"swarm {self.seed}")
            self._on = frozenset(s for s in SWITCHED if rng.random() < 0.6)
        return stream in self._on

    def choose(self, stream: str, n: int) -> int:
        """Choose one of `n` alternatives (0 to n-1) and record the choice."""
        if n <= 1:
            return 0
        if self._streams is not None:
            left = self._streams.get(stream)
            value = min(left.pop(), n - 1) if left else 0
        elif self.active(stream):
            rng = self._rngs.get(stream)
            if rng is None:
                rng = self._rngs[stream] = random.Random(
                    (self.seed << 32) ^ zlib.crc32(stream.encode())
                )
            value = int(rng.random() * n)
        else:
            return 0
        self.recorded.setdefault(stream, []).append(value)
        return value
