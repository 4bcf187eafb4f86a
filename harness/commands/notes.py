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
    if not notes:
        yield "order-sensitive (notes, not bugs): nothing"
        return
    yield "order-sensitive (notes, not bugs): asyncio itself keeps the order that is broken here"
    for note in notes[:LISTED_MAX]:
        where = f"{note['engine']} {note['engine_version']}".strip()
        yield (
            f"  {note['clause']:<9} {note['scenario']} [{where}] {note['mode']}: "
            f"{note['hits']} of {note['runs']} runs, seed {note['seed']}; {_legally(note)}"
        )
        yield f"            {note['actual']}"
    if len(notes) > LISTED_MAX:
        yield f"  and {len(notes) - LISTED_MAX} more in notes.json"


def _legally(note: Mapping[str, Any]) -> str:
    if note["nondeterministic"]:
        return "it does not replay alike, so it says nothing"
    if note["legal"]:
        return "legal runs show it as well"
    return f"{note['legal_tries']} more legal runs do not show it"
