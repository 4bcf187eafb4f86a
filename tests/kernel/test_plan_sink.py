"""A plan's sink and consumer: checked where they are read, and kept through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.kernel.errors import InputError
from harness.kernel.plan import Consumer, Plan, Sink, required_capabilities
from harness.kernel.program import Program


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        ({"block_s": -1}, r"plan\.sink\.block_s: expected a number from 0 to 1e\+06, got -1"),
        ({"spill_max": 0}, r"plan\.sink\.spill_max: expected a number from 1 to 1e\+06, got 0"),
        ({"queue_max": 0}, r"plan\.sink\.queue_max: expected a number from 1"),
        (
            {"policy": "drop"},
            r"plan\.sink\.policy: expected block, drop_newest, drop_oldest, spill",
        ),
        ({"bound": 1}, r"plan\.sink.*: unknown field 'bound'"),
    ],
)
def test_a_sink_that_cannot_be_is_refused(sink: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Plan.from_json({"sink": sink})


def test_a_sink_and_a_consumer_survive_json() -> None:
    sink = Sink(delivery_s=0.1, queue_max=3, policy="spill", spill_max=9, block_s=0.5, drain_s=2.0)
    plan = Plan(sink=sink, consumer=Consumer("a", every_s=0.5, stop_after=2, buffer_max=4))
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_a_queue_is_needed_only_where_one_is_asked_for() -> None:
    program = Program.from_json({"stages": [{"name": "a"}]})
    assert required_capabilities(program, Plan(sink=Sink(delivery_s=1.0))) == {"events"}
    queued = Plan(sink=Sink(queue_max=5))
    assert required_capabilities(program, queued) == {"events", "event_queue"}
