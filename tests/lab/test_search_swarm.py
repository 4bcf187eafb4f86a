"""A swarm finds what is broken, accuses nobody else, and goes where it has not been."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.engine.broken import CATALOGUE
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.search.coverage import SITUATIONS
from harness.lab.search.finder import HEAL, Finder, heals
from harness.lab.search.smallest import run_taped
from harness.lab.search.swarm import AIMED_SHARE, explore, swarm_unit
from harness.lab.search.units import SHARD_RUNS, points_units, swarm_units
from mocks.tools import simulated_tool
from scenarios import scenarios


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def lab(subject: str = "reference") -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def swarmed(subject: str, runs: int, seed: int = 1) -> dict[str, Any]:
    return swarm_unit(lab(subject), seed=seed, runs=runs)


def test_the_reference_engine_is_not_accused() -> None:
    row = swarmed("reference", 1_000)
    assert (row["verdict"], row["reason"], row["witnesses"]) == ("pass", "", [])
    assert row["figures"]["not_healed"] == 0
    assert row["figures"]["situations_seen"] > 35
    assert row["runs"] >= 1_000


def test_a_seed_finds_the_same_again() -> None:
    first, again = (swarmed("broken:cleanup-fifo", 200) for _ in range(2))
    assert first == again
    assert first != swarmed("broken:cleanup-fifo", 200, seed=2)


QUICKLY_CAUGHT = (
    "timeout-never",
    "cancel-run-abandons",
    "caller-cancel-abandons",
    "cleanup-twice",
    "first-failure-only",
    "serial",
    "chunks-doubled",
    "retry-one-more",
    "undo-forwards",
    "failing-layer-completes",
    "event-newest-first",
)


@pytest.mark.parametrize("name", QUICKLY_CAUGHT)
def test_a_broken_engine_is_caught_by_a_clause_that_it_breaks(name: str) -> None:
    breaks = CATALOGUE[name].breaks
    finder = Finder(lab(f"broken:{name}"), kept_to=breaks)
    explore(finder, random.Random(f"test {name}"), 6_000, until=lambda: bool(finder.found))
    assert {key[0] for key in finder.found} & set(breaks)


def test_a_witness_brings_all_that_its_run_needs() -> None:
    subject = lab("broken:outputs-lost-on-failure")
    row = swarm_unit(subject, seed=1, runs=400)
    mine = [w for w in row["witnesses"] if w["clause"] == "PART-1"]
    assert row["verdict"] == "fail" and mine
    for witness in mine:
        program, plan = Program.from_json(witness["program"]), Plan.from_json(witness["plan"])
        again = run_taped(subject, program, plan, witness["seed"], witness["tape"])
        assert digest(again) == witness["digest"]


def test_thousands_of_failing_runs_are_few_witnesses() -> None:
    row = swarmed("broken:timeout-never", 500)
    assert row["violations"] > 20
    assert len(row["witnesses"]) < 20
    keys = [tuple(w["key"]) for w in row["witnesses"]]
    assert len(set(keys)) == len(keys)


def test_an_engine_that_a_run_has_spoilt_is_found_by_the_plain_program_after_it() -> None:
    subject = lab()
    assert heals(subject) == ""
    adapter, build = subject.adapter, subject.adapter.build
    broken = {"after": 5}

    def spoilt(program: Program, plan: Plan, bodies: Any) -> Any:
        broken["after"] -= 1
        if broken["after"] < 0 and program is HEAL:
            plan = Plan(stage_timeout_s=0.05)
        return build(program, plan, bodies)

    adapter.build = spoilt  # type: ignore[method-assign]
    row = swarm_unit(subject, seed=1, runs=40)
    assert row["figures"]["not_healed"] > 0
    assert [w["shape"] for w in row["witnesses"]] == ["next-run-spoilt"]


def test_what_was_seen_least_is_aimed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(aimed: float) -> int:
        """Count how often situations came up, those that come up anyway no more than a bit."""
        monkeypatch.setattr("harness.lab.search.swarm.AIMED_SHARE", aimed)
        count = 0
        for seed in (4, 5, 6):
            finder = Finder(lab(), kept_to=())
            explore(finder, random.Random(seed), 400)
            count += sum(min(finder.seen[name], 5) for name in SITUATIONS)
        return count

    assert 0 < AIMED_SHARE < 1
    assert seen(AIMED_SHARE) > seen(0.0)


def test_shards_cover_the_runs_and_are_known_by_their_names() -> None:
    units = swarm_units(SHARD_RUNS * 2 + 1)
    assert [u.id for u in units] == ["search/swarm-0000", "search/swarm-0001", "search/swarm-0002"]
    assert {u.sweep for u in units} == {"swarm"}
    points = points_units(scenarios().values())
    assert len({u.id for u in points}) == len(points) > 100
    assert not any(u.plan.cancels for u in points)


def test_a_swarm_ends_with_its_budget() -> None:
    row = swarm_unit(lab(), seed=1, runs=10**9, budget_s=0.3)
    assert 0 < row["runs"] < 10**5
