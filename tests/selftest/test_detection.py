"""Each clause catches an engine that breaks it, and stays silent on the reference."""

from __future__ import annotations

import json

import pytest

from harness.contract.clauses import CLAUSES
from harness.engine.broken import CATALOGUE
from scenarios import scenarios
from tests.selftest.detect import CAUGHT, LARGE, judged

KNOWN = json.loads(CAUGHT.read_text("utf-8"))


def test_what_caught_each_broken_engine_is_on_record() -> None:
    assert sorted(KNOWN) == sorted(CATALOGUE)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_a_broken_engine_is_caught_by_a_clause_that_it_breaks(name: str) -> None:
    clause, scenario = KNOWN[name]["clause"], KNOWN[name]["scenario"]
    assert clause in CATALOGUE[name].breaks
    row = judged(f"broken:{name}", scenario)["clauses"][clause]
    assert (row["verdict"], row["violations"] > 0) == ("fail", True)


def test_every_clause_has_a_broken_engine_that_it_catches() -> None:
    broken = {clause for defect in CATALOGUE.values() for clause in defect.breaks}
    assert sorted(set(CLAUSES) - broken) == []


@pytest.mark.parametrize(
    "scenario", [s.id for s in scenarios().values() if len(s.program.stages) <= LARGE]
)
def test_the_reference_engine_passes(scenario: str) -> None:
    unit = judged("reference", scenario, runs=6, seed=99)
    wrong = [(w["clause"], w["shape"], w["actual"]) for w in unit["witnesses"]]
    assert (unit["verdict"], unit["reason"], wrong) == ("pass", "", [])
