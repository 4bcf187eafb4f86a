"""`dagstorm bisect` on released versions, and ranges of versions in `--engine`."""

from __future__ import annotations

import json

import pytest

from harness.cli import main
from harness.engine.broken import CATALOGUE
from harness.kernel.errors import InputError
from harness.lab import engines
from harness.lab.engines import parse_engines

RELEASED = ["0.9.0", "0.10.0", "1.0.0"]


@pytest.fixture
def _released(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "versions", lambda _distribution: RELEASED)


@pytest.mark.usefixtures("_released")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stageflow@all", RELEASED),
        ("stageflow@0.10.0..1.0.0", RELEASED[1:]),
        ("stageflow@..0.10.0", RELEASED[:2]),
        ("stageflow@1.0.0..", RELEASED[2:]),
        ("stageflow@0.9.0..0.9.0", RELEASED[:1]),
        ("stageflow@0.7.7", ["0.7.7"]),
    ],
)
def test_a_range_names_releases(text: str, expected: list[str]) -> None:
    assert [ref.version for ref in parse_engines(text, CATALOGUE)] == expected


@pytest.mark.usefixtures("_released")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stageflow@0.8.0..1.0.0", "no release '0.8.0'"),
        ("stageflow@1.0.0..0.9.0", "1.0.0 came after 0.9.0"),
        ("reference@all", "has no versions"),
        ("stagflow@all", "did you mean stageflow"),
    ],
)
def test_a_range_that_names_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_engines(text, CATALOGUE)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["cancel-33", "--engine", "stageflow"], "no clause 'cancel-33'"),
        (["cancel-3"], "name the engine by --engine"),
        (["cancel-3", "--engine", "stageflow@1.2.0"], "leave the version out"),
    ],
)
def test_bad_words_get_one_line(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bisect", *words]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


@pytest.mark.engine
@pytest.mark.parametrize(
    ("clause", "version", "expected"),
    [
        ("TIME-1", "0.5.1", "unsupported"),
        ("TIME-1", "1.2.0", "pass"),
        ("CANCEL-4", "1.2.0", "fail"),
    ],
)
def test_a_clause_is_judged_on_each_version(
    clause: str, version: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--engine", "stageflow", "--versions", f"{version}..{version}", "--runs", "3"]
    assert main(["bisect", clause, *words, "--json", "--quiet"]) == 0
    data = json.loads(capsys.readouterr().out)
    (cell,) = data["versions"]
    assert (cell["version"], cell["verdict"]) == (version, expected)
    assert data["changes"] == []
