"""The witness of a violation: the few journal entries that prove it, to be read on their own.

A check points at one to three entries. They are given what they need to be understood: what
was done to the run (cancels, faults, expiries), where the stages concerned began and ended, and
the run's own begin and end. Five entries at least, where there are so many, and twenty at most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["WITNESS_MAX", "WITNESS_MIN", "witness_rows"]

WITNESS_MIN = 5
WITNESS_MAX = 20
DONE_TO_IT = frozenset(
    (
        *(
            "cancel.sent",
            "fault.fired",
            "net.felt",
            "interrupt",
            "self_cancel",
            "swallowed",
            "flaky",
        ),
        *("scope.expired", "scope.leak", "release.cut", "release.fail", "undo.cut", "undo.fail"),
        *("layer.raise", "layer.deny", "deliver.fail"),
    )
)
BOUNDS = frozenset(("run.begin", "run.end", "stage.start", "stage.end"))

Row = Sequence[Any]


def witness_rows(witness: Mapping[str, Any]) -> list[list[Any]]:
    """Return the entries that prove a violation, with their context, in order of happening.

    Args:
        witness: a witness row: `journal`, `at` (indices of the proof), `stage`.
    """
    journal = witness.get("journal") or ()
    chosen: set[int] = set()
    for i in _by_weight(journal, witness):
        chosen.add(i)
        if len(chosen) == WITNESS_MAX:
            break
    return [list(journal[i]) for i in sorted(chosen)]


def _by_weight(journal: Sequence[Row], witness: Mapping[str, Any]) -> Iterator[int]:
    """Yield indices of entries, those first that matter most."""
    proof = [i for i in witness.get("at") or () if 0 <= i < len(journal)]
    yield from proof
    runs = {journal[i][1] for i in proof}
    stages = {journal[i][2] for i in proof} | {witness.get("stage") or ""}

    def concerned(i: int) -> bool:
        _, run, stage, kind, _ = journal[i]
        of_run = not runs or run in runs
        if kind in BOUNDS:
            return of_run and stage in stages | {""}
        return of_run and kind in DONE_TO_IT

    bounds = [i for i in range(len(journal)) if journal[i][3] in BOUNDS and concerned(i)]
    yield from _nearest(bounds, proof, WITNESS_MAX // 2)
    done = [i for i in range(len(journal)) if journal[i][3] in DONE_TO_IT and concerned(i)]
    yield from _nearest(done, proof, WITNESS_MAX)
    so_far = {*proof, *bounds, *done}
    rest = [i for i in range(len(journal)) if i not in so_far]
    yield from _nearest(rest, proof, max(0, WITNESS_MIN - len(so_far)))


def _nearest(indices: Sequence[int], proof: Sequence[int], most: int) -> list[int]:
    """Return those of the indices that lie nearest to the proof, or first if there is none."""
    if not proof:
        return list(indices[:most])
    return sorted(indices, key=lambda i: (min(abs(i - p) for p in proof), i))[:most]
