"""The tape: a seed is a run, a record replays it, and seed 0 disturbs nothing."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.kernel.tape import PERTURBATIONS, SWITCHED, Tape

STREAMS = st.sampled_from(sorted(PERTURBATIONS))
QUESTIONS = st.lists(st.tuples(STREAMS, st.integers(1, 9)), max_size=30)
SEEDS = st.integers(1, 2**47)


def ask(tape: Tape, questions: list[tuple[str, int]]) -> list[int]:
    return [tape.choose(stream, n) for stream, n in questions]


@settings(max_examples=50)
@given(QUESTIONS, SEEDS)
def test_the_same_seed_makes_the_same_choices(questions: list[tuple[str, int]], seed: int) -> None:
    first = ask(Tape(seed), questions)
    assert ask(Tape(seed), questions) == first
    assert all(0 <= choice < n for choice, (_, n) in zip(first, questions, strict=True))


@settings(max_examples=50)
@given(QUESTIONS, SEEDS)
def test_a_record_replays_the_choices_without_the_seed(
    questions: list[tuple[str, int]], seed: int
) -> None:
    tape = Tape(seed)
    first = ask(tape, questions)
    again = Tape(0, tape.recorded)
    assert ask(again, questions) == first


@settings(max_examples=50)
@given(QUESTIONS)
def test_seed_zero_takes_the_first_alternative_everywhere(questions: list[tuple[str, int]]) -> None:
    tape = Tape(0)
    assert ask(tape, questions) == [0] * len(questions)
    assert tape.recorded == {}
    assert [s for s in PERTURBATIONS if tape.active(s)] == []


@settings(max_examples=30)
@given(SEEDS)
def test_a_choice_more_in_one_stream_shifts_no_other(seed: int) -> None:
    plain, disturbed = Tape(seed), Tape(seed)
    expected = [plain.choose("durations", 5) for _ in range(10)]
    actual = []
    for _ in range(10):
        disturbed.choose("points", 7)
        actual.append(disturbed.choose("durations", 5))
    assert actual == expected


def test_past_the_end_of_a_record_and_for_a_smaller_choice_a_replay_stays_in_range() -> None:
    tape = Tape(9, {"durations": [4, 1]})
    assert [tape.choose("durations", n) for n in (2, 5, 5)] == [1, 1, 0]
    assert (tape.active("durations"), tape.active("ties")) == (False, False)


def test_each_perturbation_is_on_under_some_seeds_and_off_under_others() -> None:
    for stream in SWITCHED:
        assert {Tape(seed).active(stream) for seed in range(1, 40)} == {True, False}
    for stream in set(PERTURBATIONS) - set(SWITCHED):
        assert {Tape(seed).active(stream) for seed in range(1, 40)} == {True}


def test_every_alternative_comes_up() -> None:
    assert {Tape(seed).choose("durations", 4) for seed in range(1, 60)} == {0, 1, 2, 3}
