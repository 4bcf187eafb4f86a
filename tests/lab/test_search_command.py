"""`dagstorm run --search`: what is found comes out as findings whose tokens replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.lab.search.units import SHARD_RUNS, swarm_units


def test_what_exhaustive_injection_finds_is_a_finding_that_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["run", "--search", "points", "--engine", "broken:cleanup-fifo", "--quiet"]
    words += ["--scenario", "cleanup/registry_order", "--out", str(out), "--no-confirm"]
    assert main([*words, "--workers", "1"]) == 0
    found = json.loads((out / "findings.json").read_text("utf-8"))["findings"]
    bug = next(f for f in found if f["kind"] == "bug" and f["clause"] == "CLEAN-3")
    assert bug["reproduction"]["program"]["stages"]
    row = json.loads((out / "results.jsonl").read_text("utf-8").splitlines()[0])
    assert (row["scenario"], row["verdict"]) == ("search/points-cleanup-registry_order", "fail")
    capsys.readouterr()
    assert main(["replay", bug["reproduction"]["token"]]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("reproduced")


def test_nothing_small_enough_is_a_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--search", "points", "--scenario", "graph/long_chain"]) == 2
    assert "--search points" in capsys.readouterr().err


def test_a_swarm_of_a_profile_is_cut_into_shards() -> None:
    assert len(swarm_units(10 * SHARD_RUNS)) == 10
    assert {unit.pack for unit in swarm_units(1)} == {"search"}
