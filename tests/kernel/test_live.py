"""The live laboratory: real time, few and short runs, and what it measures of the machine."""

from __future__ import annotations

import time

import pytest

from harness.adapters.reference import Adapter
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.errors import InputError
from harness.kernel.laboratory import Laboratory
from harness.kernel.live import LATE_MIN_S, LiveLaboratory, LiveLoop
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from mocks.tools import simulated_tool
from scenarios import scenarios


def run(scenario: str, subject: str = "reference") -> tuple[RunRecord, set[str]]:
    """Run a scenario on the real clock; returns the record and the clauses violated."""
    one = scenarios()[scenario]
    lab = LiveLaboratory(Adapter(subject), simulated_tool)
    record = lab.run(one.program, one.plan)
    reading = Reading(one.program, one.plan, record, lab.info)
    violated = {c for c in one.clauses if CLAUSES[c].check(reading).violations}
    return record, violated


def test_a_sleep_takes_real_time() -> None:
    program = Program.from_json(
        {"stages": [{"name": "a", "steps": [{"op": "sleep", "seconds": 0.1}]}]}
    )
    began_s = time.monotonic()
    record = LiveLaboratory(Adapter("reference"), simulated_tool).run(program, Plan())
    assert record.lab == "live"
    assert record.ended == "over"
    assert 0.1 <= record.took_s <= time.monotonic() - began_s


@pytest.mark.parametrize("scenario", ["graph/diamond_order", "branch_cancel/caller_cancel_midway"])
def test_the_reference_is_not_accused(scenario: str) -> None:
    assert run(scenario)[1] == set()


def test_a_broken_engine_is_caught_on_the_real_clock() -> None:
    _, violated = run("branch_cancel/caller_cancel_midway", "broken:caller-cancel-abandons")
    assert "CANCEL-3" in violated


def test_a_thread_outlives_its_timeout_but_not_the_run_for_long() -> None:
    began_s = time.monotonic()
    record, violated = run("timeouts/thread_timeout")  # a job of 20 s
    assert violated == set()
    assert record.outcomes["r0"].still_running == ("parse",)
    assert time.monotonic() - began_s < 10


def test_a_run_that_never_ends_is_ended() -> None:
    program = Program.from_json(
        {"stages": [{"name": "a", "steps": [{"op": "sleep", "seconds": 60.0}]}]}
    )
    plan = Plan.from_json({"horizon_s": 0.1})
    record = LiveLaboratory(Adapter("reference"), simulated_tool).run(program, plan)
    assert record.ended == "horizon"
    assert record.outcomes == {}


def test_what_blocks_the_loop_widens_the_tolerance() -> None:
    loop = LiveLoop(horizon_s=5.0)
    loop.call_later(0.02, time.sleep, 0.1)
    loop.call_later(0.2, loop.stop)
    loop.run_forever()
    assert loop.late_s >= LATE_MIN_S + 0.1
    loop.close()


def test_points_are_refused() -> None:
    plan = Plan.from_json({"cancels": [{"at_point": 3}]})
    program = Program.from_json({"stages": [{"name": "a", "steps": []}]})
    with pytest.raises(InputError, match="counts no points"):
        LiveLaboratory(Adapter("reference"), simulated_tool).run(program, plan)


def test_a_simulation_after_it_is_virtual_again() -> None:
    run("timeouts/thread_timeout")
    one = scenarios()["timeouts/thread_timeout"]
    record = Laboratory(Adapter("reference"), simulated_tool).run(one.program, one.plan)
    assert record.lab == "sim"
    assert record.took_s == 0.5  # no real clock is that exact
