"""The order tier: what leans on asyncio's order is a note; a race is a bug, by a legal run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.cli import main
from harness.commands.notes import note_lines
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.order import ORDER_MODES
from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.steps import step
from harness.lab.campaign import scenario_data
from harness.lab.order import TRIES_MAX, run_ordered
from harness.lab.token import decode, encode
from harness.lab.unit import ScenarioData, run_unit
from mocks.tools import simulated_tool
from scenarios import scenarios
from tests.lab.hand_off import Fifo, Racy, Sound

ENGINES = Path(__file__).with_name("hand_off.py")


def stage(name: str, seconds: list[float], *needs: str) -> Stage:
    return Stage(name, (step("sleep", seconds=seconds), step("ok", value=name)), needs)


# The undisturbed run takes the first durations, so that nothing falls together in it.
PROGRAM = Program(
    (
        stage("a", [0.0]),
        stage("b", [0.1, 0.2], "a"),
        stage("c", [0.2, 0.1], "a"),
        stage("d", [0.0], "b", "c"),
    )
)


def unit(adapter: Any, runs: int, order_runs: int = 20) -> dict[str, Any]:
    data = ScenarioData("test/diamond", PROGRAM, Plan(), ("GRAPH-3", "GRAPH-2"))
    laboratory = Laboratory(adapter, simulated_tool)
    return run_unit(laboratory, data, runs=runs, seed=1, order_runs=order_runs)


def test_leaning_on_the_order_gives_notes_and_no_bug() -> None:
    result = unit(Fifo(), runs=30)
    assert (result["verdict"], result["witnesses"]) == ("pass", [])
    notes = result["order"]["notes"]
    assert [(n["clause"], n["shape"], n["mode"]) for n in notes] == [
        ("GRAPH-3", "missing-output", mode) for mode in ORDER_MODES
    ]
    for note in notes:
        assert 0 < note["hits"] <= note["runs"] == 20
        assert not note["legal"] and not note["nondeterministic"]
    assert {n["legal_tries"] for n in notes} == {TRIES_MAX}
    assert result["runs"] == 30 + TRIES_MAX


def test_a_race_is_expressed_again_by_a_legal_run_and_fails() -> None:
    # The one legal run that was asked for is the undisturbed one, which shows nothing.
    assert unit(Racy(), runs=1, order_runs=0)["verdict"] == "pass"
    result = unit(Racy(), runs=1)
    assert {n["legal"] for n in result["order"]["notes"]} == {True}
    assert result["verdict"] == "fail"
    (witness,) = result["witnesses"]
    assert witness["clause"] == "GRAPH-3"
    assert "order" not in witness["tape"]
    laboratory = Laboratory(Racy(), simulated_tool)
    again = laboratory.run(PROGRAM, Plan(), seed=witness["seed"], recorded=witness["tape"])
    assert digest(again) == witness["digest"]


def test_an_engine_without_either_has_no_notes() -> None:
    result = unit(Sound(), runs=5, order_runs=100)
    assert (result["verdict"], result["order"]["notes"]) == ("pass", [])
    assert result["runs"] == 5
    reference = unit(Adapter("reference"), runs=5, order_runs=100)
    assert (reference["verdict"], reference["order"]["notes"]) == ("pass", [])


def test_without_the_tier_nothing_is_said_of_it() -> None:
    assert "order" not in unit(Fifo(), runs=2, order_runs=0)


@pytest.mark.parametrize("mode", ORDER_MODES)
def test_a_run_out_of_order_is_the_same_again(mode: str) -> None:
    def digests() -> list[str]:
        laboratory = Laboratory(Fifo(), simulated_tool)
        runs = (run_ordered(laboratory, PROGRAM, Plan(), seed=s, mode=mode) for s in range(1, 30))
        return [digest(record) for record in runs]

    assert digests() == digests()
    assert len(set(digests())) > 1


@pytest.mark.parametrize("scenario", ["timeouts/tie", "timeouts/tie_with_cleanup"])
def test_a_broken_engines_race_is_expressed_again_as_well(scenario: str) -> None:
    laboratory = Laboratory(Adapter("broken:timeout-both"), simulated_tool)
    data = ScenarioData.from_json(scenario_data(scenarios()[scenario]))
    assert run_unit(laboratory, data, runs=1, seed=1)["verdict"] == "pass"
    result = run_unit(laboratory, data, runs=1, seed=1, order_runs=30)
    found = {(n["clause"], n["shape"], n["legal"]) for n in result["order"]["notes"]}
    assert found == {("TIME-2", "both-verdicts", True)}
    assert result["verdict"] == "fail"
    assert [w["clause"] for w in result["witnesses"]] == ["TIME-2"]


def campaign(tmp_path: Path, engine: str, *words: str) -> tuple[int, Path]:
    out = tmp_path / "run"
    command = ["run", "--engine", engine, "--scenario", "graph/layers", "--quiet"]
    command += ["--profile", "smoke", "--workers", "1", "--no-confirm", "--out", str(out)]
    return main([*command, "--fail-on", "any", *words]), out


def test_a_campaign_writes_notes_beside_its_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = campaign(tmp_path, f"{ENGINES}:Fifo", "--tier", "order")
    assert code == 0
    found = json.loads((out / "findings.json").read_text("utf-8"))["findings"]
    assert [f for f in found if f["kind"] == "bug"] == []
    notes = json.loads((out / "notes.json").read_text("utf-8"))["notes"]
    (row,) = [json.loads(x) for x in (out / "results.jsonl").read_text("utf-8").splitlines()]
    assert row["verdict"] == "pass"
    assert [n["mode"] for n in row["notes"]] == [n["mode"] for n in notes] == ["shuffle", "pct"]
    assert {(n["clause"], n["scenario"]) for n in notes} == {("GRAPH-3", "graph/layers")}
    said = capsys.readouterr().out
    assert "order-sensitive (notes, not bugs;" in said
    assert f"{TRIES_MAX} more legal runs do not show it" in said
    token = notes[0]["token"]
    assert decode(token).order == "shuffle"
    assert encode(decode(token)) == token
    assert main(["replay", token, "--engine", f"{ENGINES}:Fifo"]) == 0
    verdict, _, digests = capsys.readouterr().out.splitlines()[-1].partition(" (digest ")
    assert verdict == "reproduced"
    assert digests.startswith(f"{notes[0]['digest']}, {notes[0]['digest']})")
    assert main(["shrink", token, "--engine", f"{ENGINES}:Fifo"]) == 2
    assert "out of asyncio's order" in capsys.readouterr().err


def test_the_default_tier_writes_no_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = campaign(tmp_path, f"{ENGINES}:Fifo")
    assert code == 0
    assert not (out / "notes.json").exists()
    assert "notes" not in json.loads((out / "results.jsonl").read_text("utf-8"))
    assert "order-sensitive" not in capsys.readouterr().out


def test_a_search_has_no_order_tier(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--tier", "order", "--search", "swarm"]) == 2
    said = capsys.readouterr().err
    assert "--tier order: it does not go with --search" in said
    assert len(said.splitlines()) == 1


NAMED = {"engine": "toy", "engine_version": "", "scenario": "graph/x"}
NOTE = {
    "clause": "GRAPH-3",
    "mode": "pct",
    "hits": 1,
    "runs": 5,
    "seed": 7,
    "expected": "an output",
    "actual": "none",
    "nondeterministic": False,
    "legal": False,
    "legal_tries": 300,
}


def lines(*notes: dict[str, Any]) -> list[str]:
    return list(note_lines([{**NAMED, "order": {"notes": [{**NOTE, **n} for n in notes]}}]))


def test_the_section_on_the_terminal() -> None:
    said = lines(
        {},
        {"nondeterministic": True},
        {"legal": True, "legal_tries": 2},
        {"legal": True, "legal_tries": 0},
    )
    head = "  GRAPH-3   graph/x [toy] pct: 1 of 5 runs, seed 7; "
    texts = "            expected: an output; actual: none"
    assert said == [
        "order-sensitive (notes, not bugs; asyncio itself keeps the order that is broken here)"
        "; 1 more were shown by legal runs already",
        f"{head}300 more legal runs do not show it",
        texts,
        f"{head}it does not replay alike, so it says nothing",
        texts,
        f"{head}so do legal runs, after 2 more: it is judged as theirs",
        texts,
    ]
    assert lines() == ["order-sensitive (notes, not bugs): nothing"]
    known = {"legal": True, "legal_tries": 0}
    assert lines(known, known) == [
        "order-sensitive (notes, not bugs): nothing; 2 more were shown by legal runs already"
    ]
    assert list(note_lines([NAMED])) == []
