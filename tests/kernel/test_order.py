"""Loops whose ready queue is out of order: by chance, and by priorities; the same run by seed."""

from __future__ import annotations

import asyncio
from itertools import pairwise, permutations
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.errors import InputError
from harness.kernel.live import LiveLaboratory
from harness.kernel.order import ORDER_MODES, STREAM, TURNS_MAX, Order, OrderLoop
from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.steps import step
from harness.kernel.tape import PERTURBATIONS, Tape
from mocks.tools import simulated_tool
from tests.kernel.bench import run

SEEDS = range(1, 200)


def loop(mode: str, seed: int, recorded: Any = None, **order: int) -> OrderLoop:
    tape = Tape(seed, recorded)
    return OrderLoop(tape, Order(mode, **order), horizon_s=100.0, steps_max=10_000)


async def three_callbacks(sim: Any, record: list[Any]) -> None:
    for number in range(3):
        sim.call_soon(record.append, number)
    while len(record) < 3:
        await asyncio.sleep(0)


async def three_tasks(_sim: Any, record: list[Any]) -> None:
    async def turns(number: int) -> None:
        for _ in range(3):
            record.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(turns(n) for n in range(3)))


@pytest.mark.parametrize("mode", ORDER_MODES)
def test_every_order_of_three_callbacks_comes_up(mode: str) -> None:
    orders = {tuple(run(loop(mode, seed), three_callbacks)) for seed in SEEDS}
    assert orders == set(permutations(range(3)))


@pytest.mark.parametrize("mode", ORDER_MODES)
def test_the_same_seed_is_the_same_run_and_so_is_its_tape(mode: str) -> None:
    for seed in SEEDS[:40]:
        one = loop(mode, seed, steps=20)
        record = run(one, three_tasks)
        assert run(loop(mode, seed, steps=20), three_tasks) == record
        assert run(loop(mode, 0, one.tape.recorded, steps=20), three_tasks) == record


def test_seed_0_keeps_the_order_of_asyncio() -> None:
    assert run(loop("shuffle", 0), three_tasks) == [0, 1, 2] * 3


def test_without_change_points_the_leader_runs_to_its_end() -> None:
    for seed in SEEDS[:40]:
        record = run(loop("pct", seed, depth=1), three_tasks)
        runs = [record[i : i + 3] for i in (0, 3, 6)]
        assert all(len(set(turns)) == 1 for turns in runs), record


def test_a_change_point_takes_the_lead_from_the_leader() -> None:
    def switches(record: list[int]) -> int:
        return sum(a != b for a, b in pairwise(record))

    least = max(switches(run(loop("pct", s, depth=1, steps=12), three_tasks)) for s in SEEDS)
    most = max(switches(run(loop("pct", s, depth=3, steps=12), three_tasks)) for s in SEEDS)
    assert (least, most) == (2, 4)


def test_a_task_that_spins_does_not_starve_what_it_waits_for() -> None:
    async def spins(_sim: Any, record: list[Any]) -> None:
        async def fill() -> None:
            record.append("filled")

        task = asyncio.create_task(fill())
        turns = 0
        while not record:
            await asyncio.sleep(0)
            turns += 1
        await task
        record.append(turns)

    turns = [run(loop("pct", seed, depth=1), spins)[1] for seed in SEEDS]
    assert max(turns) > 10  # it was ahead, for long
    assert max(turns) <= 2 * TURNS_MAX


def test_timers_still_fire_in_the_order_of_their_deadlines() -> None:
    async def main(sim: Any, record: list[Any]) -> None:
        for seconds in (3, 1, 2):
            sim.call_later(seconds, record.append, seconds)
        await asyncio.sleep(4)

    for mode in ORDER_MODES:
        for seed in SEEDS[:20]:
            assert run(loop(mode, seed), main) == [1, 2, 3]


def test_the_order_is_no_legal_perturbation() -> None:
    assert STREAM not in PERTURBATIONS


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="shuffle, pct"):
        Order("random")
    with pytest.raises(InputError, match="at least 1"):
        Order("pct", steps=0)


def test_the_live_laboratory_keeps_the_order_of_the_stock_loop() -> None:
    laboratory = LiveLaboratory(Adapter(), simulated_tool)
    program = Program((Stage("s", (step("ok"),)),))
    with pytest.raises(InputError, match="order pct: the live laboratory"):
        laboratory.run(program, Plan(), order=Order("pct"))
