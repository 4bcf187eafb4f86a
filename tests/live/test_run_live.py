"""`dagstorm run --lab live` as a user meets it; nothing of it is left, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.cli import main

ROOT = Path(__file__).resolve().parents[2]
RUN = ("run", "--profile", "smoke", "--quiet", "--workers", "2", "--no-confirm")
GONE_WITHIN_S = 60.0


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "harness.cli", *words]


def environment(folder: Path) -> dict[str, str]:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(scratch)}


def dagstorm(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=ROOT,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text("utf-8").splitlines()]


def test_a_run_in_both_laboratories(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = dagstorm(
        tmp_path,
        *RUN,
        *("--engine", "broken:caller-cancel-abandons", "--lab", "both", "--out", str(out)),
        *(
            "--scenario",
            "branch_cancel/caller_cancel_midway",
            "--scenario",
            "cleanup/caller_cancel",
        ),
        *("--scenario", "chaos_monthly/hang_cancelled"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    if any("the machine was too busy" in r["reason"] for r in rows(out)):
        pytest.skip("the machine is busy: nothing was proved live")
    assert sorted((r["scenario"], r["lab"], r["verdict"]) for r in rows(out)) == [
        ("branch_cancel/caller_cancel_midway", "live", "fail"),
        ("branch_cancel/caller_cancel_midway", "sim", "fail"),
        ("chaos_monthly/hang_cancelled", "live", "fail"),
        ("chaos_monthly/hang_cancelled", "sim", "fail"),
        ("cleanup/caller_cancel", "sim", "fail"),
    ]
    meta = json.loads((out / "run.json").read_text("utf-8"))
    assert list(meta["not_live"]["why"]) == ["cleanup/caller_cancel"]
    assert meta["not_live"]["scenarios"] == 1
    # What both laboratories showed is one finding, told by the run that can be replayed.
    found = json.loads((out / "findings.json").read_text("utf-8"))["findings"]
    bug = next(f for f in found if f["clause"] == "CANCEL-3")
    assert {m["lab"] for m in bug["evidence"]["measured"]} == {"sim", "live"}
    assert bug["reproduction"]["environment"]["lab"] == "sim"
    assert bug["confirmation"] != "live_only"
    assert len({f["fingerprint"] for f in found if f["kind"] == "bug"}) == sum(
        f["kind"] == "bug" for f in found
    )
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.slow
def test_what_only_a_live_run_showed_says_so_and_is_not_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ("--engine", "broken:timeout-wall-clock", "--lab", "live", "--out", str(out))
    done = dagstorm(tmp_path, *RUN, *words, "--scenario", "chaos_monthly/clock_ahead")
    assert done.returncode == 0, done.stderr
    found = json.loads((out / "findings.json").read_text("utf-8"))["findings"]
    bug = next(f for f in found if f["clause"] == "TIME-2")
    assert bug["confirmation"] == "live_only"
    assert bug["reproduction"]["environment"]["lab"] == "live"
    assert main(["replay", bug["reproduction"]["token"]]) == 2
    assert "made by a live run, which no replay gives again" in capsys.readouterr().err


class Started:
    """A live campaign in a process of its own, in the midst of its runs."""

    def __init__(self, folder: Path, scenarios: Sequence[str]) -> None:
        chosen = [word for one in scenarios for word in ("--scenario", one)]
        words = ("--lab", "live", "--engine", "reference", "--out", str(folder / "out"))
        self.process = subprocess.Popen(
            command(*RUN, *words, *chosen),
            cwd=ROOT,
            env=environment(folder),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        self.folder = folder
        try:
            self._wait_for(folder / "out" / "units.jsonl")
            me = psutil.Process(self.process.pid)
            self.children = me.children(recursive=True)
            self.ports = [
                c.laddr.port for c in me.net_connections("tcp") if c.status == psutil.CONN_LISTEN
            ]
        except BaseException:
            self.process.kill()
            raise

    def _wait_for(self, file: Path) -> None:
        limit = time.monotonic() + 180
        while not file.exists():
            assert self.process.poll() is None, "it ended before it began"
            assert time.monotonic() < limit, "no unit was ever finished"
            time.sleep(0.05)

    def assert_all_gone(self) -> None:
        assert self.children and len(self.ports) >= 4, "there was nothing that could be left"
        _, alive = psutil.wait_procs(self.children, timeout=GONE_WITHIN_S)
        for one in alive:
            one.kill()
        assert alive == []
        for port in self.ports:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=10).close()
        assert list((self.folder / "scratch").iterdir()) == []


LONG = [
    "tools/error_injection",
    "chaos_monthly/hang",
    "tools/slow_tool_timeout",
    "tools/partial_result_tool",
    "chaos_monthly/bandwidth",
    "tools/concurrent_timeout",
    "tools/resource_cleanup",
]


def test_killed_it_leaves_no_process_no_port_and_no_file(tmp_path: Path) -> None:
    started = Started(tmp_path, LONG)
    started.process.send_signal(signal.SIGKILL)
    started.process.communicate(timeout=60)
    assert started.process.returncode == -signal.SIGKILL
    started.assert_all_gone()


@pytest.mark.slow
def test_interrupted_it_leaves_none_either_and_can_be_gone_on_with(tmp_path: Path) -> None:
    started = Started(tmp_path, LONG[:3])
    started.process.send_signal(signal.SIGINT)
    _, errors = started.process.communicate(timeout=180)
    assert started.process.returncode == 130, errors
    started.assert_all_gone()
    out = tmp_path / "out"
    assert json.loads((out / "run.json").read_text("utf-8"))["status"] == "interrupted"
    done = dagstorm(tmp_path, "run", "--resume", str(out), "--quiet")
    assert done.returncode == 0, done.stderr
    assert sorted((r["scenario"], r["lab"]) for r in rows(out)) == sorted(
        (one, "live") for one in LONG[:3]
    )
