"""The laboratory judges before it tears down, says how a run ended, and repeats itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import types
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from harness.kernel.adapter import CAPABILITIES, Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import HarnessFault
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.outcome import Outcome, StageReport
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.port import StagePort
from harness.kernel.program import Program, Stage
from harness.kernel.record import Leak
from harness.kernel.steps import step
from mocks.tools import simulated_tool

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = types.ModuleType("tests_tiny_engine")
PACKAGE.__file__ = "/nowhere/tests_tiny_engine/__init__.py"

# What an engine does: it is given its stages, as coroutine functions that take no argument.
Engine = Callable[[dict[str, Callable[[], Awaitable[Any]]]], Awaitable[None]]


class TinyAdapter:
    """An engine that is one coroutine function."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def info(self) -> EngineInfo:
        sys.modules[PACKAGE.__name__] = PACKAGE
        return EngineInfo("tiny", "1", frozenset(CAPABILITIES), PACKAGE.__name__)

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> Any:
        if program.faults():
            raise BuildRefused(f"will not build: {program.faults()[0]}")
        return {name: bodies.body(name) for name in program.names}

    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        done: dict[str, StageReport] = {}

        def stage(name: str) -> Callable[[], Awaitable[Any]]:
            async def body() -> None:
                verdict = await native[name](StagePort(run=run.id))
                done[name] = StageReport("completed", verdict.value)

            return body

        await self.engine({name: stage(name) for name in native})
        return Outcome(run.id, "ok", stages=done)

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str | None:
        return None


def lab(engine: Engine) -> Laboratory:
    return Laboratory(TinyAdapter(engine), simulated_tool)


def program(*steps: dict[str, Any]) -> Program:
    return Program.from_json({"stages": [{"name": "a", "steps": list(steps)}]})


HOLDS = {"op": "acquire", "name": "lock", "cleanup_s": 0.5}
SLEEP = {"op": "sleep", "seconds": 1}


async def serial(stages: Any) -> None:
    for stage in stages.values():
        await stage()


async def abandons(stages: Any) -> None:
    KEPT.extend(asyncio.ensure_future(stage()) for stage in stages.values())
    await asyncio.sleep(0.5)


KEPT: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    KEPT.clear()


def lines(record: Any) -> list[tuple[float, str]]:
    return [(e.at_s, e.kind) for e in record.journal]


def test_the_record_of_a_run_is_whole() -> None:
    record = lab(serial).run(program(HOLDS, SLEEP), Plan(runs=(RunSpec("x", start_s=2.0),)))
    assert lines(record) == [
        (2.0, "run.begin"),
        (2.0, "stage.start"),
        (2.0, "acquire"),
        (3.0, "release.begin"),
        (3.5, "release.end"),
        (3.5, "returned"),
        (3.5, "stage.end"),
        (3.5, "run.end"),
    ]
    assert (record.ended, record.leaks, record.waiting, record.took_s) == ("over", (), (), 3.5)
    assert record.outcomes["x"].stages == {"a": StageReport("completed", None)}


# Leaks.


def test_a_stage_left_behind_is_judged_before_the_teardown_and_its_end_is_not_noted() -> None:
    record = lab(abandons).run(program(HOLDS, SLEEP), Plan())
    assert [(leak.kind, leak.stage) for leak in record.leaks] == [("task", "a")]
    assert lines(record) == [
        (0.0, "run.begin"),
        (0.0, "stage.start"),
        (0.0, "acquire"),
        (0.5, "run.end"),
    ]
    # The teardown did run its `finally`; the journal had been closed.
    assert (KEPT[0].cancelled(), record.journal.closed) == (True, True)


def test_what_ends_by_itself_in_the_tick_of_the_end_is_no_leak() -> None:
    async def lets_go(stages: Any) -> None:
        KEPT.extend(asyncio.ensure_future(stage()) for stage in stages.values())
        await asyncio.sleep(1)

    record = lab(lets_go).run(program(SLEEP, {"op": "yield", "times": 3}), Plan())
    assert (record.leaks, record.took_s) == ((), 1.0)


def test_each_kind_of_leak_is_told_by_its_kind() -> None:
    async def forever() -> None:
        await asyncio.sleep(99)

    async def items() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)

    async def fails() -> None:
        raise ValueError("nobody asks")

    async def leaves_task(_stages: Any) -> None:
        KEPT.append(asyncio.ensure_future(forever()))

    async def leaves_timer(_stages: Any) -> None:
        asyncio.get_running_loop().call_later(9, print)

    async def leaves_generator(_stages: Any) -> None:
        KEPT.append(items())
        await anext(KEPT[-1])

    async def leaves_exception(_stages: Any) -> None:
        asyncio.ensure_future(fails())  # noqa: RUF006 (that nobody keeps it is the point)
        await asyncio.sleep(0)

    found = {
        engine.__name__: lab(engine).run(program(SLEEP), Plan()).leaks
        for engine in (leaves_task, leaves_timer, leaves_generator, leaves_exception, serial)
    }
    here = "test_each_kind_of_leak_is_told_by_its_kind.<locals>"
    assert found == {
        "leaves_task": (Leak("task", f"{here}.forever"),),
        "leaves_timer": (Leak("timer", "print"),),
        "leaves_generator": (Leak("asyncgen", f"{here}.items"),),
        "leaves_exception": (Leak("unretrieved", "ValueError"),),
        "serial": (),
    }


def test_one_run_leaves_no_trace_in_the_next() -> None:
    here = lab(abandons)
    clean = digest(lab(serial).run(program(SLEEP), Plan()))
    here.run(program(HOLDS, {"op": "swallow", "times": 9, "steps": [{"op": "never"}]}), Plan())
    here.adapter = TinyAdapter(serial)
    assert digest(here.run(program(SLEEP), Plan())) == clean


# Engines that never end: judged, and never raised.


async def hangs(stages: Any) -> None:
    await asyncio.get_running_loop().create_future()


async def spins(stages: Any) -> None:
    while True:
        await asyncio.sleep(0)


async def naps(stages: Any) -> None:
    while True:
        await asyncio.sleep(60)


async def swallows(stages: Any) -> None:
    while True:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            pass


@pytest.mark.parametrize(
    ("engine", "ended"),
    [(hangs, "deadlock"), (spins, "steps"), (naps, "horizon"), (swallows, "deadlock")],
)
def test_an_engine_that_never_ends_is_told_by_how_and_where(engine: Engine, ended: str) -> None:
    plan = Plan(cancels=(Cancel(at_s=0.25),), horizon_s=3600, steps_max=5_000)
    plain = Plan(horizon_s=3600, steps_max=5_000)
    record = lab(engine).run(program(SLEEP), plan if engine is swallows else plain)
    assert (record.ended, record.outcomes, record.leaks) == (ended, {}, ())
    assert any(engine.__name__ in place for one in record.waiting for place in one.where)
    assert "run.end" not in [e.kind for e in record.journal]


def test_an_engine_that_refuses_is_quoted_and_nothing_is_run() -> None:
    record = lab(serial).run(Program(()), Plan())
    assert (record.build_error, len(record.journal)) == ("will not build: empty", 0)


def test_an_adapter_that_lets_an_exception_out_is_dagstorms_own_fault() -> None:
    async def raises(_stages: Any) -> None:
        raise KeyError("a bug in the adapter")

    with pytest.raises(HarnessFault, match=r"adapter: run\(\) let KeyError out"):
        lab(raises).run(program(SLEEP), Plan())


# Cancels.


def test_a_cancel_that_comes_too_late_is_noted_as_refused() -> None:
    record = lab(serial).run(
        program(SLEEP),
        Plan(runs=(RunSpec(), RunSpec("r1", start_s=5.0)), cancels=(Cancel(at_s=2.0),)),
    )
    assert [(e.at_s, e.detail) for e in record.journal.of("cancel.sent")] == [(2.0, (0, False))]
    assert record.outcomes["r0"].status == "ok"


def test_a_cancel_at_every_point_reaches_the_run_once() -> None:
    here, plan = lab(serial), Plan(cancels=(Cancel(at_point=-1),))
    clean = here.run(program(SLEEP), Plan()).points
    ends = []
    for point in range(1, clean + 1):
        record = here.run(program(SLEEP), plan, cancel_point=point)
        assert len(record.journal.of("cancel.sent")) == 1
        ends.append(record.outcomes["r0"].status)
    assert ends == ["cancelled"] * (clean - 1) + ["ok"]


# The same seed is the same run.

WIDE = Program(
    (
        Stage("up", (step("sleep", seconds=(0.1, 0.2, 0.3)), step("ok", value=1))),
        *(
            Stage(
                f"s{i}",
                (
                    step("acquire", name="lock", cleanup_s=(0.0, 0.1)),
                    step("thread", seconds=(0.1, 0.2)),
                    step("sleep", seconds=(0.1, 0.5)),
                ),
                ("up",),
            )
            for i in range(6)
        ),
        Stage("bad", (step("sleep", seconds=0.5), step("raise")), ("up",)),
    )
)
TIMED = Plan(stage_timeout_s=0.5)
DIGESTS = """
import sys
sys.path.insert(0, {root!r})
from tests.kernel.test_laboratory import wide_digests
print(wide_digests())
"""


def wide_digests() -> list[str]:
    from harness.adapters.reference import Adapter

    here = Laboratory(Adapter("reference"), simulated_tool)
    return [digest(here.run(WIDE, TIMED, seed=seed)) for seed in range(25)]


def test_a_seed_is_one_run_whatever_the_process_hashes_with_or_debugs() -> None:
    expected = wide_digests()
    assert len(set(expected)) > 10
    for extra in ({"PYTHONHASHSEED": "0"}, {"PYTHONHASHSEED": "77", "PYTHONASYNCIODEBUG": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", DIGESTS.format(root=str(ROOT))],
            env=os.environ | extra,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(expected)
