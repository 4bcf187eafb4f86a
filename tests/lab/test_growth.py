"""An engine whose worker grows with its runs is told from one whose worker does not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.lab.engines import EngineRef, python_of
from harness.lab.growth import BATCHES, growth_of, growth_rows
from harness.lab.pool import Pool
from harness.lab.subject import Engine
from scenarios import scenarios

ONE = scenarios()["context/entry_points"]
ADAPTER = """
from harness.adapters.reference import Adapter as Reference

kept = []


class Adapter(Reference):
    async def run(self, native, run, plan):
        {body}
        return await super().run(native, run, plan)
"""
# As an engine that keeps the outputs of each run in a module's list; as one that has a cache
# of twenty; and as one that needs no more than the reference engine.
KEEPS = "kept.append([b'x' * 40_000])"
CACHES = "kept.append([b'x' * 40_000]); del kept[:-20]"
BARE = "pass"


def own(folder: Path, body: str) -> Engine:
    file = folder / "engine.py"
    file.write_text(ADAPTER.format(body=body), "utf-8")
    ref = EngineRef("own", "", "", {"file": str(file), "attr": "Adapter"})
    return Engine(ref, python=python_of(ref, lambda _text: None))


@pytest.mark.skipif(sys.platform == "win32", reason="resident memory is another thing there")
@pytest.mark.parametrize(
    ("body", "leaks"),
    [(KEEPS, ["memory", "objects"]), (CACHES, []), (BARE, [])],
    ids=["keeps", "caches", "bare"],
)
def test_an_engine_that_keeps_every_run_grows_and_one_with_a_cache_does_not(
    tmp_path: Path, body: str, leaks: list[str]
) -> None:
    with Pool(1) as pool:
        row = growth_of(own(tmp_path, body), ONE, pool)
    lengths = {len(one["series"]) for one in row["verdicts"]}
    assert (row["why"], row["leaks"], lengths) == ("", leaks, {BATCHES})
    # 40 kB in each of 250 runs are 10 MB.
    low, high = (8.0, 14.0) if leaks else (0.0, 0.0)
    assert low <= row["memory_growth_mb"] <= high


def test_what_passed_no_small_scenario_and_what_dies_is_not_measured(tmp_path: Path) -> None:
    engine = own(tmp_path, "import os; os._exit(7)")
    unit = {"engine": "own", "engine_version": "", "lab": "sim", "scenario": ONE.id}
    with Pool(1) as pool:
        assert growth_rows([engine], [{**unit, "verdict": "fail"}], [ONE], pool) == []
        (row,) = growth_rows([engine], [{**unit, "verdict": "pass"}], [ONE], pool)
    assert (row["memory_growth_mb"], row["why"]) == (None, "worker exited with code 7")
