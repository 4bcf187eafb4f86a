"""What the search achieves is held to: a sample of what `search.json` says is searched anew.

`python tests/selftest/search.py --write` (and with `--points`) finds all of it again.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from typing import Any

import pytest

from harness.engine.broken import CATALOGUE
from tests.selftest import search
from tests.selftest.search import RECORD, RUNS_MAX, SEED, SHARE_CAUGHT, cut_clauses

KNOWN: dict[str, dict[str, dict[str, Any]]] = json.loads(RECORD.read_text("utf-8"))
QUICK_RUNS = 150
EVERY = 9
QUICK = {
    how: [name for name, row in rows.items() if row["clause"] and row["runs"] <= QUICK_RUNS]
    for how, rows in KNOWN.items()
}
REFERENCE_RUNS = 300


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_the_record_knows_every_broken_engine() -> None:
    assert sorted(KNOWN["swarm"]) == sorted(CATALOGUE)
    assert sorted(KNOWN["points"]) == sorted(name for name in CATALOGUE if cut_clauses(name))


def test_a_swarm_alone_catches_nine_in_ten() -> None:
    caught = [name for name, row in KNOWN["swarm"].items() if row["clause"]]
    assert len(caught) >= SHARE_CAUGHT * len(CATALOGUE)
    for name in caught:
        row = KNOWN["swarm"][name]
        assert row["clause"] in CATALOGUE[name].breaks
        assert row["runs"] <= RUNS_MAX


def test_exhaustive_injection_catches_every_defect_of_cancels_and_cleanups() -> None:
    assert [name for name, row in KNOWN["points"].items() if not row["clause"]] == []
    assert all(row["clause"] in cut_clauses(name) for name, row in KNOWN["points"].items())


@pytest.mark.parametrize("name", QUICK["swarm"][::EVERY])
def test_a_swarm_catches_again_what_it_caught(name: str) -> None:
    hunt = search.swarm(name, RUNS_MAX, SEED)
    known = KNOWN["swarm"][name]
    assert (hunt.clause, hunt.runs) == (known["clause"], known["runs"])


@pytest.mark.parametrize("name", QUICK["points"][:: EVERY // 2])
def test_injection_catches_again_what_it_caught(name: str) -> None:
    hunt = search.points(name)
    known = KNOWN["points"][name]
    assert (hunt.clause, hunt.runs, hunt.where) == (known["clause"], known["runs"], known["where"])


def test_what_is_sound_is_not_accused() -> None:
    shard = search.reference_shard("search/swarm-0000", REFERENCE_RUNS, SEED)
    assert (shard.accusations, shard.crashed, shard.relations) == ([], {}, [])
    assert shard.runs >= REFERENCE_RUNS


def test_a_search_that_finds_nothing_says_so() -> None:
    hunt = search.swarm("recursive", 20, SEED)
    assert (hunt.clause, hunt.where) == ("", "")
    assert hunt.runs >= 20


def test_judging_only_what_a_defect_breaks_changes_nothing_of_what_is_run() -> None:
    name = QUICK["swarm"][0]
    row = KNOWN["swarm"][name]
    found = search.Finder(search.laboratory(f"broken:{name}"))
    search.explore(
        found,
        search.shard_random("search/swarm-0000", SEED),
        RUNS_MAX,
        until=lambda: any(key[0] in CATALOGUE[name].breaks for key in found.found),
    )
    assert found.runs == row["runs"]
