"""The proxy's timers: never early, in order, cancelled for good, and awake within bounds."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.proxy.alarms import AWAKE_BURST_S, AWAKE_SHARE, Alarms
from harness.proxy.loop import new_loop
from harness.proxy.watch import Watch


@pytest.fixture(params=[new_loop, asyncio.new_event_loop], ids=["own loop", "any loop"])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    made: asyncio.AbstractEventLoop = request.param()
    yield made
    made.close()


def run(
    loop: asyncio.AbstractEventLoop, set_up: Callable[[Alarms, Callable[[], None]], None]
) -> Alarms:
    """Let `set_up` set alarms, one of which calls its second argument to end the run."""

    async def main() -> Alarms:
        watch = Watch(loop)
        alarms = Alarms(loop, watch)
        over = loop.create_future()
        try:
            set_up(alarms, lambda: over.set_result(None))
            async with asyncio.timeout(20):
                await over
        finally:
            alarms.close()
            watch.close()
        return alarms

    return loop.run_until_complete(main())


def test_they_ring_in_their_order_and_never_early(loop: asyncio.AbstractEventLoop) -> None:
    rang: list[tuple[int, bool]] = []

    def set_up(alarms: Alarms, end: Callable[[], None]) -> None:
        began = time.monotonic()
        for number in (3, 0, 2, 1, 4):
            when = began + 0.005 * number
            alarms.at(when, lambda n=number, t=when: rang.append((n, time.monotonic() >= t)))  # type: ignore[misc]
        alarms.at(began + 0.025, end)

    run(loop, set_up)
    assert rang == [(number, True) for number in range(5)]


def test_one_that_was_cancelled_never_rings(loop: asyncio.AbstractEventLoop) -> None:
    rang: list[str] = []

    def set_up(alarms: Alarms, end: Callable[[], None]) -> None:
        now = time.monotonic()
        others = [alarms.at(now + 0.004, lambda: rang.append("cancelled")) for _ in range(200)]

        def cancel() -> None:
            for one in others:
                one.cancel()

        # They would have been next, and are waited for awake.
        alarms.at(now + 0.0039, cancel)
        alarms.at(now + 0.01, end)

    run(loop, set_up)
    assert rang == []


def test_one_set_by_another_for_at_once_does_not_keep_the_loop_from_its_turn(
    loop: asyncio.AbstractEventLoop,
) -> None:
    order: list[str] = []

    def set_up(alarms: Alarms, end: Callable[[], None]) -> None:
        def again() -> None:
            order.append("alarm")
            if len(order) < 40:
                alarms.at(time.monotonic(), again)
            else:
                end()

        def between() -> None:
            order.append("loop")
            if len(order) < 40:
                loop.call_soon(between)

        alarms.at(time.monotonic(), again)
        loop.call_soon(between)

    run(loop, set_up)
    assert order.count("loop") >= 5 and order.count("alarm") >= 5


class World:
    """A machine whose timers are late and whose turns take time, by its own clock."""

    TURN_S = 0.000_01

    def __init__(self, monkeypatch: pytest.MonkeyPatch, late_s: float) -> None:
        self.now, self.late_s = 1000.0, late_s
        self.chance = random.Random(1)
        self.rings_at = float("inf")
        self.soon: list[Callable[[], None]] = []
        self.due: Callable[[], None] = lambda: None
        module = "harness.proxy.alarms"
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=self.clock))
        monkeypatch.setattr(f"{module}.os", SimpleNamespace(read=lambda *_: b"", close=int))
        monkeypatch.setattr(f"{module}._timer_create", lambda: 99)
        monkeypatch.setattr(f"{module}._timer_set", self.set_timer)
        self.alarms = Alarms(cast(Any, self), cast(Any, self))

    # What the alarms see: a clock, a loop, a watch, a timer.

    def clock(self) -> float:
        self.now += 1e-7
        return self.now

    def call_soon(self, call: Callable[[], None]) -> None:
        self.soon.append(call)

    def read(self, _fd: int, call: Callable[[], None]) -> None:
        self.due = call

    def set_timer(self, _fd: int, when: float) -> None:
        self.rings_at = max(when, self.now) + self.chance.uniform(0, self.late_s)

    def run(self, until: float) -> None:
        while self.now < until:
            if self.soon:
                self.now += self.TURN_S
                for call in [self.soon.pop(0) for _ in range(len(self.soon))]:
                    call()
            else:
                self.now = min(max(self.now, self.rings_at), until)
                if self.now == self.rings_at:
                    self.rings_at = float("inf")
                    self.due()


@pytest.mark.parametrize("late_ms", [0.05, 0.4, 0.9])
def test_they_are_punctual_though_the_timer_is_late(
    monkeypatch: pytest.MonkeyPatch, late_ms: float
) -> None:
    world = World(monkeypatch, late_ms / 1000)
    off_s: list[float] = []
    for number in range(1, 101):
        when = world.now + 0.02 * number
        world.alarms.at(when, lambda t=when: off_s.append(world.now - t))  # type: ignore[misc]
    world.run(world.now + 3)
    assert len(off_s) == 100
    # But for some at first, from which it is learned how late the timer may be.
    assert all(one >= 0 for one in off_s)
    assert sum(one > 2 * World.TURN_S for one in off_s) < 20


def test_one_late_timer_costs_little_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, 0.05)
    began = world.now
    for number in range(1, 201):
        world.alarms.at(began + 0.02 * number, int)
    world.run(began + 0.1)
    world.late_s = 0.000_05
    world.run(began + 5)
    # A millisecond at first, and ever less of it.
    assert world.alarms.awake_s < 0.03


def test_however_many_there_are_a_fifth_of_the_time_is_waited_awake_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch, 0.0008)
    began, rang = world.now, []
    for number in range(1, 3001):
        world.alarms.at(began + 0.001 * number, lambda: rang.append(1))
    world.run(began + 4)
    assert len(rang) == 3000
    most_s = AWAKE_SHARE * 3 + AWAKE_BURST_S
    assert 0.8 * most_s < world.alarms.awake_s <= most_s + 100e-6
