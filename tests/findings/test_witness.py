"""A witness is the proof with enough around it to be read on its own."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.findings.witness import WITNESS_MAX, WITNESS_MIN, witness_rows

KINDS = ["run.begin", "stage.start", "cancel.sent", "chunk", "release.cut", "stage.end", "run.end"]
JOURNAL: list[list[Any]] = [
    [0.0, "r0", "", "run.begin", None],
    [0.0, "r1", "", "run.begin", None],
    [0.0, "r0", "a", "stage.start", None],
    [0.0, "r0", "b", "stage.start", None],
    [0.1, "r0", "b", "chunk", 1],
    [0.2, "r0", "", "cancel.sent", [0, True]],
    [0.2, "r1", "a", "interrupt", None],
    [0.3, "r0", "a", "release.cut", "db"],
    [0.4, "r0", "a", "stage.end", "cancelled"],
    [0.5, "r0", "", "run.end", "CancelledError"],
]


def test_a_witness_tells_what_was_done_to_the_run_and_where_its_stage_began_and_ended() -> None:
    rows = witness_rows({"journal": JOURNAL, "at": [7], "stage": "a"})
    assert rows == [JOURNAL[i] for i in (0, 2, 5, 7, 8, 9)]


def test_without_a_proof_it_is_the_run_s_bounds_and_what_was_done_to_it() -> None:
    rows = witness_rows({"journal": JOURNAL, "at": [], "stage": ""})
    assert rows == [JOURNAL[i] for i in (0, 1, 5, 6, 7, 9)]


def test_no_journal_is_no_witness() -> None:
    assert witness_rows({}) == []


rows = st.tuples(
    st.floats(0, 9), st.sampled_from(["r0", "r1"]), st.sampled_from("ab"), st.sampled_from(KINDS)
)


@given(st.lists(rows, max_size=60), st.lists(st.integers(-3, 70), max_size=30))
def test_a_witness_holds_its_proof_and_five_to_twenty_entries(
    drawn: list[tuple[Any, ...]], at: list[int]
) -> None:
    journal = [[*row, number] for number, row in enumerate(drawn)]
    found = witness_rows({"journal": journal, "at": at, "stage": "a"})
    numbers = [row[4] for row in found]
    assert numbers == sorted(set(numbers))
    assert min(WITNESS_MIN, len(journal)) <= len(found) <= WITNESS_MAX
    proof = list(dict.fromkeys(i for i in at if 0 <= i < len(journal)))
    assert set(proof[:WITNESS_MAX]) <= set(numbers)
