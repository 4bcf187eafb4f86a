"""The reference engine's adapter puts a plan's sink and consumer where the engine has them."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.outcome import SinkReport
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from mocks.tools import simulated_tool


@functools.cache
def laboratory() -> Laboratory:
    return Laboratory(Adapter(), simulated_tool)


def run(plan: dict[str, Any], *steps: dict[str, Any], seed: int = 0) -> RunRecord:
    program = Program.from_json({"stages": [{"name": "a", "steps": list(steps)}]})
    return laboratory().run(program, Plan.from_json(plan), seed=seed)


def kinds(record: RunRecord, *kinds: str) -> list[tuple[float, str, Any]]:
    return [(round(e.at_s, 6), e.kind, e.detail) for e in record.journal if e.kind in kinds]


# The first is in the sink's hands when the next one comes: the stage has given the loop a turn.
FLOOD = {"op": "flood", "producer": "n", "count": 4}
WHO = "r0/a/n"


def test_events_go_through_the_queue_to_the_plans_sink() -> None:
    record = run({"sink": {"delivery_s": 0.1, "queue_max": 2, "policy": "drop_newest"}}, FLOOD)
    assert kinds(record, "offer.end", "deliver.end") == [
        *((0.0, "offer.end", (WHO, n, "taken")) for n in (0, 1, 2)),
        (0.0, "offer.end", (WHO, 3, "refused")),
        *((at_s, "deliver.end", (WHO, n)) for n, at_s in ((0, 0.1), (1, 0.2), (2, 0.3))),
    ]
    assert [e.detail for e in record.journal.of("account")][-1] == (4, 0, 1, 3, 2)
    outcome = record.outcomes["r0"]
    assert outcome.sink == SinkReport(4, 3, 1, 0, 2)
    assert [data["n"] for _, data in outcome.events] == [0, 1, 2]


@pytest.mark.parametrize(
    ("policy", "account", "got"),
    [
        ("block", SinkReport(4, 4, 0, 0, 1), [0, 1, 2, 3]),
        ("drop_oldest", SinkReport(4, 2, 2, 0, 1), [0, 3]),
        ("spill", SinkReport(4, 3, 1, 0, 1), [0, 1, 2]),
    ],
)
def test_the_plans_settings_reach_the_queue(
    policy: str, account: SinkReport, got: list[int]
) -> None:
    sink = {"delivery_s": 0.1, "queue_max": 1, "policy": policy, "spill_max": 1, "block_s": 0.2}
    outcome = run({"sink": sink}, FLOOD).outcomes["r0"]
    assert (outcome.sink, [data["n"] for _, data in outcome.events]) == (account, got)


def test_the_time_for_the_drain_and_for_waiting_is_the_plans() -> None:
    sink = {"hangs_at": 1, "queue_max": 1, "policy": "block", "block_s": 0.2, "drain_s": 0.3}
    record = run({"sink": sink}, FLOOD)
    assert kinds(record, "stage.end", "run.end") == [
        (0.2, "stage.end", "ok"),
        (0.5, "run.end", "returned"),
    ]
    assert record.leaks == ()


def test_a_run_without_a_sink_of_the_plan_takes_everything_at_once() -> None:
    record = run({}, FLOOD)
    assert kinds(record, "deliver.begin") == []
    assert record.outcomes["r0"].sink == SinkReport(4, 4, 0, 0, 0)


def test_runs_share_the_plans_sink_and_have_accounts_and_events_of_their_own() -> None:
    plan = {"runs": [{"id": "r0"}, {"id": "r1", "start_s": 0.05}], "sink": {"delivery_s": 0.1}}
    outcomes = run(plan, FLOOD).outcomes
    for name in ("r0", "r1"):
        assert outcomes[name].sink == SinkReport(4, 4, 0, 0, 1_000)
        assert {data["producer"] for _, data in outcomes[name].events} == {f"{name}/a/n"}


CHUNKS = [{"op": "chunk", "value": n} for n in range(4)]


def test_the_plans_consumer_consumes_beside_the_run_and_is_waited_for() -> None:
    record = run({"consumer": {"stage": "a", "every_s": 1, "buffer_max": 2}}, *CHUNKS)
    assert kinds(record, "consume", "stage.end", "consume.stop", "run.end") == [
        (0.0, "consume", 0),
        (1.0, "consume", 1),
        (1.0, "stage.end", "ok"),
        (2.0, "consume", 2),
        (3.0, "consume", 3),
        (4.0, "consume.stop", 4),
        (4.0, "run.end", "returned"),
    ]


def test_a_consumer_that_stops_is_told_to_the_engine() -> None:
    plan = {"consumer": {"stage": "a", "stop_after": 2, "buffer_max": 1}}
    record = run(plan, *CHUNKS, {"op": "never"})
    assert [kind for _, kind, _ in kinds(record, "consume.stop", "interrupt", "stage.end")] == [
        *("consume.stop", "interrupt", "stage.end")
    ]
    assert record.outcomes["r0"].stages["a"].status == "cancelled"
    assert (record.outcomes["r0"].status, record.leaks) == ("ok", ())


def test_a_consumer_does_not_outlive_a_cancelled_caller() -> None:
    for point in range(1, 40):
        plan = {
            "consumer": {"stage": "a", "every_s": 0.1, "buffer_max": 1},
            "cancels": [{"at_point": point}],
        }
        record = run(plan, *CHUNKS)
        assert (record.ended, record.leaks) == ("over", ())


def test_one_seed_is_one_run() -> None:
    flood = {**FLOOD, "count": 20, "every_s": [0.0, 0.01, 0.1]}
    for seed in range(1, 10):
        plan = {"sink": {"delivery_s": 0.05, "queue_max": 3, "policy": "spill", "spill_max": 3}}
        one, other = (run(plan, flood, seed=seed) for _ in range(2))
        assert digest(one) == digest(other)
