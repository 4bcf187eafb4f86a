"""Every deliberately broken engine is caught by its clause, where the reference is not."""

from __future__ import annotations

import functools
import gc
import re
from collections.abc import Iterator

import pytest

from harness.adapters.reference import Adapter
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.contract.scenario import Scenario
from harness.engine.broken import CATALOGUE
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.steps import step
from mocks.tools import simulated_tool
from scenarios import scenarios

SEEDS = range(40)
POINTS_STEP = 6
POINTS_MAX = 200

FAMILIES = {
    "TIME": 11,
    "CANCEL": 8,
    "CLEAN": 6,
    "STREAM": 4,
    "PART": 6,
    "EVENT": 6,
    "RETRY": 1,
    "TENANT": 4,
    "CORR": 3,
    "GRAPH": 5,
    "CTX": 2,
}


def _many_timeouts_without_a_stop() -> Scenario:
    """Where a failure ends the run, the first of many timeouts ends all: nothing is lost."""
    stages = [
        {"name": f"s{i}", "steps": [step("sleep", seconds=9).to_json()], "timeout_s": 1.0}
        for i in range(8)
    ]
    return Scenario(
        id="tests/timeouts_that_go_on",
        title="Eight timeouts, and the run goes on",
        program=Program.from_json({"stages": stages}),
        plan=Plan(on_failure="continue"),
        clauses=("TIME-6",),
        purpose="Each of several timeouts in one tick has to be enforced by itself.",
    )


ALL = (*scenarios().values(), _many_timeouts_without_a_stop())


@functools.cache
def laboratory(subject: str) -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def verdict(subject: str, scenario: Scenario, clause: str, seed: int, point: int | None) -> str:
    lab = laboratory(subject)
    record = lab.run(
        scenario.program, scenario.plan, seed=seed, cancel_point=point, clean_points=60
    )
    reading = Reading(scenario.program, scenario.plan, record, lab.info)
    return CLAUSES[clause].check(reading).verdict


def attempts(clause: str) -> Iterator[tuple[Scenario, int, int | None]]:
    """Yield runs that put a clause to the test, the likeliest to show something first."""
    concerned = [one for one in ALL if clause in one.clauses]
    others = [one for one in ALL if clause not in one.clauses]
    for scenario in (*concerned, *others):
        yield scenario, 0, None
    swept = [one for one in (*concerned, *others) if one.sweep]
    for first in range(1, 1 + POINTS_STEP):
        for scenario in swept:
            for point in range(first, POINTS_MAX, POINTS_STEP):
                yield scenario, 0, point
    small = [one for one in concerned if len(one.program.stages) <= 50]
    for seed in SEEDS[1:]:
        for scenario in small:
            yield scenario, seed, None


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    """The laboratory collects garbage after each run: let there be little to look through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_defect_is_caught_by_its_clause(name: str) -> None:
    clause = CATALOGUE[name].breaks[0]
    for scenario, seed, point in attempts(clause):
        if verdict(f"broken:{name}", scenario, clause, seed, point) == "violated":
            assert verdict("reference", scenario, clause, seed, point) != "violated"
            return
    raise AssertionError(f"{clause} did not catch {name}")


def test_there_is_a_defect_for_every_clause() -> None:
    due = {f"{family}-{i}" for family, n in FAMILIES.items() for i in range(1, n + 1)}
    broken = {clause for defect in CATALOGUE.values() for clause in defect.breaks}
    assert due == broken
    assert broken <= set(CLAUSES)


def test_the_catalogue_reads_well() -> None:
    for name, defect in CATALOGUE.items():
        assert name == defect.name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", name)
        assert re.fullmatch(r"[A-Z].*\.", defect.says)
    assert len({defect.says for defect in CATALOGUE.values()}) == len(CATALOGUE)
