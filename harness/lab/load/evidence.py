"""What a load is judged by, and what became of each request.

Users' records say what was sent and answered, the server's ledger what ran. A request that
met a reset is cut, not lost: its user has been told so by the connection. Lost is what was
sent whole and came back without a word of why.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Evidence", "Fates", "Record", "Window", "fates", "in_window", "percentiles"]

Record = Mapping[str, Any]

# A cut is told a moment after the connection was; the fault's end is not the end of its effects.
AFTER_FAULT_S = 2.0
TIMEOUTS = ("Timeout", "TimeoutError", "timeout", "ConnectTimeout")
POINTS = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Window:
    """A time during which a fault was in force; wall clock, in seconds."""

    begin_s: float
    end_s: float
    what: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a load is judged by.

    Attributes:
        records: what users sent and saw, as `locustfile` writes it.
        ledger: the runs that were over, as `front` writes them.
        stats: what the server said of itself after the load, when nothing was sent any more.
        failing: name of the program that is to fail, or "".
        windows: of the faults.
        marked: outputs of the program hold its run's marker, so that a missing one is lost.
        once: no stage of the program is to run more than once in a run.
    """

    records: Sequence[Record]
    ledger: Sequence[Record]
    stats: Mapping[str, Any]
    failing: str = ""
    windows: Sequence[Window] = ()
    marked: bool = True
    once: bool = True


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the requests, each in one of these."""

    answered: list[Record]
    cut: list[Record]
    refused: list[Record]
    errors: list[Record]
    timed_out: list[Record]
    stopped: list[Record]


def fates(evidence: Evidence) -> Fates:
    """Sort requests by what their users were told."""
    sorted_: dict[str, list[Record]] = defaultdict(list)
    for one in evidence.records:
        sorted_[_fate(one, evidence.windows)].append(one)
    return Fates(
        *(sorted_[n] for n in ("answered", "cut", "refused", "errors", "timed_out", "stopped"))
    )


def _fate(one: Record, windows: Sequence[Window]) -> str:
    if one["error"] == "stopped":
        return "stopped"
    if one["error"] in TIMEOUTS:
        return "timed_out"
    if one["error"]:
        return "cut" if in_window(one, windows, AFTER_FAULT_S) else "errors"
    if one["status"] == 503:
        return "refused"
    return "answered" if one["status"] == 200 else "errors"


def in_window(one: Record, windows: Iterable[Window], after_s: float = 0.0) -> bool:
    """Say whether a request was under way while a fault was in force."""
    begin_s, end_s = one["at"], one["at"] + one.get("took_s", 0.0)
    return any(w.begin_s <= end_s and begin_s <= w.end_s + after_s for w in windows)


def percentiles(seconds: Iterable[float]) -> dict[str, Any]:
    """Return count, p50 to p99 (the nearest rank) and the greatest, in milliseconds."""
    ordered = sorted(seconds)
    found: dict[str, Any] = {"count": len(ordered)}
    if ordered:
        for p in POINTS:
            rank = max(1, -(-p * len(ordered) // 100))
            found[f"p{p}_ms"] = round(ordered[rank - 1] * 1000, 3)
        found["max_ms"] = round(ordered[-1] * 1000, 3)
    return found
