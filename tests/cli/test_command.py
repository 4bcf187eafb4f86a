"""The command as a user meets it: exit codes, one-line errors, resumable campaigns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("--profile", "smoke", "--no-confirm", "--quiet")


def dagstorm(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *words],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def rows(folder: Path) -> list[dict[str, object]]:
    out = []
    for line in (folder / "results.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        row.pop("duration_s")
        out.append(row)
    return out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run", "--engine", "refference"), "did you mean reference?"),
        (("run", "--mission", "DAG-99"), "did you mean DAG-009?"),
        (("run", "--clause", "TIME-99"), "no clause 'TIME-99'"),
        (("run", "--pack", "timeout"), "did you mean timeouts?"),
        (("run", "--seed", "x"), "expected a whole number, got 'x'"),
        (("run", "--runs", "0"), "expected at least 1"),
        (("run", "--budget", "soon"), "expected a time such as 60s"),
        (("run", "--lab", "live", "--search", "swarm"), "it needs the speed of --lab sim"),
        (("run", "--engine", "nowhere.py:Adapter"), "no file nowhere.py"),
        (("replay", "ds1.!!"), "it is damaged"),
        (("frobnicate",), "invalid choice"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(words: tuple[str, ...], says: str) -> None:
    done = dagstorm(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("dagstorm: error: ")
    assert says in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object with 'program'"),
        ('{"program": {"stages": [{"name": "a", "steps": [{"op": "slep"}]}]}}', "unknown step"),
        ('{"program": {"stages": []}, "plan": {"runs": []}}', "expected 1 to"),
        ('{"program": {"stages": []}, "clauses": ["NOPE"]}', "no clause 'NOPE'"),
    ],
)
def test_a_malformed_program_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text, "utf-8")
    done = dagstorm("run", "--engine", "reference", "--program", str(file))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr


def test_an_index_that_cannot_be_reached_is_exit_code_3(tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "DAGSTORM_HOME": str(tmp_path)}
    done = dagstorm("run", "--engine", "stageflow", "--out", str(tmp_path / "out"), env=nowhere)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert "the package index cannot be reached" in done.stderr


def test_a_run_directory_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine", "utf-8")
    done = dagstorm("run", "--engine", "reference", "--out", str(tmp_path))
    assert (done.returncode, [p.name for p in tmp_path.iterdir()]) == (2, ["kept.txt"])


def test_one_seed_gives_the_same_results_whatever_the_workers(tmp_path: Path) -> None:
    for name, workers in (("one", "1"), ("two", "2")):
        words = ("--engine", "reference", "--engine", "broken:timeout-late", "--pack", "timeouts")
        done = dagstorm(
            "run",
            *words,
            "--workers",
            workers,
            "--seed",
            "5",
            *QUICK,
            "--out",
            str(tmp_path / name),
        )
        assert done.returncode == 0, done.stderr
    assert rows(tmp_path / "one") == rows(tmp_path / "two")


def interrupted(*words: str, once: Path) -> int:
    """Start the command, interrupt it as soon as a file is there; returns its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not once.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    return process.wait(timeout=60)


def test_an_interrupted_run_can_be_resumed_to_the_same_results(tmp_path: Path) -> None:
    words = ("run", "--engine", "reference", "--pack", "timeouts", "--pack", "cleanup", *QUICK)
    whole = tmp_path / "whole"
    assert dagstorm(*words, "--out", str(whole)).returncode == 0
    # A machine that is busy with other things may let it end before it can be interrupted.
    for attempt in range(5):
        broken = tmp_path / f"broken-{attempt}"
        code = interrupted(*words, "--out", str(broken), once=broken / "units.jsonl")
        if code != 0:
            break
    state = json.loads((broken / "run.json").read_text("utf-8"))
    assert (code, state["status"]) == (130, "interrupted")
    assert 0 < len(rows(broken)) < len(rows(whole))
    with (broken / "units.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"torn": ')
    done = dagstorm("run", "--resume", str(broken), "--quiet")
    assert done.returncode == 0, done.stderr
    assert rows(broken) == rows(whole)
    assert json.loads((broken / "run.json").read_text("utf-8"))["status"] == "completed"


def test_findings_decide_the_exit_code_and_can_be_replayed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("--engine", "broken:cleanup-fifo", "--scenario", "cleanup/registry_order", *QUICK)
    done = dagstorm("run", *words, "--fail-on", "any", "--json", "--out", str(out))
    assert done.returncode == 1
    bugs = json.loads(done.stdout)["bugs"]
    assert [b["clause"] for b in bugs] == ["CLEAN-3"]
    again = dagstorm("replay", bugs[0]["id"], "--run", str(out))
    assert again.returncode == 0
    assert again.stdout.splitlines()[-1].startswith("reproduced ")


HOSTILE = """
import os
from harness.kernel.adapter import EngineInfo
import json as engine

class Adapter:
    def info(self):
        print("garbage on standard output")
        return EngineInfo("hostile", "", frozenset(), "json")
    def build(self, program, plan, bodies):
        os._exit(7)
    async def run(self, native, run, plan):
        raise AssertionError
"""


def test_an_engine_that_ends_its_process_does_not_end_the_campaign(tmp_path: Path) -> None:
    file = tmp_path / "hostile.py"
    file.write_text(HOSTILE, "utf-8")
    out = tmp_path / "out"
    words = ("--scenario", "graph/diamond_order", "--scenario", "cleanup/ok", *QUICK)
    done = dagstorm("run", "--engine", f"{file}:Adapter", *words, "--out", str(out))
    assert done.returncode == 0, done.stderr
    found = {r["scenario"]: (r["verdict"], "code 7" in str(r["reason"])) for r in rows(out)}
    assert set(found.values()) <= {("fail", True), ("unsupported", False)}
    assert ("fail", True) in found.values()


def test_the_command_on_record_runs_the_same_again(tmp_path: Path) -> None:
    words = ["--engine", "reference", "--pack", "cleanup", "--clause", "CLEAN-3"]
    words += ["--profile", "smoke", "--seed", "7", "--runs", "6"]
    first, again = tmp_path / "first", tmp_path / "again"
    rest = ("--no-confirm", "--no-registry", "--out")
    assert dagstorm("run", *words, *rest, str(first)).returncode == 0
    command = json.loads((first / "run.json").read_text("utf-8"))["command"]
    assert command == f"dagstorm run {' '.join(words)}"
    assert dagstorm(*command.split()[1:], *rest, str(again)).returncode == 0
    assert rows(again) == rows(first)
