"""Chance that can be repeated: each draw belongs to one toxic on one link, not to the clock.

One generator for all would hand its numbers out in the order in which connections happen to
be served. Here the numbers of a link follow from the seed, the proxy's name, the connection's
number on that proxy, the direction, the toxic's name and what the draw is for.
"""

from __future__ import annotations

import random
import secrets

__all__ = ["Dice"]


class Dice:
    """The source of all chance in one server.

    Attributes:
        seed: what all draws follow from; a fresh one if none was given, so that it can be
            read off and used again.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = secrets.randbits(53) if seed is None else seed

    def stream(self, *names: object) -> random.Random:
        """Return the generator of one purpose; equal names give equal draws."""
        return random.Random("\0".join(map(str, (self.seed, *names))))
