"""Scripts confirm findings: how often they showed it, and which witness they were made from."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.lab import conclude
from harness.lab.campaign import Engine
from harness.lab.conclude import confirmations
from harness.lab.confirm import Said, Script, rate_of, run_again, run_scripts
from harness.lab.engines import EngineRef

ENGINE = Engine(EngineRef("toy", "1.0", "", {}), python=sys.executable)
BUG = {"id": "BUG-001", "fingerprint": "f", "clause": "CLEAN-1"}

SHOWS = 'print("VIOLATION CLEAN-1: 1 of 2 was released")\nraise SystemExit(1)\n'
HOLDS = 'print("HOLDS CLEAN-1")\n'
BREAKS = 'raise ValueError("no engine")\n'
# Shows it in every run but the second, as a race might.
RACES = """\
from pathlib import Path
file = Path(__file__).with_suffix(".count")
runs = len(file.read_text()) if file.exists() else 0
file.write_text("x" * (runs + 1))
if runs == 1:
    print("HOLDS CLEAN-1")
else:
    print("VIOLATION CLEAN-1: a race")
    raise SystemExit(1)
"""


def script(folder: Path, text: str) -> Script:
    file = folder / "script.py"
    file.write_text(text, "utf-8")
    return Script("f", "CLEAN-1", file, sys.executable)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SHOWS, Said("shows", "VIOLATION CLEAN-1: 1 of 2 was released")),
        (HOLDS, Said("holds", "the script did not show it on the stock event loop")),
        (BREAKS, Said("broken", "the script could not run (exit 1): ValueError: no engine")),
        # What breaks another clause does not show this one.
        (
            SHOWS.replace("CLEAN-1", "TIME-1"),
            Said(
                "broken",
                "the script could not run (exit 1): VIOLATION TIME-1: 1 of 2 was released",
            ),
        ),
    ],
)
def test_what_a_script_says(tmp_path: Path, text: str, said: Said) -> None:
    assert run_scripts([script(tmp_path, text)]) == [said]


def test_no_script_is_run_again_when_the_time_is_up() -> None:
    ran: list[str] = []

    def run(one: Script) -> Said:
        ran.append(one.fingerprint)
        return Said("shows", "")

    one = Script("f", "CLEAN-1", Path("none"), "")
    assert run_again([one], deadline=time.monotonic() - 1, run=run) == {"f": []}
    assert ran == []
    assert run_again([one], deadline=time.monotonic() + 60, run=run) == {
        "f": [Said("shows", "")] * 2
    }


def test_the_rate_counts_what_was_run() -> None:
    shows, holds = Said("shows", ""), Said("holds", "")
    assert rate_of([shows, holds, shows]) == "showed 2 of 3"
    assert rate_of([shows]) == "showed 1 of 1"


def confirmed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *texts: str | None
) -> tuple[dict[str, Any], str]:
    """Confirm one bug whose witnesses have these scripts; returns the answer and its script."""

    def render(
        _engines: Sequence[Engine],
        due: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
        tried: Mapping[str, list[conclude._Tried]],
    ) -> None:
        for bug, witness in due:
            text = texts[int(witness["token"])]
            why = "" if text else "step flood"
            tried[bug["fingerprint"]].append(conclude._Tried(witness["token"], text, why))

    monkeypatch.setattr(conclude, "_render", render)
    told = [{"engine": "toy@1.0", "token": str(i)} for i in range(len(texts))]
    answers = confirmations(folder, [ENGINE], [BUG], {"f": told}, lambda _text: None)
    file = folder / "repro" / "BUG-001.py"
    return answers["f"], file.read_text("utf-8") if file.exists() else ""


def test_a_script_that_shows_it_sometimes_confirms_it_with_its_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, _ = confirmed(tmp_path, monkeypatch, RACES)
    assert answer == {
        "confirmation": "confirmed",
        "confirmation_note": "VIOLATION CLEAN-1: a race (showed 2 of 3)",
        "script": "repro/BUG-001.py",
        "token": "0",
    }


def test_where_a_script_holds_the_next_witness_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, text = confirmed(tmp_path, monkeypatch, HOLDS, None, SHOWS)
    assert (answer["confirmation"], answer["token"]) == ("confirmed", "2")
    assert answer["confirmation_note"].endswith("(showed 3 of 3)")
    assert text == SHOWS


def test_if_no_script_shows_it_the_first_is_kept_and_the_others_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, text = confirmed(tmp_path, monkeypatch, HOLDS, BREAKS)
    assert answer == {
        "confirmation": "simulated_only",
        "confirmation_note": "the script did not show it on the stock event loop; "
        "nor did the script of 1 other witness",
        "script": "repro/BUG-001.py",
        "token": "0",
    }
    assert text == HOLDS


def test_why_there_is_no_script_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, text = confirmed(tmp_path, monkeypatch, None)
    assert (answer["confirmation"], answer["confirmation_note"], text) == (
        "simulated_only",
        "no script: step flood",
        "",
    )


OFTEN = "VIOLATION CLEAN-1: seen: in 3 of 400 tries"


@pytest.mark.parametrize(
    ("tries", "answers"),
    [
        (f'print("{OFTEN}")\nraise SystemExit(1)\n', ("confirmed", OFTEN)),
        (
            'print("HOLDS CLEAN-1: in none of 400 tries")\n',
            (
                "simulated_only",
                "the script did not show it on the stock event loop; many times with other "
                "schedules: in none of 400 tries",
            ),
        ),
    ],
)
def test_a_script_that_holds_tries_many_times_and_the_rate_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: str, answers: tuple[str, str]
) -> None:
    monkeypatch.setattr(conclude, "with_tries", lambda _text, _clause: tries)
    answer, text = confirmed(tmp_path, monkeypatch, HOLDS)
    assert (answer["confirmation"], answer["confirmation_note"]) == answers
    assert text == (tries if answers[0] == "confirmed" else HOLDS)


def test_no_script_tries_many_times_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conclude, "TRIES_LIMIT_S", -1.0)
    monkeypatch.setattr(conclude, "with_tries", lambda _text, _clause: SHOWS)
    assert confirmed(tmp_path, monkeypatch, HOLDS)[0]["confirmation"] == "simulated_only"
