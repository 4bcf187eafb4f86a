"""A defect that shows in one process only, after other programs, is told as what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.cli import main

# Loses the outputs of every run once the process has run so many: as an engine, or an adapter,
# whose globals fill up would.
ENGINE = """
import dataclasses

from harness.adapters.reference import Adapter as Reference


class Adapter(Reference):
    def __init__(self):
        super().__init__("reference")
        self.runs = 0

    async def run(self, native, run, plan):
        outcome = await super().run(native, run, plan)
        self.runs += 1
        return outcome if self.runs <= {spared} else dataclasses.replace(outcome, stages={{}})
"""
SCENARIO = "partial_results/fail_partial_outputs"


def run(tmp_path: Path, spared: int) -> tuple[int, list[str]]:
    engine = tmp_path / "forgets.py"
    engine.write_text(ENGINE.format(spared=spared), "utf-8")
    out = tmp_path / f"run-{spared}"
    words = ["run", "--engine", f"{engine}:Adapter", "--scenario", SCENARIO, "--quiet"]
    code = main([*words, "--workers", "1", "--fail-on", "any", "--out", str(out)])
    found = json.loads((out / "findings.json").read_text("utf-8"))["findings"]
    return code, [
        f"{f['confirmation']}: {f['confirmation_note']}" for f in found if f["kind"] == "bug"
    ]


@pytest.mark.parametrize(
    ("spared", "code", "says"),
    [
        (0, 1, "simulated_only: no script: "),
        (20, 0, "nondeterministic: not reproduced in a fresh process, only in one that had run "),
    ],
)
def test_what_shows_in_one_process_only_is_no_defect(
    tmp_path: Path, spared: int, code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, notes = run(tmp_path, spared)
    capsys.readouterr()
    assert notes and [n for n in notes if not n.startswith(says)] == []
    assert ended == code
