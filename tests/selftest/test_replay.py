"""Every finding of a run is to be had again, and one that is not is told from those that are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from harness.cli import main as dagstorm
from harness.lab.token import decode, encode
from tests.selftest.replay import main, unexplained

WORDS = (
    *("run", "--engine", "broken:caller-cancel-no-await", "--no-registry", "--quiet"),
    *("--scenario", "branch_cancel/caller_cancel", "--profile", "smoke", "--no-confirm"),
)


def test_a_finding_that_another_process_does_not_show_makes_it_red(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert dagstorm([*WORDS, "--out", str(run)]) == 0
    assert main([str(run)]) == 0
    assert "0 unexplained" in capsys.readouterr().out
    document = json.loads((run / "findings.json").read_text("utf-8"))
    bug = next(f for f in document["findings"] if f["kind"] == "bug")
    token = decode(bug["reproduction"]["token"])
    other = dataclasses.replace(token, shows=(bug["clause"], "another shape", ""))
    bug["reproduction"]["token"] = encode(other)
    (run / "findings.json").write_text(json.dumps(document), "utf-8")
    assert main([str(run), "--only", bug["id"]]) == 1
    said = capsys.readouterr().out
    assert f"{bug['id']} {bug['clause']} UNEXPLAINED: not reproduced" in said


@pytest.mark.parametrize(
    ("verdict", "confirmation", "note", "bad"),
    [
        ("reproduced", "simulated_only", "", False),
        ("not reproduced", "simulated_only", "the script did not show it", True),
        ("not reproduced", "nondeterministic", "only in one that had run others", False),
        ("nondeterministic", "nondeterministic", "", True),
        ("not replayed: no such scenario", "confirmed", "seen", True),
    ],
)
def test_a_reason_is_what_excuses_it(verdict: str, confirmation: str, note: str, bad: bool) -> None:
    finding = {"confirmation": confirmation, "confirmation_note": note}
    assert unexplained(finding, verdict) is bad
