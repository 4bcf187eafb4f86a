"""Plain asyncio under test: what the idiom does by hand, in the laboratory and as a script."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys
from asyncio import base_events
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.adapters.asyncio_plain import Adapter
from harness.adapters.asyncio_plain_idiom import EndRun, Stage, StageTimeout, in_order, run_stages
from harness.kernel.adapter import CAPABILITIES, BuildRefused
from harness.kernel.errors import InputError
from harness.kernel.interpreter import ProgramBodies
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.outcome import FailureReport, Outcome, StageReport
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.program import Program
from harness.kernel.program import Stage as Declared
from harness.kernel.record import RunRecord
from harness.kernel.script import Unrenderable
from harness.kernel.steps import Step, step
from harness.lab.engines import parse_engine
from mocks.tools import simulated_tool

CHECK = (
    "def violation(seen, error, outputs, left, took):\n"
    "    return f'{outputs} left={left} error={type(error).__name__}'\n"
)


@pytest.fixture
def lab() -> Iterator[Laboratory]:
    # The laboratory replaces the clock inside asyncio itself here: give it back afterwards,
    # or every real event loop of this process would stand still.
    clock = vars(base_events)["time"]
    yield Laboratory(Adapter(), simulated_tool)
    vars(base_events)["time"] = clock


def stage(name: str, *steps: Step, after: tuple[str, ...] = (), **more: Any) -> Declared:
    return Declared(name, steps, after, **more)


def sleeping(name: str, seconds: float, value: Any, *after: str) -> Declared:
    return stage(name, step("sleep", seconds=seconds), step("ok", value=value), after=after)


def run(lab: Laboratory, *stages: Declared, plan: Plan | None = None) -> tuple[RunRecord, Outcome]:
    record = lab.run(Program(stages), plan or Plan())
    assert (record.ended, record.build_error) == ("over", None)
    assert record.leaks == ()
    return record, record.outcomes["r0"]


def ends(record: RunRecord) -> list[tuple[float, str, str]]:
    return [(round(e.at_s, 6), e.stage, e.detail) for e in record.journal.of("stage.end")]


def test_every_capability_is_claimed_or_explained(lab: Laboratory) -> None:
    info = lab.info
    assert info.capabilities | info.missing.keys() == CAPABILITIES.keys()
    assert not info.capabilities & info.missing.keys()
    assert info.version == ".".join(map(str, sys.version_info[:3]))


def test_the_engine_needs_no_environment_of_its_own() -> None:
    ref = parse_engine("asyncio", {})
    here = platform.python_version()
    assert (ref.name, ref.version, ref.distribution, ref.isolated) == ("asyncio", here, "", True)
    assert parse_engine(ref.label, {}) == ref
    with pytest.raises(InputError, match=f"--engine asyncio@2.7: here it is {here}; leave"):
        parse_engine("asyncio@2.7", {})


def test_a_diamond_completes_with_inputs(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        sleeping("a", 1, {"k": [2]}),
        sleeping("b", 1, None, "a"),
        sleeping("c", 2, "x", "a"),
        stage("d", step("read", stage="a", key="k"), after=("a", "b", "c")),
    )
    assert outcome == Outcome(
        "r0",
        "ok",
        stages={
            "a": StageReport("completed", {"k": [2]}),
            "b": StageReport("completed"),
            "c": StageReport("completed", "x"),
            "d": StageReport("completed"),
        },
        timeouts={},
    )
    assert [e.detail for e in record.journal.of("read")] == [("a", "k", [2])]
    assert ends(record) == [(1, "a", "ok"), (2, "b", "ok"), (3, "c", "ok"), (3, "d", "ok")]


def test_a_failure_cancels_its_siblings_and_keeps_what_completed(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        sleeping("a", 1, "kept"),
        stage("b", step("sleep", seconds=2), step("fail", message="no luck")),
        stage("c", step("acquire", name="lock", cleanup_s=0.5), step("sleep", seconds=9)),
        sleeping("d", 1, "never", "b"),
    )
    assert outcome.status == "failed"
    assert outcome.stages == {
        "a": StageReport("completed", "kept"),
        "b": StageReport("failed", error="RuntimeError"),
        "c": StageReport("cancelled"),
        "d": StageReport("cancelled"),
    }
    assert outcome.failures == (FailureReport("b", "error", "no luck", None, "RuntimeError"),)
    assert outcome.raised is not None
    assert (outcome.raised.type, outcome.raised.chain) == ("ExceptionGroup", ("RuntimeError",))
    assert outcome.raised.location.startswith("asyncio/taskgroups.py")
    assert ends(record) == [(1, "a", "ok"), (2, "b", "fail"), (2.5, "c", "cancelled")]


def test_under_continue_only_what_depends_on_a_failure_is_left_out(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        stage("a", step("sleep", seconds=1), step("raise", error="KeyError", message="k")),
        sleeping("b", 1, "never", "a"),
        sleeping("c", 3, "done"),
        plan=Plan(on_failure="continue"),
    )
    assert outcome.status == "failed"
    assert [(f.stage, f.error) for f in outcome.failures] == [("a", "KeyError")]
    assert outcome.stages["c"] == StageReport("completed", "done")
    assert ends(record) == [(1, "a", "raise:KeyError"), (3, "c", "ok")]


def test_timeouts_name_the_stage_and_their_length(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        stage("a", step("sleep", seconds=9)),
        stage("b", step("sleep", seconds=9), timeout_s=3.0),
        plan=Plan(stage_timeout_s=2.0, on_failure="continue"),
    )
    message = "stage {} timed out after {} s"
    assert outcome.failures == (
        FailureReport("a", "timeout", message.format("a", 2.0), 2.0, "StageTimeout"),
        FailureReport("b", "timeout", message.format("b", 3.0), 3.0, "StageTimeout"),
    )
    assert outcome.timeouts == {"a": 2.0, "b": 3.0}
    assert ends(record) == [(2, "a", "cancelled"), (3, "b", "cancelled")]


def test_a_timeout_error_of_the_stages_own_is_no_timeout_of_the_stage(lab: Laboratory) -> None:
    _, outcome = run(
        lab, stage("a", step("raise", error="TimeoutError", message="mine"), timeout_s=2.0)
    )
    assert outcome.failures == (FailureReport("a", "error", "mine", None, "TimeoutError"),)


def test_a_heartbeat_moves_the_idle_timeout(lab: Laboratory) -> None:
    beat = [step("sleep", seconds=0.8), step("heartbeat")]
    record, outcome = run(
        lab,
        stage("alive", *beat, *beat, *beat, idle_timeout_s=1.0),
        stage(
            "silent",
            step("sleep", seconds=0.8),
            step("heartbeat"),
            step("sleep", seconds=9),
            idle_timeout_s=1.0,
        ),
        plan=Plan(on_failure="continue"),
    )
    assert ends(record) == [(1.8, "silent", "cancelled"), (2.4, "alive", "ok")]
    assert [(f.stage, f.timeout_s) for f in outcome.failures] == [("silent", 1.0)]


@pytest.mark.parametrize("policy", ["cancel", "continue"])
def test_a_stage_can_end_the_run(lab: Laboratory, policy: str) -> None:
    record, outcome = run(
        lab,
        sleeping("a", 1, "kept"),
        stage("b", step("sleep", seconds=2), step("cancel_run", reason="enough")),
        sleeping("c", 9, "never"),
        plan=Plan(on_failure=policy),
    )
    assert (outcome.status, outcome.reason, outcome.cancelled_by) == ("cancelled", "enough", "b")
    assert outcome.failures == ()
    assert outcome.stages["a"] == StageReport("completed", "kept")
    assert ends(record) == [(1, "a", "ok"), (2, "b", "cancel_run"), (2, "c", "cancelled")]


def test_a_swallowed_cancellation_of_a_need_does_not_let_its_dependent_run(
    lab: Laboratory,
) -> None:
    """Why the idiom waits by `asyncio.wait`: to await the task would hand the cancel on to it."""
    swallow = step("swallow", times=1, steps=[step("sleep", seconds=3)])
    record = lab.run(
        Program((stage("a", swallow), sleeping("b", 1, "never", "a"))),
        Plan(cancels=(Cancel(at_s=1.0),)),
    )
    assert ends(record) == [(4, "a", "ok")]
    assert record.outcomes["r0"].status == "cancelled"
    assert record.leaks == ()


@pytest.mark.parametrize("times", [1, 2])
def test_a_cancelled_caller_leaves_nothing_behind(lab: Laboratory, times: int) -> None:
    program = Program(
        (
            stage("a", step("acquire", name="lock", cleanup_s=1.0), step("sleep", seconds=9)),
            stage("b", step("subpipeline", program=Program((sleeping("inner", 9, 1),), "child"))),
        )
    )
    record = lab.run(program, Plan(cancels=(Cancel(at_s=1.0, times=times, gap_s=0.5),)))
    assert record.leaks == ()
    assert record.outcomes["r0"].status == "cancelled"
    assert [e.at_s for e in record.journal.of("release.end")] == [2.0]
    assert [e.detail for e in record.journal.of("stage.end", run="r0/child")] == ["cancelled"]


def test_a_cancelled_error_of_the_stages_own_is_no_success(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        stage("a", step("sleep", seconds=1), step("raise", error="CancelledError")),
        sleeping("b", 1, "kept"),
        sleeping("c", 1, "never", "a"),
    )
    assert outcome.status == "failed"
    assert outcome.failures == (FailureReport("a", "cancelled", "task a was cancelled by itself"),)
    assert outcome.stages["b"] == StageReport("completed", "kept")
    assert ends(record) == [(1, "a", "cancelled"), (1, "b", "ok")]


def test_ids_follow_into_tasks_threads_and_children(lab: Laboratory) -> None:
    program = Program(
        (
            stage(
                "a",
                step("input"),
                step("identify"),
                step("spawn", name="t", steps=[step("identify", place="task")]),
                step("thread", seconds=1, identify=True),
                step(
                    "subpipeline",
                    program=Program((stage("inner", step("identify", place="child")),), "kid"),
                ),
                step("ok", value="$marker"),
            ),
        )
    )
    runs = tuple(
        RunSpec(f"r{i}", f"t{i}", inputs={"marker": f"m{i}"}, correlation=f"c{i}") for i in (0, 1)
    )
    record = lab.run(program, Plan(runs=runs))
    for i in (0, 1):
        ids = {"tenant": f"t{i}", "correlation": f"c{i}"}
        said = [e.detail for e in record.journal.of("identity") if e.run in (f"r{i}", f"r{i}/kid")]
        assert sorted(said, key=lambda d: d[0]) == [
            ("child", {"run": f"r{i}/kid", **ids}),
            ("stage", {"run": f"r{i}", **ids}),
            ("task", {"run": f"r{i}", **ids}),
            ("thread", {"run": f"r{i}", **ids}),
        ]
        assert record.outcomes[f"r{i}"].stages["a"].value == f"m{i}"


def test_cycles_and_unknown_needs_are_refused_by_name() -> None:
    for stages, words in (
        ((stage("a", after=("b",)), stage("b", after=("a",))), "CycleError"),
        ((stage("a", after=("ghost",)),), "KeyError: 'ghost'"),
    ):
        program = Program(stages)
        with pytest.raises(BuildRefused, match=words):
            Adapter().build(program, Plan(), ProgramBodies(program))


def test_one_seed_gives_one_digest(lab: Laboratory) -> None:
    program = Program((sleeping("a", 1, 1), sleeping("b", 1, 2), sleeping("c", 1, 3, "a", "b")))
    for seed in (0, 11):
        assert digest(lab.run(program, Plan(), seed=seed)) == digest(
            lab.run(program, Plan(), seed=seed)
        )


def test_the_idiom_alone_does_what_its_docstring_says() -> None:
    async def slow(_inputs: Any, _alive: Any) -> str:
        await asyncio.sleep(0)
        return "slow"

    async def doubled(inputs: dict[str, Any], _alive: Any) -> str:
        return str(inputs["slow"]) * 2

    async def stuck(_inputs: Any, _alive: Any) -> None:
        await asyncio.Event().wait()

    async def ender(_inputs: Any, _alive: Any) -> None:
        raise EndRun("enough")

    async def go() -> tuple[dict[str, Any], list[BaseException]]:
        tasks: dict[str, asyncio.Task[Any]] = {}
        await run_stages(
            in_order({"doubled": Stage(doubled, ("slow",)), "slow": Stage(slow)}), tasks
        )
        raised: list[BaseException] = []
        for stages in ({"stuck": Stage(stuck, timeout_s=0.0)}, {"ender": Stage(ender)}):
            with pytest.raises(ExceptionGroup) as group:
                await run_stages(in_order(stages), {})
            raised += group.value.exceptions
        return {name: task.result() for name, task in tasks.items()}, raised

    results, raised = asyncio.run(go())
    assert results == {"slow": "slow", "doubled": "slowslow"}
    assert [type(exc) for exc in raised] == [StageTimeout, EndRun]


SCRIPTED = {
    "values": (
        Program(
            (
                stage("a", step("acquire", name="l", cleanup_s=0.01), step("ok", value=[1])),
                stage("b", step("read", stage="a"), step("yield"), after=("a",)),
                stage("c", step("generate", name="g", items=2), step("ok", value="$items")),
                stage("d", step("call", tool="t", seconds=0.01, timeout_s=1.0)),
                stage(
                    "e",
                    step("timeout", label="x", seconds=0.01, steps=[step("never")]),
                    step("subpipeline", program=Program((stage("in"),), "kid")),
                ),
            )
        ),
        Plan(),
        "{'a': [1], 'c': [0, 1], 'd': None, 'e': None, 'b': None} left=[] error=NoneType",
    ),
    "failure": (
        Program((sleeping("a", 0, 1), stage("b", step("sleep", seconds=0.05), step("fail")))),
        Plan(),
        "{'a': 1} left=[] error=ExceptionGroup",
    ),
    "going on": (
        Program((stage("a", step("raise")), sleeping("b", 0.02, "on"))),
        Plan(on_failure="continue", stage_timeout_s=5.0),
        "{'b': 'on'} left=[] error=NoneType",
    ),
    "two runs": (
        Program((stage("a", step("heartbeat"), step("ok", value=3), idle_timeout_s=1.0),)),
        Plan(runs=(RunSpec("r0"), RunSpec("r1"))),
        "{'r0/a': 3, 'r1/a': 3} left=[] error=NoneType",
    ),
}


@pytest.mark.parametrize("name", SCRIPTED)
def test_a_script_runs_the_program_on_the_stock_loop(name: str, tmp_path: Path) -> None:
    program, plan, expected = SCRIPTED[name]
    text = Adapter().render(program, plan, "TIME-1", CHECK)
    assert text is not None
    path = tmp_path / "script.py"
    path.write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (1, f"VIOLATION TIME-1: {expected}"), done


def test_a_heartbeat_of_a_stage_without_an_idle_timeout_ends_nothing(lab: Laboratory) -> None:
    beating = stage("a", step("heartbeat"), step("sleep", seconds=1), step("ok", value=1))
    _, outcome = run(lab, beating)
    assert outcome.stages == {"a": StageReport("completed", 1)}


@pytest.mark.parametrize("on_failure", ["cancel", "continue"])
def test_of_two_stages_that_ask_to_end_the_run_the_first_is_told(
    lab: Laboratory, on_failure: str
) -> None:
    late = stage(
        "late",
        step("swallow", steps=[{"op": "sleep", "seconds": 1}]),
        step("cancel_run", reason="b"),
    )
    first = stage("first", step("cancel_run", reason="a"))
    _, outcome = run(lab, late, first, plan=Plan(on_failure=on_failure))
    assert (outcome.status, outcome.reason, outcome.cancelled_by) == ("cancelled", "a", "first")


def test_what_is_not_offered_has_no_script() -> None:
    program = Program((stage("a", step("chunk", value=1)),))
    with pytest.raises(Unrenderable, match="streaming"):
        Adapter().render(program, Plan(), "STREAM-1", CHECK)
