"""From what a campaign measured to its findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.contract.clause import Clause
from harness.findings.bugs import bugs
from harness.findings.campaign import Campaign, Row
from harness.findings.experience import experience
from harness.findings.finding import Finding
from harness.findings.improvements import improvements
from harness.findings.numbering import number
from harness.findings.strengths import strengths

__all__ = ["build_findings", "findings_of"]


def build_findings(
    units: Sequence[Row],
    engines: Sequence[Row],
    clauses: Mapping[str, Clause],
    confirmations: Mapping[str, Row] | None = None,
    *,
    missions: Sequence[Row] = (),
    seen: str = "",
    python_version: str = "",
    smallest: Mapping[str, Row] | None = None,
) -> list[Finding]:
    """Return every finding with its id, in order of kind, severity, clause and fingerprint.

    The laboratory calls it to learn what there is to shrink (each bug's `reproduction` holds
    token, program and plan of its clearest witness), hands in the smallest runs, asks
    `witnesses_to_confirm` for what scripts can be made from, runs them, and hands in what they
    showed: ids are the same with and without.

    Args:
        units: one row per scenario, engine and laboratory.
        engines: one description per engine and version.
        confirmations: fingerprint -> confirmation, confirmation_note, script (file name).
        missions: as plain data; decides which missions a finding belongs to.
        seen: id or date of this run.
        smallest: fingerprint of a bug as built without this -> what shrinking made of its witness.
            Bugs whose smallest runs break in the same place are one.
    """
    return findings_of(
        Campaign(
            units,
            engines,
            clauses,
            missions,
            confirmations or {},
            seen,
            python_version,
            smallest or {},
        )
    )


def findings_of(campaign: Campaign) -> list[Finding]:
    """Return the findings of a campaign, as `build_findings` does."""
    found = bugs(campaign) + experience(campaign)
    return number(found + improvements(campaign) + strengths(campaign), campaign.standing)
