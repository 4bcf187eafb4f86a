"""The simulated loop keeps what asyncio documents and varies only what it leaves open."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from typing import Any

import pytest

from harness.kernel.errors import SimulationRefused
from harness.kernel.loop import JOB_LATENCIES_S, LATE_S, SimLoop, ThreadJob
from harness.kernel.tape import Tape
from tests.kernel.bench import run, sim

SEEDS = range(1, 40)


def seeds_with(stream: str, on: bool) -> list[int]:
    return [seed for seed in SEEDS if Tape(seed).active(stream) is on]


# Order and time.


def test_a_round_runs_what_was_ready_when_it_began() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        def again(n: int) -> None:
            record.append(n)
            if n < 10:
                loop.call_soon(again, n + 10)

        for n in range(3):
            loop.call_soon(again, n)
        for _ in range(3):
            await asyncio.sleep(0)

    for seed in (0, *SEEDS):
        assert run(sim(seed), main) == [0, 1, 2, 10, 11, 12]


def test_a_cancelled_callback_and_a_cancelled_timer_never_run() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        loop.call_soon(record.append, "soon").cancel()
        loop.call_later(1, record.append, "later").cancel()
        loop.call_later(2, record.append, "kept")
        await asyncio.sleep(3)
        record.append(loop.time())

    assert run(sim(), main) == ["kept", 3.0]


def test_hours_of_virtual_time_take_no_real_time() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        for _ in range(100):
            await asyncio.sleep(60)
        record.append(loop.time())

    before = time.monotonic()
    assert run(sim(horizon_s=10_000), main) == [6000.0]
    assert time.monotonic() - before < 60


def test_timers_of_one_deadline_are_permuted_among_themselves_only() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        for n in range(4):
            loop.call_at(1.0, record.append, n)
        for n in range(4, 6):
            loop.call_at(2.0, record.append, n)
        await asyncio.sleep(3)

    orders = {seed: run(sim(seed), main) for seed in (0, *SEEDS)}
    for order in orders.values():
        assert (sorted(order[:4]), sorted(order[4:])) == ([0, 1, 2, 3], [4, 5])
    # Undisturbed they fire as asyncio's own heap gives them, which is in one order only.
    assert {tuple(orders[seed]) for seed in seeds_with("ties", False)} == {tuple(orders[0])}
    assert len({tuple(orders[seed]) for seed in seeds_with("ties", True)}) > 5


def test_timers_are_never_early_and_late_by_no_more_than_is_stated() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        for due in (0.5, 1.0, 1.5, 2.0):
            loop.call_at(due, lambda due=due: record.append(loop.time() - due))
        await asyncio.sleep(3)

    seen = set()
    for seed in (0, *SEEDS):
        loop = sim(seed)
        late = run(loop, main)
        assert all(0 <= by <= loop.late_s + 1e-9 for by in late)
        assert loop.late_s == (LATE_S if Tape(seed).active("late") else 0.0)
        seen |= {round(by, 6) for by in late}
    assert seen == {0.0, LATE_S / 2, LATE_S}


# Sets of tasks.


async def _set_order(loop: SimLoop, record: list[Any]) -> None:
    async def one(n: int) -> int:
        return n

    tasks = {loop.create_task(one(n)) for n in range(12)}
    done, _ = await asyncio.wait(tasks)
    record.extend(task.result() for task in done)


def test_a_task_hashes_by_its_ordinal_and_equals_itself_only() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        async def nothing() -> None: ...

        tasks = [loop.create_task(nothing()) for _ in range(3)]
        record.append([hash(task) - hash(tasks[0]) for task in tasks])
        record.append([tasks[0] == other for other in tasks])
        await asyncio.wait(tasks)

    assert run(sim(), main) == [[0, 1, 2], [True, False, False]]


def test_a_set_of_tasks_has_one_order_a_seed_and_several_among_seeds() -> None:
    orders = {seed: run(sim(seed), _set_order) for seed in SEEDS}
    assert orders == {seed: run(sim(seed), _set_order) for seed in SEEDS}
    assert {tuple(orders[seed]) for seed in seeds_with("tasks", False)} == {
        tuple(run(sim(0), _set_order))
    }
    assert len({tuple(orders[seed]) for seed in seeds_with("tasks", True)}) > 5


# Worker threads.


def test_a_job_ends_at_the_virtual_time_that_it_says_it_takes() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        job = ThreadJob(2.5, lambda: record.append(("done", loop.time())))
        record.append(("result", await asyncio.to_thread(job)))
        job = ThreadJob(1.0, lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, job)
        record.append(("failed", loop.time()))

    assert run(sim(), main) == [("done", 2.5), ("result", None), ("failed", 3.5)]


def test_a_cancelled_job_works_on_to_its_end() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        job = ThreadJob(2.0, lambda: record.append(("worked", loop.time())))
        try:
            async with asyncio.timeout(0.5):
                await asyncio.to_thread(job)
        except TimeoutError:
            record.append(("gave up", loop.time(), len(loop.jobs)))
        await asyncio.sleep(3)
        record.append(("after", loop.time(), len(loop.jobs)))

    assert run(sim(), main) == [("gave up", 0.5, 1), ("worked", 2.0), ("after", 3.5, 0)]


def test_jobs_that_say_nothing_take_one_of_a_few_latencies_and_so_change_order() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        async def one(n: int) -> None:
            await asyncio.to_thread(lambda: None)
            record.append((n, round(loop.time(), 6)))

        await asyncio.gather(*(one(n) for n in range(4)))

    assert sorted(run(sim(), main)) == [(n, 0.0) for n in range(4)]
    quiet = [s for s in seeds_with("jobs", True) if s in seeds_with("late", False)]
    ends = [run(sim(seed), main) for seed in quiet]
    assert {at for end in ends for _, at in end} == set(JOB_LATENCIES_S)
    assert len({tuple(n for n, _ in end) for end in ends}) > 3


def test_time_does_not_jump_over_a_live_thread() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        answer: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            time.sleep(0.05)  # if the loop did not wait, its timeout would come first
            loop.call_soon_threadsafe(answer.set_result, "from the thread")

        thread = threading.Thread(target=work)
        thread.start()
        async with asyncio.timeout(30):
            record.append((await answer, loop.time()))
        thread.join()

    assert run(sim(), main) == [("from the thread", 0.0)]


# Refusals.


@pytest.mark.parametrize(
    ("ask", "name", "what"),
    [
        (lambda loop: asyncio.open_connection("localhost", 1), "create_connection", "sockets"),
        (lambda loop: asyncio.start_server(lambda r, w: None, "", 1), "create_server", "sockets"),
        (lambda loop: loop.getaddrinfo("localhost", 1), "getaddrinfo", "name look-ups"),
        (lambda loop: asyncio.create_subprocess_exec("ls"), "subprocess_exec", "subprocesses"),
        (lambda loop: asyncio.create_subprocess_shell("ls"), "subprocess_shell", "subprocesses"),
        (lambda loop: loop.add_reader(0, print), "add_reader", "file descriptors"),
        (lambda loop: loop.add_signal_handler(15, print), "add_signal_handler", "signals"),
    ],
)
def test_what_has_no_virtual_time_is_refused_with_what_to_do(
    ask: Any, name: str, what: str
) -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        try:
            await ask(loop)
        except SimulationRefused as exc:
            record.append(str(exc))

    assert run(sim(), main) == [
        f"loop.{name}: real {what} have no virtual time; stub the client that opens it, "
        "or run with --lab live"
    ]


# Stalls.


def test_a_loop_that_nothing_can_wake_stalls_as_deadlocked() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        record.append("waits")
        await loop.create_future()

    loop = sim()
    assert (run(loop, main), loop.stalled, loop.now_s) == (["waits"], "deadlock", 0.0)


def test_a_loop_whose_next_timer_is_beyond_the_horizon_stalls_there() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        loop.call_later(9, record.append, "within")
        await asyncio.sleep(11)
        record.append("beyond")

    loop = sim(horizon_s=10)
    assert (run(loop, main)[:1], loop.stalled) == (["within"], "horizon")


def test_a_loop_that_spins_stalls_after_so_many_steps() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        while True:
            await asyncio.sleep(0)

    loop = sim(steps_max=500)
    assert (run(loop, main), loop.stalled) == ([], "steps")


def test_once_settling_time_stands_still() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        loop.call_later(1, record.append, "timer")
        loop.call_soon(lambda: loop.call_soon(record.append, "ready"))

    loop = sim()
    task = loop.create_task(main(loop, record := []))
    task.add_done_callback(lambda _task: loop.settle())
    loop.run_forever()
    loop.close()
    assert (record, loop.now_s, loop.stalled) == (["ready"], 0.0, "")


# Where a cancel can be put.


def test_a_cancel_can_be_put_at_every_point_and_lands_at_each_only_once() -> None:
    async def main() -> None:
        await asyncio.sleep(1)
        await asyncio.sleep(0)

    def points(at: int) -> tuple[int, list[int]]:
        loop, hits = sim(), []
        task = loop.create_task(main())
        task.add_done_callback(lambda _task: loop.settle())
        loop.inject_at, loop.inject = at, lambda: hits.append(loop.points)
        loop.run_forever()
        loop.close()
        return loop.points, hits

    whole, none = points(-1)
    assert none == []
    # A start, a jump, a timer, a wake-up, a turn and the end of it: each is a point.
    assert whole == 6
    assert [points(at)[1] for at in range(1, whole + 1)] == [[at] for at in range(1, whole + 1)]


def test_a_handle_is_made_with_all_that_asyncio_gives_one() -> None:
    async def main(loop: SimLoop, record: list[Any]) -> None:
        context = contextvars.copy_context()
        mine = loop.call_soon(record.append, 1, context=context)
        theirs = asyncio.Handle(record.append, (1,), loop, context)
        names = [n for n in asyncio.Handle.__slots__ if n != "__weakref__"]
        assert [getattr(mine, n) for n in names] == [getattr(theirs, n) for n in names]
        assert loop.call_soon(record.append, 2)._context is not context  # type: ignore[attr-defined]

    assert run(sim(), main) == [1, 2]
