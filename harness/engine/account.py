"""The account of events: offered = delivered + dropped + pending, at every moment.

An event is offered when it has been decided whether it is accepted; what is accepted is pending
until the sink has taken it or it has been dropped. Nothing is counted twice, and nothing
leaves the account without a reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["EventAccount", "Ledger"]


@dataclass(frozen=True, slots=True)
class EventAccount:
    """What has become of events, at one moment.

    Attributes:
        dropped: reason -> how many; the reasons are those of `sink`.
        pending: accepted, and neither delivered nor dropped yet.
        queue_max: how many may wait in memory; one more may be in the sink's hands.
    """

    offered: int = 0
    delivered: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    pending: int = 0
    queue_max: int = 0

    @property
    def lost(self) -> int:
        """How many were dropped, for whatever reason."""
        return sum(self.dropped.values())


class Ledger:
    """A running account; what it is told, the account `total` over several is told too."""

    __slots__ = ("_delivered", "_dropped", "_offered", "_total", "pending")

    def __init__(self, total: Ledger | None = None) -> None:
        self._total = total
        self._offered = 0
        self._delivered = 0
        self._dropped: dict[str, int] = {}
        self.pending = 0

    def accept(self) -> None:
        self._offered += 1
        self.pending += 1
        if self._total is not None:
            self._total.accept()

    def refuse(self, reason: str) -> None:
        """Count an event that was dropped instead of being accepted."""
        self.accept()
        self.drop(reason)

    def deliver(self) -> None:
        self._delivered += 1
        self.pending -= 1
        if self._total is not None:
            self._total.deliver()

    def drop(self, reason: str) -> None:
        self._dropped[reason] = self._dropped.get(reason, 0) + 1
        self.pending -= 1
        if self._total is not None:
            self._total.drop(reason)

    def account(self, queue_max: int = 0) -> EventAccount:
        """Return what it says now, as a record that no longer changes."""
        return EventAccount(
            self._offered,
            self._delivered,
            MappingProxyType(dict(self._dropped)),
            self.pending,
            queue_max,
        )
