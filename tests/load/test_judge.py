"""What is made of a load, on records made by hand: each check with what breaks it and what not."""

from __future__ import annotations

from typing import Any

import pytest

from harness.lab.load.evidence import Evidence, Window, fates, percentiles
from harness.lab.load.judge import Check, judge

WINDOW = Window(100.0, 110.0, "resets")


def record(n: int, **more: Any) -> dict[str, Any]:
    """A request that was answered as it should be."""
    plain = {
        "marker": f"dgm{n:016x}",
        "tenant": f"dgt{n % 2:016x}",
        "program": "main",
        "stream": False,
        "at": 100.0 + n,
        "took_s": 0.1,
        "status": 200,
        "error": "",
        "foreign": [],
        "run": f"run{n}",
        "run_status": "ok",
        "own": True,
    }
    return plain | more


def ran(n: int, **more: Any) -> dict[str, Any]:
    """The ledger's line for it."""
    plain = {
        "marker": f"dgm{n:016x}",
        "tenant": f"dgt{n % 2:016x}",
        "run": f"run{n}",
        "program": "main",
        "status": "ok",
        "took_s": 0.05,
        "stages": {"fetch": 0.05},
        "executions": {"fetch": 1},
        "ends": {"fetch": "ok"},
        "completed": ["fetch"],
        "inputs": [f"dgm{n:016x}"],
        "tenants": [f"dgt{n % 2:016x}"],
        "emitted": 2,
        "delivered": 2,
        "dropped": 0,
    }
    return plain | more


def judged(
    records: list[dict[str, Any]],
    ledger: list[dict[str, Any]],
    stats: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Check]:
    evidence = Evidence(records, ledger, stats or {}, windows=(WINDOW,), **more)
    return {check.name: check for check in judge(evidence, error_budget=0.01)}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.verdict == "fail"}


def test_a_load_that_went_well_passes() -> None:
    checks = judged([record(0), record(1)], [ran(0), ran(1)])
    assert {c.verdict for c in checks.values()} == {"pass"}


def test_no_answers_prove_nothing() -> None:
    assert {c.verdict for c in judged([], []).values()} == {"inconclusive"}


@pytest.mark.parametrize(
    ("answer", "run"),
    [
        ({"foreign": ["dgm0000000000000001"]}, {}),
        ({"foreign": ["dgt0000000000000001"]}, {}),
        ({}, {"inputs": ["dgm0000000000000001"]}),
        ({}, {"tenants": ["dgt0000000000000001"]}),
    ],
)
def test_what_is_of_another_tenant_is_critical(answer: dict[str, Any], run: dict[str, Any]) -> None:
    check = judged([record(0, **answer), record(1)], [ran(0, **run), ran(1)])["cross_tenant"]
    assert (check.verdict, check.severity) == ("fail", "critical")
    assert check.figures["foreign"] == 1


@pytest.mark.parametrize(
    ("records", "ledger", "stats"),
    [
        ([record(0, own=False)], [ran(0)], {}),
        ([record(0), record(1, status=0, error="TimeoutError")], [ran(0)], {}),
        ([record(0)], [ran(0)], {"open_runs": 1}),
    ],
    ids=["outputs lack it", "never answered, never ended", "still under way"],
)
def test_lost(records: Any, ledger: Any, stats: Any) -> None:
    assert judged(records, ledger, stats)["lost"].verdict == "fail"


def test_what_was_cut_by_a_fault_is_not_lost_and_the_ledger_says_whether_it_ran() -> None:
    cut = {"status": 0, "error": "ConnectionResetError"}
    checks = judged([record(0), record(1, **cut), record(2, **cut)], [ran(0), ran(1)])
    assert failed(checks) == set()
    assert checks["lost"].figures == {
        "lost": 0,
        "sent": 3,
        "cut": 2,
        "cut_but_ran": 1,
        "open_runs": 0,
    }


def test_a_reset_without_a_fault_is_an_error() -> None:
    long_after = record(1, at=200.0, status=0, error="ConnectionResetError")
    assert failed(judged([record(0), long_after], [ran(0)])) == {"errors"}


def test_a_failed_run_is_no_lost_one_and_counts_as_an_error_only_where_none_was_due() -> None:
    one = record(0, run_status="failed", own=False)
    assert failed(judged([one, record(1)], [ran(0), ran(1)])) == {"errors"}
    due = record(0, run_status="failed", own=False, program="failing")
    assert failed(judged([due, record(1)], [ran(0), ran(1)], failing="failing")) == set()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"ends": {}}, "fetch is completed, and never ran"),
        ({"ends": {"fetch": "raise:ValueError"}}, "fetch is completed, and ended with raise:Value"),
    ],
)
def test_a_stage_that_is_reported_as_completed_has_run(run: dict[str, Any], said: str) -> None:
    check = judged([record(0)], [ran(0, **run)])["reported"]
    assert check.verdict == "fail"
    assert said in check.examples[0]
    not_reported = ran(0, **run, completed=[])
    assert judged([record(0), record(1)], [not_reported, ran(1)])["reported"].verdict == "pass"


@pytest.mark.parametrize(
    ("records", "ledger", "stats"),
    [
        ([record(0), record(0)], [ran(0)], {}),
        ([record(0)], [ran(0, executions={"fetch": 2})], {}),
        ([record(0), record(1)], [ran(0), ran(1, inputs=["dgm0000000000000000"])], {}),
        ([record(0)], [ran(0)], {"strays": 1}),
    ],
    ids=["two answers", "a stage ran twice", "one marker in two runs", "a stage after its run"],
)
def test_doubled(records: Any, ledger: Any, stats: Any) -> None:
    assert judged(records, ledger, stats)["doubled"].verdict == "fail"


def test_a_request_that_arrived_twice_is_not_the_engines_doing() -> None:
    check = judged([record(0)], [ran(0), ran(0, run="run0again")])["doubled"]
    assert check.verdict == "pass"
    assert check.figures["arrived_twice"] == 1


def test_a_retried_stage_may_run_twice() -> None:
    again = ran(0, executions={"fetch": 2})
    assert judged([record(0)], [again], once=False)["doubled"].verdict == "pass"


def test_events_must_add_up_by_the_engines_own_account() -> None:
    dropped = ran(0, emitted=5, delivered=3, dropped=2)
    assert judged([record(0)], [dropped])["events"].verdict == "pass"
    silently = ran(0, emitted=5, delivered=3)
    assert judged([record(0)], [silently])["events"].verdict == "fail"
    twice = ran(0, emitted=5, delivered=6)
    assert judged([record(0)], [twice])["events"].verdict == "fail"


def test_the_error_budget_is_a_share_of_what_no_fault_has_cut() -> None:
    records = [record(n) for n in range(99)]
    ledger = [ran(n) for n in range(100)]
    refused = record(99, status=503, error="", own=None)
    assert judged([*records, refused], ledger)["errors"].verdict == "pass"
    assert judged([*records[:98], refused], ledger)["errors"].verdict == "fail"


def test_what_the_end_of_the_load_has_stopped_is_judged_by_nobody() -> None:
    stopped = record(1, status=None, error="stopped")
    evidence = Evidence([record(0), stopped], [ran(0)], {})
    assert [one["marker"] for one in fates(evidence).stopped] == [stopped["marker"]]
    assert failed(judged([record(0), stopped], [ran(0)])) == set()


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentiles([n / 1000 for n in range(1, 101)]) == {
        "count": 100,
        "p50_ms": 50.0,
        "p90_ms": 90.0,
        "p95_ms": 95.0,
        "p99_ms": 99.0,
        "max_ms": 100.0,
    }
    assert percentiles([]) == {"count": 0}
