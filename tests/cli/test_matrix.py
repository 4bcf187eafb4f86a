"""`dagstorm matrix`: one verdict for each engine and clause, from a run's data."""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import pytest

from harness.cli import main
from harness.kernel.errors import InputError

ENGINES = ["reference", "broken:caller-cancel-abandons"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("matrix") / "run"
    words = [w for engine in ENGINES for w in ("--engine", engine)]
    words += ["--scenario", "branch_cancel/caller_cancel", "--profile", "smoke", "--no-confirm"]
    assert main(["run", *words, "--quiet", "--out", str(folder)]) == 0
    return folder


def test_each_engine_has_its_verdict(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["matrix", "--run", str(run), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    verdicts = {
        r["label"]: {c["clause"]: c["verdict"] for c in r["cells"]}["CANCEL-3"] for r in rows
    }
    assert verdicts == {"reference": "pass", "broken:caller-cancel-abandons": "fail"}


def test_what_is_printed_and_written_says_the_same(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", "--run", str(run), "--out", str(tmp_path)]) == 0
    (printed,) = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("CANCEL-3")
    ]
    header, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (tmp_path / "matrix.md").read_text().splitlines()
        if line.startswith("|")
    ]
    (written,) = [r for r in rows if r[0] == "CANCEL-3"]
    assert printed.split() == written
    assert sorted(header[1:]) == sorted(ENGINES)
    with open(tmp_path / "matrix.csv", encoding="utf-8") as file:
        cells = {(r["engine"], r["clause"]): r["verdict"] for r in csv.DictReader(file)}
    assert cells["broken:caller-cancel-abandons", "CANCEL-3"] == "fail"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--run", "nowhere"], "no findings.json there"),
        (["--run", ".", "--engine", "reference"], "leave --engine out"),
    ],
)
def test_bad_words_get_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["matrix", *words]) == 2
    assert says in capsys.readouterr().err


def test_a_run_is_made_for_the_engines_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[list[str]] = []

    def run(options: argparse.Namespace) -> int:
        made.append(options.engine)
        raise InputError("enough is known")

    monkeypatch.setattr("harness.commands.run._run", run)
    assert main(["matrix", "--engine", "reference", "--out", str(tmp_path / "out")]) == 2
    assert made == [["reference"]]
    assert "enough is known" in capsys.readouterr().err
