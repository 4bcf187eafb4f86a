"""Each clause catches a broken engine where the reference, put to the same test, holds."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator

import pytest

from harness.contract.clauses import CLAUSES
from tests.selftest.detect import EVIDENCE, judged

ENGINES = json.loads(EVIDENCE.read_text("utf-8"))["engines"]
RUNS = 4


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    """The laboratory collects garbage after each run: let there be little to look through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize("clause", CLAUSES)
def test_where_a_clause_catches_an_engine_the_reference_holds(clause: str) -> None:
    found = {by[clause] for by in ENGINES.values() if clause in by}
    assert found, f"no broken engine is caught by {clause}"
    for scenario in sorted(found):
        row = judged("reference", scenario, runs=RUNS)["clauses"][clause]
        assert (row["verdict"], row["violations"], row["reason"]) == ("pass", 0, "")
        assert row["exercised"] > 0
