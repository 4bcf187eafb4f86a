"""`dagstorm packs|missions|clauses|engines`: what is listed can be shown, and only that."""

from __future__ import annotations

import pytest

from harness.cli import main
from harness.contract.clauses import CLAUSES
from harness.contract.load import LOAD
from scenarios import PACKS, missions

LISTED = {
    "packs": [p.id for p in PACKS],
    "missions": list(missions()),
    "clauses": [*CLAUSES, *LOAD],
}


@pytest.mark.parametrize("kind", LISTED)
def test_all_that_there_is_is_listed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([kind, "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == LISTED[kind]


@pytest.mark.parametrize("kind", LISTED)
def test_each_can_be_shown_in_any_case(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in LISTED[kind]:
        assert main([kind, "show", name.swapcase()]) == 0
        assert capsys.readouterr().out.startswith(name)


@pytest.mark.parametrize("kind", LISTED)
def test_a_name_that_is_none_gets_a_hint(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = LISTED[kind][0]
    assert main([kind, "show", name + "x"]) == 2
    assert f"did you mean {name}?" in capsys.readouterr().err


def test_engines_are_listed_with_the_broken_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["engines", "list"]) == 0
    said = capsys.readouterr().out
    assert "stageflow " in said
    assert "broken:" in said
