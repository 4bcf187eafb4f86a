"""Relations that must leave an outcome as it was: asked of what is decided, and of that only."""

from __future__ import annotations

import random

import pytest

from harness.adapters.reference import Adapter
from harness.contract.reading import Reading
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.search.features import draw_swarm, offered
from harness.lab.search.generate import generate
from harness.lab.search.oracles import RELATIONS, compare, decided, relate, steady, told
from mocks.tools import simulated_tool
from scenarios.notation import ok, program, raises, read, sleep, stage

CHAIN = program(
    "chain",
    stage("a", sleep(0.1), ok("a")),
    stage("b", sleep(0.2), read("a"), ok(["b"]), needs="a"),
    stage("c", sleep(0.3), ok({"c": 1}), needs="a"),
)


def lab(subject: str = "reference") -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def broken(subject: str, ran: Program, plan: Plan) -> set[str]:
    laboratory = lab(subject)
    base = laboratory.run(ran, plan)
    return {note["relation"] for note in relate(laboratory, ran, plan, base)}


def reading(subject: Laboratory, ran: Program, plan: Plan) -> Reading:
    return Reading(ran, plan, subject.run(ran, plan), subject.info)


def test_no_relation_is_broken_by_the_reference_engine() -> None:
    subject, other = lab(), lab()
    rng = random.Random(2)
    capabilities = subject.info.capabilities
    asked = 0
    for _ in range(300):
        swarm = draw_swarm(rng, offered(capabilities) - {"large", "ill_formed"})
        ran, plan = generate(rng, capabilities, swarm)
        ran = ran.with_durations({})
        found = reading(subject, ran, plan)
        if not decided(found) or not steady(subject, ran, plan, found.record):
            continue
        asked += 1
        assert relate(subject, ran, plan, found.record) == []
        assert compare(subject, other, found, found.record) == []
    assert asked > 25


def test_an_outcome_that_follows_the_order_of_declaration_breaks_a_relation() -> None:
    tied = program("tied", stage("a", sleep(0.2), ok("a")), stage("b", sleep(0.1), ok("b")))
    assert "declaration order" in broken("broken:outputs-by-position", tied, Plan())


def test_an_outcome_that_another_run_decides_breaks_a_relation() -> None:
    assert broken("broken:stop-kept-on-pipeline", CHAIN, Plan()) <= set(RELATIONS)
    failing = program("f", stage("a", sleep(0.1), raises("ValueError", "no")))
    assert broken("reference", failing, Plan()) == set()


def test_a_difference_from_the_reference_engine_is_noted() -> None:
    subject = lab("broken:outputs-lost-on-failure")
    ran = program(
        "p", stage("a", ok("a")), stage("b", sleep(0.1), raises("ValueError", "no"), needs="a")
    )
    found = reading(subject, ran, Plan())
    assert decided(found)
    assert [n["relation"] for n in compare(subject, lab(), found, found.record)] == [
        "the reference engine"
    ]


@pytest.mark.parametrize(
    ("ran", "answer"),
    [
        (CHAIN, True),
        (
            program("t", stage("a", sleep(0.1), raises("OSError", "x")), stage("b", sleep(0.1))),
            False,
        ),
        (
            program("t", stage("a", sleep(0.1), raises("OSError", "x")), stage("b", sleep(0.3))),
            True,
        ),
    ],
)
def test_a_tie_is_not_asked_about(ran: Program, answer: bool) -> None:
    assert decided(reading(lab(), ran, Plan())) is answer


def test_what_is_told_leaves_out_what_a_relation_has_added() -> None:
    subject = lab()
    record = subject.run(CHAIN, Plan())
    assert told(record, "r0", {"a": "first"})["stages"]["first"] == ("completed", "a")
    assert told(record, "nobody") == {"status": "over"}
