"""A unit judges runs that went alike once; what it says is as if it had judged each."""

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
