"""The toxics as the API knows them: their types, attributes and defaults."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.proxy.gojson import Fields, fields

__all__ = ["ATTRIBUTES", "DIRECTIONS", "Toxic", "attributes_of"]

DIRECTIONS = ("upstream", "downstream")

# Type -> attribute -> its default, whose type is the attribute's. Milliseconds unless noted.
ATTRIBUTES: dict[str, dict[str, int | float]] = {
    "bandwidth": {"rate": 0},  # KB/s, of 1000 bytes
    "latency": {"latency": 0, "jitter": 0},
    "limit_data": {"bytes": 0},
    "noop": {},
    "packet_loss": {"loss_rate": 0.1, "correlation": 0.0},  # 0..1
    "reset_peer": {"timeout": 0},
    "slicer": {"average_size": 0, "size_variation": 0, "delay": 0},  # bytes, bytes, microseconds
    "slow_close": {"delay": 0},
    "timeout": {"timeout": 0},
}


@dataclass(slots=True)
class Toxic:
    """One toxic of a proxy.

    Attributes:
        stream: the direction as it was given, in any case.
        toxicity: the probability with which it works on a link.
        start_after_ms, duration_ms: when it starts, counted from its creation, and how long
            it is in force before it is removed; None: at once, without end.
        started: whether it has been put on the links.
    """

    name: str
    type: str
    stream: str
    toxicity: float
    attributes: dict[str, int | float]
    start_after_ms: int | None = None
    duration_ms: int | None = None
    started: bool = False
    alarms: list[Any] = field(default_factory=list)

    @property
    def direction(self) -> str:
        return self.stream.lower()

    def number(self, attribute: str) -> float:
        return self.attributes[attribute]

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "attributes": self.attributes,
            "name": self.name,
            "type": self.type,
            "stream": self.stream,
            "toxicity": self.toxicity,
        }
        if self.start_after_ms is not None:
            found["start_after_ms"] = self.start_after_ms
            found["started"] = self.started
        if self.duration_ms is not None:
            found["duration_ms"] = self.duration_ms
        return found


def attributes_of(
    type: str, given: Fields | None, present: dict[str, int | float] | None = None
) -> dict[str, int | float]:
    """Return a toxic's attributes: the given ones over the present ones, or the defaults.

    Raises:
        BodyError: one of them is no number of its kind. Nothing was changed.
    """
    defaults = ATTRIBUTES[type]
    kinds = {name: "int" if isinstance(one, int) else "float64" for name, one in defaults.items()}
    go_type = "toxics." + "".join(part.title() for part in type.split("_")) + "Toxic"
    return {
        **(defaults if present is None else present),
        **fields(given, kinds, ".attributes", go_type),
    }
