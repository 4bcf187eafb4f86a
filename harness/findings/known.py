"""What the registry knows of one finding, over all runs and versions of its engine.

A finding's life is kept per version of its engine, because what one version shows says
nothing of another. States of a version: `open` (seen in the last run that could tell),
`resolved` (was open; a full run of its scenarios no longer shows it), `regressed` (came
back after that), `clean` (never seen there, and a full run of its scenarios passed).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any

from harness.findings.order import by_version

__all__ = [
    "LOG_MAX",
    "TOKENS_MAX",
    "Decision",
    "Known",
    "Life",
    "Seed",
    "Sight",
    "counts",
    "shortest",
]

LOG_MAX = 100
# Failing runs kept for each finding and version, the shortest.
TOKENS_MAX = 3


def counts(kind: str, clause: str) -> bool:
    """Say whether a finding is a defect that a gate may fail for: a clause that was broken."""
    return kind == "bug" or (kind == "dx" and bool(clause))


@dataclass(frozen=True, slots=True)
class Sight:
    """A scenario that showed the finding: how many runs were asked of it, the last time.

    A unit makes more runs than were asked where a clause was not put to the test by those.
    """

    runs: int
    exercised: int
    violations: int
    seed: int
    run: str


@dataclass(slots=True)
class Seed:
    """A run that failed, as a replay token; `verdict` is the last replay's, "" if none was."""

    token: str
    size: int
    profile: str
    seed: int
    run: str
    verdict: str = ""
    scenario: str = ""


@dataclass(slots=True)
class Life:
    """The finding on one version of its engine.

    Attributes:
        at: when a run last said something of it (ISO time).
        by_run: the run that showed it gone.
    """

    state: str
    at: str = ""
    first_seen: str = ""
    last_seen: str = ""
    occurrences: int = 0
    by_run: str = ""
    sights: dict[str, Sight] = field(default_factory=dict)
    seeds: list[Seed] = field(default_factory=list)

    @property
    def shows(self) -> bool:
        return self.state in ("open", "regressed")


@dataclass(frozen=True, slots=True)
class Decision:
    """What people decided: it will not be fixed, or it may stay until a day (that day included).

    Attributes:
        kind: wont_fix or waiver.
        until: last day (ISO date, UTC) on which it holds, or "" for ever.
        told: a run has said that it is over.
    """

    kind: str
    reason: str
    until: str
    since: str
    told: bool = False

    def holds(self, today: date) -> bool:
        return not self.until or today <= date.fromisoformat(self.until)


@dataclass(slots=True)
class Known:
    """One finding of the registry.

    Attributes:
        reported: a run that came to its end has told of it; until then it is new.
        entry: as in findings.json of the run that saw it last, without its pictures.
        formerly: ids that it had in registries that were merged into this one.
        log: what happened to it, oldest first: at, what, run, version, note.
    """

    fingerprint: str
    id: str
    kind: str
    engine: str
    clause: str
    severity: str
    title: str
    first_seen: str
    first_at: str
    last_seen: str
    last_at: str
    occurrences: int = 0
    reported: bool = False
    entry: Mapping[str, Any] = field(default_factory=dict)
    versions: dict[str, Life] = field(default_factory=dict)
    decision: Decision | None = None
    formerly: list[str] = field(default_factory=list)
    log: list[dict[str, str]] = field(default_factory=list)

    def status(self, today: date) -> str:
        """Return open, confirmed, resolved, regressed or wont_fix; of a strength, whether it holds.

        A strength is confirmed while any version has it, and resolved when none has it any more.
        """
        if self.decision and self.decision.kind == "wont_fix" and self.decision.holds(today):
            return "wont_fix"
        states = {life.state for life in self.versions.values()}
        if "regressed" in states:
            return "regressed"
        if "open" not in states and "resolved" in states:
            return "resolved"
        if self.kind == "strength":
            return "confirmed"
        return "confirmed" if self.entry.get("confirmation") == "confirmed" else "open"

    def seen_on(self) -> list[str]:
        """Return the versions that ever showed it, oldest first."""
        return sorted((v for v, x in self.versions.items() if x.state != "clean"), key=by_version)

    def note(self, at: str, what: str, *, run: str = "", version: str = "", note: str = "") -> None:
        """Add a line to its log; the oldest goes when there are too many."""
        self.log.append({"at": at, "what": what, "run": run, "version": version, "note": note})
        del self.log[:-LOG_MAX]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Known:
        """Build from what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: if it is anything else.
        """
        versions = {
            str(version): Life(
                **{
                    **life,
                    "sights": {str(k): Sight(**s) for k, s in life["sights"].items()},
                    "seeds": [Seed(**s) for s in life["seeds"]],
                }
            )
            for version, life in data["versions"].items()
        }
        decision = data.get("decision")
        made = cls(
            **{
                **data,
                "versions": versions,
                "decision": Decision(**decision) if decision else None,
                "formerly": list(data.get("formerly", ())),
                "log": [dict(x) for x in data.get("log", ())],
            }
        )
        if made.decision and made.decision.until:
            date.fromisoformat(made.decision.until)
        return made


def shortest(seeds: Iterable[Seed]) -> list[Seed]:
    """Return each token once, the shortest runs first, not too many."""
    each = {seed.token: seed for seed in seeds}
    return sorted(each.values(), key=lambda s: (s.size, s.token))[:TOKENS_MAX]
