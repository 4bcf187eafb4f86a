"""What a user can get wrong: one clear line, exit code 2, nothing written, whatever it is.

Damaged run directories are made from a whole one, in all the ways in which a file can be spoilt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main
from tests.report.fixture import write_campaign


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run the command, which must refuse; returns its one line."""
    capsys.readouterr()
    code = main(words)
    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1), (code, out, err)
    return err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_campaign(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--resume", "D", "--engine", "reference"), "--engine and --resume"),
        (("--resume", "D", "--seed", "0"), "--seed and --resume"),
        (("--resume", "D", "--lab", "live"), "--lab and --resume"),
        (("--program", "p.json", "--pack", "graph"), "--program and --pack"),
        (("--search", "swarm", "--mission", "DAG-009"), "--search swarm and --mission"),
        (("--day", "fri"), "only --profile weekly has days"),
        (("--out", ""), "expected a folder, got ''"),
    ],
)
def test_options_that_would_be_passed_over_are_refused(
    words: tuple[str, ...],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "run", *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("load",), ("serve",), ("replay", "TOKEN"), ("bisect", "TIME-1")], ids="-".join
)
def test_a_command_for_one_engine_takes_no_second(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, *words, "--engine", "reference", "--engine", "stageflow@1.2.0")
    assert "--engine: given twice (reference, stageflow@1.2.0); name one" in said


def test_a_folder_that_cannot_be_written_leaves_no_trace_in_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAGSTORM_REGISTRY", raising=False)
    (tmp_path / "file").write_text("x")
    words = ("run", "--engine", "reference", "--scenario", "graph/cycle", "--out", "file")
    assert "cannot be written" in refused(capsys, *words)
    assert "cannot be written" in refused(capsys, "matrix", *words[1:3], "--out", "file")
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("finding", ["STR-004", "IMP-001", "DX-001"])
@pytest.mark.parametrize("command", ["replay", "repro", "shrink", "bisect"])
def test_what_no_run_showed_cannot_be_run_again(
    command: str, finding: str, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finding in refused(capsys, command, finding, "--run", str(whole))


def spoilt(whole: Path, tmp_path: Path, text: str) -> Path:
    folder = write_campaign(tmp_path / "spoilt")
    (folder / "findings.json").write_text(text, "utf-8")
    return folder


TEXTS = ("", "{", "[]", "null", '"x"', "{}", '{"findings": {}}', '{"findings": [{}]}', "\x00")


@pytest.mark.parametrize("text", TEXTS)
def test_damaged_findings_are_named_by_every_command_that_reads_them(
    text: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(spoilt(whole, tmp_path, text))
    for words in (
        ("replay", "BUG-001", "--run", folder),
        ("shrink", "BUG-001", "--run", folder),
        ("repro", "BUG-001", "--run", folder),
        ("bisect", "BUG-001", "--run", folder),
        ("matrix", "--run", folder),
        ("compare", str(whole), folder),
        ("compare", folder, str(whole)),
        ("report", folder),
    ):
        assert folder in refused(capsys, *words)


@pytest.mark.parametrize(
    ("key", "command"), [("reproduction", "replay"), ("clause", "bisect"), ("engine", "bisect")]
)
def test_a_finding_that_lacks_a_part_is_refused(
    key: str, command: str, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document: dict[str, Any] = json.loads((whole / "findings.json").read_text("utf-8"))
    for one in document["findings"]:
        del one[key]
    folder = str(spoilt(whole, tmp_path, json.dumps(document)))
    assert folder in refused(capsys, command, "BUG-001", "--run", folder)
