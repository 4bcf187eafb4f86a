"""`dagstorm load` from end to end: short loads on a good engine and on a bad one, and its ends."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from harness.cli import main
from harness.engine.broken import CATALOGUE
from harness.lab.engines import parse_engine
from harness.lab.load.faults import FaultPlan
from harness.lab.load.session import LoadPlan, run_load
from harness.lab.load.users import Users
from tests.load.processes import command, eventually

DYING = """
import os
from harness.adapters.reference import Adapter as Reference

class Adapter(Reference):
    runs = 0

    async def run(self, native, run, plan):
        self.runs += 1
        if self.runs > 200:  # those of the warm-up
            os._exit(7)
        return await super().run(native, run, plan)
"""


def verdicts(result: dict[str, object]) -> dict[str, str]:
    return {c["name"]: c["verdict"] for c in result["checks"]}  # type: ignore[attr-defined]


def test_the_reference_keeps_everything_under_faults(tmp_path: Path) -> None:
    plan = LoadPlan(Users(5, 3.0), FaultPlan(resets=0.2, jitter_s=0.02), leak_batches=0)
    engine = parse_engine("reference", CATALOGUE)
    result = run_load(engine, plan, tmp_path, lambda _text: None)
    found = verdicts(result)
    # Whether a reset fell into these few seconds is chance; all else is not.
    assert found.pop("faults") in ("pass", "inconclusive")
    assert found == dict.fromkeys(
        (
            "alive",
            "cross_tenant",
            "lost",
            "doubled",
            "events",
            "reported",
            "errors",
            "memory",
            "descriptors",
        ),
        "pass",
    )
    assert {"main/fetch", "main/notify", "main (whole run)"} <= set(result["stages"])
    assert result["latencies"]["all"]["count"] > 0
    assert result["resources"].keys() == {"engine", "dagstorm", "users"}
    assert len(result["windows"]) == 1
    assert (tmp_path / "locust" / "report.html").stat().st_size > 0
    assert (tmp_path / "locust" / "load_stats.csv").read_text().startswith("Type,Name")


def test_a_tenants_leak_is_critical(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["load", "--engine", "broken:first-output-kept", "--users", "5", "--time", "2s"]
    words += ["--leak-runs", "0"]
    code = main([*words, "--fail-on", "critical", "--quiet", "--out", str(tmp_path / "run")])
    assert code == 1
    assert "fail         cross_tenant" in capsys.readouterr().out
    rows = [json.loads(x) for x in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    (row,) = [r for r in rows if r["scenario"] == "load/cross_tenant"]
    assert (row["lab"], row["clause"], row["verdict"]) == ("live", "TENANT-1", "fail")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "completed"
    page = (tmp_path / "run" / "load.md").read_text()
    assert "| cross_tenant | fail |" in page
    assert (tmp_path / "run" / "load.svg").read_text().startswith("<svg")


@pytest.mark.slow
def test_an_engine_that_dies_under_load_is_a_finding(tmp_path: Path) -> None:
    file = tmp_path / "dying.py"
    file.write_text(DYING, "utf-8")
    plan = LoadPlan(Users(3, 2.0), leak_batches=0)
    engine = parse_engine(str(file), CATALOGUE)
    (tmp_path / "run").mkdir()
    result = run_load(engine, plan, tmp_path / "run", lambda _text: None)
    (alive,) = [c for c in result["checks"] if c["name"] == "alive"]
    assert (alive["verdict"], alive["actual"]) == ("fail", "it ended with code 7")


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGKILL]
)
def test_nothing_is_left_of_a_load_that_was_ended(tmp_path: Path, how: signal.Signals) -> None:
    records = tmp_path / "run" / "locust" / "records"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    words = ["load", "--engine", "reference", "--users", "3", "--time", "5m"]
    with command(*words, "--out", str(tmp_path / "run"), temporary=temporary) as one:
        assert eventually(lambda: records.exists() and any(records.iterdir()), 180)
        one.look()
        assert len(one.family) >= 4  # dagstorm, the engine, Locust's guard, Locust
        assert len(one.ports) >= 3  # the engine, the proxy's API, the proxy
        one.process.send_signal(how)
        code = one.process.wait(timeout=180)
        assert one.left() == []
    assert list(temporary.iterdir()) == []
    if how == signal.SIGINT:
        assert code == 130
        assert json.loads((tmp_path / "run" / "load.json").read_text())["status"] == "interrupted"
    else:
        assert code == -signal.SIGKILL


def test_serve_ends_at_a_signal_and_leaves_nothing() -> None:
    with command("serve", "--engine", "reference", "--port", "0") as one:
        assert one.process.stdout is not None
        assert one.process.stdout.readline().startswith("dagstorm serve: reference at http://")
        one.look()
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(timeout=120) == 0
        assert one.left() == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--time", "0s"], "expected 1s to 24h"),
        (["--resets", "120%"], "expected a share such as 5%"),
        (["--jitter", "100"], "expected a time up to 10s such as 100ms"),
        (["--objective", "fast"], "expected an objective such as"),
        (["--fault-window", "0.9..0.1"], "expected two shares of the time"),
        (["--rate", "0"], "expected requests a second such as 50"),
        (["--find-knee", "--hold", "1m"], "leave one out"),
        (["--program", "nowhere.json"], "cannot be read"),
    ],
)
def test_bad_words_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", "--engine", "reference", *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
def test_fifty_users_for_a_minute(tmp_path: Path) -> None:
    plan = LoadPlan(Users(50, 60.0), FaultPlan(resets=0.05, jitter_s=0.1))
    engine = parse_engine("reference", CATALOGUE)
    result = run_load(engine, plan, tmp_path, lambda _text: None)
    assert set(verdicts(result).values()) == {"pass"}
