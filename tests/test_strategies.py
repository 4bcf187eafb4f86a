"""Anything that `harness.strategies` draws can be written down, run, judged and rendered."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings

from harness import strategies
from harness.adapters.asyncio_plain import Adapter as PlainAdapter
from harness.adapters.reference import Adapter
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import InputError
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program, needed_capabilities
from harness.kernel.script import Unrenderable
from harness.kernel.steps import OPS
from harness.lab.search.simpler import unsound
from mocks.tools import simulated_tool

CASE = tuple[Program, Plan]

LABORATORY = Laboratory(Adapter("reference"), simulated_tool)
OFFERED = LABORATORY.info.capabilities
PLAIN = Laboratory(PlainAdapter("asyncio"), simulated_tool)


def written(data: dict[str, object]) -> object:
    """Return data as it comes back from a file."""
    return json.loads(json.dumps(data))


@given(strategies.cases())
def test_a_case_comes_back_from_json_as_it_was(case: CASE) -> None:
    program, plan = case
    assert Program.from_json(written(program.to_json())) == program
    assert Plan.from_json(written(plan.to_json())) == plan


@given(strategies.cases())
def test_a_case_refers_to_nothing_that_is_not_there(case: CASE) -> None:
    assert unsound(*case) == frozenset()


@given(strategies.cases(capabilities=("cancel_run", "stage_timeout")))
def test_nothing_is_drawn_that_the_engine_does_not_offer(case: CASE) -> None:
    assert required_capabilities(*case) <= {"cancel_run", "stage_timeout"}


@given(strategies.cases(capabilities=OFFERED, stages_max=3))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_interpreter_runs_whatever_is_drawn_and_twice_alike(case: CASE) -> None:
    first, second = (LABORATORY.run(*case, seed=7) for _ in range(2))
    assert digest(first) == digest(second)
    assert first.ended in ("over", "deadlock")
    json.dumps(first.journal.to_json(), default=repr)


@given(strategies.cases(capabilities=OFFERED, stages_max=3))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_check_has_an_answer_to_whatever_is_drawn(case: CASE) -> None:
    reading = Reading(*case, LABORATORY.run(*case, seed=7), LABORATORY.info)
    said = {c.check(reading).verdict for c in CLAUSES.values() if c.needs <= OFFERED}
    assert said <= {"holds", "violated", "untested", "blocked"}


@given(strategies.cases(capabilities=PLAIN.info.capabilities, stages_max=3))
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_script_of_whatever_is_drawn_compiles_or_is_refused(case: CASE) -> None:
    check = "def violation(seen, error, outputs, left, took):\n    return None\n"
    try:
        script = PLAIN.adapter.render(*case, "CLEAN-5", check)
    except Unrenderable:
        return
    assert script is not None
    compile(script, "script.py", "exec")


def test_every_operation_that_is_not_left_out_is_drawn() -> None:
    drawn: set[str] = set()

    @given(strategies.programs())
    @settings(max_examples=200, database=None, derandomize=True, phases=[Phase.generate])
    def draw(program: Program) -> None:
        drawn.update(one.op for _, one in program.walk())

    draw()
    assert set(OPS) - drawn == strategies.LEFT_OUT


def test_plans_can_be_drawn_for_a_program_at_hand() -> None:
    program = Program.from_json({"stages": [{"name": "a", "steps": [{"op": "call", "tool": "t"}]}]})
    plan = find(
        strategies.plans(program, capabilities=()),
        lambda p: bool(p.faults),
        settings=settings(database=None, derandomize=True),
    )
    assert {fault.tool for fault in plan.faults} == {"t"}
    assert needed_capabilities(program) == frozenset()


def test_an_unknown_capability_is_named() -> None:
    with pytest.raises(InputError, match="no capability 'telepathy'"):
        strategies.programs(capabilities=[*CAPABILITIES, "telepathy"])


@pytest.mark.parametrize("draw", [strategies.programs, strategies.plans, strategies.cases])
def test_without_hypothesis_one_line_says_what_to_install(
    draw: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(InputError, match="pip install hypothesis"):
        draw()
