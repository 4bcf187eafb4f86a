"""Nothing is left behind: no process, no listener, no file, no mount, whatever ends the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.lab.faults.process import Place
from tests.faults.rig import leftovers

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 180.0

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="needs signals, limits and /proc of Linux"
)


def started(folder: Path, fault: str) -> subprocess.Popen[bytes]:
    """Start the command with a folder for temporary files, which marks all that it starts."""
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "harness.cli", "faults", "--engine", "reference"),
            *("--fault", fault, "--times", "50", "--out", str(folder / "out"), "--quiet"),
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def of(folder: Path) -> list[psutil.Process]:
    """Return the processes that have the folder as theirs."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder / "tmp"):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def wait_until(what: str, done: object) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not done():  # type: ignore[operator]
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def at_work(folder: Path, process: subprocess.Popen[bytes]) -> bool:
    """Say whether a subject is running: its ledger has been begun."""
    assert process.poll() is None, "the command ended before it could be ended"
    return any((folder / "tmp").glob("dagstorm-faults-*/*/ledger"))


def listening(processes: list[psutil.Process]) -> list[object]:
    found: list[object] = []
    for process in processes:
        try:
            found += [c for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def mounts() -> str:
    return Path("/proc/mounts").read_text("utf-8")


def mountable() -> bool:
    with Place() as place:
        folder = place.new_folder("try")
        return not place.mount(folder, 1 << 20)


@pytest.mark.parametrize(
    ("fault", "number"),
    [
        ("kill", signal.SIGINT),
        ("stop", signal.SIGKILL),
        ("disk", signal.SIGKILL),
        pytest.param("kill", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("cpu", signal.SIGKILL, marks=pytest.mark.slow),
        pytest.param("term", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_nothing_is_left_when_the_command_is_ended(
    tmp_path: Path, fault: str, number: signal.Signals
) -> None:
    process = started(tmp_path, fault)
    try:
        wait_until("it gets to work", lambda: at_work(tmp_path, process))
        if fault == "stop":
            status = (psutil.STATUS_STOPPED,)
            wait_until("it stops", lambda: any(p.status() in status for p in of(tmp_path)))
        if fault == "disk" and mountable():
            wait_until("it mounts", lambda: str(tmp_path) in mounts())
        if fault == "cpu":
            wait_until("others spin", lambda: len(of(tmp_path)) > 3)
        assert listening(of(tmp_path)) == []
        process.send_signal(number)
        code = process.wait(LIMIT_S)
    finally:
        process.kill()
        process.wait()
    wait_until("its processes are gone", lambda: not of(tmp_path))
    assert list((tmp_path / "tmp").iterdir()) == []
    assert str(tmp_path) not in mounts()
    if number == signal.SIGINT:
        assert code == 130
        faults = json.loads((tmp_path / "out" / "faults.json").read_text("utf-8"))
        assert faults["metadata"]["status"] == "interrupted"
    else:
        assert code == -number


def test_a_finished_command_leaves_its_files_and_nothing_else(tmp_path: Path) -> None:
    before = leftovers()
    process = started(tmp_path, "memory")
    assert process.wait(LIMIT_S) == 0
    assert (of(tmp_path), list((tmp_path / "tmp").iterdir())) == ([], [])
    assert leftovers() == before
    rows = (tmp_path / "out" / "results.jsonl").read_text("utf-8").splitlines()
    (row,) = [json.loads(line) for line in rows]
    assert (row["lab"], row["scenario"], row["verdict"]) == ("live", "faults/memory", "pass")
    assert (tmp_path / "out" / "faults.md").read_text("utf-8").startswith("# Faults: ")


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept").touch()
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "faults", "--out", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "exists and is not empty" in done.stderr
