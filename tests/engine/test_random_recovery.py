"""Truths about retries, redrives and compensations of the reference engine, held against random
programs; and the checks of them, which must find nothing there.

As in `test_random_programs`, the truths are stated without the checks.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.adapters.reference import Adapter
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from mocks.tools import simulated_tool
from tests.engine.recovery_programs import random_recovery

RUNS = 400

Case = tuple[int, Program, Plan, RunRecord]


@pytest.fixture(scope="module")
def laboratory() -> Laboratory:
    return Laboratory(Adapter(), simulated_tool)


@pytest.fixture(scope="module")
def cases(laboratory: Laboratory) -> Iterator[list[Case]]:
    gc.collect()
    gc.freeze()
    found = []
    for seed in range(RUNS):
        program, plan = random_recovery(seed)
        found.append((seed, program, plan, laboratory.run(program, plan, seed=seed)))
    yield found
    gc.unfreeze()


def test_every_run_ends(cases: list[Case]) -> None:
    assert [(seed, r.ended) for seed, _, _, r in cases if r.ended != "over"] == []


def test_no_stage_is_tried_more_often_than_declared(cases: list[Case]) -> None:
    most = 0
    for seed, program, plan, record in cases:
        allowed = {s.name: 1 if s.retry is None else s.retry.attempts for s in program.stages}
        runs = {run.id for run in plan.runs}
        begun = Counter((e.run, e.stage) for e in record.journal.of("stage.start") if e.run in runs)
        for (_, stage), count in begun.items():
            assert count <= allowed[stage], seed
            most = max(most, count)
    assert most == 4


def test_no_stage_is_tried_again_once_it_returned_or_its_run_was_cancelled_or_over(
    cases: list[Case],
) -> None:
    tried_again = 0
    for seed, _, _, record in cases:
        done: set[tuple[str, str]] = set()
        begun: set[tuple[str, str]] = set()
        told: set[tuple[str, str]] = set()
        over: dict[str, float] = {}
        for e in record.journal:
            key = (e.run, e.stage)
            if e.kind == "stage.start":
                assert key not in done, seed
                tried_again += key in begun
                assert key not in begun or e.at_s <= over.get(e.run, e.at_s), seed
                begun.add(key)
                told.discard(key)
            elif e.kind in ("interrupt", "release.cut"):
                told.add(key)  # what it returns now, it returns too late
            elif e.kind == "stage.end" and e.detail in ("ok", "skip", "cancel_run"):
                done |= {key} - told
            elif e.kind == "run.end" or (e.kind == "cancel.sent" and e.detail[1]):
                over.setdefault(e.run, e.at_s)
    assert tried_again > RUNS / 4


def test_what_is_reused_had_completed_and_is_not_run(cases: list[Case]) -> None:
    reused = 0
    for seed, _, plan, record in cases:
        ran = {(e.run, e.stage) for e in record.journal.of("stage.start")}
        ended = {
            (e.run, e.stage): e.detail
            for e in record.journal.of("stage.end")
            if e.detail in ("ok", "skip", "cancel_branch")
        }
        for run in plan.runs:
            for stage in record.outcomes[run.id].reused:
                reused += 1
                assert run.redrives and (run.id, stage) not in ran, seed
                assert any(one == stage for _, one in ended), seed
    assert reused > RUNS / 10


def test_compensations_run_once_each_and_in_failed_runs_only(cases: list[Case]) -> None:
    undone = 0
    for seed, _, plan, record in cases:
        for run in plan.runs:
            begun = [e.detail for e in record.journal.of("undo.begin", run=run.id)]
            undone += len(begun)
            assert len(begun) == len(set(begun)), seed
            outcome = record.outcomes[run.id]
            if outcome.raised is not None and outcome.raised.type == "CancelledError":
                continue
            assert not begun or outcome.status == "failed", seed
            assert set(begun) <= set(outcome.compensated), seed
    assert undone > RUNS / 10


@pytest.mark.parametrize("clause", ["PART-5", "PART-6", "RETRY-1"])
def test_the_checks_find_nothing(cases: list[Case], laboratory: Laboratory, clause: str) -> None:
    judged = Counter(
        (j.verdict, tuple(v.shape for v in j.violations))
        for _, program, plan, record in cases
        for j in [CLAUSES[clause].check(Reading(program, plan, record, laboratory.info))]
    )
    assert set(judged) == {("holds", ()), ("untested", ())}
    assert judged["holds", ()] > RUNS / 10
