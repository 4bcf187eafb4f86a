"""Sights of defects: the witnesses of a campaign, brought together by fingerprint.

Where in the engine a run was when it broke a clause depends on what else was going on in it.
The smallest run, with nothing else going on, names the place that matters. So witnesses come
together twice: first as they were seen, each group then by the place of its smallest run, if
its clearest witness could be shrunk. Which witness is the clearest depends on nothing but the
witnesses, in whatever order they came.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from harness.findings.campaign import Campaign, Row, clause_of, engine_label
from harness.findings.fingerprint import fingerprint
from harness.findings.order import by_version
from harness.findings.steps import count_lines, steps_of

__all__ = ["Sight", "kind_of", "sights_of", "tellers", "witnesses_to_confirm"]

DX_TYPES = ("dx", "documentation")
# The smallest run, the one that it was made from, and another.
TELLERS_MAX = 3


@dataclass(frozen=True, slots=True)
class Sight:
    """One witness in its unit row.

    Attributes:
        small: the witness with what shrinking made of it, or None.
        shrunk: what shrinking took or why it was not done; {} where it was not asked for.
    """

    unit: Row
    witness: Row
    small: Row | None = None
    shrunk: Row | None = None

    @property
    def rate(self) -> float:
        exercised = int(self.witness["exercised"])
        return int(self.witness["violations"]) / exercised if exercised else 0.0


def kind_of(campaign: Campaign, clause: str) -> str:
    """Return whether a violation of a clause is a `bug` or of the kind `dx`."""
    return "dx" if clause_of(campaign.clauses, clause).type in DX_TYPES else "bug"


def sights_of(campaign: Campaign) -> dict[str, list[Sight]]:
    """Return fingerprint -> the sights of one defect, in order of first sight."""
    seen: dict[str, list[Sight]] = {}
    for unit in campaign.units:
        for witness in _witnesses(campaign, unit):
            seen.setdefault(_mark(campaign, unit, witness), []).append(Sight(unit, witness))
    if not campaign.smallest:
        return _with_live(seen)
    merged: dict[str, list[Sight]] = {}
    for seen_as, sights in seen.items():
        mark, group = seen_as, sights
        if (change := campaign.smallest.get(seen_as)) is not None:
            best = min(_newest(sights), key=_clarity)
            told = replace(best, shrunk=change["shrunk"])
            if "program" in change:
                small = {**best.witness, **change}
                told = replace(told, small=small)
                mark = _mark(campaign, best.unit, small)
            group = [told if one is best else one for one in sights]
        merged.setdefault(mark, []).extend(group)
    return _with_live(merged)


def _with_live(groups: dict[str, list[Sight]]) -> dict[str, list[Sight]]:
    """Put what live runs showed to what simulated ones showed of the same scenario.

    On a real clock a run is somewhere else in the engine at the same moment. If the same
    scenario breaks the same clause in the same way in both, it is the same defect.
    """
    simulated: dict[tuple[str, ...], str] = {}
    for mark, sights in groups.items():
        for sight in sights:
            if sight.unit["lab"] == "sim":
                key = (*_kind(sight), sight.unit["scenario"])
                simulated[key] = min(mark, simulated.get(key, mark))
    out: dict[str, list[Sight]] = {}
    for mark, sights in groups.items():
        for sight in sights:
            known = mark
            if all(one.unit["lab"] == "live" for one in sights):
                known = simulated.get((*_kind(sight), sight.unit["scenario"]), mark)
            out.setdefault(known, []).append(sight)
    return out


def _kind(sight: Sight) -> tuple[str, str, str]:
    return (sight.unit["engine"], sight.witness["clause"], sight.witness["shape"])


def _mark(campaign: Campaign, unit: Row, witness: Row) -> str:
    clause = witness["clause"]
    kind = kind_of(campaign, clause)
    return fingerprint(kind, clause, unit["engine"], witness["location"], witness["shape"])


def _witnesses(campaign: Campaign, unit: Row) -> Iterator[Row]:
    """Yield the unit's witnesses, and one made up of counts for each clause that has none.

    A run that does not replay alike proves nothing, so its witness is no defect.
    """
    witnessed = set()
    for witness in unit["witnesses"]:
        witnessed.add(witness["clause"])
        if not (witness.get("nondeterministic") or campaign.deliberate(unit, witness["clause"])):
            yield witness
    for clause, row in unit["clauses"].items():
        if row["violations"] and clause not in witnessed and not campaign.deliberate(unit, clause):
            declared = clause_of(campaign.clauses, clause)
            yield {
                "clause": clause,
                "shape": "",
                "severity": declared.severity,
                "expected": f"As {clause} demands: {declared.must}.",
                "actual": f"Violated in {row['violations']} of {row['exercised']} runs; "
                "no witness of it was kept.",
                "location": "",
                "stage": "",
                "figures": row["figures"],
                "violations": row["violations"],
                "exercised": row["exercised"],
                "first_seed": unit["first_seed"],
                "token": unit["token"],
            }


def tellers(sights: Iterable[Sight]) -> list[tuple[Sight, Row]]:
    """Return the clearest witnesses that can tell a defect's story, the clearest first.

    Of the newest version only. One that was shrunk comes before what it was made from.
    """
    newest = sorted(_newest(list(sights)), key=lambda s: (s.small is None, _clarity(s)))
    told: list[tuple[Sight, Row]] = []
    for sight in newest:
        told += [] if sight.small is None else [(sight, sight.small)]
        told.append((sight, sight.witness))
    return told[:TELLERS_MAX]


def _newest(sights: list[Sight]) -> list[Sight]:
    latest = max(by_version(s.unit["engine_version"]) for s in sights)
    return [s for s in sights if by_version(s.unit["engine_version"]) == latest]


def _clarity(sight: Sight) -> tuple[Any, ...]:
    """Return what sorts the clearest witness first."""
    witness = sight.small or sight.witness
    plan = witness.get("plan") or {}
    return (
        # A run that can be replayed comes first.
        sight.unit["lab"] != "sim",
        # A script that anybody can run is worth more than a clearer run that has none, and
        # one that says when a cancel comes more than one that counts callbacks.
        not witness.get("scripted"),
        any(c.get("at_point") is not None for c in plan.get("cancels", ())),
        len(plan.get("runs", (1,))),
        -sight.rate,
        _size(witness.get("program") or sight.unit["program"]),
        sight.unit["scenario"],
        witness.get("token") or "",
    )


def _size(program: Any) -> int:
    stages = (program or {}).get("stages", ())
    return sum(1 + count_lines(steps_of(stage)) for stage in stages)


def witnesses_to_confirm(campaign: Campaign) -> dict[str, list[dict[str, Any]]]:
    """Return fingerprint -> what scripts of a bug can be made from, the clearest first.

    Each has engine (its label), clause, program, plan and token.
    """
    out: dict[str, list[dict[str, Any]]] = {}
    for mark, sights in sights_of(campaign).items():
        out[mark] = [
            {
                "engine": engine_label(sight.unit["engine"], sight.unit["engine_version"]),
                "clause": witness["clause"],
                "program": witness.get("program") or sight.unit["program"],
                "plan": witness.get("plan") or sight.unit["plan"],
                "token": witness.get("token") or sight.unit["token"],
            }
            for sight, witness in tellers(sights)
        ]
    return out
