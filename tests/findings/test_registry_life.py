"""A finding's life in the registry: new, unchanged, resolved, regressed, and what proves it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from harness.findings.absence import runs_needed
from harness.findings.known import Decision, Known, Sight
from harness.findings.registry import Registry
from tests.findings.book import TODAY, a_run, entry, row

BROKEN = ([entry()], [row(verdict="fail")])


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry.sqlite3")


def status(registry: Registry, today: date = TODAY) -> str:
    (one,) = registry.known().values()
    return one.status(today)


def test_new_unchanged_resolved_regressed(registry: Registry) -> None:
    told = []
    for name, (entries, rows) in {
        "r1": ([], [row()]),
        "r2": BROKEN,
        "r3": BROKEN,
        "r4": ([], [row()]),
        "r5": ([], [row()]),
        "r6": BROKEN,
        "r7": BROKEN,
        "r8": ([], [row()]),
    }.items():
        changes, _ = a_run(registry, name, entries, rows)
        gone = [(r["id"], r["by_run"]) for r in changes.resolved]
        told.append((changes.new, changes.unchanged, changes.regressed, gone))
    assert told == [
        ([], [], [], []),
        (["BUG-001"], [], [], []),
        ([], ["BUG-001"], [], []),
        ([], [], [], [("BUG-001", "r4")]),
        ([], [], [], []),
        ([], [], ["BUG-001"], []),
        ([], ["BUG-001"], [], []),
        ([], [], [], [("BUG-001", "r8")]),
    ]
    (one,) = registry.known().values()
    assert (one.first_seen, one.last_seen, one.occurrences) == ("r2", "r7", 4)
    assert [(x["what"], x["run"]) for x in one.log] == [
        ("new", "r2"),
        ("resolved", "r4"),
        ("regressed", "r6"),
        ("resolved", "r8"),
    ]
    assert one.versions[""].by_run == "r8"


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [row("p/other")],
        [row(verdict="unsupported", clauses={})],
        [row(verdict="inconclusive")],
        [row(verdict="blocked")],
        [row(verdict="error", clauses={}, runs=0)],
        [row(verdict="fail")],
        [row(engine="other")],
        [row(engine_version="2.0")],
    ],
)
def test_silence_that_proves_nothing_leaves_it_open(
    registry: Registry, rows: list[dict[str, Any]]
) -> None:
    a_run(registry, "r1", *BROKEN)
    changes, _ = a_run(registry, "r2", [], rows)
    assert (changes.resolved, status(registry)) == ([], "open")


def test_every_scenario_that_showed_it_must_pass(registry: Registry) -> None:
    both = entry(scenarios=("p/a", "p/b"))
    a_run(registry, "r1", [both], [row("p/a", "fail"), row("p/b", "fail")])
    a_run(registry, "r2", [entry()], [row("p/a", "fail")])
    changes, _ = a_run(registry, "r3", [], [row("p/a")])
    assert (changes.resolved, status(registry)) == ([], "open")
    changes, _ = a_run(registry, "r4", [], [row("p/a"), row("p/b")])
    assert [r["id"] for r in changes.resolved] == ["BUG-001"]


def test_a_clause_judged_by_the_way_needs_the_whole_scenario_to_pass(registry: Registry) -> None:
    a_run(registry, "r1", *BROKEN)
    changes, _ = a_run(registry, "r2", [], [row(verdict="fail", clauses={})])
    assert changes.resolved == []
    changes, _ = a_run(registry, "r3", [], [row(clauses={})])
    assert [r["id"] for r in changes.resolved] == ["BUG-001"]


def test_one_version_says_nothing_of_another(registry: Registry) -> None:
    old, new = {"engine_version": "0.5.1"}, {"engine_version": "1.2.0"}
    found = entry(versions=("0.5.1", "1.2.0"))
    a_run(registry, "r1", [found], [row(verdict="fail", **old), row(verdict="fail", **new)])
    changes, _ = a_run(registry, "r2", [], [row(**new)])
    assert [(r["id"], r["versions"]) for r in changes.resolved] == [("BUG-001", ["1.2.0"])]
    assert status(registry) == "open"
    (one,) = registry.known().values()
    assert {v: life.state for v, life in one.versions.items()} == {
        "0.5.1": "open",
        "1.2.0": "resolved",
    }


def test_a_known_finding_on_one_more_version_is_not_new(registry: Registry) -> None:
    a_run(registry, "r1", *BROKEN)
    changes, _ = a_run(
        registry, "r2", [entry(versions=("2",))], [row(verdict="fail", engine_version="2")]
    )
    assert (changes.new, changes.regressed, changes.unchanged) == ([], [], ["BUG-001"])


def test_a_version_that_was_shown_clean_makes_it_come_back(registry: Registry) -> None:
    a_run(registry, "r1", [entry(versions=("1",))], [row(verdict="fail", engine_version="1")])
    a_run(registry, "r2", [], [row(engine_version="2")])
    changes, _ = a_run(
        registry, "r3", [entry(versions=("3",))], [row(verdict="fail", engine_version="3")]
    )
    assert changes.regressed == ["BUG-001"]


@pytest.mark.parametrize(
    ("violations", "exercised", "needed"), [(30, 30, 1), (15, 30, 5), (1, 30, 92), (3, 300, 300)]
)
def test_rare_findings_need_many_clean_runs(violations: int, exercised: int, needed: int) -> None:
    assert runs_needed(Sight(exercised, exercised, violations, 1, "r1")) == needed


def test_the_same_runs_again_are_enough(registry: Registry) -> None:
    rare = entry(violations=1)
    a_run(registry, "r1", [rare], [row(verdict="fail")])
    assert a_run(registry, "r2", [], [row(seed=2)])[0].resolved == []
    assert a_run(registry, "r3", [], [row(runs=29)])[0].resolved == []
    assert len(a_run(registry, "r4", [], [row()])[0].resolved) == 1


def test_runs_on_top_of_those_asked_for_need_not_be_made_again(registry: Registry) -> None:
    # A broken clause kept another one from being put to the test, so more runs were made.
    rare = entry(runs=90, violations=1)
    a_run(registry, "r1", [rare], [row(verdict="fail", runs=90, runs_asked=30)])
    assert a_run(registry, "r2", [], [row(runs=29, runs_asked=29)])[0].resolved == []
    assert len(a_run(registry, "r3", [], [row(runs=30, runs_asked=30)])[0].resolved) == 1


def test_what_a_search_found_is_gone_only_if_its_run_is_replayed(registry: Registry) -> None:
    found = entry(scenarios=("search/swarm-0003",))
    a_run(registry, "r1", [found], [row("search/swarm-0003", "fail")])
    assert a_run(registry, "r2", [], [row("search/swarm-0003")])[0].resolved == []
    for verdict in ("fail", "inconclusive", "error"):
        again = row("replay/BUG-001.1", verdict, token="ds1.a", runs=2)
        assert a_run(registry, verdict, [], [again])[0].resolved == []
    again = row("replay/BUG-001.1", token="ds1.a", runs=2)
    assert len(a_run(registry, "r3", [], [again])[0].resolved) == 1
    (one,) = registry.known().values()
    assert [(s.token, s.verdict) for s in one.versions[""].seeds] == [("ds1.a", "pass")]


def test_a_replay_that_still_shows_it_keeps_it_open_though_its_scenario_passes(
    registry: Registry,
) -> None:
    a_run(registry, "r1", *BROKEN)
    rows = [row(), row("replay/BUG-001.1", "inconclusive", token="ds1.a")]
    assert a_run(registry, "r2", [], rows)[0].resolved == []


def test_an_improvement_is_gone_when_the_engine_offers_it(registry: Registry) -> None:
    lack = entry(kind="improvement", shape="checkpoint", clause="")
    engine = {"name": "mine", "version": "", "capabilities": []}
    a_run(registry, "r1", [lack], [row()], engines=[engine])
    assert a_run(registry, "r2", [], [row()], engines=[engine])[0].resolved == []
    offers = [{**engine, "capabilities": ["checkpoint"]}]
    changes, _ = a_run(registry, "r3", [], [row()], engines=offers)
    assert [r["id"] for r in changes.resolved] == ["IMP-001"]


def test_a_strength_is_over_when_its_clause_is_violated(registry: Registry) -> None:
    held = entry(kind="strength", severity="info", violations=0)
    changes, _ = a_run(registry, "r1", [held], [row()])
    assert (changes.new, changes.marks) == ([], {})
    assert status(registry) == "confirmed"
    changes, _ = a_run(registry, "r2", [], [row(verdict="fail")])
    assert (changes.resolved, status(registry)) == ([], "resolved")
    changes, _ = a_run(registry, "r3", [held], [row()])
    assert (changes.regressed, status(registry)) == ([], "confirmed")


def test_a_run_that_told_nobody_leaves_its_findings_new(registry: Registry) -> None:
    _, ids = a_run(registry, "r1", *BROKEN, ends=False)
    assert {k.id for k in registry.known().values()} == set(ids.values()) == {"BUG-001"}
    changes, again = a_run(registry, "r2", *BROKEN)
    assert (changes.new, again) == (["BUG-001"], ids)
    assert registry.history() == [{"run_id": "r2", "started_at": "2026-11-21T10:00:00Z"} | PROFILE]
    (one,) = registry.known().values()
    assert (one.first_seen, one.occurrences) == ("r2", 1)


PROFILE = {"profile": "default"}


def test_a_run_that_ends_twice_counts_once(registry: Registry) -> None:
    a_run(registry, "r1", *BROKEN)
    (before,) = registry.known().values()
    from harness.findings.changes import Measured

    registry.end(
        Measured(*BROKEN, []), run="r1", at="", profile="", today=TODAY, summary={"run_id": "r1"}
    )
    (after,) = registry.known().values()
    assert after == before


def test_two_runs_never_have_one_id(registry: Registry) -> None:
    assert [registry.begin("r1", "") for _ in range(3)] == ["r1", "r1-2", "r1-3"]
    assert registry.begin("r1", "", resumed=True) == "r1"


def test_a_clock_that_goes_backwards_does_not_change_the_order(registry: Registry) -> None:
    for name, started_at in (("b", "2026-11-21T12:00:00Z"), ("a", "2026-11-20T12:00:00Z")):
        a_run(registry, name, *BROKEN, started_at=started_at)
    assert [r["run_id"] for r in registry.history()] == ["b", "a"]
    (one,) = registry.known().values()
    assert (one.first_seen, one.last_seen) == ("b", "a")


def test_history_is_bounded(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.findings.registry.HISTORY_MAX", 3)
    for i in range(5):
        a_run(registry, f"r{i}", [], [])
    assert [r["run_id"] for r in registry.history()] == ["r2", "r3", "r4"]


def test_only_the_shortest_failing_runs_are_kept(registry: Registry) -> None:
    for i in range(6):
        found = entry(scenarios=("search/swarm-0001",), token="ds2." + "x" * (20 - i))
        a_run(registry, f"r{i}", [found], [row("search/swarm-0001", "fail")])
    (one,) = registry.known().values()
    assert [s.size for s in one.versions[""].seeds] == [19, 20, 21]


def decided(kind: str, until: str) -> Any:
    def do(one: Known) -> None:
        one.decision = Decision(kind, "accepted", until, "2026-11-01T00:00:00Z")

    return do


def test_a_waiver_holds_to_the_end_of_its_day_and_is_told_of_once(registry: Registry) -> None:
    a_run(registry, "r1", *BROKEN)
    registry.change("BUG-001", decided("waiver", "2026-11-21"))
    changes, _ = a_run(registry, "r2", *BROKEN)
    assert changes.waived == [{"id": "BUG-001", "reason": "accepted", "until": "2026-11-21"}]
    assert changes.expired == []
    later = date(2026, 11, 22)
    changes, _ = a_run(registry, "r3", *BROKEN, today=later)
    assert (changes.waived, changes.expired) == ([], ["BUG-001"])
    changes, _ = a_run(registry, "r4", *BROKEN, today=later)
    assert (changes.waived, changes.expired) == ([], [])


def test_wont_fix_is_a_status_as_long_as_it_holds(registry: Registry) -> None:
    a_run(registry, "r1", *BROKEN)
    registry.change("BUG-001", decided("wont_fix", "2026-12-01"))
    assert status(registry) == "wont_fix"
    assert status(registry, date(2026, 12, 2)) == "open"
    registry.change("bug-001", decided("wont_fix", ""))
    assert status(registry, date(2099, 1, 1)) == "wont_fix"


def test_the_gravest_is_listed_first(registry: Registry) -> None:
    entries = [entry("a", severity="low"), entry("b", severity="critical"), entry("c", kind="dx")]
    changes, ids = a_run(registry, "r1", entries, [row(verdict="fail")])
    assert list(ids.values()) == ["BUG-001", "BUG-002", "DX-001"]
    assert changes.new == ["BUG-002", "BUG-001", "DX-001"]


LIVE = {"confirmation": "live_only"}


@pytest.mark.parametrize(
    ("lab", "runs", "exercised", "becomes"),
    [
        ("sim", 30, 30, "open"),
        ("live", 3, 0, "open"),
        ("live", 3, 3, "resolved"),
    ],
)
def test_what_only_live_runs_showed_is_gone_only_by_live_runs(
    registry: Registry, lab: str, runs: int, exercised: int, becomes: str
) -> None:
    shown = [entry(runs=6, violations=6, **LIVE)]
    a_run(registry, "r1", shown, [row(verdict="fail", lab="live", runs=6, runs_asked=0)])
    asked = 0 if lab == "live" else runs
    passing = row(lab=lab, runs=runs, exercised=exercised, runs_asked=asked)
    a_run(registry, "r2", [], [passing])
    assert status(registry) == becomes


def test_a_few_live_runs_do_not_end_what_simulation_showed_seldom(registry: Registry) -> None:
    shown = [entry(runs=30, violations=3)]
    a_run(registry, "r1", shown, [row(verdict="fail", runs_asked=30)])
    a_run(registry, "r2", [], [row(lab="live", runs=3, runs_asked=0)])
    assert status(registry) == "open"
    a_run(registry, "r3", [], [row(runs_asked=30)])
    assert status(registry) == "resolved"
