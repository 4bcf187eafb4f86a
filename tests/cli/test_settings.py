"""stress.toml and profiles: what is taken from where, and what is wrong with a file."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli import main
from harness.commands.choice import plan_line, sought
from harness.commands.gate import decide
from harness.commands.settings import read_settings
from harness.findings.thresholds import Threshold
from harness.kernel.errors import InputError
from harness.lab.again import Again
from harness.lab.campaign import Campaign, Engine
from harness.lab.engines import EngineRef
from harness.lab.profiles import PLANS, WEEK, Shares, day_of, seed_of, shares_of
from scenarios import PACKS, scenarios

QUICK = ("--scenario", "cleanup/registry_order", "--no-confirm", "--quiet", "--no-registry")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str, name: str = "stress.toml") -> Path:
    file = Path(name)
    file.write_text(text, "utf-8")
    return file


def test_all_of_it_is_read() -> None:
    file = write(
        """
        engines = ["reference", "stageflow@1.2.0"]
        profile = "nightly"
        seed = 7
        budget = "10m"
        fail_on = "high"

        [thresholds]
        drop_rate = { max = 0.01, engine = "stageflow", scenario = "event_overflow/*" }
        cleanup_share = [{ min = 1 }, { min = 0.5, engine = "mine", required = true }]
        "metrics.callbacks" = { max = 1000 }
        """
    )
    assert read_settings(file, ["dir/mine.py:Adapter"]) == {
        "engines": ["reference", "stageflow@1.2.0"],
        "profile": "nightly",
        "seed": 7,
        "budget": 600.0,
        "fail_on": "high",
        "thresholds": [
            Threshold("drop_rate", None, 0.01, "stageflow", "event_overflow/*"),
            Threshold("cleanup_share", 1),
            Threshold("cleanup_share", 0.5, None, "mine", "", True),
            Threshold("metrics.callbacks", None, 1000),
        ],
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("engines = ", "stress.toml: not valid TOML"),
        ("engine = 'x'", "stress.toml: engine: no such key; did you mean engines?"),
        ("engines = 'reference'", "stress.toml: engines: 'reference': expected a list"),
        ("engines = []", "stress.toml: engines: []: expected a list"),
        ("engines = ['refrence']", "stress.toml: engines: refrence: no such engine; did you mean"),
        ("profile = 'nightli'", "stress.toml: profile: 'nightli': no such profile; did you mean"),
        ("profile = ['daily']", "stress.toml: profile: ['daily']: no such profile"),
        ("thresholds.'metrics.' = {max = 1}", "thresholds.metrics.: no such figure"),
        ("seed = true", "stress.toml: seed: True: expected a whole number"),
        ("budget = 60", "stress.toml: budget: 60: expected a time such as"),
        ("fail_on = 'newest'", "stress.toml: fail_on: 'newest': expected one of new, any"),
        ("thresholds = 1", "stress.toml: thresholds: 1: expected a table"),
        ("thresholds.drop = {max = 1}", "thresholds.drop: no such figure; did you mean drop_rate?"),
        ("thresholds.drop_rate = 1", "thresholds.drop_rate: 1: expected a table such as"),
        ("thresholds.drop_rate = {}", "thresholds.drop_rate: it has neither min nor max"),
        ("thresholds.drop_rate = {mx = 1}", "thresholds.drop_rate.mx: 1: no such key; did you"),
        ("thresholds.drop_rate = {max = 'x'}", "thresholds.drop_rate.max: 'x': expected a number"),
        ("thresholds.drop_rate = {max = nan}", "thresholds.drop_rate.max: nan: expected a number"),
        ("thresholds.drop_rate = {max = true}", "thresholds.drop_rate.max: True: expected a num"),
        ("thresholds.drop_rate = {min = 2, max = 1}", "drop_rate: min 2 is above max 1"),
        (
            "thresholds.drop_rate = {max = 1, engine = 'stagefow'}",
            "drop_rate.engine: 'stagefow': no such engine; did you mean stageflow?",
        ),
        ("thresholds.drop_rate = {max = 1, required = 1}", "required: 1: expected true or false"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_value(text: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        read_settings(write(text))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith("stress.toml: ")


def gate_of(folder: str) -> dict[str, Any]:
    gate: dict[str, Any] = json.loads(Path(folder, "run.json").read_text("utf-8"))["gate"]
    return gate


def test_the_file_is_read_where_the_command_is_run_and_the_command_line_wins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write('engines = ["broken:cleanup-fifo"]\nprofile = "smoke"\nfail_on = "any"\nseed = 3\n')
    assert main(("run", *QUICK, "--out", "a")) == 1
    capsys.readouterr()
    run = json.loads(Path("a/run.json").read_text("utf-8"))
    assert (run["seed"], run["profile"], run["request"]["engines"]) == (
        3,
        "smoke",
        ["broken:cleanup-fifo"],
    )
    more = ("--engine", "reference", "--seed", "4", "--fail-on", "never", "--out", "b")
    assert main(("run", *QUICK, *more)) == 0
    run = json.loads(Path("b/run.json").read_text("utf-8"))
    assert (run["seed"], run["request"]["engines"]) == (4, ["reference"])


def test_a_threshold_that_is_broken_is_red_and_one_not_measured_is_no_pass(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ("run", "--engine", "reference", "--profile", "smoke", *QUICK)
    write("[thresholds]\ncleanup_share = { min = 1.0 }\n", "kept.toml")
    assert main((*words, "--config", "kept.toml", "--out", "kept")) == 0
    assert gate_of("kept")["verdict"] == "pass"
    write("[thresholds]\np99_latency_s = { max = 0.001 }\n", "broken.toml")
    assert main((*words, "--config", "broken.toml", "--out", "broken")) == 1
    assert "threshold fail: p99_latency_s on reference must be at most 0.001" in (
        capsys.readouterr().out
    )
    write("[thresholds]\nmemory_growth_mb = { max = 1, required = true }\n", "grown.toml")
    assert main((*words, "--config", "grown.toml", "--out", "grown")) == 0
    assert gate_of("grown")["verdict"] == "pass"
    write("[thresholds]\ndetection_rate = { min = 1.0 }\n", "unmeasured.toml")
    assert main((*words, "--config", "unmeasured.toml", "--out", "unmeasured")) == 0
    assert gate_of("unmeasured")["verdict"] == "inconclusive"
    assert "no run measured it" in capsys.readouterr().out
    write("[thresholds]\ndetection_rate = { min = 1.0, required = true }\n", "required.toml")
    assert main((*words, "--config", "required.toml", "--out", "required")) == 1


def options(profile: str, **more: Any) -> Any:
    blank = dict.fromkeys(("pack", "mission", "clause", "scenario", "program", "search", "runs"))
    return SimpleNamespace(**{**blank, "profile": profile, "day": "mon", "budget": None, **more})


def test_each_weekday_has_its_packs_and_the_week_has_them_all() -> None:
    assert {p for packs in WEEK.values() for p in packs} == {p.id for p in PACKS}
    for day, packs in WEEK.items():
        chosen, _ = sought(options("weekly", day=day))
        written = {s.pack for s in chosen if s.pack != "search"}
        assert written == (set(packs) or {p.id for p in PACKS})
        # A deep dive also takes every point of every scenario that is small enough.
        assert any(s.sweep == "points" for s in chosen)


def test_a_month_without_its_mission_says_what_is_run_instead() -> None:
    line = "monthly: there is no mission CHAOS-MONTHLY yet: all packs are run"
    from scenarios import missions

    if "CHAOS-MONTHLY" in missions():
        line = ""
    assert plan_line(options("monthly")) == line
    assert plan_line(options("monthly", pack=["cleanup"])) == ""
    assert plan_line(options("weekly", day="fri")) == "weekly, fri: tenant_isolation"
    if line:
        assert [s.id for s in sought(options("monthly"))[0]] == list(scenarios())


def test_the_seed_of_a_night_is_its_date() -> None:
    day = date(2026, 11, 21)
    assert {name: seed_of(name, day) for name in PLANS if seed_of(name, day) != 1} == {
        "nightly": 20261121
    }
    assert [day_of(None, date(2026, 11, d)) for d in (16, 22)] == ["mon", "sun"]
    assert day_of("Friday", day) == "fri"


def test_a_budget_is_for_runs_proofs_and_reports() -> None:
    assert shares_of(20.0) == Shares(runs_s=12.0, proofs_s=18.0)
    assert shares_of(900.0) == Shares(runs_s=600.0, proofs_s=855.0)
    # With almost no time there is at least some for runs.
    assert shares_of(1.0) == Shares(runs_s=0.6, proofs_s=0.5)


def test_what_failed_before_comes_first_and_engines_take_turns(tmp_path: Path) -> None:
    refs = [EngineRef(name, "", "", {}) for name in ("a", "b")]
    failed = [
        Again(f"replay/BUG-{i}.1", name, "", "t", "CLEAN-3", "", "", "", i)
        for i in (1, 2)
        for name in ("b", "a")
    ]
    chosen, _ = sought(options("nightly"))

    def jobs(budget_s: float | None) -> list[tuple[str, str]]:
        campaign = Campaign(
            tmp_path,
            [Engine(ref) for ref in refs],
            chosen,
            seed=1,
            runs=1,
            workers=1,
            report=lambda *_: None,
            budget_s=budget_s,
            again=failed,
        )
        return [(engine.ref.name, job.id) for engine, job, _ in campaign._jobs()]

    first = [(n, f"replay/BUG-{i}.1") for n in ("a", "b") for i in (1, 2)]
    assert jobs(None)[:4] == jobs(600.0)[:4] == first
    assert sorted(jobs(None)) == sorted(jobs(600.0))
    kinds = ["search" if "swarm" in name else "written" for _, name in jobs(600.0)[4:]]
    assert kinds == sorted(kinds, reverse=True)
    turns = [engine for engine, name in jobs(600.0) if "swarm" in name]
    assert turns[:9] == ["a"] * 4 + ["b"] * 4 + ["a"]


def entry(name: str, severity: str, kind: str = "bug", clause: str = "CLEAN-3") -> dict[str, Any]:
    return {"id": name, "severity": severity, "kind": kind, "clause": clause}


@pytest.mark.parametrize(
    ("fail_on", "failing"),
    [
        ("never", []),
        ("new", ["BUG-1", "DX-1", "BUG-4"]),
        ("any", ["BUG-1", "BUG-2", "DX-1", "BUG-4"]),
        ("high", ["BUG-1", "BUG-2"]),
        ("critical", ["BUG-1"]),
    ],
)
def test_what_each_gate_fails_for(fail_on: str, failing: list[str]) -> None:
    entries = [
        entry("BUG-1", "critical"),
        entry("BUG-2", "high"),
        entry("BUG-3", "critical"),
        entry("DX-1", "low", "dx"),
        entry("DX-2", "low", "dx", ""),
        entry("IMP-1", "high", "improvement"),
        entry("BUG-4", "low"),
        entry("STR-1", "info", "strength"),
    ]
    changes = {
        "new": ["BUG-1", "BUG-3", "DX-1", "DX-2", "IMP-1"],
        "regressed": ["BUG-4"],
        "waived": [{"id": "BUG-3", "reason": "", "until": ""}],
    }
    gate = decide(fail_on, entries, changes)
    assert (gate["findings"], gate["exit_code"]) == (failing, int(bool(failing)))


def test_a_waiver_that_ran_out_counts_as_new() -> None:
    nothing: dict[str, Any] = {"new": [], "regressed": [], "waived": []}
    entries = [entry("BUG-1", "low")]
    assert decide("new", entries, nothing)["exit_code"] == 0
    assert decide("new", entries, nothing, expired=["BUG-1"])["findings"] == ["BUG-1"]
