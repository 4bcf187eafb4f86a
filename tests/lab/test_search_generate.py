"""The generator writes what a user could write, for this engine, alike for a seed."""

from __future__ import annotations

import math
import random

from harness.adapters.reference import Adapter
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program
from harness.lab.search.coverage import SITUATIONS
from harness.lab.search.features import ALONE, APART, FEATURES, THEMES, draw_swarm, offered
from harness.lab.search.generate import generate
from harness.lab.search.simpler import unsound

ALL = frozenset(CAPABILITIES)
CASES = 1_500
SPECIAL = {"ill_formed", "large"}


def cases(
    capabilities: frozenset[str], seed: int = 1
) -> list[tuple[frozenset[str], Program, Plan]]:
    rng = random.Random(seed)
    possible = offered(capabilities)
    out = []
    for _ in range(CASES):
        swarm = draw_swarm(rng, possible - {"large"})
        out.append((swarm.on, *generate(rng, capabilities, swarm)))
    return out


def test_what_is_written_is_what_the_checked_readers_make_of_it() -> None:
    compared = 0
    for _, program, plan in cases(ALL):
        if any(s.timeout_s is not None and math.isnan(s.timeout_s) for s in program.stages):
            continue  # nothing equals it
        assert Program.from_json(program.to_json()) == program
        assert Plan.from_json(plan.to_json()) == plan
        compared += 1
    assert compared > CASES * 0.9


def test_a_seed_writes_the_same_again() -> None:
    first, again = cases(ALL, 7), cases(ALL, 7)
    assert [(str(p.to_json()), q.to_json()) for _, p, q in first] == [
        (str(p.to_json()), q.to_json()) for _, p, q in again
    ]


def test_only_what_is_ill_formed_on_purpose_is_unsound() -> None:
    found = {}
    for on, program, plan in cases(ALL):
        faults = unsound(program, plan)
        if faults:
            found[faults] = found.get(faults, 0) + 1
            assert SPECIAL & on, (faults, program)
    assert len(found) > 2


def test_nothing_is_written_that_the_engine_does_not_offer() -> None:
    offers = Adapter().info().capabilities
    poor = frozenset({"cancel_run", "inputs", "stage_timeout"})
    for capabilities in (offers, poor, frozenset[str]()):
        for _, program, plan in cases(capabilities):
            assert required_capabilities(program, plan) <= capabilities


def test_a_stage_that_never_ends_by_itself_has_a_timeout() -> None:
    waits = 0
    for _, program, plan in cases(ALL):
        for stage, one in program.walk():
            if one.op == "never":
                waits += 1
                assert stage.timeout_s or plan.stage_timeout_s
    assert waits > 10


def test_no_two_resources_share_a_name() -> None:
    for _, program, _plan in cases(ALL):
        names = [
            one.args["name"]
            for _, one in program.walk()
            if one.op in ("acquire", "using", "cleanup", "generate")
        ]
        assert len(set(names)) == len(names)


def test_every_feature_comes_up_by_theme_or_by_chance_and_what_is_apart_stays_apart() -> None:
    seen: set[str] = set()
    rng = random.Random(3)
    for _ in range(8_000):
        on = draw_swarm(rng, offered(ALL)).on
        seen |= on
        assert not any({a, b} <= on for a, b in APART)
    assert seen == set(FEATURES)
    assert set().union(*THEMES) >= ALONE


def test_a_situation_asks_for_features_that_exist() -> None:
    assert {need for needs in SITUATIONS.values() for need in needs} <= set(FEATURES)
    assert all(SITUATIONS.values())


def test_an_aim_is_switched_on_where_it_is_possible() -> None:
    rng = random.Random(5)
    aim = frozenset({"cancel", "acquire", "retry"})
    for _ in range(50):
        assert draw_swarm(rng, offered(ALL), aim).on >= aim
        assert "retry" not in draw_swarm(rng, offered(frozenset()), aim).on
