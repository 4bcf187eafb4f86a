"""The simulated laboratory: time, order, leaks, determinism, refusals."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.errors import InputError, SimulationRefused
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.loop import LATE_S, SimLoop
from harness.kernel.plan import Cancel, Plan
from harness.kernel.program import Program, Stage
from harness.kernel.steps import parse_step, step
from harness.kernel.tape import Tape
from mocks.tools import simulated_tool

ROOT = Path(__file__).resolve().parents[2]


def loop(seed: int = 0) -> SimLoop:
    return SimLoop(Tape(seed), horizon_s=100.0, steps_max=10_000)


def run(sim: SimLoop, main: Any) -> list[Any]:
    record: list[Any] = []
    task = sim.create_task(main(sim, record))
    task.add_done_callback(lambda _t: sim.settle())
    sim.run_forever()
    sim.close()
    return record


def test_callbacks_run_in_the_order_of_call_soon_under_every_seed() -> None:
    async def main(sim: SimLoop, record: list[Any]) -> None:
        for i in range(20):
            sim.call_soon(record.append, i)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    for seed in range(20):
        assert run(loop(seed), main) == list(range(20))


def test_time_jumps_to_the_next_timer_and_no_timer_is_later_than_stated() -> None:
    async def main(sim: SimLoop, record: list[Any]) -> None:
        for seconds in (3, 1, 2):
            sim.call_later(seconds, lambda s=seconds: record.append((s, sim.time())))
        await asyncio.sleep(5)

    assert run(loop(), main) == [(1, 1.0), (2, 2.0), (3, 3.0)]
    for seed in range(1, 30):
        for due, at in run(loop(seed), main):
            assert due <= at <= due + LATE_S


def test_sockets_are_refused_with_what_to_do() -> None:
    async def main(sim: SimLoop, record: list[Any]) -> None:
        try:
            await sim.create_connection(asyncio.Protocol, "localhost", 1)
        except SimulationRefused as exc:
            record.append(str(exc))

    (message,) = run(loop(), main)
    assert "stub" in message


def test_a_thread_takes_virtual_time() -> None:
    async def main(sim: SimLoop, record: list[Any]) -> None:
        record.append(await asyncio.to_thread(lambda: "done"))
        record.append(sim.time())

    assert run(loop(), main) == ["done", 0.0]


def laboratory() -> Laboratory:
    return Laboratory(Adapter("reference"), simulated_tool)


def chain() -> Program:
    held = step("acquire", name="lock", cleanup_s=0.25)
    return Program(
        (
            Stage("a", (held, step("sleep", seconds=1.0), step("ok", value=1))),
            Stage("b", (step("sleep", seconds=1.0), step("ok", value=2)), needs=("a",)),
        )
    )


def kinds(record: Any) -> list[tuple[float, str, str]]:
    return [(e.at_s, e.stage, e.kind) for e in record.journal]


def test_the_journal_of_a_run_that_its_caller_cancels() -> None:
    record = laboratory().run(chain(), Plan(cancels=(Cancel(at_s=0.5),)))
    assert kinds(record) == [
        (0.0, "", "run.begin"),
        (0.0, "a", "stage.start"),
        (0.0, "a", "acquire"),
        (0.5, "", "cancel.sent"),
        (0.5, "a", "interrupt"),
        (0.5, "a", "release.begin"),
        (0.75, "a", "release.end"),
        (0.75, "a", "stage.end"),
        (0.75, "", "run.end"),
    ]
    assert (record.leaks, record.outcomes["r0"].status) == ((), "cancelled")


def test_an_engine_that_abandons_its_stages_is_judged_before_the_teardown() -> None:
    broken = Laboratory(Adapter("broken:caller-cancel-abandons"), simulated_tool)
    record = broken.run(chain(), Plan(cancels=(Cancel(at_s=0.5),)))
    assert [(x.kind, x.stage) for x in record.leaks if x.stage] == [("task", "a")]
    assert "release.begin" not in [e.kind for e in record.journal]


def test_who_waits_where_is_told_when_nothing_can_happen() -> None:
    program = Program((Stage("a", (step("never"),)),))
    record = laboratory().run(program, Plan())
    assert (record.ended, record.outcomes) == ("deadlock", {})
    assert any("_never" in place for w in record.waiting for place in w.where)


DIGESTS = """
import sys
sys.path.insert(0, {root!r})
from tests.kernel.test_simulation import chain, laboratory
from harness.kernel.laboratory import digest
from harness.kernel.plan import Plan
lab = laboratory()
print([digest(lab.run(chain(), Plan(), seed=seed)) for seed in range(8)])
"""


def test_a_seed_gives_the_same_run_in_every_process() -> None:
    here = [digest(laboratory().run(chain(), Plan(), seed=seed)) for seed in range(8)]
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS.format(root=str(ROOT))],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(here)


def test_a_recorded_tape_replays_the_run() -> None:
    lab = laboratory()
    record = lab.run(chain(), Plan(), seed=12345)
    again = lab.run(chain(), Plan(), seed=12345, recorded=record.tape)
    assert list(again.journal) == list(record.journal)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"op": "slep"}, "unknown step 'slep'"),
        ({"op": "sleep"}, "needs 'seconds'"),
        ({"op": "sleep", "seconds": -1}, "expected seconds from 0"),
        ({"op": "sleep", "seconds": float("nan")}, "expected seconds from 0"),
        ({"op": "sleep", "seconds": True}, "expected seconds as a number"),
        ({"op": "yield", "times": 1.5}, "expected a whole number"),
        ({"op": "raise", "error": "Oops"}, "expected one of"),
        ({"op": "sleep", "seconds": 1, "x": 1}, "no argument 'x'"),
    ],
)
def test_a_step_that_is_not_of_the_language_is_refused(data: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        parse_step(data, where="here")
