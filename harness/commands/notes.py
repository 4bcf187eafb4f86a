"""What the order tier noted, as lines of the terminal: notes, never bugs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness import findings

__all__ = ["note_lines"]

LISTED_MAX = 20


def note_lines(units: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the section on the order tier; nothing if it was not run."""
    notes = findings.note_rows(units)
    if notes is None:
        return
    # What the scenario's own legal runs had shown before is no news, and leans on no order.
    news = [n for n in notes if not n["legal"] or n["legal_tries"]]
    known = len(notes) - len(news)
    beside = f"; {known} more were shown by legal runs already" if known else ""
    if not news:
        yield f"order-sensitive (notes, not bugs): nothing{beside}"
        return
    yield (
        "order-sensitive (notes, not bugs; asyncio itself keeps the order that is broken here)"
        f"{beside}"
    )
    for note in news[:LISTED_MAX]:
        where = f"{note['engine']} {note['engine_version']}".strip()
        yield (
            f"  {note['clause']:<9} {note['scenario']} [{where}] {note['mode']}: "
            f"{note['hits']} of {note['runs']} runs, seed {note['seed']}; {_legally(note)}"
        )
        yield f"            expected: {note['expected']}; actual: {note['actual']}"
    if len(news) > LISTED_MAX:
        yield f"  and {len(news) - LISTED_MAX} more in notes.json"


def _legally(note: Mapping[str, Any]) -> str:
    if note["nondeterministic"]:
        return "it does not replay alike, so it says nothing"
    if note["legal"]:
        return f"so do legal runs, after {note['legal_tries']} more: it is judged as theirs"
    return f"{note['legal_tries']} more legal runs do not show it"
