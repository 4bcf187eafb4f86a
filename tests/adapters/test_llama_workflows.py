"""The llama-index-workflows adapter, on whichever version is installed; skipped where none is.

The full proof is `dagstorm run --engine llama-index-workflows@VERSION --profile smoke`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("workflows", reason="llama-index-workflows is not installed here")

from harness.adapters.llama_workflows import Adapter, Backoff
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.outcome import Outcome, StageReport
from harness.kernel.plan import Cancel, Consumer, Plan, RunSpec
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.record import RunRecord
from harness.kernel.steps import Step, step
from mocks.tools import simulated_tool

# What a version warns of in newer pydantic than its own is no matter of the adapter's.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

CHECK = (
    "def violation(seen, error, outputs, left, took):\n"
    "    return f'{outputs} error={type(error).__name__}'\n"
)


@pytest.fixture(scope="module")
def lab() -> Laboratory:
    return Laboratory(Adapter(), simulated_tool)


def stage(name: str, *steps: Step, after: tuple[str, ...] = (), **more: Any) -> Stage:
    return Stage(name, steps, after, **more)


def sleeping(name: str, seconds: float, value: Any, *after: str) -> Stage:
    return stage(name, step("sleep", seconds=seconds), step("ok", value=value), after=after)


DIAMOND = (
    sleeping("a", 1, {"k": [2]}),
    sleeping("b", 1, None, "a"),
    sleeping("c", 2, "x", "a"),
    stage("d", step("read", stage="c"), step("ok", value=4), after=("b", "c")),
)
FAILING = (
    sleeping("a", 1, "kept"),
    stage("b", step("sleep", seconds=1), step("raise", message="no"), after=("a",)),
    sleeping("c", 9, "never", "a"),
)


def run(lab: Laboratory, *stages: Stage, plan: Plan | None = None) -> tuple[RunRecord, Outcome]:
    record = lab.run(Program(stages), plan or Plan())
    assert (record.ended, record.build_error) == ("over", None)
    return record, record.outcomes["r0"]


def ends(record: RunRecord) -> list[tuple[str, str]]:
    return [(e.stage, e.detail) for e in record.journal.of("stage.end")]


def test_every_capability_is_claimed_or_explained(lab: Laboratory) -> None:
    info = lab.info
    assert info.capabilities | info.missing.keys() == CAPABILITIES.keys()
    assert not info.capabilities & info.missing.keys()
    assert {"inputs", "streaming", "subpipeline", "cancel_run", "retry"} <= info.capabilities


def test_the_context_was_looked_at_on_more_than_one_entry_point(lab: Laboratory) -> None:
    entries = lab.info.facts["context_attributes"]
    assert len(entries) > 1
    assert all(parts["inputs"] and not parts["timer"] for parts in entries.values())


def test_a_diamond_completes_with_inputs(lab: Laboratory) -> None:
    record, outcome = run(lab, *DIAMOND)
    assert outcome.status == "ok"
    assert outcome.stages == {
        "a": StageReport("completed", {"k": [2]}),
        "b": StageReport("completed"),
        "c": StageReport("completed", "x"),
        "d": StageReport("completed", 4),
    }
    assert [e.detail for e in record.journal.of("read")] == [("c", "value", "x")]
    assert ends(record) == [("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "ok")]


def test_a_failure_comes_out_with_what_the_stream_had_shown(lab: Laboratory) -> None:
    record, outcome = run(lab, *FAILING)
    assert outcome.status == "failed"
    assert outcome.stages == {"a": StageReport("completed", "kept")}
    assert [(f.error, "no" in f.message) for f in outcome.failures] == [("ValueError", True)]
    assert outcome.raised is not None
    assert outcome.raised.location.startswith("workflows/")
    assert ends(record) == [("a", "ok"), ("b", "raise:ValueError"), ("c", "cancelled")]


def test_a_stage_ends_the_run_by_a_stop_event(lab: Laboratory) -> None:
    record, outcome = run(
        lab,
        stage("a", step("sleep", seconds=1), step("cancel_run", reason="enough")),
        sleeping("b", 9, "never"),
    )
    assert (outcome.status, outcome.reason, outcome.cancelled_by) == ("cancelled", "enough", "a")
    assert ends(record) == [("a", "cancel_run"), ("b", "cancelled")]


def test_a_cancelled_caller_cancels_the_run_and_its_child(lab: Laboratory) -> None:
    child = Program((sleeping("inner", 9, 1),), "child")
    program = Program((stage("a", step("subpipeline", program=child)), sleeping("b", 9, 1)))
    record = lab.run(program, Plan(cancels=(Cancel(at_s=1.0),)))
    assert record.outcomes["r0"].status == "cancelled"
    assert sorted(ends(record)) == [("a", "cancelled"), ("b", "cancelled"), ("inner", "cancelled")]
    assert {e.run for e in record.journal.of("stage.end", stage="inner")} == {"r0/child"}


def test_chunks_and_events_are_read_from_the_stream(lab: Laboratory) -> None:
    _, outcome = run(
        lab,
        stage(
            "a",
            step("chunk", value="one"),
            step("emit", type="progress", data={"n": 1}),
            step("sleep", seconds=1),
            step("fail", message="cut off"),
        ),
    )
    assert outcome.stages == {"a": StageReport("failed", partial=("one",), complete=False)}
    assert outcome.events == (("progress", {"n": 1}),)


@pytest.mark.parametrize("fails", [False, True])
def test_what_a_consumer_leaves_in_the_stream_is_read_when_the_run_is_over(
    lab: Laboratory, fails: bool
) -> None:
    end = step("raise", message="no") if fails else step("ok", value=3)
    stages = (stage("a", step("chunk", value=1), step("chunk", value=2), end),)
    plan = Plan(consumer=Consumer("a", stop_after=1))
    _, outcome = run(lab, *stages, plan=plan)
    whole = StageReport("completed", 3, partial=(1, 2))
    cut = StageReport("failed", partial=(1, 2), complete=False)
    assert outcome.stages == {"a": cut if fails else whole}


def test_however_often_the_caller_cancels_the_run_is_closed_to_its_end(lab: Laboratory) -> None:
    held = stage("a", step("acquire", name="db", cleanup_s=0.3), step("sleep", seconds=9))
    plan = Plan(cancels=(Cancel(at_s=1.0, times=3, gap_s=0.1),))
    record = lab.run(Program((held,)), plan)
    assert ends(record) == [("a", "cancelled")]
    assert [e.detail for e in record.journal.of("release.end")] == ["db"]
    assert record.outcomes["r0"].status == "cancelled"


def test_what_the_caller_reads_is_not_what_another_step_may_change(lab: Laboratory) -> None:
    made = stage("a", step("ok", value=["kept"]))
    _, outcome = run(lab, made, stage("b", step("mutate", stage="a"), after=("a",)))
    assert outcome.stages["a"] == StageReport("completed", ["kept"])


def test_two_runs_of_one_workflow_keep_their_inputs(lab: Laboratory) -> None:
    program = Program(
        (
            stage("a", step("input"), step("sleep", seconds=1), step("ok", value="$marker")),
            stage(
                "b",
                step("input"),
                step("read", stage="a"),
                step("ok", value="$marker"),
                after=("a",),
            ),
        )
    )
    runs = tuple(RunSpec(f"r{i}", inputs={"marker": f"m{i}"}) for i in (0, 1))
    record = lab.run(program, Plan(runs=runs))
    for i in (0, 1):
        reports = record.outcomes[f"r{i}"].stages
        assert {n: s.value for n, s in reports.items()} == {"a": f"m{i}", "b": f"m{i}"}


def test_a_policy_stops_after_the_attempts_that_were_asked_for() -> None:
    policy = Backoff(Retry(attempts=3, backoff_s=0.5, factor=2.0))
    delays = [policy.next(0.0, made, ValueError()) for made in (1, 2, 3)]
    assert delays == [0.5, 1.0, None]


def test_an_ill_formed_graph_is_refused(lab: Laboratory) -> None:
    for stages in (
        (stage("a"), stage("a")),
        (stage("a", after=("b",)), stage("b", after=("a",))),
        (),
    ):
        assert lab.run(Program(stages), Plan()).build_error


def test_one_seed_gives_one_digest(lab: Laboratory) -> None:
    plan = Plan(cancels=(Cancel(at_s=1.5),))
    for program, circumstances in (
        (Program(DIAMOND), Plan()),
        (Program(FAILING), Plan()),
        (Program(DIAMOND), plan),
    ):
        for seed in (0, 5):
            first = digest(lab.run(program, circumstances, seed=seed))
            assert digest(lab.run(program, circumstances, seed=seed)) == first


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        (
            (
                stage("a", step("acquire", name="l", cleanup_s=0.01), step("ok", value=[1])),
                stage("b", step("read", stage="a"), step("chunk", value=1), after=("a",)),
                stage(
                    "c",
                    step("subpipeline", program=Program((stage("in"),), "kid")),
                    after=("a", "b"),
                ),
            ),
            "{'a': [1], 'b': None, 'c': None} error=NoneType",
        ),
        (
            (
                sleeping("a", 0, "kept"),
                stage("b", step("sleep", seconds=0.05), step("raise"), after=("a",)),
            ),
            "{'a': 'kept'}",
        ),
    ],
)
def test_a_script_runs_the_program_on_the_stock_loop(
    lab: Laboratory, stages: tuple[Stage, ...], expected: str, tmp_path: Path
) -> None:
    text = lab.adapter.render(Program(stages), Plan(), "PART-1", CHECK)
    assert text is not None
    path = tmp_path / "script.py"
    path.write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done
    assert done.stdout.startswith(f"VIOLATION PART-1: {expected}"), done
