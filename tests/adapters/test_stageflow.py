"""The Stageflow adapter, on whichever version is installed; skipped where none is.

What holds for every version is asserted as such; where versions differ, the test asks
the probe which kind of version this is.
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from typing import Any

import pytest

pytest.importorskip("stageflow")

from harness.adapters.stageflow import SUBJECTS, Adapter
from harness.adapters.stageflow_script import milliseconds
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import HarnessFault
from harness.kernel.laboratory import Laboratory
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Cancel, Fault, Plan, RunSpec
from harness.kernel.program import Program, Stage
from harness.kernel.record import RunRecord
from harness.kernel.script import NOTES, Unrenderable
from harness.kernel.script_ends import HOWS
from harness.kernel.steps import Step, step
from mocks.tools import simulated_tool

CHECK = "def violation(seen, error, outputs, left, took):\n    return {}\n"
TOLD = "repr((type(error).__name__, dict(outputs.items()), seen))"
# What a check names in double quotes is noted.
CHECK += "".join(f'# "{word}"\n' for word in (*NOTES, *HOWS) if word != "release.over")
PLAIN = Plan()

_labs: dict[str, Laboratory] = {}


@pytest.fixture(params=SUBJECTS)
def lab(request: Any) -> Laboratory:
    if request.param not in _labs:
        made = Laboratory(Adapter(request.param), simulated_tool)
        # The engine's clocks are replaced once a process; both laboratories steer them.
        for other in _labs.values():
            made.clocks = other.clocks
        _labs[request.param] = made
    return _labs[request.param]


def only(lab: Laboratory, subject: str) -> None:
    if lab.info.name != subject:
        pytest.skip(f"is about {subject}")


def needs(lab: Laboratory, capability: str) -> None:
    if capability not in lab.info.capabilities:
        assert lab.info.missing[capability]
        pytest.skip(lab.info.missing[capability])


def stage(name: str, *steps: Step, after: tuple[str, ...] = ()) -> Stage:
    return Stage(name, steps, after)


def sleeping(name: str, seconds: float, value: Any, *after: str) -> Stage:
    return stage(name, step("sleep", seconds=seconds), step("ok", value=value), after=after)


def run(lab: Laboratory, *stages: Stage, plan: Plan = PLAIN) -> tuple[RunRecord, Outcome]:
    record = lab.run(Program(stages), plan)
    assert record.ended == "over", record.waiting
    assert record.build_error is None
    return record, record.outcomes["r0"]


def statuses(outcome: Outcome) -> dict[str, tuple[str, Any]]:
    return {name: (one.status, one.value) for name, one in outcome.stages.items()}


def test_every_capability_is_claimed_or_explained(lab: Laboratory) -> None:
    info = lab.info
    assert info.capabilities | info.missing.keys() == CAPABILITIES.keys()
    assert not info.capabilities & info.missing.keys()
    assert {"context", "inputs", "events", "cancel_run", "subpipeline"} <= info.capabilities


def test_facts_were_measured(lab: Laboratory) -> None:
    facts = lab.info.facts
    assert facts["hello_runs"] is True
    assert 5 < facts["hello_lines"] < 40
    assert 0 < facts["public_api_documented_names"] <= facts["public_api_names"]
    assert facts["typed"] is True
    entries = facts["context_attributes"]
    assert entries["UnifiedStageGraph.run"]["timer"] is True
    assert entries["UnifiedStageGraph.run"]["data"] is False
    if lab.info.name == "stageflow-legacy":
        assert entries["StageGraph.run"]["timer"] is False
        assert entries["StageGraph.run"]["data"] is True


def test_an_unknown_subject_is_refused() -> None:
    with pytest.raises(HarnessFault, match="subject 'other'"):
        Adapter("other")


def test_a_diamond_completes(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        sleeping("a", 1, 1),
        sleeping("b", 1, {"k": [2]}, "a"),
        sleeping("c", 2, "x", "a"),
        stage("d", step("read", stage="b"), step("ok", value=4), after=("b", "c")),
    )
    assert outcome.status == "ok"
    assert outcome.raised is None
    assert statuses(outcome) == {
        "a": ("completed", 1),
        "b": ("completed", {"k": [2]}),
        "c": ("completed", "x"),
        "d": ("completed", 4),
    }
    assert [outcome.stages[n].duration_s for n in "abcd"] == [1.0, 1.0, 2.0, 0.0]
    (read,) = record.journal.of("read")
    assert (read.at_s, read.detail) == (3.0, ("b", "value", {"k": [2]}))
    assert record.leaks == ()


def test_a_run_cannot_change_the_program_for_the_next(lab: Laboratory) -> None:
    stages = (
        stage("a", step("ok", value=[1])),
        stage("b", step("mutate", stage="a"), after=("a",)),
    )
    program = Program(stages)
    for _ in range(2):
        lab.run(program, PLAIN)
    assert program.stage("a").steps[0].args["value"] == [1]


@pytest.mark.parametrize(("op", "error"), [("fail", None), ("raise", "ValueError")])
def test_a_failure_names_stage_and_error(lab: Laboratory, op: str, error: str | None) -> None:
    failing = step("fail", message="no luck") if op == "fail" else step("raise", message="no luck")
    _, outcome = run(lab, sleeping("a", 0, 1), stage("b", failing, after=("a",)))
    assert outcome.status == "failed"
    (failure,) = outcome.failures
    assert (failure.stage, failure.kind, failure.message) == ("b", "error", "no luck")
    assert failure.timeout_s is None
    if lab.info.name == "stageflow-legacy":
        assert outcome.raised is None
        assert statuses(outcome) == {"a": ("completed", 1), "b": ("failed", None)}
        assert outcome.stages["b"].error == "no luck"
    else:
        assert outcome.raised is not None
        assert outcome.raised.type == "UnifiedStageExecutionError"
        assert outcome.raised.stage == "b"
        assert outcome.raised.location.startswith("stageflow/pipeline/dag.py:")
        assert error is None or failure.error == error


def test_a_timeout_is_told_with_its_length(lab: Laboratory) -> None:
    needs(lab, "stage_timeout")
    record, outcome = run(lab, sleeping("a", 5, 1), plan=Plan(stage_timeout_s=1.5))
    (failure,) = outcome.failures
    assert (failure.stage, failure.kind, failure.timeout_s) == ("a", "timeout", 1.5)
    if lab.info.name == "stageflow-legacy":
        assert (outcome.stages["a"].status, outcome.stages["a"].duration_s) == ("timed_out", 1.5)
    assert record.journal.of("stage.end")[0][:2] == (1.5, "r0")


def test_without_a_plan_timeout_the_engines_default_stands(lab: Laboratory) -> None:
    needs(lab, "stage_timeout")
    record, _ = run(lab, sleeping("a", 100, 1))
    assert record.journal.of("stage.end")[0].at_s == lab.info.facts["default_stage_timeout_s"]


def test_a_stage_can_end_the_run(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        sleeping("a", 0, 1),
        stage("b", step("sleep", seconds=1), step("cancel_run", reason="enough"), after=("a",)),
        sleeping("c", 5, 3, "a"),
    )
    assert (outcome.status, outcome.reason) == ("cancelled", "enough")
    assert outcome.stages["a"].value == 1
    assert record.journal.of("stage.end", stage="c")[0].detail == "cancelled"
    assert outcome.failures == ()


def test_a_cancel_of_the_caller_goes_through(lab: Laboratory) -> None:
    record, outcome = run(lab, sleeping("a", 5, 1), plan=Plan(cancels=(Cancel(at_s=1),)))
    assert (outcome.status, outcome.raised and outcome.raised.type) == (
        "cancelled",
        "CancelledError",
    )
    (end,) = record.journal.of("run.end")
    assert (end.at_s, end.detail) == (1.0, "CancelledError")


def test_a_skip_is_told_as_one(lab: Laboratory) -> None:
    needs(lab, "skip")
    _, outcome = run(lab, stage("a", step("skip", reason="no need")))
    assert statuses(outcome) == {"a": ("skipped", None)}


def test_events_reach_the_sink_of_their_run(lab: Laboratory) -> None:
    plan = Plan(runs=(RunSpec("r0", "t0"), RunSpec("r1", "t1")))
    record = lab.run(Program((stage("a", step("emit", type="x.y", data={"n": 1})),)), plan)
    ids = set()
    for run_id in ("r0", "r1"):
        (event,) = [data for type_, data in record.outcomes[run_id].events if type_ == "x.y"]
        assert event["n"] == 1
        ids.add(event["pipeline_run_id"])
    assert len(ids) == 2


def test_tools_are_called_the_engines_way(lab: Laboratory) -> None:
    call = step("call", tool="search", seconds=1, chunks=1)
    record, outcome = run(lab, stage("a", call, step("ok", value="$items")))
    assert outcome.stages["a"].value == ["search#1.0"]
    assert "tool.completed" in [type_ for type_, _ in outcome.events]
    record, outcome = run(lab, stage("a", call), plan=Plan(faults=(Fault("search"),)))
    assert outcome.status == "failed"
    assert record.journal.of("call.end")[0].detail == ("search", 1, "raise:ToolExecutionError")


def test_a_child_pipeline_runs_and_fails(lab: Laboratory) -> None:
    for ending, status in ((step("ok", value=5), "ok"), (step("raise"), "failed")):
        kid = Program((stage("k", step("sleep", seconds=1), ending),), "kid")
        record, outcome = run(lab, stage("a", step("subpipeline", program=kid)))
        assert outcome.status == status
        assert record.journal.of("sub.end")[0].detail == ("kid", status)
        assert [e.run for e in record.journal.of("stage.start", stage="k")] == ["r0/kid"]


def test_failed_cleanups_are_read_from_the_log(lab: Laboratory) -> None:
    needs(lab, "cleanup_registry")
    lab.settle_process()  # switches logging off; the engine's report must come through
    cleanup = step("cleanup", name="db", cleanup_s=0.1)
    broken = step("cleanup", name="file", fails=True)
    record, outcome = run(lab, stage("a", cleanup, broken))
    assert outcome.cleanup_failures == ("Cleanup failed: file",)
    assert [e.detail for e in record.journal.of("release.end")] == ["db"]


def test_a_shorter_cleanup_grace_is_passed_on(lab: Laboratory) -> None:
    needs(lab, "cleanup_registry")
    cleanup = step("cleanup", name="db", cleanup_s=5)
    record, _ = run(lab, stage("a", cleanup), plan=Plan(cleanup_grace_s=2))
    (cut,) = record.journal.of("release.cut")
    assert cut.at_s == 2.0


@pytest.mark.parametrize(
    ("stages", "word"),
    [
        ((), "Error: "),
        ((stage("a", after=("missing",)),), "missing"),
        ((stage("a", after=("b",)), stage("b", after=("a",))), "a"),
    ],
)
def test_an_ill_formed_graph_is_told_in_the_engines_words(
    lab: Laboratory, stages: tuple[Stage, ...], word: str
) -> None:
    record = lab.run(Program(stages), PLAIN)
    if record.build_error is None:
        (failure,) = record.outcomes["r0"].failures
        assert failure.message.startswith("Deadlocked stage graph")
    else:
        assert word in record.build_error


def test_graph_state_does_not_carry_over_from_one_build_to_the_next(lab: Laboratory) -> None:
    program = Program((stage("a", step("raise")),))
    for _ in range(10):  # a circuit breaker opens before that, if it is the same graph
        assert lab.run(program, PLAIN).outcomes["r0"].status == "failed"


def refusal(lab: Laboratory, *stages: Stage) -> str | None:
    return lab.run(Program(stages), PLAIN).build_error


def test_the_older_graph_is_built_by_the_builder_that_validates_it(lab: Laboratory) -> None:
    only(lab, "stageflow-legacy")
    circle = (stage("a", after=("b",)), stage("b", after=("a",)))
    ran = lab.run(Program((stage("b", after=("a",)), stage("a"))), PLAIN)
    assert ran.build_error is None
    assert {s.status for s in ran.outcomes["r0"].stages.values()} == {"completed"}
    if not lab.adapter.engine().builder_runs:  # type: ignore[attr-defined]
        assert refusal(lab, *circle) is None
        return
    assert "CycleDetectedError" in str(refusal(lab, *circle))
    assert "'zz'" in str(refusal(lab, stage("a", after=("zz",))))
    # It keeps the second of two stages of one name: that is the engine's doing, not ours.
    assert refusal(lab, stage("a"), stage("a")) is None


def test_what_becomes_of_siblings_is_asked_of_the_graph(lab: Laboratory) -> None:
    wanted = "continue" if lab.info.name == "stageflow-legacy" else "cancel"
    assert lab.info.facts["on_failure"] == wanted


def test_what_the_documentation_says_is_shared_is_no_bug(lab: Laboratory) -> None:
    assert ("CTX-2" in lab.info.semantics) == (lab.info.name == "stageflow-legacy")


def test_no_delivery_is_claimed_to_be_counted(lab: Laboratory) -> None:
    assert "delivery_count" not in lab.info.capabilities
    assert "BackpressureMetrics" in lab.info.missing["delivery_count"]


def test_the_legacy_graph_writes_no_files_here(lab: Laboratory) -> None:
    only(lab, "stageflow-legacy")
    adapter = lab.adapter
    assert isinstance(adapter, Adapter)
    before = adapter.debug_writes
    run(lab, sleeping("a", 1, 1))
    assert adapter.debug_writes > before
    assert lab.info.facts["writes_debug_files"] is True


def test_the_same_seed_gives_the_same_outcome(lab: Laboratory) -> None:
    stages = (sleeping("a", 1, 1), sleeping("b", 1, 2), sleeping("c", 1, 3, "a"))
    first, second = (run(lab, *stages)[1] for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(1.0, 1000), (0.25, 250), (1.001, 1001), (0.0, 0), (-1.0, -1000), (math.inf, math.inf)],
)
def test_milliseconds(seconds: float, expected: float) -> None:
    value = milliseconds(seconds)
    assert value == expected
    assert isinstance(value, int) is math.isfinite(seconds)
    assert math.isnan(milliseconds(math.nan))


SCRIPTS: dict[str, tuple[tuple[Stage, ...], Plan]] = {
    "ok": (
        (sleeping("a", 0.01, [1, "x"]), stage("b", step("read", stage="a"), after=("a",))),
        PLAIN,
    ),
    "fail": ((stage("a", step("fail")), sleeping("b", 0.05, 1)), PLAIN),
    "cancel": ((stage("a", step("cancel_run", reason="r")), sleeping("b", 0.1, 1)), PLAIN),
    "caller": ((sleeping("a", 0.5, 1),), Plan(cancels=(Cancel(at_s=0.05),))),
    "tool": ((stage("a", step("call", tool="t", seconds=0.01)),), Plan(faults=(Fault("t"),))),
    "sub": (
        (stage("a", step("subpipeline", program=Program((sleeping("k", 0.01, 1),), "kid"))),),
        PLAIN,
    ),
    "runs": ((sleeping("a", 0.01, 1),), Plan(runs=(RunSpec("r0"), RunSpec("r1", "t1")))),
    "unknown": ((stage("a", after=("zz",)),), PLAIN),
}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_sees_what_the_laboratory_sees(lab: Laboratory, name: str, tmp_path: Any) -> None:
    stages, plan = SCRIPTS[name]
    program = Program(stages)
    source = lab.adapter.render(
        program,
        plan,
        "X-1",
        CHECK.format(TOLD),
    )
    assert source is not None
    path = tmp_path / "check.py"
    path.write_text(source)
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    error, outputs, seen = eval(done.stdout.removeprefix("VIOLATION X-1: "))
    record = lab.run(program, plan)
    if record.build_error is not None:
        # A script makes the older graph without its builder, which is what refuses.
        unvalidated = lab.info.name == "stageflow-legacy"
        assert error == ("RuntimeError" if unvalidated else record.build_error.split(":")[0])
        return
    raised = next((o.raised for o in record.outcomes.values() if o.raised), None)
    assert error == (raised.type if raised else "NoneType")
    many = len(plan.runs) > 1
    reached = {
        f"{run_id}/{stage_name}" if many else stage_name: one.value
        for run_id, outcome in record.outcomes.items()
        for stage_name, one in outcome.stages.items()
        if one.status == "completed"
    }
    told = {k: v for k, v in outputs.items() if not str(v).startswith(("failed: ", "cancel: "))}
    assert told == reached
    kinds = ("stage.start", "stage.end", "call.end", "sub.end", "read", "fault.fired")
    in_script = sorted(str(row[2:]) for row in seen if row[2] in kinds)
    in_lab = sorted(str((e.kind, e.detail)) for e in record.journal if e.kind in kinds)
    assert in_script == in_lab


def test_a_program_that_the_version_cannot_run_has_no_script(lab: Laboratory) -> None:
    program = Program((stage("a", step("heartbeat")),))
    with pytest.raises(Unrenderable):
        lab.adapter.render(program, PLAIN, "X-1", CHECK.format("None"))


def test_the_adapter_runs_on_the_stock_loop_as_well(lab: Laboratory) -> None:
    class Body:
        def body(self, _stage: str) -> Any:
            async def body(port: Any) -> Any:
                from harness.kernel.port import Verdict

                await asyncio.sleep(0)
                return Verdict("ok", port.run)

            return body

        def child(self, _program: Program) -> Any:
            raise AssertionError("no child here")

    native = lab.adapter.build(Program((stage("a"),)), PLAIN, Body())
    outcome = asyncio.run(lab.adapter.run(native, RunSpec("r7"), PLAIN))
    assert statuses(outcome) == {"a": ("completed", "r7")}
