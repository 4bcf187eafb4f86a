"""The simulated mocks and their live twins answer the same program alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory
from harness.kernel.live import LiveLaboratory
from harness.kernel.plan import Cancel, Fault, Plan, Sink, Toxic
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.lab.live_path import LivePath
from mocks.live_tool import LiveTool
from mocks.services import Hosted, Knobs, services
from mocks.tools import simulated_tool
from scenarios.notation import (
    acquire,
    allocate,
    call,
    flood,
    ok,
    program,
    raises,
    sleep,
    stage,
    timeout,
)

ITEMS = (ok("$items"),)
# Moments of these programs are 40 ms apart or more. Where timers come later than that, what the
# twins do differs by the machine's doing, and is looked at again.
CALM_S = 0.03
TRIES = 6


@pytest.fixture(scope="module")
def hosted() -> Iterator[Hosted]:
    with services() as running:
        yield running


@pytest.fixture(scope="module")
def path(hosted: Hosted) -> Iterator[LivePath]:
    with LivePath(hosted.addresses, seed=1) as way:
        yield way


def both(
    path: LivePath, one: Program, plan: Plan, same: Callable[[RunRecord], Any]
) -> tuple[RunRecord, RunRecord]:
    """Run a program in both laboratories; live again where the machine was busy.

    Args:
        same: what is to be the same of both.
    """
    sim = Laboratory(Adapter("reference"), simulated_tool)
    simulated = sim.run(one, plan)
    for _ in range(TRIES):
        with path.through(plan.toxics) as addresses:
            live = LiveLaboratory(Adapter("reference"), LiveTool(addresses), beside=sim)
            record = live.run(one, plan)
        if record.late_s <= CALM_S or same(record) == same(simulated):
            return simulated, record
    pytest.skip(f"the machine is busy: timers came {record.late_s:.3f} s late")


def happened(record: RunRecord) -> dict[str, list[tuple[str, Any]]]:
    """Return what happened in each stage, in order; between stages, moments alone decide it."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for entry in record.journal:
        found.setdefault(f"{entry.run}/{entry.stage}", []).append((entry.kind, entry.detail))
    return found


def told(record: RunRecord) -> Any:
    outcome = record.outcomes["r0"]
    return (
        outcome.status,
        {name: (one.status, one.value) for name, one in outcome.stages.items()},
        outcome.raised and (outcome.raised.type, outcome.raised.message),
    )


def whatever(_record: RunRecord) -> None:
    """Compare nothing: no moment decides what is asserted."""


CASES: dict[str, tuple[Program, Plan]] = {
    "plain": (program("p", stage("a", call("t", 0.05), call("t", 0.05), ok("x"))), Plan()),
    "stream": (program("p", stage("a", call("t", 0.1, chunks=4), ok("$items"))), Plan()),
    "held": (program("p", stage("a", call("t", 0.05, holds=True, cleanup_s=0.05))), Plan()),
    "held stream": (program("p", stage("a", call("t", 0.1, chunks=2, holds=True))), Plan()),
    "no time": (program("p", stage("a", call("t", 0.0), call("u", 0.0, holds=True))), Plan()),
    "an error": (program("p", stage("a", call("t", 0.05, error="KeyError"))), Plan()),
    "an error after items": (
        program("p", stage("a", call("t", 0.05, chunks=2, error="OSError"))),
        Plan(),
    ),
    "an error while held": (
        program("p", stage("a", call("t", 0.05, holds=True, error="ValueError"))),
        Plan(),
    ),
    "a fault": (
        program("p", stage("a", call("t", 0.02), call("t", 0.02), ok("x"))),
        Plan(faults=(Fault("t", nth=2),)),
    ),
    "own timeout": (
        program(
            "p",
            stage(
                "a",
                timeout("w", 0.2, call("t", 0.6, chunks=5, holds=True), otherwise=ITEMS),
                ok("$items"),
            ),
        ),
        Plan(),
    ),
    "cancelled by a sibling": (
        program(
            "p",
            stage("a", call("t", 5.0)),
            stage("b", call("t", 5.0, holds=True, cleanup_s=0.05)),
            stage("c", call("t", 5.0, chunks=1)),
            stage("d", sleep(0.15), raises("RuntimeError", "no")),
        ),
        Plan(),
    ),
    "cancelled by the caller": (
        program("p", stage("a", call("t", 5.0, holds=True, cleanup_s=0.05))),
        Plan(cancels=(Cancel(at_s=0.15),)),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_they_answer_alike(path: LivePath, name: str) -> None:
    def same(record: RunRecord) -> Any:
        return happened(record), told(record), record.leaks

    simulated, live = both(path, *CASES[name], same)
    assert happened(live) == happened(simulated)
    assert told(live) == told(simulated)
    assert (live.leaks, simulated.leaks) == ((), ())


def quick(**args: Any) -> Program:
    """A call that is given enough time for a good network, and another stage beside it."""
    asks = timeout("w", 0.6, call("t", 0.1, **args), otherwise=ITEMS)
    return program("p", stage("a", asks, ok("$items")), stage("b", acquire("x"), sleep(0.3)))


TOXIC: dict[str, tuple[Program, Toxic]] = {
    "late": (quick(), Toxic("latency", {"latency": 200})),
    "too late": (quick(holds=True), Toxic("latency", {"latency": 900}, "upstream")),
    "reset": (quick(), Toxic("reset_peer", {"timeout": 100})),
    "reset before it was asked": (quick(), Toxic("reset_peer", {"timeout": 50}, "upstream")),
    "cut at once": (quick(holds=True), Toxic("limit_data", {"bytes": 10})),
    "cut in its midst": (quick(chunks=8), Toxic("limit_data", {"bytes": 1_150})),
    "silent": (quick(chunks=2), Toxic("timeout", {}, "upstream")),
    "silent, then cut": (quick(), Toxic("timeout", {"timeout": 200}, "upstream")),
    "closes late": (quick(), Toxic("slow_close", {"delay": 200})),
    "closes too late": (quick(chunks=2), Toxic("slow_close", {"delay": 900})),
    "narrow": (quick(chunks=4), Toxic("bandwidth", {"rate": 1})),
    "answers are swallowed": (quick(), Toxic("timeout", {"timeout": 100})),
}


@pytest.mark.parametrize("name", TOXIC)
def test_toxics_do_the_same_to_both(path: LivePath, name: str) -> None:
    one, toxic = TOXIC[name]
    # How many items came before the line was given up is a matter of tens of bytes.
    narrow = name in ("narrow", "cut in its midst")

    def same(record: RunRecord) -> Any:
        return kinds(record, narrow), None if narrow else told(record)

    simulated, live = both(path, one, Plan(toxics=(toxic,)), same)
    felt = [detail for kind, detail in happened(simulated)["r0/a"] if kind == "net.felt"]
    assert felt, "the toxic does nothing in simulation"
    for record in (simulated, live):
        assert not narrow or any(kind == "item" for kind, _ in happened(record)["r0/a"])
    assert kinds(live, narrow) == kinds(simulated, narrow)
    if not narrow:
        assert told(live) == told(simulated)


def kinds(record: RunRecord, narrow: bool) -> dict[str, Any]:
    return {
        stage: Counter(
            (k, str(d)) for k, d in entries if not (narrow and k in ("item", "returned"))
        )
        for stage, entries in happened(record).items()
    }


def test_a_network_without_toxics_is_not_felt(path: LivePath) -> None:
    def felt(record: RunRecord) -> bool:
        return "net.felt" in {entry.kind for entry in record.journal}

    simulated, live = both(path, quick(), Plan(toxics=(Toxic("latency"),)), felt)
    assert (felt(simulated), felt(live)) == (False, False)


@pytest.mark.parametrize("knobs", [Knobs(error_rate=1), Knobs(malformed_rate=1)])
@pytest.mark.parametrize("args", [{}, {"chunks": 2}, {"holds": True}])
def test_an_answer_that_is_none_fails_its_stage(knobs: Knobs, args: dict[str, Any]) -> None:
    with services(knobs=knobs) as running:
        lab = LiveLaboratory(Adapter("reference"), LiveTool(running.as_json()))
        record = lab.run(program("p", stage("a", call("t", 0.02, **args), ok("x"))), Plan())
    ends = [entry.detail for entry in record.journal if entry.kind == "stage.end"]
    assert ends == ["raise:BadAnswer"]
    assert record.outcomes["r0"].status == "failed"
    assert record.leaks == ()


def test_memory_that_is_there_is_no_fault(hosted: Hosted) -> None:
    lab = LiveLaboratory(Adapter("reference"), LiveTool(hosted.as_json()))
    record = lab.run(program("p", stage("a", allocate(64), ok("x"))), Plan())
    assert "fault.fired" not in {entry.kind for entry in record.journal}
    assert record.outcomes["r0"].status == "ok"


def test_a_slow_sink_hands_its_events_to_the_collector(path: LivePath, hosted: Hosted) -> None:
    one = program("p", stage("a", flood("a", 4, 0.01), ok("x")))
    hosted.events.clear()
    simulated, live = both(path, one, Plan(sink=Sink(delivery_s=0.01)), whatever)
    delivered = [("deliver.begin", ("r0/a/a", n)) for n in range(4)]
    for record in (simulated, live):
        assert [e for e in happened(record)["/"] if e[0] == "deliver.begin"] == delivered
    assert [data["n"] for _, data in hosted.events] == [0, 1, 2, 3]
