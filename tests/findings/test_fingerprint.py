"""The same defect keeps its fingerprint, another one gets another."""

from __future__ import annotations

import pytest

from harness.findings.fingerprint import component_of, fingerprint

SAME = ("bug", "TIME-1", "stageflow", "stageflow/pipeline/dag.py:276 Graph.run", "late")


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("stageflow/dag.py:276 Graph.run", ("stageflow/dag.py", "Graph.run")),
        ("stageflow\\dag.py:276 Graph.run", ("stageflow/dag.py", "Graph.run")),
        ("dag.py:3 run.<locals>.<lambda>", ("dag.py", "run.<locals>.<lambda>")),
        ("dag.py:3", ("dag.py", "")),
        ("dag.py", ("dag.py", "")),
        ("", ("", "")),
        ("C:/x/dag.py:12 f", ("C:/x/dag.py", "f")),
    ],
)
def test_a_location_splits_into_file_and_function(location: str, expected: tuple[str, str]) -> None:
    assert component_of(location) == expected


def test_the_line_number_is_left_out() -> None:
    moved = (*SAME[:3], "stageflow/pipeline/dag.py:991 Graph.run", SAME[4])
    assert fingerprint(*moved) == fingerprint(*SAME)


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (0, "dx"),
        (1, "TIME-2"),
        (2, "reference"),
        (3, "stageflow/pipeline/dag.py:276 Graph.stop"),
        (3, "stageflow/pipeline/other.py:276 Graph.run"),
        (3, ""),
        (4, "not-ended"),
    ],
)
def test_each_of_its_parts_counts(place: int, other: str) -> None:
    changed = [*SAME[:place], other, *SAME[place + 1 :]]
    assert fingerprint(*changed) != fingerprint(*SAME)


def test_a_released_fingerprint_never_changes() -> None:
    """If this fails, every registry and baseline in the field loses its findings."""
    assert fingerprint(*SAME) == "71977ccc7b3e6460"


def test_parts_do_not_run_into_each_other() -> None:
    assert fingerprint("bug", "A-1", "b", "", "c") != fingerprint("bug", "A-1", "bc", "", "")
