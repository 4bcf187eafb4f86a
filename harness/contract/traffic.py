"""The traffic of events in one run of the laboratory: what producers offered, what came through.

Events of `flood` steps are numbered, so each can be followed: offered, refused or taken, begun
to be delivered, delivered or failed. Engines keep one account for each run, or one for the
sink that all runs share; which of the two is the engine's own affair. So a check asks for
the facts in both ways, and accuses only what is wrong in both.
"""

from __future__ import annotations

import functools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.contract.reading import CLOSE_S, Reading
from harness.kernel.outcome import SinkReport

__all__ = ["Account", "Counts", "Event", "Traffic", "refused_in", "top", "traffic"]


def top(run: str) -> str:
    """Return the run of the plan that a run belongs to: itself, or what it is a child of."""
    return run.split("/", 1)[0]


@dataclass(slots=True, eq=False)
class Event:
    """One numbered event; what did not happen to it is -1 or empty.

    Attributes:
        answer: what its producer was told: "taken", "refused" or raise:<type>.
        begun, ended, cut, failed: journal positions at which the sink began to take it, had taken
            it, was called off, had raised over it.
    """

    producer: str
    number: int
    run: str
    stage: str
    offered: int
    offered_s: float
    answered: int = -1
    answered_s: float = -1.0
    answer: str = ""
    begun: list[int] = field(default_factory=list)
    ended: list[int] = field(default_factory=list)
    cut: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)

    @property
    def taken(self) -> bool:
        return self.answer == "taken"

    @property
    def lost(self) -> bool:
        """It was taken, and the sink never had it."""
        return self.taken and not self.ended


@dataclass(frozen=True, slots=True)
class Account:
    """The engine's account, and where in the journal it was looked at; `final` if it is the
    one with which the run was reported."""

    run: str
    at: int
    at_s: float
    said: SinkReport
    final: bool = False


class _Positions:
    """Where in the journal something happened, and when; in order."""

    __slots__ = ("at", "at_s")

    def __init__(self) -> None:
        self.at: list[int] = []
        self.at_s: list[float] = []

    def add(self, at: int, at_s: float) -> None:
        self.at.append(at)
        self.at_s.append(at_s)


class Counts:
    """Counts of what happened to the events of one run, or to all events."""

    __slots__ = ("_kinds",)

    def __init__(self) -> None:
        self._kinds: dict[str, _Positions] = {}

    def add(self, kind: str, at: int, at_s: float) -> None:
        self._kinds.setdefault(kind, _Positions()).add(at, at_s)

    def before(self, kind: str, at: int) -> int:
        """Return how often something had happened before a position of the journal."""
        found = self._kinds.get(kind)
        return 0 if found is None else bisect_left(found.at, at)

    def until(self, kind: str, at: int, at_s: float) -> int:
        """Return how often it had happened before that position, and by an instant."""
        found = self._kinds.get(kind)
        if found is None:
            return 0
        return min(bisect_left(found.at, at), bisect_right(found.at_s, at_s))

    def by(self, kind: str, at_s: float) -> int:
        """Return how often it had happened when an instant was over."""
        found = self._kinds.get(kind)
        return 0 if found is None else bisect_right(found.at_s, at_s + CLOSE_S)

    def in_instant(self, kind: str, at_s: float) -> int:
        """Return how often it happened at an instant, before or after what happened then."""
        found = self._kinds.get(kind)
        if found is None:
            return 0
        return bisect_right(found.at_s, at_s + CLOSE_S) - bisect_left(found.at_s, at_s - CLOSE_S)


# Of one that was cut the sink has it no more, and has not taken it.
TOLD = {
    "deliver.begin": "begun",
    "deliver.end": "delivered",
    "deliver.cut": "cut",
    "deliver.fail": "failed",
}


class Traffic:
    """The facts about events, followed through the journal once.

    Attributes:
        events: by producer and number.
        clear: no event was offered twice, so that each can be followed.
        foreign: events without a number, a stage's or the engine's own, are in its account.
        unnumbered: a stage's are; of those that reach the sink nobody can tell whose they are.
        elsewhere: none reached the sink, but users got them in another way.
        accounts: in the order in which they were looked at.
        alone: there is one run only.
        deliveries_max: how many events were in the sink's hands at once, at most.
        by_run: run of the plan -> counts; `of_all` are those of all runs.
    """

    def __init__(self, r: Reading) -> None:
        self.events: dict[tuple[str, int], Event] = {}
        self.clear = True
        self.foreign = self.unnumbered = False
        self.accounts: list[Account] = []
        self.by_run: dict[str, Counts] = {run: Counts() for run in r.runs}
        self.of_all = Counts()
        self.deliveries_max = 0
        self._deliveries = 0
        self.alone = len(r.runs) == 1
        self._read(r)
        for run, facts in r.runs.items():
            outcome = r.outcome(run)
            if facts.over and outcome is not None and outcome.sink is not None:
                self.accounts.append(Account(run, facts.end, facts.end_s, outcome.sink, True))
        self.accounts.sort(key=lambda one: one.at)
        told = any(one.events for one in r.record.outcomes.values())
        self.elsewhere = told and not self.deliveries_max

    def _read(self, r: Reading) -> None:
        for i, (at_s, run, stage, kind, detail) in enumerate(r.entries):
            if kind == "offer.begin":
                self._offered(Event(detail[0], detail[1], top(run), stage, i, at_s))
            elif kind == "offer.end":
                self._answered(self.events[detail[0], detail[1]], i, at_s, detail[2])
            elif kind == "emit":
                self.foreign = self.unnumbered = True
            elif kind == "account":
                self.accounts.append(Account(top(run), i, at_s, SinkReport(*detail)))
            elif kind.startswith("deliver."):
                self._reached(kind, i, at_s, (detail[0], detail[1]))

    def _offered(self, event: Event) -> None:
        key = (event.producer, event.number)
        self.clear = self.clear and key not in self.events
        self.events[key] = event
        self._count("offered", event.run, event.offered, event.offered_s)

    def _answered(self, event: Event, at: int, at_s: float, answer: str) -> None:
        event.answered, event.answered_s, event.answer = at, at_s, answer
        kind = answer if answer in ("taken", "refused") else "raised"
        self._count(kind, event.run, at, at_s)

    def _reached(self, kind: str, at: int, at_s: float, key: tuple[str, int]) -> None:
        self._deliveries += 1 if kind == "deliver.begin" else -1
        self.deliveries_max = max(self.deliveries_max, self._deliveries)
        event = self.events.get(key)
        self.foreign = self.foreign or event is None
        told = TOLD[kind]
        if event is None:
            self._count(told, "", at, at_s)
            return
        positions = {"begun": event.begun, "delivered": event.ended, "cut": event.cut}
        positions.get(told, event.failed).append(at)
        self._count(told, event.run, at, at_s)

    def _count(self, kind: str, run: str, at: int, at_s: float) -> None:
        self.of_all.add(kind, at, at_s)
        if run in self.by_run:
            self.by_run[run].add(kind, at, at_s)

    def counts(self, run: str, *, shared: bool) -> Counts:
        """Return the counts that an account of a run is about, if the account is the run's own,
        or if it is `shared` by all runs."""
        return self.of_all if shared or self.alone else self.by_run[run]

    def ways(self) -> tuple[bool, ...]:
        """Return the ways (`shared`) in which an account can be meant."""
        if self.alone:
            return (False,)
        # Events of the engine's own belong to some run, and nobody knows to which.
        return (True,) if self.foreign and not self.unnumbered else (False, True)

    def final(self, run: str) -> SinkReport | None:
        """Return the account with which a run was reported."""
        return next((one.said for one in self.accounts if one.final and one.run == run), None)

    def last(self) -> SinkReport | None:
        """Return the account with which the last run was reported."""
        finals = [one for one in self.accounts if one.final]
        return finals[-1].said if finals else None


@functools.lru_cache(maxsize=1)
def traffic(r: Reading) -> Traffic:
    """Return the traffic of a reading; the checks of one reading ask for it one after another."""
    return Traffic(r)


def refused_in(events: Iterable[Event], said: SinkReport | None) -> int:
    """Return how many refused events are in an account: all of them if it says that as many
    were offered as were, else none."""
    every = list(events)
    refused = sum(1 for one in every if one.answer == "refused")
    return refused if said is not None and said.offered >= len(every) - _raised(every) else 0


def _raised(events: list[Event]) -> int:
    return sum(1 for one in events if one.answer.startswith("raise:"))
