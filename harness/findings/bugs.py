"""From witnesses of violations to bugs (and to DX findings where the clause is of that type).

Witnesses with the same fingerprint are one defect, whichever scenario and version showed
it. Its story is told by the clearest of them: of the newest version, then of the highest
rate, then of the smallest program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harness.findings.campaign import Campaign, Row, clause_of, engine_label
from harness.findings.diagram import diagram
from harness.findings.finding import (
    Evidence,
    Finding,
    Impact,
    Recommendation,
    Reproduction,
    frequency_of,
)
from harness.findings.fingerprint import component_of, fingerprint
from harness.findings.order import by_version, gravest
from harness.findings.picture import picture
from harness.findings.steps import count_lines, steps_of
from harness.findings.timeline import proof_rows, timeline
from harness.findings.witness import witness_rows

__all__ = ["PRIORITIES", "bugs", "clearest_witnesses", "measured_row", "union"]

PRIORITIES = {"critical": "P0", "high": "P0", "medium": "P1", "low": "P2", "info": "P2"}
DX_TYPES = ("dx", "documentation")

UNCONFIRMED = "No stand-alone script was run for this finding."


@dataclass(frozen=True, slots=True)
class _Sight:
    """One witness in its unit row; `place` is the row's position in the campaign."""

    place: int
    unit: Row
    witness: Row

    @property
    def rate(self) -> float:
        exercised = int(self.witness["exercised"])
        return int(self.witness["violations"]) / exercised if exercised else 0.0


def bugs(campaign: Campaign) -> list[Finding]:
    """Return one finding per fingerprint, in order of first sight, without ids."""
    return [_finding(campaign, mark, seen) for mark, seen in _sights(campaign).items()]


def clearest_witnesses(campaign: Campaign) -> dict[str, Row]:
    """Return fingerprint -> the witness that tells the story of its finding."""
    return {mark: _clearest(seen).witness for mark, seen in _sights(campaign).items()}


def _sights(campaign: Campaign) -> dict[str, list[_Sight]]:
    sights: dict[str, list[_Sight]] = {}
    for place, unit in enumerate(campaign.units):
        for witness in _witnesses(campaign, unit):
            mark = fingerprint(
                _kind(campaign, witness["clause"]),
                witness["clause"],
                unit["engine"],
                witness["location"],
                witness["shape"],
            )
            sights.setdefault(mark, []).append(_Sight(place, unit, witness))
    return sights


def _kind(campaign: Campaign, clause: str) -> str:
    return "dx" if clause_of(campaign.clauses, clause).type in DX_TYPES else "bug"


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


def _finding(campaign: Campaign, mark: str, sights: list[_Sight]) -> Finding:
    best = _clearest(sights)
    unit, witness = best.unit, best.witness
    clause = clause_of(campaign.clauses, witness["clause"])
    kind = _kind(campaign, clause.id)
    severity = gravest(s.witness["severity"] for s in sights)
    file, function = component_of(witness["location"])
    evidence = _evidence(sights, best)
    confirmation = campaign.confirmations.get(mark, {})
    confirmed = str(confirmation.get("confirmation") or _unconfirmed(unit))
    scenarios = union([s.unit["scenario"]] for s in sights)
    return Finding(
        kind=kind,
        type=clause.type,
        severity=severity,
        priority=PRIORITIES[severity],
        title=_title(clause.title, clause.id, witness["shape"]),
        description=f"{clause.id} demands: {clause.must}. "
        f"Seen in {', '.join(scenarios)}: {witness['actual']}",
        clause=clause.id,
        shape=witness["shape"],
        engine=unit["engine"],
        engine_versions=tuple(sorted({s.unit["engine_version"] for s in sights}, key=by_version)),
        component=function or file,
        location=witness["location"],
        mission_tests=union(s.unit["tests"] for s in sights),
        missions=campaign.missions_of(scenarios),
        scenarios=scenarios,
        expected=witness["expected"],
        actual=witness["actual"],
        evidence=evidence,
        frequency=frequency_of(evidence.rate) if evidence.rate is not None else None,
        reproduction=_reproduction(campaign, best, confirmation.get("script")),
        confirmation=confirmed,
        confirmation_note=str(confirmation.get("confirmation_note") or UNCONFIRMED),
        impact=Impact(
            clause.impact,
            clause.data_risk,
            clause.security_risk,
            clause.availability_risk,
            clause.workaround,
        ),
        recommendation=Recommendation(clause.recommendation, clause.effort),
        status="confirmed" if confirmed == "confirmed" else "open",
        fingerprint=mark,
        first_seen=campaign.seen,
        last_seen=campaign.seen,
    )


def _clearest(sights: list[_Sight]) -> _Sight:
    latest = max(by_version(s.unit["engine_version"]) for s in sights)
    return min(
        (s for s in sights if by_version(s.unit["engine_version"]) == latest),
        # A script that anybody can run is worth more than a clearer run that has none.
        key=lambda s: (
            not s.witness.get("scripted"),
            len((s.witness.get("plan") or {}).get("runs", (1,))),
            -s.rate,
            _size(s.unit["program"]),
            s.place,
        ),
    )


def _size(program: Any) -> int:
    stages = (program or {}).get("stages", ())
    return sum(1 + count_lines(steps_of(stage)) for stage in stages)


def _title(titles: Any, clause: str, shape: str) -> str:
    if shape == "worker-died":
        return "The engine takes its process down"
    title = titles.get(shape) or titles.get("")
    return str(title) if title else f"{clause}: {shape.replace('-', ' ') or 'violated'}"


def _unconfirmed(unit: Row) -> str:
    return "live_only" if unit["lab"] == "live" else "simulated_only"


def _evidence(sights: list[_Sight], best: _Sight) -> Evidence:
    violations = sum(int(s.witness["violations"]) for s in sights)
    exercised = sum(int(s.witness["exercised"]) for s in sights)
    return Evidence(
        figures=best.witness["figures"],
        seeds_tried=sum(int(s.unit["runs"]) for s in sights),
        exercised=exercised,
        violations=violations,
        rate=round(violations / exercised, 6) if exercised else None,
        first_seed=best.witness["first_seed"],
        measured=tuple(
            measured_row(
                s.unit, int(s.witness["exercised"]), int(s.witness["violations"]), s.witness
            )
            for s in sights
        ),
        proof=tuple(proof_rows(best.witness)),
        witness=tuple(witness_rows(best.witness)),
    )


def measured_row(unit: Row, exercised: int, violations: int, source: Row) -> dict[str, Any]:
    """Return one row of `Evidence.measured`: what one scenario on one version gave."""
    return {
        "scenario": unit["scenario"],
        "engine_version": unit["engine_version"],
        "lab": unit["lab"],
        "runs": unit["runs"],
        "exercised": exercised,
        "violations": violations,
        "first_seed": source.get("first_seed"),
        "token": source.get("token"),
        "figures": source["figures"],
    }


def _reproduction(campaign: Campaign, best: _Sight, script: str | None) -> Reproduction:
    unit, witness = best.unit, best.witness
    # A sweep's witness has a plan of its own, which says where its cancel landed.
    program = witness.get("program") or unit["program"]
    plan = witness.get("plan") or unit["plan"]
    return Reproduction(
        token=witness.get("token") or unit["token"],
        program=program,
        plan=plan,
        diagram=diagram(program, plan or {}, witness["stage"]) if program else "",
        timeline=timeline(witness.get("journal") or ()),
        picture=picture(witness.get("journal") or (), program, plan, witness.get("at") or ()),
        script=None if not script else script if "/" in script else f"repro/{script}",
        environment={
            "engine": engine_label(unit["engine"], unit["engine_version"]),
            "lab": unit["lab"],
            "scenario": unit["scenario"],
            "seed": witness["first_seed"],
            "digest": witness.get("digest"),
            "python_version": campaign.python_version,
        },
    )


def union(groups: Any) -> tuple[str, ...]:
    """Return the members of all groups, each once, in order of first appearance."""
    return tuple(dict.fromkeys(str(member) for group in groups for member in group))
