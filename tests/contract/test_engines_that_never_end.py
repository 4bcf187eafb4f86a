"""An engine that hangs, spins or dawdles is judged like any other; nothing is raised."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan, RunSpec
from harness.lab.campaign import scenario_data
from harness.lab.unit import ScenarioData, run_unit
from mocks.tools import simulated_tool
from scenarios import scenarios

# Where the pipeline is refused nothing is run: such an engine has nothing to hang in.
REFUSED = {"timeouts/negative_timeout", "timeouts/nan_timeout"}
REFUSED |= {f"{name}_each" for name in REFUSED}
WELL_FORMED = [
    s.id
    for s in scenarios().values()
    if not s.program.faults() and len(s.program.stages) <= 60 and s.id not in REFUSED
]


class Hangs(Adapter):
    """Never starts a stage, and waits for what never comes."""

    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("never reached")


class SwallowsAll(Adapter):
    """Runs the stages, then waits for ever, whatever it is told."""

    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        task = asyncio.ensure_future(super().run(native, run, plan))
        while True:
            try:
                await asyncio.wait([task])
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                pass


class Spins(Adapter):
    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        while True:
            await asyncio.sleep(0)


class Dawdles(Adapter):
    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        while True:
            await asyncio.sleep(60)


@pytest.fixture(autouse=True, scope="module")
def _cheap_collector() -> Iterator[None]:
    """The laboratory collects garbage after each run: let there be little to look through."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def unit(adapter: Adapter, scenario: str) -> dict[str, Any]:
    data = ScenarioData.from_json(scenario_data(scenarios()[scenario]))
    return run_unit(Laboratory(adapter, simulated_tool), data, runs=2, seed=1)


@pytest.mark.parametrize("scenario", WELL_FORMED)
@pytest.mark.parametrize("kind", [Hangs, SwallowsAll])
def test_an_engine_that_hangs_never_passes_and_is_never_an_error(
    kind: type[Adapter], scenario: str
) -> None:
    said = unit(kind(), scenario)
    assert said["verdict"] in ("fail", "inconclusive")
    assert said["runs"] >= 2


@pytest.mark.parametrize("kind", [Spins, Dawdles])
def test_so_is_one_that_is_busy_for_ever(kind: type[Adapter]) -> None:
    assert unit(kind(), "branch_cancel/cancelled_run")["verdict"] in ("fail", "inconclusive")


def test_a_hang_after_the_callers_cancel_is_told_with_who_waits_where() -> None:
    said = unit(SwallowsAll(), "branch_cancel/caller_cancel_midway")
    (hung,) = [w for w in said["witnesses"] if w["clause"] == "CANCEL-3"]
    assert (hung["shape"], hung["expected"]) == ("hung", "the run ends (the caller cancelled it)")
    assert hung["actual"].startswith("it never ended: deadlock; ")
