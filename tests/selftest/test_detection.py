"""Each clause catches an engine that breaks it, each scenario catches some engine, and none
accuses the reference.

`evidence.json` says which scenario catches which engine; `python tests/selftest/detect.py
--write` finds it anew. Here it is held to.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator

import pytest

from harness.contract.clauses import CLAUSES
from harness.engine.broken import CATALOGUE
from scenarios import scenarios
from tests.selftest.detect import CAUGHT, EVIDENCE, LARGE, judged, shares, verdicts

KNOWN = json.loads(EVIDENCE.read_text("utf-8"))
PAIRS = [(e, clause, s) for e, found in KNOWN["engines"].items() for clause, s in found.items()]
# A sample, but the same one in each process; all of them is what detect.py is for.
SAMPLE = [(s, *pair) for s, pair in KNOWN["scenarios"].items()][::4]
SMALL = [s.id for s in scenarios().values() if len(s.program.stages) <= LARGE]
TRUTH_SEED = 20_260_101
TRUTH_RUNS = 4


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    """The laboratory collects garbage after each run: let there be little to look through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_evidence_names_every_broken_engine_with_every_clause_that_it_breaks() -> None:
    claimed = {name: sorted(one.breaks) for name, one in CATALOGUE.items()}
    assert {name: sorted(found) for name, found in KNOWN["engines"].items()} == claimed


def test_evidence_names_scenarios_that_judge_the_clause() -> None:
    idle = [
        (scenario, clause)
        for _, clause, scenario in PAIRS
        if clause not in scenarios()[scenario].clauses
    ]
    assert idle == []


def test_every_clause_catches_a_broken_engine() -> None:
    assert {clause for _, clause, _ in PAIRS} == set(CLAUSES)


def test_every_scenario_fails_on_a_broken_engine() -> None:
    assert sorted(KNOWN["scenarios"]) == sorted(scenarios())


def test_the_list_that_the_command_prints_is_drawn_from_the_evidence() -> None:
    caught = json.loads(CAUGHT.read_text("utf-8"))
    assert sorted(caught) == sorted(CATALOGUE)
    for name, by in caught.items():
        assert (by["clause"], by["scenario"]) in KNOWN["engines"][name].items()


@pytest.mark.parametrize(
    ("engine", "clause", "scenario"), PAIRS, ids=[f"{e}-{c}" for e, c, _ in PAIRS]
)
def test_a_broken_engine_is_caught_by_each_clause_that_it_breaks(
    engine: str, clause: str, scenario: str
) -> None:
    assert verdicts(engine, scenario)[clause] == "fail"


@pytest.mark.parametrize(("scenario", "engine", "clause"), SAMPLE, ids=[s for s, _, _ in SAMPLE])
def test_a_scenario_fails_on_the_engine_named_for_it(
    scenario: str, engine: str, clause: str
) -> None:
    assert verdicts(engine, scenario)[clause] == "fail"


@pytest.mark.parametrize("scenario", SMALL)
def test_the_reference_engine_is_never_accused(scenario: str) -> None:
    unit = judged("reference", scenario, runs=TRUTH_RUNS, seed=TRUTH_SEED)
    wrong = [(w["clause"], w["shape"], w["actual"], w["seed"]) for w in unit["witnesses"]]
    assert (unit["verdict"], unit["reason"], wrong) == ("pass", "", [])
    assert unit["runs"] >= TRUTH_RUNS


def test_runs_are_spread_over_all_scenarios_and_none_is_left_out() -> None:
    spread = shares(10_000)
    assert list(spread) == list(scenarios())
    assert sum(spread.values()) >= 10_000
    assert min(spread.values()) >= 1
    assert spread["graph/long_chain"] < spread["timeouts/tie"]
