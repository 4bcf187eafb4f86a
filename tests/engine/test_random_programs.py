"""Truths about any run of the reference engine, held against random programs and plans.

They are stated here without the contract's checks, so that engine and checks do not
vouch for each other alone.
"""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory
from harness.kernel.record import RunRecord
from mocks.tools import simulated_tool
from tests.engine.random_programs import random_case

RUNS = 600


@pytest.fixture(scope="module")
def records() -> Iterator[list[tuple[int, RunRecord]]]:
    lab = Laboratory(Adapter(), simulated_tool)
    gc.collect()
    gc.freeze()
    yield [(seed, lab.run(*random_case(seed), seed=seed)) for seed in range(RUNS)]
    gc.unfreeze()


def swallows(seed: int) -> bool:
    return '"swallow"' in json.dumps(random_case(seed)[0].to_json())


def test_every_run_ends(records: list[tuple[int, RunRecord]]) -> None:
    assert [(seed, r.ended) for seed, r in records if r.ended != "over"] == []


def test_a_cancelled_caller_sees_that_and_nothing_else_comes_out(
    records: list[tuple[int, RunRecord]],
) -> None:
    for seed, record in records:
        sent = {e.run for e in record.journal.of("cancel.sent") if e.detail[1]}
        for end in record.journal.of("run.end"):
            assert end.detail == ("CancelledError" if end.run in sent else "returned"), seed


def test_no_task_or_timer_is_left_but_of_stages_that_do_not_stop(
    records: list[tuple[int, RunRecord]],
) -> None:
    for seed, record in records:
        left = [leak for leak in record.leaks if leak.kind in ("task", "timer")]
        assert left == [] or (swallows(seed) and {x.kind for x in left} == {"task"}), seed


def test_registered_cleanups_run_once_each(records: list[tuple[int, RunRecord]]) -> None:
    for seed, record in records:
        if swallows(seed):
            continue  # it may register when the run is over
        journal = record.journal
        due = Counter((e.run, e.stage, e.detail) for e in journal.of("register"))
        begun = Counter((e.run, e.stage, e.detail) for e in journal.of("release.begin"))
        assert {key: begun[key] for key in due} == dict(due), seed


def test_what_completed_is_what_is_reported_as_completed(
    records: list[tuple[int, RunRecord]],
) -> None:
    compared = 0
    for seed, record in records:
        ends = {e.run: i for i, e in enumerate(record.journal) if e.kind == "run.end"}
        for run, outcome in record.outcomes.items():
            if outcome.raised is not None and outcome.raised.type == "CancelledError":
                continue
            entries = [e for e in record.journal.entries[: ends[run]] if e.run == run]
            ok = {e.stage for e in entries if e.kind == "stage.end" and e.detail == "ok"}
            told = {e.stage for e in entries if e.kind in ("interrupt", "release.cut")}
            done = {name for name, one in outcome.stages.items() if one.status == "completed"}
            assert ok - told <= done <= ok, seed
            compared += len(done)
    assert compared > RUNS / 2


def test_failed_runs_have_failures_and_others_have_none_of_their_own(
    records: list[tuple[int, RunRecord]],
) -> None:
    statuses: Counter[str] = Counter()
    for seed, record in records:
        for outcome in record.outcomes.values():
            statuses[outcome.status] += 1
            if outcome.status == "failed":
                assert outcome.failures, seed
            if outcome.status == "ok":
                assert outcome.failures == (), seed
    assert set(statuses) == {"ok", "failed", "cancelled"}
