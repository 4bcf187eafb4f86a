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
    """Name what is likely of one cause with a defect, the likeliest first."""
    if one.kind not in ("bug", "dx"):
        return ()
    near = [
        (nearness, other.id)
        for other in all_of_them
        if other.id != one.id
        and other.kind in ("bug", "dx")
        and (nearness := _nearness(one, other)) is not None
    ]
    return tuple(name for _, name in sorted(near, key=lambda x: x[0])[:LIMIT_RELATED])


def _nearness(one: Finding, other: Finding) -> int | None:
    """Return how near two defects are, 0 for nearest, or None if nothing joins them.

    One cause can break several clauses in one line of the engine; and two engines of one
    family, or two ways of writing the same engine, can have it both.
    """
    same_engine = other.engine == one.engine
    if same_engine and one.location and other.location == one.location:
        return 0
    if one.clause and (other.clause, other.shape) == (one.clause, one.shape):
        return 1
    if same_engine and one.clause and other.clause == one.clause:
        return 2
    if same_engine and one.location and other.component == one.component:
        return 3
    return None
