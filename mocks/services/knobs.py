"""What goes wrong with a mock service, drawn by seed.

Each request has a draw of its own, from the seed, the service and the request's name: so
the same requests meet the same fate in whatever order they come.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["Fate", "Knobs", "fate_of"]

DELAY_MAX_S = 10.0


@dataclass(frozen=True, slots=True)
class Knobs:
    """How badly a service behaves.

    Attributes:
        delay_s: how much later than asked for every answer begins, in seconds, at most 10.
        jitter_s: up to how much more or less than that.
        error_rate: share of requests (0 to 1) that are answered with an error (HTTP 503).
        malformed_rate: share whose answer is not what the protocol asks for.
        cut_rate: share whose connection is closed in the midst of the answer.
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    error_rate: float = 0.0
    malformed_rate: float = 0.0
    cut_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("error_rate", "malformed_rate", "cut_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")
        if self.error_rate + self.malformed_rate + self.cut_rate > 1:
            raise ValueError("error_rate, malformed_rate and cut_rate: more than 1 together")
        for name in ("delay_s", "jitter_s"):
            if not 0 <= getattr(self, name) <= DELAY_MAX_S:
                raise ValueError(
                    f"{name}: expected seconds from 0 to {DELAY_MAX_S:g}, got {getattr(self, name)}"
                )


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one request: "answer", "error", "malformed" or "cut", after `delay_s`."""

    how: str = "answer"
    delay_s: float = 0.0


def fate_of(knobs: Knobs, seed: int, service: str, request: str) -> Fate:
    """Draw the fate of a request; the same name has the same fate each time."""
    chance = random.Random(f"{seed}/{service}/{request}")
    jitter = knobs.jitter_s * (2 * chance.random() - 1)
    drawn, how = chance.random(), "answer"
    for name in ("error", "malformed", "cut"):
        rate = getattr(knobs, f"{name}_rate")
        if drawn < rate:
            how = name
            break
        drawn -= rate
    return Fate(how, min(DELAY_MAX_S, max(0.0, knobs.delay_s + jitter)))
