"""Shrinking ends at the smallest case, the same one each time, and keeps what is shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given

from harness.adapters.reference import Adapter
from harness.kernel.errors import InputError
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.minimal import token_of
from harness.lab.search import smallest, telling
from harness.lab.search.shrink import Key, Seen, Shrunk, key_of, shrink
from harness.lab.search.simpler import (
    in_less_time,
    joined,
    lower_numbers,
    plainer,
    size_of,
    turns,
    unsound,
    waiting_instead,
    without_stages,
    without_time,
)
from harness.lab.search.smallest import shrink_witness
from harness.lab.token import Token, encode, scenario_digest
from harness.strategies import cases
from mocks.tools import simulated_tool
from tests.engine.random_programs import random_case

ROOT = Path(__file__).resolve().parents[2]
KEY: Key = ("X-1", "shown", "")
Tape = Mapping[str, Sequence[int]]


def program(*stages: dict[str, Any]) -> Program:
    return Program.from_json({"stages": list(stages)})


def stage(name: str, *steps: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": name, "steps": list(steps), **more}


SLEEP = {"op": "sleep", "seconds": [0.7, 3.7]}
BIG = program(
    stage("a", SLEEP, {"op": "ok", "value": [1, 2]}, timeout_s=30),
    stage("b", {"op": "timeout", "label": "l", "seconds": 9, "steps": [SLEEP]}, needs=["a"]),
    stage("c", {"op": "read", "stage": "b"}, {"op": "chunk", "value": 1}, needs=["b"]),
    stage("d", {"op": "raise", "message": "it broke"}, needs=["a", "c"]),
)
PLAN = Plan.from_json(
    {
        "runs": [{"id": "r0", "tenant": "t7"}, {"id": "r1", "start_s": 0.7}],
        "cancels": [{"at_s": 3.3, "times": 3, "gap_s": 0.1}, {"run": "r1", "at_point": 40}],
        "stage_timeout_s": 17.5,
    }
)
TAPE = {"ties": [0, 1, 2, 0, 1], "late": [3, 3]}


class Shown:
    """Shows what a predicate holds of; counts how often it was asked."""

    def __init__(self, predicate: Any) -> None:
        self.predicate = predicate
        self.asked = 0

    def __call__(self, small: Program, plan: Plan, tape: Tape) -> Seen:
        self.asked += 1
        return Seen(frozenset([KEY]) if self.predicate(small, plan, tape) else frozenset(), 10)


def small(predicate: Any, case: Program = BIG, plan: Plan = PLAN, **limits: Any) -> Shrunk:
    return shrink(case, plan, TAPE, KEY, Shown(predicate), **limits)


def test_what_shows_always_shrinks_to_one_empty_stage() -> None:
    found = small(lambda _p, _q, _t: True)
    assert found.program == Program((found.program.stages[0],))
    assert found.program.stages[0].steps == ()
    assert (found.plan, found.tape, found.ended) == (Plan(), {}, "smallest")


def test_what_it_needs_is_kept_and_nothing_else() -> None:
    found = small(
        lambda p, q, t: (
            "d" in p.names
            and any(one.op == "chunk" for _, one in p.walk())
            and any(c.run == "r1" for c in q.cancels)
            and sum(t.get("ties", ())) >= 2
        )
    )
    assert found.program == program(stage("d", {"op": "chunk", "value": 1}))
    assert found.plan.to_json() == {
        "version": 1,
        "runs": [{"id": "r1"}],
        "cancels": [{"run": "r1", "at_point": 1}],
    }
    assert {k: sum(v) for k, v in found.tape.items()} == {"ties": 2}
    assert found.after == {
        "stages": 1,
        "steps": 1,
        "faults": 1,
        "cancels": 1,
        "runs": 1,
        "choices": found.after["choices"],
    }


def test_a_chain_stays_a_chain_when_its_middle_goes() -> None:
    def reaches(p: Program, _q: Plan, _t: Tape) -> bool:
        return "a" in p.names and "d" in p.descendants("a")

    found = small(reaches)
    assert found.program == program(stage("a"), stage("d", needs=["a"]))


def test_blocks_are_unwrapped_and_lists_of_durations_settled() -> None:
    def sleeps(p: Program, _q: Plan, _t: Tape) -> bool:
        return any(one.op == "sleep" and s.name == "b" for s, one in p.walk())

    found = small(sleeps)
    assert found.program == program(stage("b", {"op": "sleep", "seconds": 0}))


def test_moments_that_must_coincide_are_moved_together() -> None:
    def ends(steps: Any) -> float:
        return round(sum(one.args["seconds"] for one in steps if one.op == "sleep"), 6)

    def coincide(p: Program, q: Plan, _t: Tape) -> bool:
        times = [ends(one.steps) for one in p.stages] + [c.at_s for c in q.cancels]
        return len(times) == 3 and len(set(times)) == 1

    sleeps = [{"op": "sleep", "seconds": one} for one in (0.7, 0.3, 0.45, 0.55)]
    apart = program(stage("a", *sleeps[:2]), stage("b", *sleeps[2:]))
    cancelled = Plan.from_json({"cancels": [{"at_s": 1.0}]})
    found = small(coincide, apart, cancelled)
    shortest = [stage(one, {"op": "sleep", "seconds": 0.1}) for one in "ab"]
    assert (found.program, found.plan.cancels[0].at_s) == (program(*shortest), 0.1)

    def end_together(p: Program, _q: Plan, _t: Tape) -> bool:
        return len(p.stages) == 2 and len({ends(one.steps) for one in p.stages}) == 1

    assert small(end_together, apart).program == program(stage("a"), stage("b"))


def test_what_fails_or_waits_by_other_means_becomes_a_plain_failure_or_a_sleep() -> None:
    called = program(stage("a", {"op": "call", "tool": "t", "seconds": 0.5}))
    faulty = Plan.from_json({"faults": [{"tool": "t"}]})
    found = small(lambda p, _q, _t: bool(p.stages[0].steps), called, faulty)
    assert found.program == program(stage("a", {"op": "raise"}))
    assert found.plan == Plan()

    def waits(p: Program, _q: Plan, _t: Tape) -> bool:
        return any(one.args.get("seconds") == 0.5 for _, one in p.walk())

    found = small(waits, program(stage("a", {"op": "thread", "seconds": 0.5})), Plan())
    assert found.program == program(stage("a", {"op": "sleep", "seconds": 0.5}))


def test_a_subpipeline_gives_way_to_what_its_stages_do() -> None:
    child = {"name": "kid", "stages": [stage("k", {"op": "raise"})]}
    held = program(stage("a", {"op": "subpipeline", "program": child}))

    def fails(p: Program, _q: Plan, _t: Tape) -> bool:
        inner = [one.args["program"] for _, one in p.walk() if one.op == "subpipeline"]
        return any(one.op == "raise" for q in (p, *inner) for _, one in q.walk())

    assert small(fails, held, Plan()).program == program(stage("a", {"op": "raise"}))


def test_a_subpipeline_takes_the_place_of_the_program_that_it_is_part_of() -> None:
    child = {"name": "kid", "stages": [stage("k", {"op": "raise"}), stage("l")]}
    held = program(stage("a", {"op": "subpipeline", "program": child}), stage("b"))

    def beside(p: Program, _q: Plan, _t: Tape) -> bool:
        inner = [one.args["program"] for _, one in p.walk() if one.op == "subpipeline"]
        return any({"k", "l"} <= set(q.names) for q in (p, *inner))

    assert small(beside, held, Plan()).program == program(stage("k"), stage("l"))


def test_branches_give_way_to_one_of_them_or_to_all_one_after_the_other() -> None:
    emits = [{"op": "emit", "type": "x"}, {"op": "emit", "type": "y"}]
    case = program(stage("a", {"op": "parallel", "branches": [[one] for one in emits]}))

    def both(p: Program, _q: Plan, _t: Tape) -> bool:
        return {"x", "y"} <= {one.args.get("type") for _, one in p.walk()}

    assert small(both, case, Plan()).program == program(stage("a", *emits))


def test_what_fails_when_it_is_let_go_may_become_a_failure() -> None:
    turn, fails = {"op": "sleep", "seconds": 0.0}, {"op": "raise", "error": "RuntimeError"}
    assert list(plainer({"op": "acquire", "name": "r", "fails": True})) == [fails, turn]
    assert list(plainer({"op": "using", "name": "r", "fails": True})) == [fails, turn]


def test_a_subpipeline_that_fails_may_become_a_failure_some_turns_later() -> None:
    turn = {"op": "sleep", "seconds": 0.0}
    found = list(turns({"op": "subpipeline"}))
    assert found[:4] == [[turn], [turn, {"op": "raise"}], [turn] * 2, [turn, turn, {"op": "raise"}]]
    assert list(turns({"op": "spawn"})) == [[turn] * n for n in range(1, 5)]
    assert list(turns({"op": "emit"})) == []


def test_a_layer_goes_with_the_stages_that_it_is_around() -> None:
    around = [{"kind": "deny", "name": "l", "stages": ["a", "b"]}]
    guarded = Plan.from_json({"layers": [*around, {"kind": "deny", "name": "m", "stages": ["a"]}]})

    def guards(p: Program, q: Plan, _t: Tape) -> bool:
        return "b" in p.names and any(one.name == "l" and one.stages for one in q.layers)

    found = small(guards, BIG, guarded)
    assert found.program.names == ("b",)
    assert [(one.name, one.stages) for one in found.plan.layers] == [("l", ("b",))]


def test_a_limit_or_a_cancel_s_time_is_never_put_to_zero() -> None:
    found = small(
        lambda p, q, _t: (
            p.stages[0].timeout_s is not None
            and any(c.at_s is not None for c in q.cancels)
            and q.stage_timeout_s is not None
        )
    )
    assert (found.program.stages[0].timeout_s, found.plan.stage_timeout_s) == (0.1, 0.1)
    assert found.plan.cancels[0].at_s == 0.1


def test_two_stages_become_one_that_does_what_they_did() -> None:
    case = program(
        stage("a", {"op": "chunk", "value": 1}, {"op": "ok", "value": 1}),
        stage("b", {"op": "emit", "type": "x"}, needs=["a"]),
        stage("c", {"op": "fail"}, needs=["b"]),
    )

    def both(p: Program, _q: Plan, _t: Tape) -> bool:
        ops = [one.op for _, one in p.walk()]
        return {"chunk", "emit"} <= set(ops) and ops.index("chunk") < ops.index("emit")

    only = stage("a", {"op": "chunk", "value": 1}, {"op": "emit", "type": "x"})
    assert small(both, case).program == program(only)
    whole = program(stage("a", {"op": "ok", "value": 1}), stage("b", timeout_s=1.0))
    assert list(joined(whole.to_json(), 0, 1)) == []  # it has a setting of its own
    read = program(stage("a"), stage("b", {"op": "read", "stage": "a"}, needs=["a"]))
    assert list(joined(read.to_json(), 0, 1)) == []  # and its output a name


def test_a_stage_that_runs_a_subpipeline_can_be_put_with_another() -> None:
    inner = {"name": "inner", "version": 1, "stages": [stage("x", SLEEP), stage("y", SLEEP)]}
    whole = program(
        stage("a", {"op": "heartbeat"}), stage("b", {"op": "subpipeline", "program": inner})
    )

    def both(p: Program, _q: Plan, _t: Tape) -> bool:
        return {"heartbeat", "subpipeline"} <= {one.op for _, one in p.walk()}

    found = small(both, whole)
    assert (found.ended, len(found.program.stages)) == ("smallest", 1)


def test_what_only_holds_something_becomes_a_turn_of_the_loop() -> None:
    turn = {"op": "sleep", "seconds": 0.0}
    assert [turn] == list(plainer({"op": "acquire", "name": "x"}))
    assert [turn] == list(plainer({"op": "using", "name": "x", "steps": []}))
    assert [{**turn, "seconds": 0.2}] == list(
        plainer({"op": "cleanup", "name": "x", "cleanup_s": 0.2})
    )
    assert list(plainer({"op": "using", "name": "x", "steps": [turn]})) == []


def test_a_stage_may_wait_for_as_long_as_it_would_between_its_tries() -> None:
    step, retry = {"op": "chunk", "value": 1}, {"attempts": 3, "backoff_s": 0.2}
    tried = stage("a", step, {"op": "raise"}, retry=retry, needs=["b"])
    waits = stage("a", step, {"op": "sleep", "seconds": 0.2}, needs=["b"])
    assert waits == waiting_instead(tried)
    assert waiting_instead(stage("a", {"op": "raise"})) is None
    assert waiting_instead(stage("a", step, retry=retry)) is None


def test_where_only_an_order_of_turns_matters_nothing_takes_time() -> None:
    case = program(
        stage("a", {"op": "sleep", "seconds": 0.5}, {"op": "chunk", "value": 1}),
        stage("b", {"op": "timeout", "label": "l", "seconds": 9, "steps": [SLEEP]}, timeout_s=7),
    )
    timed = without_time(case.to_json())
    assert timed["stages"][0]["steps"][0] == {"op": "sleep", "seconds": 0.0}
    assert (timed["stages"][1]["timeout_s"], timed["stages"][1]["steps"][0]["seconds"]) == (7, 9)

    def level(p: Program, _q: Plan, _t: Tape) -> bool:
        sleeps = {one.args["seconds"] for _, one in p.walk() if one.op == "sleep"}
        return len(p.stages) == 2 and len(sleeps) == 1  # neither can be shortened alone

    pair = program(*(stage(name, {"op": "sleep", "seconds": 0.7}) for name in "ab"))
    for one in small(level, pair).program.stages:
        assert [step.args["seconds"] for step in one.steps] in ([], [0.0])


def test_a_limit_of_the_laboratory_is_never_lowered() -> None:
    plan = Plan.from_json({"steps_max": 60_000, "horizon_s": 900.0})
    needed = small(lambda _p, q, _t: q.steps_max < 70_000 and q.horizon_s < 1_000, plan=plan)
    assert (needed.plan.steps_max, needed.plan.horizon_s) == (60_000, 900.0)


def test_an_only_run_is_called_and_begins_as_by_default() -> None:
    plan = Plan.from_json(
        {
            "runs": [{"id": "r2", "start_s": 0.25}],
            "cancels": [{"run": "r2", "at_s": 0.75}],
            "layers": [{"kind": "deny", "name": "guard", "runs": ["r2"]}],
        }
    )

    def shown(_p: Program, q: Plan, _t: Tape) -> bool:
        late = [one.at_s - q.runs[0].start_s for one in q.cancels if one.at_s is not None]
        return late == [0.5] and [one.runs for one in q.layers] == [(q.runs[0].id,)]

    assert small(shown, plan=plan).plan.to_json() == {
        "version": 1,
        "cancels": [{"at_s": 0.5}],
        "layers": [{"kind": "deny", "name": "guard", "runs": ["r0"]}],
    }


def test_all_times_come_so_much_earlier_that_the_first_run_begins_at_once() -> None:
    plan = Plan.from_json(
        {
            "runs": [{"id": "r1", "start_s": 30.0}, {"id": "r2", "start_s": 30.5}],
            "cancels": [{"run": "r1", "at_s": 30.25}],
        }
    )

    def apart(_p: Program, q: Plan, _t: Tape) -> bool:
        times = [one.start_s for one in q.runs] + [one.at_s or 0.0 for one in q.cancels]
        return [round(at_s - times[0], 6) for at_s in times] == [0.0, 0.5, 0.25]

    earlier = small(apart, plan=plan).plan
    assert [one.start_s for one in earlier.runs] == [0.0, 0.5]
    assert [one.at_s for one in earlier.cancels] == [0.25]


def test_a_chunk_goes_with_the_consumer_that_took_it() -> None:
    chunks = [{"op": "chunk", "value": n} for n in range(4)]
    plan = Plan.from_json({"consumer": {"stage": "a", "stop_after": 3}})

    def one_more(p: Program, q: Plan, _t: Tape) -> bool:
        made = sum(one.op == "chunk" for _, one in p.walk())
        return q.consumer is not None and made == 1 + (q.consumer.stop_after or 0)

    found = small(one_more, program(stage("a", *chunks)), plan)
    assert found.plan.consumer is not None
    assert (found.plan.consumer.stop_after, len(found.program.stages[0].steps)) in ((1, 2), (0, 1))


def test_a_case_takes_a_share_of_its_time_limits_included() -> None:
    case = program(stage("a", SLEEP, {"op": "acquire", "name": "x", "cleanup_s": 3}, timeout_s=30))
    less = Program.from_json(in_less_time(case.to_json(), 0.1)).stages[0]
    assert less.timeout_s == 3.0
    assert [one.args.get("seconds", one.args.get("cleanup_s")) for one in less.steps] == [
        (0.07, 0.37),
        0.3,
    ]
    plan = Plan.from_json(
        {"stage_timeout_s": 20, "cleanup_grace_s": 10, "cancels": [{"at_s": 5, "times": 2}]}
    )
    shorter = Plan.from_json(in_less_time(plan.to_json(), 0.1))
    assert (shorter.stage_timeout_s, shorter.cleanup_grace_s) == (2.0, 10)
    assert (shorter.cancels[0].at_s, shorter.cancels[0].times) == (0.5, 2)


def test_a_case_is_timeless_if_turns_of_the_loop_are_all_that_there_is() -> None:
    at_once = program(stage("a", {"op": "sleep", "seconds": 0.0}, {"op": "raise"}))
    assert smallest._is_timeless(at_once, Plan())
    assert smallest._is_timeless(at_once, Plan.from_json({"sink": {"queue_max": 2}}))
    assert not smallest._is_timeless(at_once, Plan.from_json({"cancels": [{"at_point": 3}]}))
    assert not smallest._is_timeless(at_once, Plan.from_json({"sink": {"delivery_s": 0.1}}))
    for slow in ({"op": "sleep", "seconds": 0.1}, {"op": "thread", "seconds": 0.0}):
        assert not smallest._is_timeless(program(stage("a", slow)), Plan())


def test_what_waits_for_the_engine_s_default_limit_is_told_in_less_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limited = Shown(lambda _p, q, _t: q.stage_timeout_s == 0.6)
    monkeypatch.setattr(smallest, "judging", lambda _lab, _clause, _seed: limited)
    facts = {"default_stage_timeout_s": 30.0}
    info: Any = SimpleNamespace(facts=facts, capabilities=frozenset({"stage_timeout"}))
    lab: Any = SimpleNamespace(info=info)
    slow: Any = SimpleNamespace(took_s=30.0, chosen={})
    waits = program(stage("a", {"op": "sleep", "seconds": 60.0}))
    found = smallest._sooner(lab, KEY, waits, Plan(), slow)
    assert found is not None
    assert found[0].stages[0].steps[0].args["seconds"] == 1.2
    named = Plan.from_json({"stage_timeout_s": 40.0})
    quick: Any = SimpleNamespace(took_s=29.0, chosen={})
    info.facts = {}
    assert smallest._sooner(lab, KEY, waits, Plan(), slow) is None
    info.facts = facts
    assert smallest._sooner(lab, KEY, waits, named, slow) is None
    assert smallest._sooner(lab, KEY, waits, Plan(), quick) is None
    limited.predicate = lambda _p, _q, _t: False  # it is not that limit that it shows
    assert smallest._sooner(lab, KEY, waits, Plan(), slow) is None


def test_the_same_case_shrinks_alike_each_time() -> None:
    def odd(p: Program, q: Plan, t: Tape) -> bool:
        return (len(p.stages) + len(q.cancels) + sum(map(sum, t.values()))) % 3 != 2

    one, two = small(odd), small(odd)
    assert one == two


def test_a_case_that_does_not_show_it_is_refused() -> None:
    with pytest.raises(InputError, match="does not violate X-1"):
        small(lambda _p, _q, _t: False)


@pytest.mark.parametrize(
    ("limits", "ended"), [({"tries_max": 9}, "tries"), ({"callbacks_max": 50}, "callbacks")]
)
def test_a_limit_ends_it_with_the_best_so_far(limits: dict[str, int], ended: str) -> None:
    shown = Shown(lambda p, _q, _t: "d" in p.names)
    found = shrink(BIG, PLAN, TAPE, KEY, shown, **limits)
    assert found.ended == ended
    assert found.tries == shown.asked <= 9
    assert "d" in found.program.names
    assert found.after["stages"] <= found.before["stages"]


def test_what_else_must_hold_is_held() -> None:
    found = small(lambda _p, _q, _t: True, keeps=lambda p, _q: len(p.stages) >= 2)
    assert len(found.program.stages) == 2


@given(cases())
def test_no_simpler_case_refers_to_what_is_not_there(case: tuple[Program, Plan]) -> None:
    def sound(p: Program, q: Plan, _t: Tape) -> bool:
        assert unsound(p, q) == frozenset()
        return len(p.stages) > 1 or len(case[0].stages) == 1

    found = shrink(*case, {}, KEY, Shown(sound), tries_max=300)
    assert all(found.after[k] <= found.before[k] for k in found.after)


def test_reads_go_with_the_stage_that_they_read() -> None:
    left = without_stages(BIG.to_json(), 1, 1, bridged=True)
    assert Program.from_json(left) == program(
        stage("a", SLEEP, {"op": "ok", "value": [1, 2]}, timeout_s=30),
        stage("c", {"op": "chunk", "value": 1}, needs=["a"]),
        stage("d", {"op": "raise", "message": "it broke"}, needs=["a", "c"]),
    )


@pytest.mark.parametrize(
    ("value", "simpler"),
    [
        (0, []),
        (-1, []),
        (True, []),
        (0.1, [0.0]),
        (1, [0]),
        (7, [0, 1, 2, 3, 5]),
        (0.37, [0, 0.1, 0.2, 0.4]),
        (float("nan"), []),
    ],
)
def test_numbers_become_fewer_digits_or_less(value: float, simpler: list[float]) -> None:
    assert list(lower_numbers(value)) == simpler


def test_subpipelines_count_and_so_does_all_that_goes_wrong() -> None:
    inner = {"stages": [stage("x", {"op": "raise"}), stage("y", {"op": "sleep", "seconds": 1})]}
    case = program(
        stage("a", {"op": "subpipeline", "program": inner}),
        stage("b", {"op": "acquire", "name": "r", "fails": True}),
    )
    plan = Plan.from_json({"cancels": [{"at_s": 1, "times": 2}], "faults": [{"tool": "t"}]})
    assert size_of(case, plan, {"ties": [0, 3]}) == {
        "stages": 4,
        "steps": 4,
        "faults": 5,
        "cancels": 2,
        "runs": 1,
        "choices": 1,
    }


def laboratory(subject: str) -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def witness(seed: int, clause: str, shape: str, location: str = "") -> dict[str, Any]:
    case, plan = random_case(seed)
    return {
        "program": case.to_json(),
        "plan": plan.to_json(),
        "seed": seed,
        "key": list(key_of(clause, shape, location)),
    }


# A random program on an engine broken on purpose -> the smallest that still shows it.
SMALLEST: dict[str, tuple[int, str, str, list[dict[str, Any]], dict[str, Any]]] = {
    "broken:cleanup-cut-by-cancel": (
        13,
        "CLEAN-2",
        "cleanup-cut",
        [stage("s0", {"op": "cleanup", "name": "r3", "cleanup_s": 0.1})],
        {"version": 1, "cancels": [{"at_s": 0.1}]},
    ),
    "broken:cleanup-fifo": (
        24,
        "CLEAN-3",
        "wrong-order",
        [stage("s0", {"op": "cleanup", "name": "r4"}, {"op": "cleanup", "name": "r6"})],
        {"version": 1},
    ),
    "broken:leaves-task": (1, "CLEAN-5", "task-left", [stage("s0")], {"version": 1}),
}


@pytest.mark.parametrize("subject", sorted(SMALLEST))
def test_a_random_program_on_a_broken_engine_shrinks_to_the_heart_of_it(subject: str) -> None:
    seed, clause, shape, stages, plan = SMALLEST[subject]
    lab = laboratory(subject)
    request = witness(seed, clause, shape)
    request["clauses"] = [clause]
    del request["key"]  # let it find what the run violates of this clause
    row = shrink_witness(lab, request)
    assert row["key"][:2] == [clause, shape]
    assert (row["program"]["stages"], row["plan"], row["tape"]) == (stages, plan, {})
    assert not row["nondeterministic"]
    assert shrink_witness(lab, request) == row


def test_a_cancel_for_a_script_does_not_coincide_with_what_it_may_miss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(smallest, "told_by_script", lambda *_: telling.SCRIPTED)
    lab = laboratory("broken:cleanup-cut-by-cancel")
    case = program(stage("a", {"op": "cleanup", "name": "db", "cleanup_s": 0.1}))
    cancelled = {"version": 1, "cancels": [{"at_s": 0.1}]}
    key = ["CLEAN-2", "cleanup-cut", "*"]
    row = shrink_witness(lab, {"program": case.to_json(), "plan": cancelled, "key": key})
    assert row["plan"]["cancels"] == [{"at_s": 0.05}]


def test_a_cancel_at_a_point_of_the_loop_is_put_into_time() -> None:
    lab = laboratory("broken:cleanup-cut-by-cancel")
    case = program(stage("a", {"op": "cleanup", "name": "db", "cleanup_s": 1.0}))
    found = []
    for point in range(1, 40):
        plan = Plan.from_json({"cancels": [{"at_point": point}]})
        data = {"program": case.to_json(), "plan": plan.to_json(), "clauses": ["CLEAN-2"]}
        try:
            row = shrink_witness(lab, data)
        except InputError:
            continue
        if row["key"][:2] == ["CLEAN-2", "cleanup-cut"]:
            found.append(row["plan"]["cancels"])
    assert found
    assert all("at_point" not in cancel for cancels in found for cancel in cancels)


def dagstorm(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


TURN = {"op": "sleep", "seconds": 0.0}
CHILD = {"op": "subpipeline", "program": {"name": "c", "stages": [{"name": "i", "steps": []}]}}
FAILS = {"op": "raise"}


def turns_taken(case: Program, name: str) -> int:
    """Say how many turns a stage takes, of an engine in which a subpipeline takes four."""
    ops = [one.op for one in case.stage(name).steps if one.op in ("sleep", "subpipeline")]
    return sum(4 if op == "subpipeline" else 1 for op in ops)


@pytest.mark.parametrize("turns", [1, 2, 4])
def test_turns_stand_in_the_place_of_a_subpipeline_and_no_more_than_it_takes(turns: int) -> None:
    def meet(case: Program, _plan: Plan, _tape: Tape) -> bool:
        if {"a", "b"} != set(case.names) or not all(s.steps for s in case.stages):
            return False
        raises = all(s.steps[-1].op == "raise" for s in case.stages)
        return raises and turns_taken(case, "a") - turns_taken(case, "b") == turns

    first = program(stage("a", CHILD, FAILS), stage("b", *[TURN] * (4 - turns), FAILS))
    found = small(meet, first, Plan()).program
    assert found == program(stage("a", *[TURN] * turns, FAILS), stage("b", FAILS))


def test_runs_that_a_layer_spares_begin_later_instead() -> None:
    layer = {"kind": "deny", "name": "guard", "stages": ["a"], "runs": ["r0", "r2"]}
    plan = Plan.from_json({"runs": [{"id": f"r{n}"} for n in range(3)], "layers": [layer]})

    def shows(_case: Program, circumstances: Plan, _tape: Tape) -> bool:
        spared = any(one.runs == ("r0", "r2") for one in circumstances.layers)
        first = sorted(run.id for run in circumstances.runs if not run.start_s)
        names = {run.id for run in circumstances.runs}
        return names == {"r0", "r1", "r2"} and (spared or first == ["r0", "r2"])

    found = small(shows, program(stage("a")), plan).plan
    assert found.layers == ()
    assert [(run.id, run.start_s > 0) for run in found.runs] == [
        *(("r0", False), ("r2", False), ("r1", True))
    ]


def token(subject: str, seed: int) -> str:
    case, plan = random_case(seed)
    data = (case.to_json(), plan.to_json())
    digest = scenario_digest(*data)
    lab = laboratory(subject)
    tape = lab.run(case, plan, seed=seed).tape
    return encode(Token(subject, "", "search/1", seed, digest, tape, None, "3.11", *data))


def test_the_command_prints_the_smallest_case_and_a_token_that_replays(tmp_path: Path) -> None:
    done = dagstorm("shrink", token("broken:cleanup-cut-by-cancel", 13), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "CLEAN-" in lines[0]
    assert "stages 3 -> 1" in lines[1]
    assert lines[-1].startswith("dagstorm replay ds2.")
    again = dagstorm("replay", lines[-1].split()[-1], "--trace", "--out", "t.json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1].startswith("reproduced ")
    assert any(line.startswith("->") for line in again.stdout.splitlines())
    assert json.loads((tmp_path / "t.json").read_text("utf-8"))["traceEvents"]


def test_a_token_s_file_is_replayed_and_says_if_it_no_longer_shows(tmp_path: Path) -> None:
    words = ("shrink", token("broken:cleanup-fifo", 24), "--out", "small.token.json", "--json")
    done = dagstorm(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["token"] == encode(token_of("broken:cleanup-fifo", "", "search/1", row))
    shown = dagstorm("replay", "small.token.json", cwd=tmp_path)
    assert shown.stdout.splitlines()[-1].startswith("reproduced ")
    fixed = dagstorm("replay", "small.token.json", "--engine", "reference", cwd=tmp_path)
    assert (fixed.returncode, fixed.stdout.splitlines()[-1][:15]) == (0, "not reproduced ")


MOODY = """
import os
from harness.adapters import reference
from harness.kernel.adapter import BuildRefused

class Adapter(reference.Adapter):
    def __init__(self):
        super().__init__("reference")
    def build(self, program, plan, bodies):
        raise BuildRefused(os.urandom(8).hex())
"""


def test_an_engine_that_goes_otherwise_each_time_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "moody.py").write_text(MOODY, "utf-8")
    words = ("replay", token("broken:cleanup-fifo", 24), "--engine", "moody.py:Adapter")
    done = dagstorm(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("nondeterministic ")


def test_a_run_that_violates_nothing_cannot_be_shrunk(tmp_path: Path) -> None:
    done = dagstorm("shrink", token("reference", 1), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "violates no clause" in done.stderr
