"""Two runs side by side: what is new in the second, fixed, came back, the same, or not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from harness.findings.changes import Measured, changes_of
from harness.findings.known import Known
from harness.findings.sides import known_of_run

__all__ = ["comparison"]

SCHEMA_VERSION = 1


def comparison(a: tuple[str, Measured], b: tuple[str, Measured]) -> dict[str, Any]:
    """Hold run B against run A.

    Returns:
        `new`, `regressed` (B's status says that it came back, and A did not show it), `unchanged`
        and `fixed`, each a list of findings; `not_run`: those of A that B neither showed nor
        proved gone, with `why`. Strengths are left out.
    """
    known = known_of_run(*a)
    changes = changes_of(known, b[1], run=b[0], today=date.max)
    ours: dict[str, list[dict[str, Any]]] = {"new": [], "regressed": [], "unchanged": []}
    for entry in b[1].findings:
        mark = changes.marks.get(entry["fingerprint"])
        if mark is not None:
            back = mark == "new" and entry["status"] == "regressed"
            ours["regressed" if back else mark].append(_line(entry))
    shown = {entry["fingerprint"] for entry in b[1].findings}
    fixed, not_run = [], []
    for one in known.values():
        if one.kind == "strength":
            continue
        gone = [
            v
            for (mark, v), s in changes.moves.items()
            if mark == one.fingerprint and s == "resolved"
        ]
        if gone:
            fixed.append({**_of(one), "versions": gone})
        elif one.fingerprint not in shown:
            not_run.append({**_of(one), "why": _why(one, b[1])})
    return {
        "schema_version": SCHEMA_VERSION,
        "a": a[0],
        "b": b[0],
        **ours,
        "fixed": fixed,
        "not_run": not_run,
    }


def _line(entry: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "kind", "severity", "clause", "title", "engine", "fingerprint")
    return {**{k: entry[k] for k in names}, "versions": list(entry["engine_versions"])}


def _of(one: Known) -> dict[str, Any]:
    names = ("id", "kind", "severity", "clause", "title", "engine", "fingerprint")
    return {**{k: getattr(one, k) for k in names}, "versions": one.seen_on()}


def _why(one: Known, measured: Measured) -> str:
    versions = [v for name, v in measured.by_version if name == one.engine]
    both = [v for v in one.seen_on() if v in versions]
    if not both:
        return "not run in B: this engine and version"
    wanted = {s for v in both for s in one.versions[v].sights}
    missing = _missing(wanted, [measured.by_version[one.engine, v] for v in both])
    if missing:
        return f"not run in B: {missing[0]}" + (
            f" and {len(missing) - 1} more" if missing[1:] else ""
        )
    return "run in B, but not shown gone: too few runs, or not judged"


def _missing(wanted: set[str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(s for s in wanted if not all(s in mine for mine in rows))
