"""What a campaign measured, indexed for those who draw conclusions from it.

Plain data comes in (the laboratory's unit rows, the engines' descriptions, missions as
dicts); nothing here judges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.contract.clause import Clause

__all__ = [
    "Campaign",
    "Row",
    "clause_numbers",
    "clause_of",
    "engine_label",
    "mission_scenarios",
    "runs_made",
]

Row = Mapping[str, Any]


def engine_label(name: str, version: str) -> str:
    """Return `name@version`, or the name alone where the engine has no version."""
    return f"{name}@{version}" if version else name


def clause_of(clauses: Mapping[str, Clause], clause: str) -> Clause:
    """Return a clause's declaration.

    Raises:
        LookupError: if it is not declared; a laboratory cannot judge by an unknown clause.
    """
    try:
        return clauses[clause]
    except KeyError:
        raise LookupError(
            f"clause {clause!r}: judged by a unit row but not declared; declare it in the contract"
        ) from None


def clause_numbers(unit: Row, clause: str) -> tuple[str, int, int]:
    """Return (verdict, runs exercised, violating runs) of one clause in one unit row.

    A clause without figures of its own has the verdict of the whole row. A violation that
    the engine documents as its semantics is no bug, but a clause violated all the same.
    """
    row = unit["clauses"].get(clause)
    if row is None:
        return str(unit["verdict"]), 0, 0
    verdict = "fail" if row["verdict"] == "note" else str(row["verdict"])
    return verdict, int(row["exercised"]), int(row["violations"])


def runs_made(units: Iterable[Row]) -> int:
    """Return how many runs the rows are about.

    Rows that look at the same runs in several ways say so by one name under `same_runs`; such
    runs count once.
    """
    alone = 0
    shared: dict[tuple[str, ...], int] = {}
    for unit in units:
        if name := unit.get("same_runs"):
            key = (unit["engine"], unit["engine_version"], name)
            shared[key] = max(int(unit["runs"]), shared.get(key, 0))
        else:
            alone += int(unit["runs"])
    return alone + sum(shared.values())


def mission_scenarios(mission: Row) -> tuple[str, ...]:
    """Return the ids of all scenarios of a mission: its tests' first, in report order."""
    found = dict.fromkeys(mission["tests"].values())
    found.update(dict.fromkeys(mission.get("more_scenarios", ())))
    for decided in (*mission["hypotheses"], *mission["claims"]):
        for subject, _ in decided["decides"]:
            if subject not in ("probe", "capability"):
                found[subject] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Campaign:
    """Everything that conclusions are drawn from.

    Attributes:
        confirmations: fingerprint -> confirmation, confirmation_note, script, and the token of
            the witness that the script was made from.
        smallest: fingerprint before shrinking -> the fields of the clearest witness that
            shrinking changed, or only `shrunk`: why there are none.
        seen: what first_seen and last_seen of a finding are set to: the run's id or date.
        python_version: of the workers.
        standing: fingerprint -> how the registry knows it (`standing.py`); without it a finding
            is numbered within its run.
    """

    units: Sequence[Row]
    engines: Sequence[Row]
    clauses: Mapping[str, Clause]
    missions: Sequence[Row] = ()
    confirmations: Mapping[str, Row] = field(default_factory=dict)
    seen: str = ""
    python_version: str = ""
    standing: Mapping[str, Row] = field(default_factory=dict)
    smallest: Mapping[str, Row] = field(default_factory=dict)

    def engine(self, name: str, version: str) -> Row:
        """Return an engine's description; an empty one if it could not be imported."""
        for one in self.engines:
            if one["name"] == name and one["version"] == version:
                return one
        return {"name": name, "version": version}

    def deliberate(self, unit: Row, clause: str) -> bool:
        """Say whether the engine documents that it differs from the clause on purpose."""
        engine = self.engine(unit["engine"], unit["engine_version"])
        return clause in engine.get("semantics", {})

    def of_engine(self, name: str, version: str) -> Iterator[Row]:
        for unit in self.units:
            if unit["engine"] == name and unit["engine_version"] == version:
                yield unit

    def missions_of(self, scenarios: Sequence[str]) -> tuple[str, ...]:
        """Return the ids of the missions that any of the scenarios belongs to."""
        wanted = set(scenarios)
        return tuple(m["id"] for m in self.missions if wanted & set(mission_scenarios(m)))

    def subjects(self) -> tuple[tuple[str, str], ...]:
        """Return (name, version) of every engine, described or measured, in order."""
        found = {(e["name"], e["version"]): None for e in self.engines}
        found.update({(u["engine"], u["engine_version"]): None for u in self.units})
        return tuple(found)
