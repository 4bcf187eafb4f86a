"""The parts of a plan that are chaos: toxics, clocks that are set, faults by chance."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.errors import InputError
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import ClockStep, Fault, Plan, Toxic
from harness.kernel.script import Unrenderable
from harness.kernel.substitutes import _STAND_INS, EPOCH_S, Substitutes
from harness.kernel.tape import Tape
from mocks.network import comings
from mocks.tools import simulated_tool
from scenarios.notation import call, ok, program, sleep, stage

LAB = Laboratory(Adapter("reference"), simulated_tool)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"toxics": [{"type": "gremlin"}]}, "plan.toxics[0].type: expected one of latency, "),
        (
            {"toxics": [{"type": "latency", "stream": "sideways"}]},
            "plan.toxics[0].stream: expected downstream or upstream, got 'sideways'",
        ),
        (
            {"toxics": [{"type": "latency", "attributes": {"delay": 1}}]},
            "plan.toxics[0].attributes: latency has no 'delay'; it has: latency, jitter",
        ),
        (
            {"toxics": [{"type": "latency", "attributes": {"latency": 0.5}}]},
            "plan.toxics[0].attributes.latency: expected a whole number, got 0.5",
        ),
        (
            {"clock_steps": [{"at_s": -1, "by_s": 1}]},
            "plan.clock_steps[0].at_s: expected a number from 0 to 1e+06, got -1",
        ),
        (
            {"faults": [{"tool": "t", "one_in": 1}]},
            "plan.faults[0].one_in: expected a number from 2 to 1e+06, got 1",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Plan.from_json(data)
    assert str(caught.value).startswith(says)


def test_they_survive_a_round_trip() -> None:
    plan = Plan(
        toxics=(Toxic("latency", {"latency": 5}), Toxic("timeout", stream="upstream")),
        clock_steps=(ClockStep(0.5, -3_600.0),),
        faults=(Fault("t", one_in=10),),
    )
    assert Plan.from_json(plan.to_json()) == plan


def came(toxic: Toxic, *, seconds: float = 1.0, items: int = 1) -> list[tuple[float | None, str]]:
    found = comings([toxic], Tape(0), seconds=seconds, items=items, closes=True)
    return [(None if c.at_s is None else round(c.at_s, 6), c.what) for c in found]


@pytest.mark.parametrize(
    ("toxic", "comes"),
    [
        (Toxic("latency"), [(0, "head"), (0.5, "item"), (1, "answer"), (1, "close")]),
        (
            Toxic("latency", {"latency": 200}),
            [(0.2, "head"), (0.7, "item"), (1.2, "answer"), (1.2, "close")],
        ),
        (
            Toxic("latency", {"latency": 200}, "upstream"),
            [(0.2, "head"), (0.7, "item"), (1.2, "answer"), (1.2, "close")],
        ),
        (
            Toxic("slow_close", {"delay": 300}),
            [(0, "head"), (0.5, "item"), (1, "answer"), (1.3, "close")],
        ),
        (Toxic("reset_peer", {"timeout": 300}), [(0.3, "reset")]),
        (Toxic("reset_peer", {"timeout": 300}, "upstream"), [(0.3, "reset")]),
        (Toxic("timeout", {"timeout": 300}, "upstream"), [(0.3, "cut")]),
        (Toxic("timeout", {}, "upstream"), [(None, "silent")]),
        (Toxic("timeout"), [(1, "cut")]),
        (Toxic("limit_data", {"bytes": 600}), [(0, "head"), (0.5, "item"), (1, "cut")]),
        (Toxic("limit_data", {"bytes": 1}), [(0, "cut")]),
        (
            Toxic("bandwidth", {"rate": 1}),
            [(0.256, "head"), (0.756, "item"), (1.256, "answer"), (1.256, "close")],
        ),
        (Toxic("bandwidth"), [(1, "cut")]),
    ],
)
def test_what_a_toxic_does_to_one_call(toxic: Toxic, comes: list[tuple[float | None, str]]) -> None:
    assert came(toxic) == comes


def test_order_is_kept_under_jitter() -> None:
    toxic = Toxic("latency", {"latency": 500, "jitter": 500})
    for seed in range(1, 60):
        found = comings([toxic], Tape(seed), seconds=0.2, items=6, closes=True)
        times = [c.at_s for c in found if c.at_s is not None]
        assert times == sorted(times)
        assert all(c.sent_s <= t <= c.sent_s + 1.2 for c, t in zip(found, times, strict=True))


CALLS = program("p", *(stage(f"s{i}", call("t", 0.1), ok("x")) for i in range(10)))


def fired(seed: int, plan: Plan) -> int:
    record = LAB.run(CALLS, plan, seed=seed)
    return sum(e.kind == "fault.fired" for e in record.journal)


def test_one_call_in_ten_fails_in_runs_with_a_seed_and_none_in_the_undisturbed_one() -> None:
    plan = Plan(faults=(Fault("t", one_in=10),))
    assert fired(0, plan) == 0
    counts = Counter(fired(seed, plan) for seed in range(1, 301))
    assert 0.07 < sum(n * times for n, times in counts.items()) / 3_000 < 0.13


def test_a_run_with_drawn_chaos_replays_from_its_tape() -> None:
    plan = Plan(
        faults=(Fault("t", one_in=3),),
        toxics=(Toxic("latency", {"latency": 300, "jitter": 300}),),
    )
    first = LAB.run(CALLS, plan, seed=77)
    again = LAB.run(CALLS, plan, seed=77, recorded=first.tape)
    assert {"faults", "network"} <= set(first.tape)
    assert digest(again) == digest(first)


def test_a_set_clock_moves_the_wall_and_nothing_that_counts_on() -> None:
    clock = [0.0]
    Substitutes("nowhere").follow(lambda: clock[0], 1, (ClockStep(1.0, 60.0), ClockStep(2.0, -90)))
    stand_in = _STAND_INS[id(time)]
    seen = []
    for now in (0.5, 1.0, 2.5):
        clock[0] = now
        seen.append((round(stand_in.time() - EPOCH_S, 3), stand_in.monotonic()))
    assert seen == [(0.5, 0.5), (61.0, 1.0), (-27.5, 2.5)]


def timed(plan: Plan, subject: str) -> Any:
    one = program("p", stage("quick", sleep(0.4), ok("x")), stage("slow", sleep(9.0)))
    record = Laboratory(Adapter(subject), simulated_tool).run(one, plan)
    return {e.stage: (e.detail, round(e.at_s, 3)) for e in record.journal if e.kind == "stage.end"}


@pytest.mark.parametrize("by_s", [1.0, -1.0, 3_600.0, -3_600.0])
def test_the_reference_engine_does_not_look_at_the_wall_and_a_broken_one_does(by_s: float) -> None:
    plan = Plan(stage_timeout_s=0.6, clock_steps=(ClockStep(0.2, by_s),))
    calm = Plan(stage_timeout_s=0.6)
    assert timed(plan, "reference") == timed(calm, "reference")
    assert timed(calm, "broken:timeout-wall-clock") == timed(calm, "reference")
    assert timed(plan, "broken:timeout-wall-clock") != timed(calm, "reference")


def test_clocks_are_right_again_in_the_next_run() -> None:
    plan = Plan(stage_timeout_s=0.6, clock_steps=(ClockStep(0.0, 5.0),))
    timed(plan, "broken:timeout-wall-clock")
    calm = Plan(stage_timeout_s=0.6)
    assert timed(calm, "broken:timeout-wall-clock") == timed(calm, "reference")


def test_a_simulation_has_no_script_of_what_a_process_cannot_bring_about() -> None:
    check = "def violation(seen, error, outputs, left, took):\n    return None\n"
    one = program("p", stage("a", call("t", 0.1), ok("x")))
    for plan, why in (
        (Plan(toxics=(Toxic("latency"),)), "a network with toxics"),
        (Plan(clock_steps=(ClockStep(0.0, 1.0),)), "a wall clock that is set"),
        (Plan(faults=(Fault("t", one_in=2),)), "faults that the tape draws"),
    ):
        with pytest.raises(Unrenderable, match=why):
            _plain().render(one, plan, "CLEAN-5", check)
    assert _plain().render(one, Plan(), "CLEAN-5", check) is not None


def _plain() -> Any:
    from harness.adapters.asyncio_plain import Adapter as Plain

    return Plain("asyncio")
