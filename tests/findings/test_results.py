"""results.jsonl and its neighbours: whole, strict JSON, the same bytes for the same campaign."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from harness.findings.files import write_whole
from harness.findings.plain import CUT, LIMIT_TEXT, plain
from harness.findings.results import result_row
from tests.report import fixture
from tests.report.fixture import STAGEFLOW, clause, unit, write_campaign

PUBLISHED = (
    "pack scenario tests clause engine engine_version lab verdict runs violations figures seed "
    "token duration_s clauses reason category virtual_s"
)


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "results.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def test_a_row_has_the_published_fields() -> None:
    assert set(result_row(fixture.units()[0])) == set(PUBLISHED.split())


def test_the_first_clause_judged_is_the_one_named() -> None:
    row = unit(
        STAGEFLOW,
        "p/a",
        "pass",
        clauses_judged=["TIME-6", "TIME-1"],
        clauses={"TIME-1": clause("pass", 1, 0), "TIME-6": clause("pass", 1, 0)},
    )
    assert result_row(row)["clause"] == "TIME-6"


def test_rows_stand_by_engine_version_and_scenario_in_the_order_given(tmp_path: Path) -> None:
    newer = [{**u, "engine_version": "0.10.0"} for u in fixture.units() if u["engine"] != "x"]
    write_campaign(tmp_path, units=[*newer, *fixture.units()])
    order = [one for one, _ in fixture.SCENARIOS]
    assert [(r["engine"], r["engine_version"], r["scenario"]) for r in lines(tmp_path)] == [
        (engine, version, scenario)
        for engine, versions in (
            ("reference", ("0.1.0", "0.10.0")),
            ("stageflow", ("0.5.1", "0.10.0")),
        )
        for version in versions
        for scenario in order
    ]


def test_the_order_in_which_workers_finish_does_not_change_a_byte(tmp_path: Path) -> None:
    shuffled = fixture.units()
    random.Random(3).shuffle(shuffled)
    first = write_campaign(tmp_path / "a")
    second = write_campaign(tmp_path / "b", units=shuffled)
    names = sorted(p.name for p in first.iterdir())
    assert names == sorted(p.name for p in second.iterdir())
    assert [n for n in names if (first / n).read_bytes() != (second / n).read_bytes()] == []


def test_only_durations_differ_between_two_runs_of_one_seed(tmp_path: Path) -> None:
    slower = [{**u, "duration_s": u["duration_s"] * 3} for u in fixture.units()]
    first = lines(write_campaign(tmp_path / "a"))
    second = lines(write_campaign(tmp_path / "b", units=slower))
    assert first != second
    for row in (*first, *second):
        del row["duration_s"]
    assert first == second


def test_an_unknown_verdict_is_refused() -> None:
    row = {**fixture.units()[0], "verdict": "fine"}
    with pytest.raises(ValueError, match="verdict 'fine' is none of pass, fail"):
        result_row(row)


def test_numbers_that_json_does_not_know_are_written_as_texts(tmp_path: Path) -> None:
    odd = fixture.program(fixture.stage("s", {"op": "never"}, timeout_s=math.nan))
    row = {**fixture.units()[1], "program": odd, "figures": {"worst_s": math.inf}}
    write_campaign(tmp_path, units=[row])

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    for path in tmp_path.glob("*.json*"):
        for line in (
            path.read_text(encoding="utf-8").split("\n")
            if path.suffix == ".jsonl"
            else [path.read_text(encoding="utf-8")]
        ):
            if line:
                json.loads(line, parse_constant=refuse)
    assert lines(tmp_path)[0]["figures"] == {"worst_s": "Infinity"}


def test_texts_are_bounded_and_can_be_encoded() -> None:
    long = plain("9" * (LIMIT_TEXT + 5) + "x")
    assert long == CUT.format(LIMIT_TEXT + 6)
    assert plain("a" * 1_000_000) == "a" * LIMIT_TEXT + " … [cut; 1000000 characters in all]"
    assert plain("lone \ud800 surrogate") == "lone ? surrogate"


def test_what_is_no_plain_data_is_refused() -> None:
    with pytest.raises(TypeError, match=r"expected plain data, got \w*Path"):
        plain({"where": Path()})


def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_whole(tmp_path / "a.json", "old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_whole(path, "new")
    assert [(p.name, p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()] == [
        ("a.json", "old")
    ]


def test_metrics_hold_one_row_per_run_measured(tmp_path: Path) -> None:
    rows = fixture.units()[:2]
    rows[0]["samples"] = [
        {"run": 1, "virtual_s": 2.0, "callbacks": 17, "violated": 0, "text": "=1+1"},
        {"run": 2, "virtual_s": 2.5, "callbacks": 19, "violated": 1},
    ]
    rows[1]["samples"] = []
    write_campaign(tmp_path, units=rows)
    assert (tmp_path / "metrics.csv").read_text(encoding="utf-8") == (
        "engine,engine_version,lab,pack,scenario,category,seed,run,callbacks,violated,virtual_s\n"
        "stageflow,0.5.1,sim,timeouts,timeouts/simple_timeout,baseline,4711,1,17,0,2.0\n"
        "stageflow,0.5.1,sim,timeouts,timeouts/simple_timeout,baseline,4711,2,19,1,2.5\n"
    )
