"""Users on workers: a master and two workers, as processes of one machine."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness.cli import main
from harness.lab.load.users import free_port
from tests.load.processes import Command, command


def ended(one: Command) -> tuple[int, str]:
    said, _ = one.process.communicate(timeout=300)
    return one.process.returncode, said


@pytest.mark.slow
def test_what_users_on_two_workers_saw_is_judged_by_the_master(tmp_path: Path) -> None:
    port, out = str(free_port()), tmp_path / "run"
    load = ("load", "--engine", "reference", "--users", "6", "--time", "6s", "--leak-runs", "0")
    master = ("--master", "--expect-workers", "2", "--bind", f"127.0.0.1:{port}")
    with (
        command(*load, *master, "--resets", "10%", "--out", str(out)) as first,
        command("load", "--worker", "--master-port", port) as one,
        command("load", "--worker", "--master-port", port) as other,
    ):
        with ThreadPoolExecutor(3) as pool:
            codes = list(pool.map(ended, (first, one, other)))
        assert [code for code, _ in codes] == [0, 0, 0], codes
        left = [process for each in (first, one, other) for process in each.left()]
    assert left == []
    checks = {c["name"]: c for c in json.loads((out / "load.json").read_text())["checks"]}
    assert checks["workers"]["verdict"] == "pass", checks["workers"]
    told = json.loads((out / "locust" / "workers.json").read_text())
    assert len(told) == 2
    assert all(w["records"] == w["noted"] > 0 for w in told)
    assert checks["lost"]["figures"]["sent"] == sum(w["records"] for w in told)
    verdicts = {name: checks[name]["verdict"] for name in ("lost", "doubled", "cross_tenant")}
    assert verdicts == dict.fromkeys(verdicts, "pass")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--engine: name the engine"),
        (["--worker", "--engine", "reference"], "--engine: it is the master's"),
        (["--engine", "reference", "--expect-workers", "2"], "--expect-workers: it goes with --m"),
        (["--engine", "reference", "--master-port", "1"], "--master-port: it goes with --worker"),
        (["--engine", "reference", "--master", "--processes", "2"], "--processes: leave one out"),
        (["--engine", "reference", "--master", "--find-knee"], "--find-knee: leave one out"),
        (
            ["--engine", "reference", "--master", "--bind", "0.0.0.0:5557"],
            "--host-public: name the host",
        ),
        (["--engine", "reference", "--master", "--bind", "5557"], "expected HOST:PORT"),
    ],
)
def test_bad_words_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", *words]) == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert len(errors.splitlines()) == 1
