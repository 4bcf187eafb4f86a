"""The registry's file: concurrent runs, killed runs, damage, and files of something else."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from harness.findings.registry import Registry, RegistryError
from tests.findings.book import a_run, entry, row

ROOT = Path(__file__).resolve().parents[2]

# Ends runs one after the other, each with a few findings of a common stock, and tells of each
# finding only once the registry has it, as a campaign does.
WRITER = """
import json, random, sys
from pathlib import Path
from harness.findings.registry import Registry
from tests.findings.book import a_run, entry, row
path, name, runs, stock = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
rng = random.Random(name)
registry = Registry(Path(path))
print("ready", flush=True)
sys.stdin.readline()
for i in range(runs):
    marks = rng.sample(range(stock), 5)
    entries = [entry(f"{m:04x}") for m in marks]
    _, ids = a_run(registry, f"{name}-{i}", entries, [row(verdict="fail")])
    print(json.dumps(ids), flush=True)
"""


def writer(path: Path, name: str, runs: int, stock: int = 40) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(runs), str(stock)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def told(output: str) -> list[dict[str, str]]:
    """Return what a writer told, a last line torn by its death left out."""
    return [json.loads(line) for line in output.splitlines(keepends=True) if line.endswith("\n")]


def test_runs_that_end_at_once_never_share_or_change_an_id(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    processes = [writer(path, name, 8) for name in "abc"]
    for process in processes:
        go(process)
    said = [ids for p in processes for ids in told(p.communicate(timeout=60)[0])]
    assert [p.returncode for p in processes] == [0, 0, 0]
    assert len(said) == 24
    known = Registry(path).known()
    for ids in said:
        assert ids == {mark: known[mark].id for mark in ids}
    assert len({k.id for k in known.values()}) == len(known)
    # Every one of the runs is counted, whoever was first.
    seen = [mark for ids in said for mark in ids]
    assert {m: k.occurrences for m, k in known.items()} == {m: seen.count(m) for m in seen}
    assert len(Registry(path).history()) == 24


def test_twenty_kills_lose_no_finding_that_was_told_and_damage_nothing(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed.py")), str(path), "20", "7"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    kills = [json.loads(line) for line in done.stdout.splitlines()]
    assert [k["killed"] for k in kills] == [signal.SIGKILL] * 20
    held: dict[str, str] = {}
    for kill in kills:
        for ids in kill["told"]:
            assert ids == {mark: kill["holds"][mark] for mark in ids}
        # What the registry held it holds still, under the same id; no two have one.
        assert held.items() <= kill["holds"].items()
        held = kill["holds"]
        assert len(set(held.values())) == len(held)
    assert sum(len(k["told"]) for k in kills) > 10
    assert a_run(Registry(path), "last", [entry("ffff")], [row(verdict="fail")])[0].new != []


def _other(path: Path) -> None:
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE mine (x)")
    base.close()


def _newer(path: Path) -> None:
    Registry(path).begin("r1", "")
    with sqlite3.connect(path) as base:
        base.execute("PRAGMA user_version = 99")
    base.close()


def _torn(path: Path) -> None:
    a_run(Registry(path), "r1", [entry(f"{i:04x}") for i in range(40)], [row(verdict="fail")])
    data = path.read_bytes()
    assert len(data) > 20_000
    path.write_bytes(data[:8192] + os.urandom(8192) + data[16384:])


def _wrong_body(path: Path) -> None:
    a_run(Registry(path), "r1", [entry()], [row(verdict="fail")])
    with sqlite3.connect(path) as base:
        base.execute("UPDATE findings SET body = '{}'")
    base.close()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: p.write_bytes(b"garbage\x00" * 50), "not a dagstorm registry"),
        (lambda p: p.write_text("x"), "not a dagstorm registry"),
        (_other, "an SQLite file of something else"),
        (_newer, "made by a newer dagstorm (version 99"),
        (_torn, "damaged"),
        (_wrong_body, "damaged"),
        (lambda p: p.mkdir(), "cannot be read: Is a directory"),
    ],
)
def test_what_is_no_registry_is_refused_in_one_line_and_left_alone(
    tmp_path: Path, make: object, says: str
) -> None:
    path = tmp_path / "registry.sqlite3"
    make(path)  # type: ignore[operator]
    before = path.read_bytes() if path.is_file() else None
    for use in (lambda: Registry(path).begin("r2", ""), lambda: Registry(path).known()):
        with pytest.raises(RegistryError) as raised:
            use()
            Registry(path).known()
        assert says in str(raised.value)
        assert "\n" not in str(raised.value)
    if make is not _wrong_body:
        assert (path.read_bytes() if path.is_file() else None) == before


def test_an_empty_file_becomes_a_registry(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite3"
    path.touch()
    with pytest.raises(RegistryError, match="there is none"):
        Registry(path).known()
    assert a_run(Registry(path), "r1", [entry()], [row(verdict="fail")])[0].new == ["BUG-001"]


def test_reading_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="there is none"):
        Registry(tmp_path / "no.sqlite3").known()
    assert list(tmp_path.iterdir()) == []
