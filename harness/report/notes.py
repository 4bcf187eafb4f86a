"""What the order tier noted, for people: where an engine leans on asyncio's order, never a bug.

Read from notes.json, which a run writes only if it ran the tier; nothing of it stands in the
findings, so no verdict and no count of a report can come from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["LISTED_MAX", "MEANING", "legally", "news", "of_pack", "shown"]

Note = Mapping[str, Any]

LISTED_MAX = 50
MEANING = (
    "asyncio calls callbacks in the order in which they were registered. The runs counted here "
    "break that order on purpose, so no asyncio program ever meets them. What is violated in them "
    "is no bug, and no verdict, count or exit code comes from it: it says where the engine leans "
    "on asyncio's order, which is worth knowing before it is moved to another event loop, to trio, "
    "or to threads. What legal runs of a scenario had shown already is left out; all of it is in "
    "notes.json."
)


def news(notes: Sequence[Note]) -> list[Note]:
    """Return the notes on what the scenario's own legal runs had not shown before."""
    return [note for note in notes if not note["legal"] or note["legal_tries"]]


def of_pack(notes: Sequence[Note], pack: str) -> list[Note]:
    """Return the notes on the scenarios of a pack."""
    return [note for note in notes if str(note["scenario"]).split("/", 1)[0] == pack]


def shown(notes: Sequence[Note]) -> dict[str, Any]:
    """Return what a template prints of the notes, at most `most` of them."""
    listed = [{**note, "legally": legally(note)} for note in news(notes)]
    return {"meaning": MEANING, "notes": listed, "most": LISTED_MAX}


def legally(note: Note) -> str:
    """Say whether runs in asyncio's own order show the same."""
    if note["nondeterministic"]:
        return "it does not replay alike, so it says nothing"
    if note["legal"]:
        return f"so do legal runs, after {note['legal_tries']} more: it is judged as theirs"
    return f"{note['legal_tries']} more legal runs do not show it"
