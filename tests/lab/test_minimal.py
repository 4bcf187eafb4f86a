"""A campaign's findings are shrunk in its workers, and known again by their smallest runs."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import findings
from harness.cli import main
from harness.contract.clauses import CLAUSES
from harness.engine.broken import CATALOGUE
from harness.lab import minimal
from harness.lab.campaign import Campaign, Engine
from harness.lab.engines import parse_engine
from harness.lab.minimal import smallest
from harness.lab.search.telling import SCRIPTED, SHOWN
from harness.lab.token import Token, encode
from harness.lab.worker import WorkerDied
from scenarios import scenarios

ABANDONS = "broken:caller-cancel-abandons"
NO_AWAIT = "broken:caller-cancel-no-await"
WANTED = (
    "branch_cancel/caller_cancel",
    "branch_cancel/caller_cancel_chain",
    "branch_cancel/caller_cancel_busy_stage",
)


def campaign(folder: Path) -> Campaign:
    one = Campaign(
        folder,
        [Engine(parse_engine(ABANDONS, CATALOGUE))],
        [scenarios()[s] for s in WANTED],
        seed=1,
        runs=4,
        workers=1,
        report=lambda _done, _total, _unit: None,
    )
    one.prepare(lambda _text: None)
    one.run()
    return one


def defects(one: Campaign, **more: Any) -> list[dict[str, Any]]:
    engines = [e.description() for e in one.engines]
    found = findings.findings_of(findings.Campaign(one.units, engines, CLAUSES, **more))
    return [dataclasses.asdict(f) for f in found if f.kind == "bug"]


def test_a_finding_is_shrunk_to_a_run_that_carries_its_own_program(tmp_path: Path) -> None:
    one = campaign(tmp_path)
    drafts = defects(one)
    small = smallest(one.engines, one.units, drafts, lambda _text: None, workers=2)
    assert set(small) == {d["fingerprint"] for d in drafts}
    bug = next(b for b in defects(one, smallest=small) if b["clause"] == "CANCEL-3")
    reproduction = bug["reproduction"]
    assert reproduction["shrunk"]["ended"] == "smallest"
    assert reproduction["shrunk"]["after"] == {
        "stages": 1,
        "steps": 1,
        "faults": 1,
        "cancels": 1,
        "runs": 1,
        "choices": 0,
    }
    assert len(reproduction["program"]["stages"]) == 1
    # Sums are those of the campaign, not of the shrinking.
    assert bug["scenarios"] == WANTED
    assert bug["evidence"]["exercised"] == sum(
        u["clauses"]["CANCEL-3"]["exercised"] for u in one.units
    )


def test_when_the_time_is_over_findings_stay_as_they_are_and_say_so(tmp_path: Path) -> None:
    one = campaign(tmp_path)
    drafts = defects(one)
    small = smallest(one.engines, one.units, drafts, lambda _text: None, limit_s=0)
    why = {"ended": "not shrunk", "why": "the time for it was over (0 s for all)"}
    assert [row["shrunk"] for row in small.values()] == [why] * len(drafts)
    after = defects(one, smallest=small)
    assert [b["fingerprint"] for b in after] == [b["fingerprint"] for b in drafts]


def found(folder: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    words = ["run", "--engine", ABANDONS, "--engine", NO_AWAIT, "--no-confirm", "--quiet"]
    words += [w for s in WANTED for w in ("--scenario", s)]
    words += ["--seed", str(seed), "--profile", "smoke", "--out", str(folder)]
    assert main(words) == 0
    capsys.readouterr()
    every = json.loads((folder / "findings.json").read_text("utf-8"))["findings"]
    return [f for f in every if f["kind"] == "bug"]


def test_one_defect_is_one_finding_a_clause_and_two_defects_are_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = found(tmp_path / "first", 1, capsys)
    second = found(tmp_path / "second", 2, capsys)
    assert {f["fingerprint"] for f in first} == {f["fingerprint"] for f in second}
    assert len({(f["engine"], f["clause"], f["shape"]) for f in first}) == len(first)
    assert {f["engine"] for f in first if f["clause"] == "CANCEL-3"} == {ABANDONS, NO_AWAIT}
    for bug in (b for b in first if b["clause"] == "CANCEL-3"):
        assert main(["replay", bug["id"], "--run", str(tmp_path / "first")]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith("reproduced"), bug["clause"]


def test_another_witness_is_taken_where_it_makes_a_clearer_script() -> None:
    def row(lines: int, *tape: int) -> dict[str, Any]:
        words = {"program": lines, "plan": {}, "expected": "", "actual": ""}
        choices = {"ties": [*tape]} if tape else {}
        return {**words, "tape": choices, "told": SHOWN, "nondeterministic": False}

    class Worker:
        """Shrinks each witness to the row that it stands for, and renders so many lines."""

        def ask(self, request: Mapping[str, Any], **_limit: float) -> dict[str, Any]:
            if request["op"] == "shrink":
                return dict(shrunk[request["plan"]["number"]])
            if request["op"] == "rehearse":
                return {"told": [SHOWN * (one["plan"]["number"] == 5) for one in request["cases"]]}
            return {"script": "x\n" * request["program"]}

    untold = {"told": SCRIPTED}
    shrunk = {1: row(61), 2: row(60, 1), 3: row(60), 4: row(60) | untold, 5: row(70)}
    key = ["CANCEL-3", "stage-outlived-run", ""]
    mine = {"token": "ds2.first", "program": {"stages": []}, "plan": {}, "key": key}
    tokens = {n: encode(Token("e", "1", "s", n, "d")) for n in shrunk}
    seen = [
        {"token": tokens[n], "program": {"stages": []}, "plan": {"number": n}, "key": key}
        for n in shrunk
    ]
    engine: Any = SimpleNamespace(key=("e", "1"))
    bug = {"clause": key[0], "shape": key[1], "reproduction": mine}
    work: Any = SimpleNamespace(programs={}, deadline=time.monotonic() + 60, units=[])

    def taken(first: dict[str, Any], *others: int) -> dict[str, Any]:
        of_a_pack = {"token": "ds2.other", "program": {"stages": []}, "plan": {}}
        witnesses = [of_a_pack, mine, *(seen[n - 1] for n in others)]
        work.units = [{"engine": "e", "engine_version": "1", "lab": "sim", "witnesses": witnesses}]
        found: dict[str, Any] = minimal._clearer(work, cast("Any", Worker()), bug, engine, first)
        return found

    assert taken(row(60), 3) == row(60)
    assert taken(row(62), 1, 3) == shrunk[3]  # that of the first one is long as well
    assert taken(row(62), 1, 2) == row(62)  # what no script can choose does not make it clearer
    assert taken(row(60, 2), 1) == shrunk[1]
    # One whose script shows it comes first, though it is long; others are asked before.
    assert taken(row(50) | untold, 4, 4, 4, 5) == shrunk[5]


def test_a_worker_that_dies_over_another_witness_takes_nothing_that_was_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = {"nondeterministic": False, "program": {"stages": []}, "plan": {}, "tape": {}}

    def dies(*_all: Any) -> dict[str, Any]:
        raise WorkerDied("gone")

    worker = SimpleNamespace(ask=lambda _request, **_limit: dict(first))
    pool = SimpleNamespace(lend=lambda _engine: contextlib.nullcontext(worker))
    work: Any = SimpleNamespace(
        pool=pool, programs={}, deadline=time.monotonic() + 60, deaths={}, time_over=""
    )
    engine: Any = SimpleNamespace(key=("e", "1"))
    bug = {"shape": "hung", "reproduction": {"environment": {"lab": "sim"}}}
    monkeypatch.setattr(minimal, "_clearer", dies)
    monkeypatch.setattr(minimal, "_request", lambda *_all: ({}, "s"))
    monkeypatch.setattr(minimal, "token_of", lambda *_all: None)
    monkeypatch.setattr(minimal, "encode", lambda _token: "ds2.first")
    assert minimal._one(work, engine, bug) == {**first, "token": "ds2.first"}
