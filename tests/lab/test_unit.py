"""A unit: how many runs it takes, and that it may judge those that went alike once."""

from __future__ import annotations

from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory
from harness.lab import unit as unit_module
from harness.lab.campaign import scenario_data
from harness.lab.unit import ScenarioData, run_unit
from mocks.tools import simulated_tool
from scenarios import scenarios

CASES = [
    ("reference", "graph/layers"),
    ("reference", "branch_cancel/caller_cancel"),
    ("reference", "timeouts/concurrent_own_timeouts"),
    ("broken:outputs-by-position", "graph/diamond_order"),
    ("broken:caller-cancel-abandons", "branch_cancel/caller_cancel"),
    ("broken:timeout-never", "timeouts/simple_timeout"),
]


def said(subject: str, scenario: str) -> dict[str, Any]:
    laboratory = Laboratory(Adapter(subject), simulated_tool)
    data = ScenarioData.from_json(scenario_data(scenarios()[scenario]))
    return run_unit(laboratory, data, runs=60, seed=3)


@pytest.mark.parametrize(("subject", "scenario"), CASES)
def test_judging_alike_runs_once_changes_nothing_that_is_said(
    subject: str, scenario: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = said(subject, scenario)
    monkeypatch.setattr(unit_module, "REMEMBERED_ENTRIES_MAX", 0)
    assert said(subject, scenario) == remembered


def one_run(scenario: str, **changes: Any) -> dict[str, Any]:
    laboratory = Laboratory(Adapter("reference"), simulated_tool)
    data = ScenarioData.from_json(scenario_data(scenarios()[scenario]) | changes)
    return run_unit(laboratory, data, runs=1, seed=3)


def test_what_one_run_did_not_put_to_the_test_gets_more_runs() -> None:
    # Whether the timeout falls into the cleanup hangs on what a seed draws.
    result = one_run("timeouts/tie_with_cleanup")
    assert result["verdict"] == "pass"
    assert 1 < result["runs"] <= 1 + unit_module.MORE_RUNS_MIN


def test_what_is_put_to_the_test_gets_no_more_runs() -> None:
    assert one_run("timeouts/simple_timeout")["runs"] == 1


def test_a_fault_that_never_fires_stays_inconclusive_within_the_limit() -> None:
    result = one_run("timeouts/simple_timeout", fires=["spill"])
    assert result["verdict"] == "inconclusive"
    assert result["reason"] == "never happened: spill"
    assert result["runs"] == 1 + unit_module.MORE_RUNS_MIN
