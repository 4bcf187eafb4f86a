"""Scripts confirm findings: how often they showed it, and which witness they were made from."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.lab import conclude, confirm
from harness.lab.conclude import confirmations
from harness.lab.confirm import OVER, Said, Script, Trial, rate_of, run_script, try_all
from harness.lab.engines import EngineRef
from harness.lab.pool import Pool
from harness.lab.subject import Engine

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
        (
            "import os\nos._exit(2)\n",
            Said("broken", "its run was not over after 0 s, when the script gave up"),
        ),
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
    assert run_script(script(tmp_path, text)) == said


SHOWN = Said("shows", "VIOLATION CLEAN-1: seen")
HELD = Said("holds", "the script did not show it on the stock event loop")


def tried(
    says: Mapping[str, Said], *trials: Trial, again_s: float = 60.0, left_s: float | None = None
) -> list[str]:
    """Try these scripts, which say so by their names; returns those that were run, in order."""
    ran: list[str] = []

    def run(one: Script, _deadline: float | None) -> Said:
        ran.append(one.file.name)
        return says[one.file.name]

    now = time.monotonic()
    deadline = None if left_s is None else now + left_s
    try_all(trials, at_once=1, again_until=now + again_s, deadline=deadline, run=run)
    return ran


def trial(*names: str) -> Trial:
    return Trial([Script("f", "CLEAN-1", Path(name), "") for name in names])


def test_first_scripts_come_first_then_other_witnesses_then_further_runs() -> None:
    one, other = trial("a"), trial("b", "c")
    says = {"a": SHOWN, "b": HELD, "c": SHOWN}
    assert tried(says, one, other) == ["a", "b", "c", "a", "a", "c", "c"]
    assert (one.said, other.said) == ([[SHOWN] * 3], [[HELD], [SHOWN] * 3])
    assert (one.shown, other.shown) == (0, 1)


def test_no_script_is_run_again_when_the_time_for_that_is_up() -> None:
    one = trial("a", "b")
    assert tried({"a": HELD, "b": SHOWN}, one, again_s=-1.0) == ["a", "b"]
    assert (one.said, one.late) == ([[HELD], [SHOWN]], False)


def test_no_script_is_run_at_all_when_the_budget_is_spent() -> None:
    one = trial("a", "b")
    assert tried({"a": SHOWN}, one, left_s=-1.0) == []
    assert (one.said, one.late, one.shown) == ([], True, None)


def test_a_script_is_ended_with_the_budget_and_that_is_no_verdict(tmp_path: Path) -> None:
    one = script(tmp_path, "import time\ntime.sleep(30)\n")
    said = run_script(one, time.monotonic() + 0.2)
    assert (said.verdict, said.note.startswith(OVER)) == ("broken", True)


def test_a_script_that_sleeps_for_long_is_run_again_beside_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(confirm, "LONG_S", 0.01)
    ran: list[str] = []
    third = threading.Event()

    def run(one: Script, _deadline: float | None) -> Said:
        ran.append(one.file.name)
        if len(ran) == confirm.RUNS:
            third.set()
        assert third.wait(20)  # none of them ends before all of them have begun
        return SHOWN

    one = trial("a")
    try_all([one], at_once=4, again_until=time.monotonic() + 60, run=run)
    assert (ran, one.said) == (["a"] * 3, [[SHOWN] * 3])


def test_the_rate_counts_what_was_run() -> None:
    shows, holds = Said("shows", ""), Said("holds", "")
    assert rate_of([shows, holds, shows]) == "showed 2 of 3"
    assert rate_of([shows]) == "showed 1 of 1"


def confirmed(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *texts: str | None,
    deadline: float | None = None,
) -> tuple[dict[str, Any], str]:
    """Confirm one bug whose witnesses have these scripts; returns the answer and its script."""

    def render(
        _engines: Sequence[Engine],
        due: Sequence[tuple[conclude._Case, Sequence[Mapping[str, Any]]]],
        _pool: Pool,
    ) -> None:
        for case, witnesses in due:
            for witness in witnesses:
                if text := texts[int(witness["token"])]:
                    case.texts.append(text)
                    case.tokens.append(witness["token"])
                    case.pythons.append(sys.executable)
                else:
                    case.why = "step flood"

    monkeypatch.setattr(conclude, "_render", render)
    told = [{"engine": "toy@1.0", "token": str(i)} for i in range(len(texts))]
    answers = confirmations(
        folder, [ENGINE], [BUG], {"f": told}, lambda _text: None, deadline=deadline
    )
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


def test_what_the_budget_left_unconfirmed_has_its_script_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, text = confirmed(tmp_path, monkeypatch, SHOWS, deadline=time.monotonic())
    assert answer == {
        "confirmation": "simulated_only",
        "confirmation_note": f"not confirmed: {OVER} before its script was run",
        "script": "repro/BUG-001.py",
        "token": "0",
    }
    assert text == SHOWS


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


def test_a_script_that_holds_may_cancel_some_turns_sooner_or_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = """\
for n in range(5):  # a number of turns of the event loop, not of seconds
    pass
print("VIOLATION CLEAN-1: at the third" if n == 2 else "HOLDS CLEAN-1")
raise SystemExit(n == 2)
"""
    answer, text = confirmed(tmp_path, monkeypatch, turns)
    assert answer == {
        "confirmation": "confirmed",
        "confirmation_note": "VIOLATION CLEAN-1: at the third (showed 3 of 3)",
        "script": "repro/BUG-001.py",
        "token": "0",
    }
    assert text == turns.replace("range(5)", "range(3)")
    far = turns.replace("n == 2", "n == 20")
    answer, text = confirmed(tmp_path, monkeypatch, far)
    assert (answer["confirmation"], text) == ("simulated_only", far)


def test_no_script_tries_many_times_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conclude, "TRIES_LIMIT_S", -1.0)
    monkeypatch.setattr(conclude, "with_tries", lambda _text, _clause: SHOWS)
    assert confirmed(tmp_path, monkeypatch, HOLDS)[0]["confirmation"] == "simulated_only"


def test_short_scripts_come_before_long_ones_else_as_they_are() -> None:
    long, short = "x = 1\n" * 61, "x = 1\n" * 60
    case = conclude._Case({}, tokens=["a", "b", "c"], texts=[long, short, short], pythons=[*"pqr"])
    case.put_short_first()
    assert (case.tokens, case.pythons) == (["b", "c", "a"], ["q", "r", "p"])
    assert case.texts == [short, short, long]
