"""The ledger: a journal that survives the process whose stages note into it.

Each entry is one line of a file outside the engine's reach, written by one system call before
the stage goes on; those around an effect are synced to the disk as well. So whatever ends the
process, what really happened is there to be held against what the engine says.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from harness.kernel.journal import Journal

__all__ = ["Ledger", "Noted", "read_ledger"]

LINES_MAX = 20_000
SYNCED = frozenset(("stage.start", "effect", "stage.end"))


class Noted(NamedTuple):
    """One entry: when (seconds of the machine's monotonic clock), in which life of the process
    (from 0), in which run and stage, what."""

    at_s: float
    life: int
    run: str
    stage: str
    kind: str
    detail: Any


class Ledger(Journal):
    """The journal of one life of a subject process, appended to the file `path`.

    Args:
        cross: called after each entry with its kind and how many there have been of it.
    """

    __slots__ = ("_counts", "_cross", "_file", "_life")

    def __init__(self, path: Path, life: int, cross: Callable[[str, int], None]) -> None:
        super().__init__()
        self._life = life
        self._cross = cross
        self._counts: Counter[str] = Counter()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, at_s: float, run: str, stage: str, kind: str, detail: Any = None) -> None:
        super().add(at_s, run, stage, kind, detail)
        line = json.dumps([at_s, self._life, run, stage, kind, detail], default=repr)
        os.write(self._file, f"{line}\n".encode())
        if kind in SYNCED:
            os.fsync(self._file)
        self._counts[kind] += 1
        self._cross(kind, self._counts[kind])

    @property
    def counts(self) -> dict[str, int]:
        """How many entries of each kind this life has made."""
        return dict(self._counts)


def read_ledger(path: Path) -> list[Noted]:
    """Return the entries of all lives, in order; a last line that was torn is left out."""
    try:
        lines = path.read_text("utf-8").split("\n")[:LINES_MAX]
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(Noted(*json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found
