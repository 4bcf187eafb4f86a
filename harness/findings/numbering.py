"""Ids of findings, allotted in one place.

Within a run directory they follow severity, clause and fingerprint, so the same findings
get the same ids. A registry that makes ids permanent replaces `number` and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.findings.finding import KINDS, Finding
from harness.findings.order import by_clause, by_severity

__all__ = ["number"]

LIMIT_RELATED = 10


def number(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings in order of kind, severity, clause, fingerprint, with their ids."""
    ordered = sorted(
        findings,
        key=lambda f: (
            tuple(KINDS).index(f.kind),
            by_severity(f.severity),
            by_clause(f.clause),
            f.fingerprint,
        ),
    )
    counts = dict.fromkeys(KINDS, 0)
    named: list[Finding] = []
    for one in ordered:
        counts[one.kind] += 1
        named.append(replace(one, id=f"{KINDS[one.kind]}-{counts[one.kind]:03d}"))
    return [replace(one, related=_related(one, named)) for one in named]


def _related(one: Finding, all_of_them: Sequence[Finding]) -> tuple[str, ...]:
    """Name defects in the same place or against the same clause, and the same one elsewhere."""
    if one.kind not in ("bug", "dx"):
        return ()
    return tuple(
        other.id
        for other in all_of_them
        if other.id != one.id
        and other.kind in ("bug", "dx")
        and (
            (
                other.engine == one.engine
                and (
                    (bool(one.clause) and other.clause == one.clause)
                    or (bool(one.location) and other.component == one.component)
                )
            )
            or (bool(one.clause) and (other.clause, other.shape) == (one.clause, one.shape))
        )
    )[:LIMIT_RELATED]
