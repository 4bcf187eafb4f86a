"""How a run's findings stand: id, status, dates and count, as the registry knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from harness.findings.campaign import Row
from harness.findings.changes import Changes
from harness.findings.known import Known

__all__ = ["standing_of"]


def standing_of(
    entries: Sequence[Row],
    known: Mapping[str, Known],
    changes: Changes,
    ids: Mapping[str, str],
    *,
    run: str,
    today: date,
) -> dict[str, dict[str, Any]]:
    """Return fingerprint -> the fields of a finding that its history decides, and `change`.

    Args:
        entries: the run's findings.
        known: what was known before this run.
        ids: fingerprint -> id.
    """
    out = {}
    for entry in entries:
        mark = entry["fingerprint"]
        before = known.get(mark)
        told = before is not None and before.reported
        out[mark] = {
            "id": ids[mark],
            "status": _status(entry, before, changes, today),
            "first_seen": before.first_seen if before is not None and told else run,
            "last_seen": run,
            "occurrences": (before.occurrences if before is not None and told else 0) + 1,
            "change": changes.marks.get(mark, ""),
        }
    return out


def _status(entry: Row, before: Known | None, changes: Changes, today: date) -> str:
    if entry["kind"] == "strength" or before is None:
        return str(entry["status"])
    if before.status(today) == "wont_fix":
        return "wont_fix"
    states = {version: life.state for version, life in before.versions.items()}
    states |= {v: state for (mark, v), state in changes.moves.items() if mark == before.fingerprint}
    return "regressed" if "regressed" in states.values() else str(entry["status"])
