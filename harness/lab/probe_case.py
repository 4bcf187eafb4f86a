"""The words of a probe: what is run, what is done to it, how far it may go, what is wrong.

Plain data that the worker, one run and the report share.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.kernel.substitutes import Substitutes
from harness.lab.probe_loop import Locks
from harness.lab.probe_sources import Sources

__all__ = ["Defect", "Disturbance", "Limits", "Subject", "died"]


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is done to one run.

    Attributes:
        seed: of the tape: late timers, ties, threads; 0 is the undisturbed schedule.
        point: callback or idle gap after which the caller cancels; 0 is before the start.
        second: point of a second cancel.
        timeout_s: the caller's timeout, instead of a cancel.
        wait_for: that timeout is `asyncio.wait_for`, not `asyncio.timeout`.
    """

    seed: int = 0
    point: int | None = None
    second: int | None = None
    timeout_s: float | None = None
    wait_for: bool = False

    @property
    def family(self) -> str:
        if self.timeout_s is not None:
            return "timeout"
        if self.point is None:
            return "clean" if self.seed == 0 else "seed"
        if self.second is not None:
            return "twice"
        return "cancel" if self.seed == 0 else "seed"

    def words(self) -> str:
        """Return the options of the command that does this again."""
        words = [] if self.seed == 0 else [f"--seed {self.seed}"]
        if self.point is not None:
            words.append(f"--point {self.point}")
        if self.second is not None:
            words.append(f"--second {self.second}")
        if self.timeout_s is not None:
            words.append(f"--timeout {self.timeout_s!r}")
        if self.wait_for:
            words.append("--wait-for")
        if self.point is None and self.timeout_s is None:
            words.append("--once")
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Limits:
    """How far one run may go: virtual seconds, callbacks, real seconds without a turn."""

    horizon_s: float = 3600.0
    steps_max: int = 100_000
    wall_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing that is wrong, at one place.

    Attributes:
        kind: what sort of thing (see `KINDS` in `probe_report`).
        place: `file:line function` of the user's code; together with `kind` the identity.
        says: what happened, in one sentence without the place.
        waits: where what was left behind stands, a line each.
    """

    kind: str
    place: str
    says: str
    waits: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "place": self.place,
            "says": self.says,
            "waits": list(self.waits),
        }


@dataclass(frozen=True, slots=True)
class Subject:
    """The user's function, loaded, and what is known of its surroundings."""

    call: Callable[[], Awaitable[Any]]
    sources: Sources
    locks: Locks
    clocks: tuple[Substitutes, ...]


def died(defects: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the answer for a run that cannot give its own (see `run_once`)."""
    return {
        "outcome": {"how": "unfinished", "type": "", "says": "", "place": ""},
        "ended": "died",
        "accepted": True,
        "sent": 0,
        "landed": "",
        "points": 0,
        "took_s": 0.0,
        "deadlines": [],
        "held": [],
        "rerunnable": True,
        "defects": list(defects),
        "notes": [],
        "full": False,
        "baseline": None,
    }
