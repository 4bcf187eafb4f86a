"""From witnesses of violations to bugs (and to DX findings where the clause is of that type).

Witnesses with the same fingerprint are one defect, whichever scenario and version showed
it. Its story is told by the clearest of them (`sights`), or by the one whose script showed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.findings.campaign import Campaign, Row, clause_of, engine_label, runs_made
from harness.findings.diagram import diagram
from harness.findings.finding import (
    Evidence,
    Finding,
    Impact,
    Recommendation,
    Reproduction,
    frequency_of,
)
from harness.findings.fingerprint import component_of
from harness.findings.order import by_version, gravest
from harness.findings.picture import picture
from harness.findings.sights import Sight, kind_of, sights_of, tellers
from harness.findings.timeline import proof_rows, timeline
from harness.findings.witness import witness_rows

__all__ = ["PRIORITIES", "bugs", "clearest_witnesses", "measured_row", "union"]

PRIORITIES = {"critical": "P0", "high": "P0", "medium": "P1", "low": "P2", "info": "P2"}

NAMED_MAX = 3  # scenarios that a description names
UNCONFIRMED = "No stand-alone script was run for this finding."


def bugs(campaign: Campaign) -> list[Finding]:
    """Return one finding per fingerprint, in order of first sight, without ids."""
    return [_finding(campaign, mark, seen) for mark, seen in sights_of(campaign).items()]


def clearest_witnesses(campaign: Campaign) -> dict[str, Row]:
    """Return fingerprint -> the witness that tells the story of its finding."""
    return {m: _teller(campaign, m, seen)[1] for m, seen in sights_of(campaign).items()}


def _teller(campaign: Campaign, mark: str, sights: list[Sight]) -> tuple[Sight, Row]:
    """Return what a finding's story is told by: the run that the script was made from."""
    token = campaign.confirmations.get(mark, {}).get("token")
    told = tellers(sights)
    return next((x for x in told if x[1].get("token") == token), told[0])


def _finding(campaign: Campaign, mark: str, sights: list[Sight]) -> Finding:
    confirmation = campaign.confirmations.get(mark, {})
    best, witness = _teller(campaign, mark, sights)
    unit = best.unit
    clearest = tellers(sights)[0]
    location = clearest[1]["location"]
    clause = clause_of(campaign.clauses, witness["clause"])
    kind = kind_of(campaign, clause.id)
    severity = gravest(s.witness["severity"] for s in sights)
    file, function = component_of(location)
    evidence = _evidence(sights, witness)
    confirmed = str(confirmation.get("confirmation") or _unconfirmed(unit))
    scenarios = union([s.unit["scenario"]] for s in sights)
    return Finding(
        kind=kind,
        type=clause.type,
        severity=severity,
        priority=PRIORITIES[severity],
        title=_title(clause.title, clause.id, witness["shape"]),
        description=f"{clause.id} demands: {clause.must}. Seen in {_named(scenarios)}. "
        f"In the run that shows it best, expected: {witness['expected'].rstrip('.')}. "
        f"Seen: {witness['actual'].rstrip('.')}.",
        clause=clause.id,
        shape=witness["shape"],
        engine=unit["engine"],
        engine_versions=tuple(sorted({s.unit["engine_version"] for s in sights}, key=by_version)),
        component=function or file,
        location=location,
        mission_tests=union(s.unit["tests"] for s in sights),
        missions=campaign.missions_of(scenarios),
        scenarios=scenarios,
        expected=witness["expected"],
        actual=witness["actual"],
        evidence=evidence,
        frequency=frequency_of(evidence.rate) if evidence.rate is not None else None,
        reproduction=_reproduction(
            campaign, best, witness, _shrunk(clearest, witness), confirmation.get("script")
        ),
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


def _title(titles: Any, clause: str, shape: str) -> str:
    if shape == "worker-died":
        return "The engine takes its process down"
    title = titles.get(shape) or titles.get("")
    return str(title) if title else f"{clause}: {shape.replace('-', ' ') or 'violated'}"


def _named(scenarios: Sequence[str]) -> str:
    """Name a few scenarios; the evidence lists them all."""
    rest = len(scenarios) - NAMED_MAX
    more = f" and {rest} more" if rest > 0 else ""
    return f"{', '.join(scenarios[:NAMED_MAX])}{more}"


def _unconfirmed(unit: Row) -> str:
    return "live_only" if unit["lab"] == "live" else "simulated_only"


def _evidence(sights: list[Sight], witness: Row) -> Evidence:
    violations = sum(int(s.witness["violations"]) for s in sights)
    exercised = sum(int(s.witness["exercised"]) for s in sights)
    return Evidence(
        figures=witness["figures"],
        seeds_tried=runs_made(s.unit for s in sights),
        exercised=exercised,
        violations=violations,
        rate=round(violations / exercised, 6) if exercised else None,
        first_seed=witness["first_seed"],
        measured=tuple(
            measured_row(
                s.unit, int(s.witness["exercised"]), int(s.witness["violations"]), s.witness
            )
            for s in sights
        ),
        proof=tuple(proof_rows(witness)),
        witness=tuple(witness_rows(witness)),
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


def _reproduction(
    campaign: Campaign, best: Sight, witness: Row, shrunk: Row, script: str | None
) -> Reproduction:
    unit = best.unit
    # A sweep's witness has a plan of its own, which says where its cancel landed.
    program = witness.get("program") or unit["program"]
    plan = witness.get("plan") or unit["plan"]
    return Reproduction(
        token=witness.get("token") or unit["token"],
        program=program,
        plan=plan,
        diagram=diagram(program, plan or {}, witness["stage"]) if program else "",
        timeline=timeline(witness.get("journal") or ()),
        shrunk=shrunk,
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


def _shrunk(clearest: tuple[Sight, Row], witness: Row) -> Row:
    sight, first = clearest
    if sight.small is not None and witness is not first:
        return {"ended": "not shrunk", "why": "the script of the smallest run did not show it"}
    return sight.shrunk or {}


def union(groups: Any) -> tuple[str, ...]:
    """Return the members of all groups, each once, in order of first appearance."""
    return tuple(dict.fromkeys(str(member) for group in groups for member in group))
