"""A live unit: what has to show again, what a busy machine proves, what is not run live."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory
from harness.kernel.live import LiveLaboratory
from harness.kernel.plan import Cancel, Fault, Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.lab import live_unit
from harness.lab.again import replayable
from harness.lab.live_unit import MORE_RUNS, RETRIES, not_live, run_live_unit
from harness.lab.token import Token, decode, encode
from harness.lab.unit import ScenarioData
from mocks.live_tool import LiveTool
from mocks.services import services
from mocks.tools import simulated_tool
from scenarios.notation import call, never, ok, program, sleep, stage

REFERENCE = Laboratory(Adapter("reference"), simulated_tool)
CALM_S = 0.2  # below what makes a run be made again
SOUND, BROKEN = "reference", "broken:caller-cancel-abandons"


# Runs on a machine that is truly busy are made again, unseen: here it is busy when told so.
BUSY_S, TRIES = 0.05, 6


class Changing(LiveLaboratory):
    """A laboratory whose engine is another one in each run, or whose machine is busy in some."""

    def __init__(self, subjects: Sequence[str], late_s: Sequence[float] = (0.0,)) -> None:
        super().__init__(Adapter(SOUND), simulated_tool)
        self.others = {one: LiveLaboratory(Adapter(one), simulated_tool) for one in set(subjects)}
        self.subjects: Iterator[str] = itertools.cycle(subjects)
        self.late: Iterator[float] = itertools.cycle(late_s)
        self.made = 0

    def run(self, program: Program, plan: Plan, **how: Any) -> RunRecord:
        self.made += 1
        record = self.others[next(self.subjects)].run(program, plan, **how)
        return dataclasses.replace(record, late_s=next(self.late) or min(record.late_s, CALM_S))


class Calm(LiveLaboratory):
    """A laboratory that is never too busy, however late the timers of this machine are."""

    def run(self, program: Program, plan: Plan, **how: Any) -> RunRecord:
        record = super().run(program, plan, **how)
        return dataclasses.replace(record, late_s=min(record.late_s, CALM_S))


CANCELLED = ScenarioData(
    "own/cancelled",
    program("cancelled", stage("a", sleep(0.6), ok("x"))),
    Plan(cancels=(Cancel(at_s=0.03),)),
    ("CANCEL-3",),
)


def said(lab: LiveLaboratory, scenario: ScenarioData = CANCELLED, runs: int = 3) -> dict[str, Any]:
    return run_live_unit(lab, REFERENCE, scenario, runs=runs, seed=1)


def test_what_shows_in_every_run_is_a_failure_with_its_rate() -> None:
    result = said(Changing([BROKEN]))
    assert result["verdict"] == "fail"
    assert result["clauses"]["CANCEL-3"]["reason"] == "violated in 6 of 6 live runs"
    assert [w["nondeterministic"] for w in result["witnesses"] if w["clause"] == "CANCEL-3"] == [
        False
    ]


def test_what_shows_in_two_of_three_further_runs_is_a_failure_too() -> None:
    result = said(Changing([SOUND, SOUND, BROKEN, BROKEN, SOUND, BROKEN]))
    assert result["verdict"] == "fail"
    assert result["clauses"]["CANCEL-3"]["reason"] == "violated in 3 of 6 live runs"


def test_what_does_not_show_again_is_inconclusive_and_no_defect() -> None:
    result = said(Changing([SOUND, BROKEN, SOUND, SOUND, BROKEN, SOUND]))
    assert result["verdict"] == "inconclusive"
    assert "violated in 2 of 6 live runs; none of it showed again" in result["reason"]
    assert all(w["nondeterministic"] for w in result["witnesses"])


def test_a_sound_engine_passes_in_as_many_runs_as_were_asked_for() -> None:
    lab = Changing([SOUND])
    assert (said(lab)["verdict"], lab.made) == ("pass", 3)
    assert (said(lab, runs=500)["runs"], lab.made) == (3, 6)


def test_runs_on_a_busy_machine_are_made_again() -> None:
    lab = Changing([SOUND], late_s=[0.9, 0.0])
    result = said(lab)
    assert (result["verdict"], result["runs"], lab.made) == ("pass", 3, 6)


def test_a_machine_that_stays_busy_proves_nothing() -> None:
    lab = Changing([BROKEN], late_s=[0.9])
    result = said(lab, runs=2)
    assert (result["verdict"], result["runs"], lab.made) == ("inconclusive", 0, 2 * (1 + RETRIES))
    assert "the machine was too busy" in result["reason"]
    assert result["witnesses"] == []


def test_a_run_that_hangs_is_ended_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_unit, "HANGS_AFTER_S", 0.2)
    hanging = dataclasses.replace(
        CANCELLED,
        program=program("hanging", stage("a", never(), timeout_s=0.05)),
        plan=Plan(),
        clauses=("TIME-1",),
    )
    result = said(Changing(["broken:timeout-never"]), hanging)
    assert result["verdict"] == "fail"
    assert result["virtual_s"] < 10.0  # of a run that would never have ended


@pytest.mark.parametrize(
    ("scenario", "why"),
    [
        (dataclasses.replace(CANCELLED, sweep="cancel_points"), "a search over points"),
        (dataclasses.replace(CANCELLED, sweep="swarm"), "a search over points"),
        (
            dataclasses.replace(CANCELLED, plan=Plan(cancels=(Cancel(at_point=3),))),
            "a cancel at a callback of the loop",
        ),
        (
            dataclasses.replace(CANCELLED, program=program("p", stage("a", sleep(9))), plan=Plan()),
            "it takes 9 s undisturbed; live runs take at most 2.5 s",
        ),
        (CANCELLED, ""),
    ],
)
def test_what_is_not_run_live_says_why(scenario: ScenarioData, why: str) -> None:
    assert not_live(scenario, REFERENCE).startswith(why)
    if why:
        lab = Changing([SOUND])
        assert said(lab, scenario)["not_live"].startswith(why)
        assert lab.made == 0


def test_faults_by_chance_get_more_runs_until_one_fires_within_a_limit() -> None:
    chance = ScenarioData(
        "own/chance",
        program("chance", stage("a", call("t", 0.0), ok("x"))),
        Plan(faults=(Fault("t", one_in=2),)),
        ("PART-4",),
        fires=("fault.fired",),
    )
    never = dataclasses.replace(chance, plan=Plan(faults=(Fault("t", one_in=1_000_000),)))
    with services() as hosted:
        lab = Calm(Adapter(SOUND), LiveTool(hosted.as_json()))
        fired, silent = said(lab, chance), said(lab, never)
    assert (fired["verdict"], silent["verdict"]) == ("pass", "inconclusive")
    assert silent["runs"] == 3 + MORE_RUNS
    assert silent["reason"] == "never happened: fault.fired"


def test_an_engine_without_the_capability_is_not_run() -> None:
    from harness.adapters.asyncio_plain import Adapter as Plain

    lab = LiveLaboratory(Plain("asyncio"), simulated_tool)
    streaming = program("p", stage("a", sleep(0)))
    result = said(lab, dataclasses.replace(CANCELLED, program=streaming, clauses=("RETRY-1",)))
    assert result["verdict"] == "unsupported"
    assert result["runs"] == 0


def test_a_live_run_is_not_kept_to_be_replayed() -> None:
    one = Token("reference", "", "tools/slow_tool_timeout", 0, "00000000")
    assert replayable(encode(one))
    assert not replayable(encode(dataclasses.replace(one, lab="live")))
    assert decode(encode(dataclasses.replace(one, lab="live"))).lab == "live"
