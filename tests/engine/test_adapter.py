"""The reference engine's adapter says in dagstorm's terms what the engine says in its own."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from harness.adapters.reference import Adapter
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import InputError
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.outcome import FailureReport, Outcome
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from mocks.tools import simulated_tool


@functools.cache
def laboratory() -> Laboratory:
    return Laboratory(Adapter(), simulated_tool)


def run(plan: dict[str, Any] | None = None, **stages: Any) -> RunRecord:
    """Run stages given as `name=[steps]` or `name={fields}` under a plan given as JSON."""
    rows = [
        {"name": name, **(one if isinstance(one, dict) else {"steps": one})}
        for name, one in stages.items()
    ]
    program = Program.from_json({"stages": rows})
    return laboratory().run(program, Plan.from_json(plan or {}))


def outcome(plan: dict[str, Any] | None = None, **stages: Any) -> Outcome:
    return run(plan, **stages).outcomes["r0"]


SLEEP = {"op": "sleep", "seconds": 9}


def test_an_unknown_subject_is_the_users_mistake() -> None:
    for subject in ("refrence", "broken:", "broken:nothing", "timeout-never"):
        with pytest.raises(InputError, match="expected reference or broken:<name>"):
            Adapter(subject)


def test_info_claims_known_capabilities_of_the_engines_package() -> None:
    info = laboratory().info
    assert (info.name, info.package) == ("reference", "harness.engine")
    assert info.capabilities == set(CAPABILITIES)


def test_an_ok_run() -> None:
    said = outcome(
        a=[{"op": "chunk", "value": 1}, {"op": "emit", "type": "seen"}, {"op": "ok", "value": [1]}],
        b={"needs": ["a"], "steps": [{"op": "read", "stage": "a"}, {"op": "skip", "reason": "x"}]},
    )
    assert (said.status, said.raised, said.failures) == ("ok", None, ())
    assert said.stages["a"].value == [1]
    assert (said.stages["a"].partial, said.stages["a"].complete) == ((1,), True)
    assert said.stages["b"].status == "skipped"
    assert said.events == (("seen", None),)


def test_a_timeout() -> None:
    said = outcome(
        {"stage_timeout_s": 20},
        slow={"steps": [{"op": "chunk", "value": 1}, SLEEP], "timeout_s": 2},
    )
    assert said.failures == (
        FailureReport(
            "slow", "timeout", "StageTimeout: stage 'slow' timed out: 2 s", 2, "StageTimeout"
        ),
    )
    assert (said.stages["slow"].status, said.stages["slow"].duration_s) == ("timed_out", 2)
    assert (said.stages["slow"].partial, said.stages["slow"].complete) == ((1,), False)
    assert said.timeouts == {"slow": 2}
    assert said.raised is not None
    assert (said.raised.type, said.raised.chain[0]) == ("RunFailed", "StageTimeout")
    assert said.raised.location.startswith("run.py:") or "run.py:" in said.raised.location


def test_failures_keep_their_kind_and_their_error() -> None:
    said = outcome(
        {"on_failure": "continue"},
        tells=[{"op": "fail", "message": "told"}],
        raises=[{"op": "raise", "error": "TimeoutError", "message": "mine"}],
        tool=[{"op": "call", "tool": "t", "seconds": 9, "timeout_s": 1}],
    )
    assert [(f.stage, f.kind, f.timeout_s, f.error) for f in said.failures] == [
        ("tells", "error", None, "StageFailed"),
        ("raises", "error", None, "TimeoutError"),
        ("tool", "timeout", 1, "ToolTimeout"),
    ]


def test_a_run_that_a_stage_cancelled() -> None:
    said = outcome(ender=[{"op": "cancel_run", "reason": "enough"}], other=[SLEEP])
    assert (said.status, said.reason, said.cancelled_by) == ("cancelled", "enough", "ender")
    assert said.raised is not None
    assert said.raised.type == "RunCancelled"


def test_what_does_not_stop_is_named_also_in_a_subpipeline() -> None:
    child = {
        "name": "child",
        "stages": [
            {
                "name": "deep",
                "steps": [{"op": "swallow", "times": 50, "steps": [{"op": "never"}]}],
            }
        ],
    }
    said = outcome(
        {"cleanup_grace_s": 1},
        runs={"steps": [{"op": "subpipeline", "program": child}], "timeout_s": 1},
    )
    assert said.still_running == ("deep",)


def test_cleanup_failures_are_passed_on() -> None:
    said = outcome(opens=[{"op": "cleanup", "name": "x", "fails": True}, {"op": "ok"}])
    assert (said.status, said.cleanup_failures) == ("ok", ("x: StageFault: cleanup of x failed",))


def test_a_cancelled_caller_is_the_laboratorys_to_report() -> None:
    record = run({"cancels": [{"at_s": 1}]}, slow=[SLEEP])
    raised = record.outcomes["r0"].raised
    assert raised is not None
    assert raised.type == "CancelledError"
    assert record.leaks == ()


def test_a_refusal_carries_the_engines_words() -> None:
    record = run(None, a={"needs": ["b"], "steps": []}, b={"needs": ["a"], "steps": []})
    assert record.build_error == (
        "pipeline 'program': stages need each other in a circle: a -> b -> a"
    )


def test_one_seed_is_one_run() -> None:
    stages = [
        {"name": f"s{i}", "steps": [{"op": "sleep", "seconds": [0, 1, 2]}, {"op": "ok"}]}
        for i in range(6)
    ]
    program = Program.from_json({"stages": stages})
    plan = Plan.from_json({"stage_timeout_s": 1})
    for seed in range(1, 20):
        one, other = (laboratory().run(program, plan, seed=seed) for _ in range(2))
        assert digest(one) == digest(other)


def test_there_is_no_script_for_the_reference() -> None:
    program = Program.from_json({"stages": [{"name": "a"}]})
    assert Adapter().render(program, Plan(), "TIME-1", "") is None
