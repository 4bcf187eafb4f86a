"""The judges of faults, on ledgers written by hand: what each must catch, and a near miss."""

from __future__ import annotations

from typing import Any

import pytest

from harness.lab.faults.disk import judge_not_stored
from harness.lab.faults.ledger import Noted
from harness.lab.faults.redrives import judge_redrives
from harness.lab.faults.resources import judge_exhausted
from harness.lab.faults.term import judge_released
from harness.lab.faults.timing import SLOW_LIMIT_S, judge_timing

PROGRAM = {
    "stages": [
        {"name": "a", "needs": [], "steps": [{"op": "ok", "value": 1}]},
        {"name": "b", "needs": ["a"], "steps": [{"op": "ok", "value": 2}]},
    ]
}


def notes(*lines: str) -> list[Noted]:
    """Write a ledger: each line is `life run stage kind [detail]`."""
    found = []
    for at, line in enumerate(lines):
        life, run, stage, kind, *detail = line.split()
        found.append(Noted(float(at), int(life), run, stage, kind, detail[0] if detail else None))
    return found


def life(kept: list[str] | None = None, **outcome: Any) -> dict[str, Any]:
    whole = {"status": "ok", "stages": {}, "failures": [], "raised": None} | outcome
    return {"kept": {"r": kept}, "outcomes": {("first", "r"): whole}}


KILLED = {"kept": {"r": None}, "outcomes": {}}
ALL = ("0 r a stage.start", "0 r a effect", "0 r a stage.end ok")
REST = ("1 r+1 b stage.start", "1 r+1 b effect", "1 r+1 b stage.end ok")


def redrive_shapes(
    entries: list[Noted], last: dict[str, Any], *, documented: bool = True
) -> list[str]:
    judged = judge_redrives(PROGRAM, ["r"], entries, [KILLED, last], at_least_once=documented)
    return [v.shape for v in judged.violations]


def test_a_redrive_that_goes_on_is_right() -> None:
    assert redrive_shapes(notes(*ALL, *REST), life(["a"])) == []


def test_what_is_said_to_be_kept_is_not_run_again() -> None:
    again = ("1 r+1 a stage.start", "1 r+1 a effect", "1 r+1 a stage.end ok")
    assert redrive_shapes(notes(*ALL, *again, *REST), life(["a"])) == ["completed-rerun"]


def test_what_its_dependents_had_begun_upon_is_not_run_again_whatever_is_said() -> None:
    again = ("1 r+1 a stage.start", "1 r+1 a effect", "1 r+1 a stage.end ok")
    begun = notes(*ALL, "0 r b stage.start", *again, *REST)
    assert redrive_shapes(begun, life(None)) == ["completed-rerun"]


@pytest.mark.parametrize(("documented", "shapes"), [(True, []), (False, ["effect-twice"])])
def test_an_effect_that_was_not_kept_may_be_repeated_if_that_is_documented(
    documented: bool, shapes: list[str]
) -> None:
    again = ("1 r+1 a stage.start", "1 r+1 a effect", "1 r+1 a stage.end ok")
    entries = notes("0 r a stage.start", "0 r a effect", *again, *REST)
    assert redrive_shapes(entries, life([]), documented=documented) == shapes


def test_a_stage_that_had_done_nothing_is_not_kept() -> None:
    entries = notes("0 r a stage.start", *REST)
    found = redrive_shapes(entries, life(["a"]))
    assert found == ["unfinished-left-out", "unfinished-left-out"]


@pytest.mark.parametrize("status", ["failed", "cancelled", "hung"])
def test_a_run_that_does_not_end_ok_is_lost(status: str) -> None:
    assert redrive_shapes(notes(*ALL, *REST), life(["a"], status=status)) == ["redrive-failed"]


def test_a_process_that_says_nothing_has_lost_the_run() -> None:
    assert redrive_shapes(notes(*ALL), {"kept": {"r": ["a"]}, "outcomes": {}, "code": 1}) == [
        "redrive-failed"
    ]


def test_an_output_is_after_the_redrive_what_it_was() -> None:
    wrong = {"a": {"status": "completed", "value": 7}, "b": {"status": "completed", "value": 2}}
    assert redrive_shapes(notes(*ALL, *REST), life(["a"], stages=wrong)) == ["output-changed"]
    assert redrive_shapes(
        [*notes(*ALL, *REST), Noted(9.0, 1, "r+1", "b", "read", ["a", "value", None])],
        life(["a"]),
    ) == ["output-changed"]


def test_a_stage_is_run_once_in_a_life() -> None:
    twice = ("1 r+1 b stage.start", "1 r+1 b stage.end ok")
    assert redrive_shapes(notes(*ALL, *REST, *twice), life(["a"])) == ["run-twice"]


# Timeouts.


def timed(slow_end_s: float, *, quick: str = "ok", begin_s: float = 0.0) -> list[Noted]:
    return [
        Noted(0.0, 0, "slow", "", "run.begin", None),
        Noted(0.0, 0, "quick", "", "run.begin", None),
        Noted(begin_s, 0, "slow", "slow", "stage.start", None),
        Noted(begin_s, 0, "quick", "quick", "stage.start", None),
        Noted(0.2, 0, "quick", "quick", "stage.end", quick),
        Noted(slow_end_s, 0, "slow", "slow", "interrupt", None),
    ]


def told(*, named: str = "slow", quick: str = "ok") -> dict[tuple[str, str], Any]:
    failed = {"status": "failed", "failures": [{"stage": named}], "stages": {}, "raised": None}
    return {("first", "slow"): failed, ("first", "quick"): {"status": quick}}


def timing_shapes(
    entries: list[Noted],
    outcomes: dict[tuple[str, str], Any] | None = None,
    windows: list[tuple[float, float]] | None = None,
    lag_s: float = 0.01,
) -> list[tuple[str, str]]:
    judged = judge_timing(entries, outcomes or told(), windows or [], lag_s)
    return [(c, v.shape) for c, j in judged.items() for v in j.violations]


def test_a_timeout_at_its_time_and_a_quick_stage_left_alone_are_right() -> None:
    assert timing_shapes(timed(SLOW_LIMIT_S + 0.01)) == []


def test_a_timeout_is_neither_late_nor_early() -> None:
    assert timing_shapes(timed(SLOW_LIMIT_S + 0.5)) == [("TIME-1", "late")]
    assert timing_shapes(timed(SLOW_LIMIT_S - 0.5)) == [("TIME-1", "early")]
    assert timing_shapes(timed(SLOW_LIMIT_S)[:-1]) == [("TIME-1", "")]
    # What a run is ended by when the process gives it up is no timeout of its own.
    hung = {**told(), ("first", "slow"): {"status": "hung"}}
    assert timing_shapes(timed(SLOW_LIMIT_S + 5), hung) == [("TIME-1", "")]


def test_a_timer_may_be_set_before_the_stage_itself_gets_its_turn() -> None:
    assert timing_shapes(timed(SLOW_LIMIT_S, begin_s=0.05)) == []


def test_a_pause_over_the_deadline_is_allowed_for_and_no_more_than_that() -> None:
    pause = [(0.1, SLOW_LIMIT_S + 1.0)]
    assert timing_shapes(timed(SLOW_LIMIT_S + 1.02), windows=pause) == []
    assert timing_shapes(timed(SLOW_LIMIT_S + 1.7), windows=pause) == [("TIME-1", "late")]
    before = [(0.1, 0.5)]
    assert timing_shapes(timed(SLOW_LIMIT_S + 0.4), windows=before) == [("TIME-1", "late")]


def test_a_quick_stage_that_is_timed_out_is_seen() -> None:
    cut = timing_shapes(timed(SLOW_LIMIT_S, quick="cancelled"), told(quick="failed"))
    assert cut == [("TIME-2", "")]


def test_the_report_of_a_timeout_names_the_stage() -> None:
    assert timing_shapes(timed(SLOW_LIMIT_S), told(named="x")) == [("TIME-1", "stage-not-named")]


def test_a_machine_that_is_too_late_proves_nothing() -> None:
    judged = judge_timing(timed(9.0), told(), [], 1.0)
    assert {j.verdict for j in judged.values()} == {"untested"}


# Resources.


def test_what_is_taken_is_given_back_once_before_the_run_is_over() -> None:
    held = ("0 r a acquire lock", "0 r a release.end lock", "0 r - run.end")
    assert judge_released(notes(*held)).verdict == "holds"
    assert [v.shape for v in judge_released(notes(held[0], held[2], held[1])).violations] == [""]
    twice = judge_released(notes(held[0], held[1], held[1], held[2]))
    assert [v.shape for v in twice.violations] == ["released-twice"]
    assert judge_released(notes("0 r a stage.start")).verdict == "untested"


def exhausted(first: Any, again: Any) -> list[tuple[str, str]]:
    outcomes = {("first", "r0"): first, ("again", "r0-again"): again}
    ending = {"outcomes": {k: v for k, v in outcomes.items() if v is not None}, "code": -9}
    judged = judge_exhausted(notes("0 r0 hungry fault.fired"), ending)
    return [(c, v.shape) for c, j in judged.items() for v in j.violations]


FAILED = {"status": "failed", "failures": [{"stage": "hungry"}], "stages": {}, "raised": None}
FINE = {"status": "ok", "failures": [], "stages": {}, "raised": None}


def test_a_stage_that_ran_out_of_something_is_reported_and_the_next_run_works() -> None:
    assert exhausted(FAILED, FINE) == []
    assert exhausted(FINE, FINE) == [("PART-4", "")]
    assert exhausted({**FAILED, "failures": []}, FINE) == [("PART-4", "stage-not-named")]
    assert exhausted(FAILED, FAILED) == [("CLEAN-5", "")]
    assert exhausted(None, None) == [("PART-4", "worker-died")]


def test_success_is_not_reported_for_what_was_not_stored() -> None:
    assert [v.shape for v in judge_not_stored(FINE, ["a"], PROGRAM)] == ["not-stored"]
    assert judge_not_stored(FINE, ["a", "b"], PROGRAM) == []
    assert judge_not_stored(FAILED, ["a"], PROGRAM) == []
