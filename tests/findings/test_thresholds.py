"""Thresholds: what they are measured from, and that nothing measured is no pass."""

from __future__ import annotations

from typing import Any

import pytest

from harness.findings.thresholds import Threshold, hold


def unit(engine: str = "mine", **more: Any) -> dict[str, Any]:
    clauses = {
        "EVENT-1": {"figures": {"events_offered": 1000}},
        "EVENT-2": {"figures": {"events_dropped": 25}},
        "CLEAN-1": {"figures": {"acquired": 30, "released": 27}},
    }
    samples = [{"virtual_s": i / 100, "callbacks": i} for i in range(1, 101)]
    return {
        "engine": engine,
        "engine_version": "",
        "scenario": "p/a",
        "verdict": "pass",
        "runs": 30,
        "clauses": clauses,
        "samples": samples,
        **more,
    }


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        ("drop_rate", 0.025),
        ("cleanup_share", 0.9),
        ("p99_latency_s", 0.99),
        ("metrics.callbacks", 99.0),
    ],
)
def test_a_figure_is_held_to_both_bounds(figure: str, value: float) -> None:
    units = [unit(), unit()]
    inside = Threshold(figure, low=value, high=value)
    for one, verdict in (
        (inside, "pass"),
        (Threshold(figure, high=value * 0.99), "fail"),
        (Threshold(figure, low=value * 1.01), "fail"),
    ):
        (row,) = hold([one], units)
        assert (row["value"], row["verdict"], row["engine"]) == (value, verdict, "mine")


@pytest.mark.parametrize(
    "one",
    [
        Threshold("memory_growth_mb", high=1),
        Threshold("detection_rate", low=1),
        Threshold("drop_rate", high=1, engine="other"),
        Threshold("drop_rate", high=1, scenario="q/*"),
        Threshold("metrics.nothing", high=1),
    ],
)
def test_what_no_run_measured_is_inconclusive(one: Threshold) -> None:
    (row,) = hold([one], [unit()])
    assert (row["value"], row["verdict"]) == (None, "inconclusive")


def test_each_engine_is_held_by_itself() -> None:
    worse = unit("other", clauses={"CLEAN-1": {"figures": {"acquired": 10, "released": 1}}})
    rows = hold([Threshold("cleanup_share", low=0.5)], [unit(), worse])
    assert [(r["engine"], r["value"], r["verdict"]) for r in rows] == [
        ("mine", 0.9, "pass"),
        ("other", 0.1, "fail"),
    ]


def test_detection_counts_the_engines_that_are_broken_on_purpose() -> None:
    units = [unit("broken:a", verdict="fail"), unit("broken:a"), unit("broken:b"), unit()]
    (row,) = hold([Threshold("detection_rate", low=1)], units)
    assert (row["value"], row["verdict"], row["engine"]) == (0.5, "fail", "")


def grown(engine: str, value: float | None) -> dict[str, Any]:
    return {"engine": engine, "engine_version": "", "scenario": "s/a", "memory_growth_mb": value}


def test_memory_growth_is_that_of_repeated_runs_of_each_engine() -> None:
    rows = hold(
        [Threshold("memory_growth_mb", high=2)], [unit()], [grown("a", 3.0), grown("b", 0.0)]
    )
    assert [(r["engine"], r["value"], r["verdict"]) for r in rows] == [
        ("a", 3.0, "fail"),
        ("b", 0.0, "pass"),
    ]


def test_memory_growth_that_could_not_be_measured_is_no_pass() -> None:
    (row,) = hold([Threshold("memory_growth_mb", high=2)], [unit()], [grown("a", None)])
    assert (row["value"], row["verdict"]) == (None, "inconclusive")
