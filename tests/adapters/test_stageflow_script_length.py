"""Scripts of what was found on Stageflow are short, and `ruff format` has nothing to change.

The cases are findings, shrunk, one for each clause, shape of violation and graph, or more of
several searches. Stageflow itself is not needed: what its scripts are made from of it stands below.
"""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, cast

import pytest

from harness.adapters.stageflow_probe import Probe
from harness.adapters.stageflow_script import render_script
from harness.contract.clauses import CLAUSES
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import Unrenderable
from harness.kernel.script_texts import with_told

LINES_MAX = 60
# A case that is longer says so itself: `lines_max` may only fall.
FOUND: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("stageflow_found.json").read_text("utf-8")
)


class PipelineContext:
    """As of version 1.2.0: no id need be given to it."""

    def __init__(
        self,
        *,
        pipeline_run_id: object = None,
        request_id: object = None,
        session_id: object = None,
        user_id: object = None,
        org_id: object = None,
        interaction_id: object = None,
    ) -> None:
        """Nothing is made of them: only what may be given is looked at."""

    @classmethod
    def create(cls) -> PipelineContext:
        return cls()

    def mark_canceled(self, reason: str | None = None) -> None:
        """As the graph's stages call it."""


class RetryInterceptor:
    """As of version 1.2.0, with its defaults."""

    def __init__(
        self,
        *,
        max_attempts: int = 3,
        base_delay_ms: int = 1000,
        max_delay_ms: int = 30000,
        backoff_strategy: str = "BackoffStrategy.EXPONENTIAL",
        jitter_strategy: str = "JitterStrategy.FULL",
        retryable_errors: object = None,
        retry_on_status: tuple[str, ...] = ("retry",),
    ) -> None:
        """Nothing is made of them: only what may be given is looked at."""


# What the package itself offers, of what stands in its modules.
EXPORTED = (
    *("BackpressureAwareEventSink", "BaseInterceptor", "ErrorAction", "InterceptorResult"),
    *("CircuitBreakerInterceptor", "UnifiedStageGraph", "create_core_ports"),
    *("get_default_interceptors", "get_subpipeline_spawner"),
)


def stageflow(*, legacy: bool) -> Probe:
    """Return what scripts are made from, of version 1.2.0."""
    kinds = {
        "circuit_breaker": types.SimpleNamespace(__name__="CircuitBreakerInterceptor", priority=10),
        "idempotency": types.SimpleNamespace(__name__="IdempotencyInterceptor", priority=5),
    }
    return cast(
        "Probe",
        types.SimpleNamespace(
            version="1.2.0",
            legacy=legacy,
            package=types.SimpleNamespace(**dict.fromkeys(EXPORTED)),
            capabilities=frozenset(CAPABILITIES),
            pipeline_entry=True,
            PipelineContext=PipelineContext,
            StageContext=types.SimpleNamespace(as_pipeline_context=None),
            TenantContext=types.SimpleNamespace(__module__="stageflow.auth.tenant"),
            layer_kinds=kinds,
            queue_default=1000,
            RetryInterceptor=RetryInterceptor,
            BackoffStrategy=types.SimpleNamespace(
                EXPONENTIAL="BackoffStrategy.EXPONENTIAL", CONSTANT="BackoffStrategy.CONSTANT"
            ),
            JitterStrategy=types.SimpleNamespace(NONE="JitterStrategy.NONE"),
        ),
    )


def name_of(case: dict[str, Any]) -> str:
    graph = "legacy" if case["legacy"] else "unified"
    where = f"-{case['of']}" if "of" in case else ""
    return f"{case['clause']}-{case['shape']}-{graph}{where}"


CASES = {name_of(case): case for case in FOUND}


def scripts() -> dict[str, str]:
    """Return name of a case -> its script."""
    found = {}
    for name, case in CASES.items():
        program, plan = Program.from_json(case["program"]), Plan.from_json(case["plan"])
        check = CLAUSES[case["clause"]].check_of(program, plan, case["shape"])
        assert check is not None, case["clause"]
        engine = stageflow(legacy=case["legacy"])
        text = render_script(engine, program, plan, case["clause"], check)
        found[name] = with_told(text, case["expected"], case["actual"])
    return found


SCRIPTS = scripts()


LONGER = {name: case["lines_max"] for name, case in CASES.items() if "lines_max" in case}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_a_script_of_a_finding_has_at_most_sixty_lines(name: str) -> None:
    assert len(SCRIPTS[name].splitlines()) <= LONGER.get(name, LINES_MAX)


def test_a_case_is_called_longer_only_if_it_is() -> None:
    lines = {name: len(SCRIPTS[name].splitlines()) for name in LONGER}
    assert [name for name, number in lines.items() if number <= LINES_MAX] == []
    assert len(LONGER) <= len(SCRIPTS) / 13


def test_a_formatter_has_nothing_to_change_in_scripts(tmp_path: Path) -> None:
    for name, text in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(text, "utf-8")
    command = ["ruff", "format", "--isolated", "--line-length", "100", "--check", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def script_of(*stages: dict[str, Any], clause: str = "PART-1", shape: str = "") -> str:
    program, plan = Program.from_json({"stages": list(stages)}), Plan.from_json({})
    check = CLAUSES[clause].check_of(program, plan, shape)
    assert check is not None
    return render_script(stageflow(legacy=False), program, plan, clause, check)


def test_stages_that_do_the_same_are_of_one_class() -> None:
    fails = [{"op": "sleep", "seconds": 0.1}, {"op": "raise"}]
    text = script_of(
        {"name": "a", "steps": fails}, {"name": "b", "steps": fails}, {"name": "c", "steps": []}
    )
    assert text.count("async def execute") == 2
    assert 'with_stage("a", Work, ' in text
    assert 'with_stage("b", Work, ' in text
    assert 'with_stage("c", StageC, ' in text
    both = script_of({"name": "a", "steps": []}, {"name": "b", "steps": []})
    assert 'seen.append((ctx.stage_name, "stage.end", "ok"))' in both


def test_behind_a_queue_stands_the_engine_s_own_sink_where_nothing_is_asked_of_one() -> None:
    program = Program.from_json({"stages": [{"name": "a", "steps": []}]})
    check = CLAUSES["PART-1"].check_of(program, Plan(), "")
    assert check is not None

    def script(**sink: Any) -> str:
        plan = Plan.from_json({"sink": sink})
        return render_script(stageflow(legacy=False), program, plan, "PART-1", check)

    assert "\nsink = BackpressureAwareEventSink(max_queue_size=2)\n" in script(queue_max=2)
    assert "\nsink = BackpressureAwareEventSink(UserSink())\n" in script(delivery_s=0.1)
    assert "contextlib.suppress(Exception):  # the drain" in script(error="ValueError")


def test_sleeps_of_one_length_are_a_loop_and_what_holds_for_nothing_is_not_guarded() -> None:
    turn = {"op": "sleep", "seconds": 0.0}
    looped = script_of({"name": "a", "steps": [turn] * 3})
    assert "for _ in range(3):\n            await asyncio.sleep(0.0)\n" in looped
    assert "for _ in" not in script_of({"name": "a", "steps": [turn, turn]})
    fails = {"op": "acquire", "name": "r", "fails": True}
    held = script_of({"name": "a", "steps": [fails]}, clause="CLEAN-4", shape="")
    assert "finally:" not in held
    end = held.index('raise RuntimeError("cleanup of r failed")')
    assert "return StageOutput" not in held[end:]
    assert "finally:" in script_of({"name": "a", "steps": [fails, turn]}, clause="CLEAN-4")


def test_what_a_stage_says_that_it_raises_is_noted_there() -> None:
    steps = [{"op": "sleep", "seconds": 0.1}, {"op": "raise"}]
    text = script_of({"name": "a", "steps": steps}, clause="PART-4", shape="")
    assert "except Exception as exc:\n            " not in text
    assert text.index('"stage.end", "raise:ValueError"') < text.index('raise ValueError("raised")')


def test_a_stage_may_be_called_as_a_keyword_is() -> None:
    text = script_of({"name": "none", "steps": []}, {"name": "b", "steps": [{"op": "raise"}]})
    assert "class StageNone:" in text
    compile(text, "<script>", "exec")


def test_a_cleanup_of_a_subpipeline_is_registered_with_its_own_graph() -> None:
    held = {"name": "c", "steps": [{"op": "cleanup", "name": "db", "cleanup_s": 0.1}]}
    child = {"op": "subpipeline", "program": {"name": "child", "stages": [held]}}
    text = script_of({"name": "a", "steps": [child]}, clause="CLEAN-2")
    assert "        child_graph.register_cleanup(" in text
    assert "    global child_graph\n    child_graph = Pipeline()" in text
    with pytest.raises(Unrenderable, match="runs several times"):
        script_of({"name": "a", "steps": [child, child]}, clause="CLEAN-2")


def test_a_retry_of_one_stage_among_others_is_a_class_of_its_own() -> None:
    retried = {"name": "pay", "retry": {"attempts": 2}, "steps": [{"op": "raise"}]}
    other = {"name": "b", "steps": [{"op": "raise", "error": "OSError"}]}
    text = script_of(retried, other, clause="RETRY-1", shape="too-many")
    assert "class RetryPay(RetryInterceptor):" in text
    assert 'if stage_name != "pay":' in text
    assert "max_attempts=2" in text
    # Where nothing else can raise, nothing else is retried.
    for step in ({"op": "ok"}, {"op": "fail"}, {"op": "raise", "error": "CancelledError"}):
        calm = {"name": "b", "steps": [step]}
        alone = script_of(retried, calm, clause="RETRY-1", shape="too-many")
        assert "class Retry" not in alone
        assert "    retry = RetryInterceptor(" in alone


def test_each_clause_that_stageflow_breaks_in_a_script_is_among_them() -> None:
    clauses = {case["clause"] for case in FOUND}
    assert clauses >= {"CANCEL-3", "CANCEL-4", "CANCEL-5", "CANCEL-6", "CLEAN-1", "CLEAN-2"}
    assert clauses >= {"CLEAN-4", "CLEAN-5", "CLEAN-6", "CORR-1", "CORR-3", "CTX-2", "EVENT-2"}
    assert clauses >= {"EVENT-5", "GRAPH-1", "GRAPH-2", "GRAPH-5", "PART-1", "PART-3", "PART-4"}
    assert clauses >= {"RETRY-1", "TENANT-1", "TENANT-2", "TENANT-4", "TIME-3", "TIME-4"}
    assert clauses >= {"TIME-5", "TIME-10"}
