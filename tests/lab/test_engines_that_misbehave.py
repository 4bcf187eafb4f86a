"""Engines that print, flood, eat memory, die or hang do not stop a campaign."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.lab import campaign as campaign_module
from harness.lab.campaign import Campaign, Engine
from harness.lab.engines import EngineRef
from scenarios import scenarios

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = """
from harness.adapters.reference import Adapter as Reference


class Adapter(Reference):
    async def run(self, native, run, plan):
        {body}
        return await super().run(native, run, plan)
"""
GARBAGE = r"import os; os.write(1, b'\xff\xfe\n{}\n[1, 2]\n' + b'x' * 100_000); print('{not json')"
CHOSEN = ("context/entry_points", "context/changed_mapping", "context/changed_list")


def campaign(tmp_path: Path, body: str) -> list[dict[str, Any]]:
    file = tmp_path / "engine.py"
    file.write_text(ADAPTER.format(body=body), "utf-8")
    engine = Engine(EngineRef("own", "", "", {"file": str(file), "attr": "Adapter"}))
    told = Campaign(
        tmp_path,
        [engine],
        [scenarios()[name] for name in CHOSEN],
        seed=1,
        runs=2,
        workers=1,
        report=lambda _done, _total, _unit: None,
        budget_s=None,
    )
    told.prepare(lambda _text: None)
    told.run()
    return told.units


def actual(unit: dict[str, Any]) -> str:
    (witness,) = unit["witnesses"]
    assert witness["shape"] == "worker-died"
    return str(witness["actual"])


def test_what_an_engine_prints_is_not_the_protocol(tmp_path: Path) -> None:
    assert [unit["verdict"] for unit in campaign(tmp_path, GARBAGE)] == ["pass"] * 3


def test_an_engine_that_dies_of_a_signal_fails_and_the_signal_is_named(tmp_path: Path) -> None:
    units = campaign(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert [unit["verdict"] for unit in units] == ["fail"] * 3
    assert actual(units[0]).startswith("worker died of signal SIGSEGV")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit on Windows")
def test_an_engine_that_eats_all_memory_takes_its_own_process_down(tmp_path: Path) -> None:
    body = "raise MemoryError  # what an allocation past the limit raises"
    units = campaign(tmp_path, body)
    assert [unit["verdict"] for unit in units] == ["fail"] * 3
    assert actual(units[0]) == "worker exited with code 137: out of memory"


def test_an_engine_that_hangs_its_process_is_given_up_after_a_few_scenarios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign_module, "UNIT_LIMIT_S", 1.0)
    monkeypatch.setattr(campaign_module, "AGAIN_LIMIT_S", 0.5)
    monkeypatch.setattr(campaign_module, "HANGS_MAX", 2)
    units = campaign(tmp_path, "import time; time.sleep(1_000)")
    assert [unit["verdict"] for unit in units] == ["fail", "fail", "blocked"]
    assert actual(units[1]) == "worker hung: no word for 0.5 s"
    assert units[2]["reason"] == f"it hung in {CHOSEN[0]}, {CHOSEN[1]}"
