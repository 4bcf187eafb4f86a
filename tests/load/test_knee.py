"""The search for the knee, on servers that are functions."""

from __future__ import annotations

import argparse

import pytest

from harness.lab.load.knee import Step, find_knee, judged, objective

WANTED = objective("p95<500ms,errors<1%")


def measured(rate: float, capacity: float) -> Step:
    """A server whose p95 explodes beyond its capacity."""
    p95 = 50.0 if rate <= capacity else 5_000.0
    step = Step(rate, rate, {"count": 100, "p95_ms": p95}, 0.0)
    return Step(rate, rate, step.latencies, 0.0, judged(step, WANTED))


@pytest.mark.parametrize("capacity", [11.0, 37.0, 160.0, 1_999.0])
def test_it_is_found_within_a_seventh(capacity: float) -> None:
    knee = find_knee(lambda rate: measured(rate, capacity), first=10, highest=10_000, steps_max=20)
    assert knee.rate is not None
    assert capacity / 1.15 <= knee.rate <= capacity
    assert "do not (p95 5000 ms)" in knee.said


def test_steps_may_round_their_rates_and_a_search_may_be_ended() -> None:
    def rounded(rate: float) -> Step | None:
        step = measured(rate, 37.0)
        return Step(round(rate), rate, step.latencies, 0.0, step.why)

    assert find_knee(rounded, first=10, highest=1_000).rate is not None
    knee = find_knee(lambda rate: rounded(rate) if rate < 30 else None, first=10, highest=1_000)
    assert (knee.rate, knee.said) == (20, "interrupted before it was found")


def test_below_the_first_rate_it_is_searched_for_as_well() -> None:
    knee = find_knee(lambda rate: measured(rate, 3.0), first=10, highest=100)
    assert knee.rate is not None
    assert 3.0 / 1.15 <= knee.rate <= 3.0


def test_none() -> None:
    knee = find_knee(lambda rate: measured(rate, 0.0), first=10, highest=100)
    assert knee.rate is None
    assert knee.said.startswith("none: not even 1.25 requests a second")


def test_not_reached() -> None:
    knee = find_knee(lambda rate: measured(rate, 1e9), first=10, highest=80)
    assert (knee.rate, knee.said) == (80, "not reached: 80 requests a second still keep it")
    assert [step.rate for step in knee.steps] == [10, 20, 40, 80]


def test_the_steps_are_limited() -> None:
    knee = find_knee(lambda rate: measured(rate, 1e9), first=1, highest=1e6, steps_max=3)
    assert len(knee.steps) == 3
    assert "after as many steps as may be" in knee.said


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Step(10, 10, {"count": 5, "p95_ms": 499.9}, 0.009), ""),
        (Step(10, 10, {"count": 5, "p95_ms": 500.0}, 0.0), "p95 500 ms"),
        (Step(10, 10, {"count": 5, "p95_ms": 1.0}, 0.01), "errors 1.00%"),
        (Step(10, 8, {"count": 5, "p95_ms": 1.0}, 0.0), "only 8.0 requests a second came about"),
        (Step(10, 0, {"count": 0}, 0.0), "nothing was answered"),
    ],
)
def test_what_keeps_the_objective(step: Step, why: str) -> None:
    assert judged(step, WANTED) == why


@pytest.mark.parametrize("text", ["", "p95", "p95<", "p42<1ms", "errors<1", "p95<-1ms"])
def test_a_bad_objective_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected an objective such as"):
        objective(text)
