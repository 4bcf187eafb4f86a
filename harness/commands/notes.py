"""What the order tier noted, as lines of the terminal: notes, never bugs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import findings
from harness.report.notes import legally, news

__all__ = ["note_lines"]

LISTED_MAX = 20


def note_lines(units: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the section on the order tier; nothing if it was not run."""
    notes = findings.note_rows(units)
    if notes is None:
        return
    # What the scenario's own legal runs had shown before is no news, and leans on no order.
    fresh = news(notes)
    known = len(notes) - len(fresh)
    beside = f"; {known} more were shown by legal runs already" if known else ""
    if not fresh:
        yield f"order-sensitive (notes, not bugs): nothing{beside}"
        return
    yield (
        "order-sensitive (notes, not bugs; asyncio itself keeps the order that is broken here)"
        f"{beside}"
    )
    for note in fresh[:LISTED_MAX]:
        where = f"{note['engine']} {note['engine_version']}".strip()
        yield (
            f"  {note['clause']:<9} {note['scenario']} [{where}] {note['mode']}: "
            f"{note['hits']} of {note['runs']} runs, seed {note['seed']}; {legally(note)}"
        )
        yield f"            expected: {note['expected']}; actual: {note['actual']}"
    if len(fresh) > LISTED_MAX:
        yield f"  and {len(fresh) - LISTED_MAX} more in notes.json"
