"""`dagstorm report`: what it renders again, and what it says to a wrong request."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.report import FORMATS
from tests.report.fixture import write_campaign


def report(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str], str]:
    code = main(["report", *words])
    out = capsys.readouterr()
    return code, out.out.splitlines(), out.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--format", "sarif"), ["dagstorm.sarif"]),
        (("--format", "junit", "--format", "csv"), ["junit.xml", "findings.csv"]),
        (("--format", "prom"), ["dagstorm.prom"]),
    ],
)
def test_only_what_was_asked_for_is_written(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    expected: list[str],
) -> None:
    write_campaign(tmp_path)
    before = set(tmp_path.iterdir())
    code, printed, _ = report(capsys, str(tmp_path), *words)
    assert code == 0
    assert [Path(p).name for p in printed] == expected
    assert {p.name for p in set(tmp_path.iterdir()) - before} == set(expected)


def test_a_mission_by_name_is_the_only_mission_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_campaign(tmp_path)
    code, printed, _ = report(capsys, str(tmp_path), "--mission", "DAG-009")
    assert code == 0
    assert [Path(p).name for p in printed if p.endswith(".md")] == ["DAG-009.md"]
    assert not (tmp_path / "index.html").exists()


def test_several_runs_are_rendered_by_one_command_and_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [write_campaign(tmp_path / name) for name in ("a", "b")]
    code, printed, _ = report(capsys, *map(str, folders))
    assert code == 0
    pages = [sorted(p.relative_to(f) for p in f.rglob("*") if p.is_file()) for f in folders]
    assert pages[0] == pages[1]
    assert len(printed) == 2 * (len(pages[0]) - len(list(write_campaign(tmp_path / "c").iterdir())))
    for name in pages[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--mission", "DAG-9"), "mission 'DAG-9' is not in this run; there are: DAG-009"),
        (("--mission", "DAG-009", "--format", "html"), "only Markdown is written per mission"),
    ],
)
def test_a_wrong_request_gets_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    write_campaign(tmp_path)
    code, printed, said = report(capsys, str(tmp_path), *words)
    assert (code, printed) == (2, [])
    assert says in said
    assert said.count("\n") == 1


def test_a_folder_without_findings_and_damaged_ones_get_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, said = report(capsys, str(tmp_path))
    assert (code, said.count("\n")) == (2, 1)
    assert "no findings.json there" in said
    (tmp_path / "findings.json").write_text('{"metadata": {"run": {}}}', "utf-8")
    code, _, said = report(capsys, str(tmp_path))
    assert (code, said.count("\n")) == (2, 1)
    assert "an older dagstorm wrote it" in said


def test_every_format_can_be_named() -> None:
    assert set(FORMATS) >= {"md", "html", "sarif", "junit", "csv"}
