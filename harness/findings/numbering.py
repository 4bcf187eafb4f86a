"""Ids of findings, and the order in which they are listed.

With a registry the ids are the registry's and permanent, and what is new or came back
stands first. Without one they follow severity, clause and fingerprint, so that the same
findings get the same ids.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.findings.finding import KINDS, Finding
from harness.findings.order import by_clause, by_severity

__all__ = ["number"]

LIMIT_RELATED = 10
FIRST = ("new", "regressed")


def number(
    findings: Sequence[Finding], standing: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Finding]:
    """Return the findings with their ids, in order of kind, severity, clause, fingerprint.

    Args:
        standing: fingerprint -> id, status, first_seen, last_seen, occurrences, change of
            those that a registry knows; defects that are new or came back are listed first.
    """
    known = standing or {}
    ordered = sorted(
        findings,
        key=lambda f: (
            known.get(f.fingerprint, {}).get("change") not in FIRST,
            tuple(KINDS).index(f.kind),
            by_severity(f.severity),
            by_clause(f.clause),
            f.fingerprint,
        ),
    )
    counts = dict.fromkeys(KINDS, 0)
    named: list[Finding] = []
    for one in ordered:
        if one.fingerprint in known:
            facts = {k: v for k, v in known[one.fingerprint].items() if k != "change"}
            named.append(replace(one, **facts))
            continue
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
