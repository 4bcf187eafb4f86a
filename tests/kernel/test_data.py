"""Steps, programs and plans are plain data: they survive JSON, and what is wrong is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.kernel.errors import InputError
from harness.kernel.plan import (
    LAYER_KINDS,
    Cancel,
    Consumer,
    Fault,
    Layer,
    Plan,
    RunSpec,
    Sink,
    required_capabilities,
)
from harness.kernel.program import LIMIT_STAGES, Program, Retry, Stage
from harness.kernel.steps import LIMIT_STEPS, OPS, Step, parse_step, step, walk
from tests.kernel.programs import plans, programs, steps


def through_json(data: Any) -> Any:
    return json.loads(json.dumps(data, allow_nan=False))


# Round trips.


@settings(max_examples=80)
@given(steps())
def test_a_step_survives_json(one: Step) -> None:
    assert parse_step(through_json(one.to_json()), where="here") == one


@settings(max_examples=40)
@given(programs())
def test_a_program_survives_json(program: Program) -> None:
    assert Program.from_json(through_json(program.to_json())) == program


@settings(max_examples=80)
@given(plans())
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.from_json(through_json(plan.to_json())) == plan


@settings(max_examples=30)
@given(programs(), plans())
def test_asking_for_capabilities_and_faults_never_fails(program: Program, plan: Plan) -> None:
    needs = required_capabilities(program, plan)
    asked = {OPS[one.op].needs for _, one in program.walk()} - {None}
    assert asked <= needs
    assert ("stage_timeout" in needs) == (plan.stage_timeout_s is not None)
    redriven = [run.redrives for run in plan.runs if run.redrives]
    assert ("checkpoint" in needs) == bool(redriven)
    at_once = len(plan.runs) - len(redriven) > 1 or len(set(redriven)) < len(redriven)
    assert ("concurrent_runs" in needs) == at_once
    assert bool(program.stages) == ("empty" not in program.faults())


def test_defaults_are_left_out_of_json_and_filled_in_again() -> None:
    one = step("acquire", name="lock")
    assert one.to_json() == {"op": "acquire", "name": "lock"}
    assert one.args == {"name": "lock", "cleanup": "async", "cleanup_s": 0, "fails": False}
    assert Plan().to_json() == {"version": 1}
    assert Plan(cancels=(Cancel(at_s=1.0),)).to_json()["cancels"] == [{"at_s": 1.0}]
    said = [{"target": "stage", "run": "r0/child", "stage": "x", "at_point": 3}]
    assert Plan.from_json({"cancels": said}).to_json()["cancels"] == said


# Messages. Each is one line that names the place, what was expected and what came.

LONG = "x" * 101


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (3, "here: a step is an object with 'op', not int"),
        (
            {"op": "yield", "times": -1},
            "here.times: expected a whole number from 0 to 10000, got -1",
        ),
        ({"op": "sleep", "seconds": []}, "here.seconds: a list of durations must not be empty"),
        (
            {"op": "sleep", "seconds": [1, 86_401]},
            "here.seconds: expected seconds from 0 to 86400, got 86401",
        ),
        ({"op": "sleep", "seconds": "1"}, "here.seconds: expected seconds as a number, got '1'"),
        (
            {"op": "acquire", "name": LONG},
            f"here.name: expected a name of 1 to 100 characters, got {LONG!r}",
        ),
        (
            {"op": "acquire", "name": "a", "fails": 1},
            "here.fails: expected true or false, got 1",
        ),
        (
            {"op": "acquire", "name": "a", "cleanup": "slow"},
            "here.cleanup: expected one of async, sync, got 'slow'",
        ),
        ({"op": "fail", "message": 5}, "here.message: expected a text of at most 10000 characters"),
        ({"op": "ok", "value": {1}}, "here.value: expected plain JSON data, got set"),
        (
            {"op": "ok", "value": {"a": [object]}},
            "here.value: expected plain JSON data, got type",
        ),
        (
            {"op": "swallow", "steps": "sleep"},
            "here.steps: expected a list of steps, not str",
        ),
        (
            {"op": "parallel", "branches": [[{"op": "slep"}]]},
            "here.branches[0][0]: unknown step 'slep'; known: " + ", ".join(sorted(OPS)),
        ),
        (
            {"op": "subpipeline", "program": {"stages": [{}]}},
            "here.program.stages[0].name: expected 1 to 100 characters, got None",
        ),
        ({"op": "heartbeat", "x": 1}, "here: step 'heartbeat' has no argument 'x'; it has: none"),
    ],
)
def test_what_is_wrong_with_a_step_is_said_whole(data: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_step(data, where="here")
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ([], "program: expected an object with 'stages'"),
        ({"stages": [], "x": 1}, "program: unknown field 'x'"),
        ({"stages": [], "version": 2}, "program: version 2 is not 1"),
        ({}, "program.stages: expected a list of stages"),
        ({"stages": [], "name": 1}, "program.name: expected a text, got 1"),
        ({"stages": [1]}, "program.stages[0]: expected an object with 'name' and 'steps'"),
        ({"stages": [{"name": "a", "x": 1}]}, "program.stages[0]: unknown field 'x'"),
        (
            {"stages": [{"name": ""}]},
            "program.stages[0].name: expected 1 to 100 characters, got ''",
        ),
        (
            {"stages": [{"name": "a", "needs": "b"}]},
            "program.stages[0].needs: expected a list of stage names, got 'b'",
        ),
        (
            {"stages": [{"name": "a", "timeout_s": True}]},
            "program.stages[0].timeout_s: expected seconds as a number, got True",
        ),
        (
            {"stages": [{"name": "a", "retry": 3}]},
            "program.stages[0].retry: expected an object, got 3",
        ),
        (
            {"stages": [{"name": "a", "retry": {"tries": 3}}]},
            "program.stages[0].retry: unknown field 'tries'; known: "
            "['attempts', 'backoff_s', 'factor', 'jitter_s']",
        ),
        (
            {"stages": [{"name": "a", "retry": {"attempts": 0}}]},
            "program.stages[0].retry.attempts: expected a whole number from 1 to 1000, got 0",
        ),
        (
            {"stages": [{"name": "a", "retry": {"attempts": 2.0}}]},
            "program.stages[0].retry.attempts: expected a whole number from 1 to 1000, got 2.0",
        ),
        (
            {"stages": [{"name": "a", "retry": {"backoff_s": True}}]},
            "program.stages[0].retry.backoff_s: expected a number from 0 to 86400, got True",
        ),
        (
            {"stages": [{"name": "a", "retry": {"factor": 0.5}}]},
            "program.stages[0].retry.factor: expected a number from 1 to 1000, got 0.5",
        ),
        (
            {"stages": [{"name": "a", "steps": [{"op": "sleep"}]}]},
            "program.stages[0].steps[0]: step 'sleep' needs 'seconds'",
        ),
        (
            {"stages": [{"name": "a"}] * (LIMIT_STAGES + 1)},
            f"program.stages: at most {LIMIT_STAGES}, got {LIMIT_STAGES + 1}",
        ),
        (
            {"stages": [{"name": "a", "steps": [{"op": "yield"}] * (LIMIT_STEPS + 1)}]},
            f"program: at most {LIMIT_STEPS} steps, got {LIMIT_STEPS + 1}",
        ),
    ],
)
def test_what_is_wrong_with_a_program_is_said_whole(data: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Program.from_json(data)
    assert str(caught.value) == says


KNOWN = (
    "runs, stage_timeout_s, cleanup_grace_s, on_failure, cancels, faults, horizon_s, steps_max, "
    "sink, consumer, layers, toxics, clock_steps, options"
)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, "plan: expected an object"),
        ({"version": 9}, "plan: version 9 is not 1"),
        ({"timeout": 1}, f"plan: unknown field 'timeout'; known: {KNOWN}"),
        ({"runs": []}, "plan.runs: expected 1 to 1000 runs, got 0"),
        ({"runs": {}}, "plan.runs: expected a list"),
        ({"runs": [1]}, "plan.runs[0]: expected an object"),
        ({"runs": [{"name": "a"}]}, "plan.runs[0]: unknown field 'name'"),
        ({"runs": [{}, {}]}, "plan.runs: run ids must differ, got ['r0', 'r0']"),
        (
            {"runs": [{"start_s": -1}]},
            "plan.runs[0].start_s: expected a number from 0 to 1e+06, got -1",
        ),
        ({"cancels": [{}]}, "plan.cancels[0]: give either at_s or at_point"),
        (
            {"cancels": [{"at_s": 1, "at_point": 1}]},
            "plan.cancels[0]: give either at_s or at_point",
        ),
        ({"cancels": [{"at_s": 1, "run": "r9"}]}, "plan.cancels[0].run: no run 'r9' in the plan"),
        (
            {"cancels": [{"at_s": 1, "target": "task"}]},
            "plan.cancels[0].target: expected run or stage, got 'task'",
        ),
        (
            {"cancels": [{"at_s": 1, "target": "stage"}]},
            "plan.cancels[0].stage: a cancel of target 'stage', and no other, names one",
        ),
        (
            {"cancels": [{"at_s": 1, "by": "signal"}]},
            "plan.cancels[0].by: expected cancel, timeout, wait_for, group, got 'signal'",
        ),
        (
            {"cancels": [{"at_point": 1, "by": "timeout"}]},
            "plan.cancels[0].by: 'timeout' ends a run, at a time at_s",
        ),
        (
            {"cancels": [{"at_s": 1, "by": "group", "times": 2}]},
            "plan.cancels[0].times: a deadline expires once, got 2",
        ),
        (
            {"cancels": [{"at_s": 1, "by": "group"}, {"at_s": 2, "by": "timeout"}]},
            "plan.cancels[1].by: run 'r0' has a deadline already",
        ),
        (
            {"cancels": [{"at_s": 1, "times": 0}]},
            "plan.cancels[0].times: expected a number from 1 to 100, got 0",
        ),
        (
            {"faults": [{"tool": "web", "nth": 0}]},
            "plan.faults[0].nth: expected a number from 1 to 1e+06, got 0",
        ),
        (
            {"faults": [{"tool": "web", "error": "Oops"}]},
            "plan.faults[0].error: expected one of ValueError, RuntimeError, KeyError, OSError, "
            "TimeoutError, CancelledError",
        ),
        ({"on_failure": "stop"}, "plan.on_failure: expected cancel or continue, got 'stop'"),
        ({"options": []}, "plan.options: expected an object, got []"),
        (
            {"stage_timeout_s": "1"},
            "plan.stage_timeout_s: expected seconds as a number, got '1'",
        ),
        (
            {"horizon_s": float("nan")},
            "plan.horizon_s: expected a number from 0 to 1e+07, got nan",
        ),
        ({"steps_max": 0}, "plan.steps_max: expected a number from 1 to 1e+08, got 0"),
        (
            {"runs": [{"id": "a", "redrives": "b"}, {"id": "b"}]},
            "plan.runs[0].redrives: no earlier run 'b' in the plan",
        ),
        (
            {"runs": [{"id": "a", "redrives": "a"}]},
            "plan.runs[0].redrives: no earlier run 'a' in the plan",
        ),
        ({"runs": [{"inputs": 3}]}, "plan.runs[0].inputs: expected an object, got 3"),
        ({"sink": 3}, "plan.sink: expected an object"),
        ({"sink": {"speed": 3}}, "plan.sink: unknown field 'speed'"),
        (
            {"sink": {"delivery_s": -1}},
            "plan.sink.delivery_s: expected a number from 0 to 1e+06, got -1",
        ),
        (
            {"sink": {"queue_max": 0}},
            "plan.sink.queue_max: expected a number from 1 to 1e+06, got 0",
        ),
        (
            {"sink": {"error_every": 0}},
            "plan.sink.error_every: expected a number from 1 to 1e+06, got 0",
        ),
        (
            {"sink": {"error": "Oops"}},
            "plan.sink.error: expected one of ValueError, RuntimeError, KeyError, OSError, "
            "TimeoutError, CancelledError",
        ),
        (
            {"sink": {"policy": "lose"}},
            "plan.sink.policy: expected block, drop_newest, drop_oldest, spill, got 'lose'",
        ),
        (
            {"consumer": {"every_s": 1}},
            "plan.consumer: it needs 'stage'",
        ),
        (
            {"consumer": {"stage": "a", "buffer_max": 0}},
            "plan.consumer.buffer_max: expected a number from 1 to 1e+06, got 0",
        ),
        (
            {"consumer": {"stage": "a", "stop_after": -1}},
            "plan.consumer.stop_after: expected a number from 0 to 1e+06, got -1",
        ),
        (
            {"layers": [{"kind": "cache", "name": "x"}]},
            "plan.layers[0].kind: expected one of observe, raise, deny, circuit_breaker, "
            "rate_limit, idempotency, got 'cache'",
        ),
        (
            {"layers": [{"kind": "raise", "name": "x", "phase": "within"}]},
            "plan.layers[0].phase: expected before or after, got 'within'",
        ),
        (
            {"layers": [{"kind": "raise", "name": "x", "error": "Oops"}]},
            "plan.layers[0].error: expected one of ValueError, RuntimeError, KeyError, OSError, "
            "TimeoutError, CancelledError",
        ),
    ],
)
def test_what_is_wrong_with_a_plan_is_said_whole(data: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Plan.from_json(data)
    assert str(caught.value) == says


def test_a_fault_without_its_tool_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"^plan.faults\[0\]: .*'tool'$"):
        Plan.from_json({"faults": [{}]})


def test_numbers_that_no_engine_should_take_are_let_through_to_it() -> None:
    program = Program.from_json({"stages": [{"name": "a", "timeout_s": -1}]})
    assert program.stages == (Stage("a", timeout_s=-1),)
    assert Plan.from_json({"stage_timeout_s": -0.5}).stage_timeout_s == -0.5


# What a program says of itself.


def test_nested_steps_are_walked_in_order_and_subpipelines_are_not_entered() -> None:
    child = Program((Stage("c", (step("never"),)),), "child")
    block = (
        step("using", name="u", steps=[step("sleep", seconds=1)]),
        step("parallel", branches=[[step("yield")], [step("heartbeat")]]),
        step("subpipeline", program=child),
        step("timeout", label="t", seconds=1, steps=[step("context")], otherwise=[step("skip")]),
    )
    assert [one.op for one in walk(block)] == [
        *("using", "sleep", "parallel", "yield", "heartbeat", "subpipeline"),
        *("timeout", "context", "skip"),
    ]
    program = Program((Stage("s", block),))
    assert required_capabilities(program, Plan()) == {"heartbeat", "subpipeline", "context", "skip"}


def test_what_makes_a_graph_ill_formed_is_named() -> None:
    def faults(**needs: str) -> tuple[str, ...]:
        return Program(tuple(Stage(n, needs=tuple(d.split())) for n, d in needs.items())).faults()

    assert Program(()).faults() == ("empty",)
    assert faults(a="", b="a", c="a b") == ()
    assert faults(a="x") == ("unknown x",)
    assert faults(a="a") == ("cycle a",)
    # What is merely below a cycle is not on it.
    assert faults(a="c", b="a", c="b", d="c") == ("cycle a b c",)
    assert Program((Stage("a"), Stage("a"))).faults() == ("duplicate a",)


def test_descendants_are_all_that_depend_on_a_stage() -> None:
    program = Program((Stage("a"), Stage("b", needs=("a",)), Stage("c", needs=("b",)), Stage("d")))
    assert program.descendants("a") == {"b", "c"}
    assert program.descendants("c") == frozenset()


def test_chosen_durations_take_the_place_of_their_lists() -> None:
    program = Program(
        (
            Stage("a", (step("sleep", seconds=(1.0, 2.0)),)),
            Stage("b", (step("sleep", seconds=[3, 4]),)),
        )
    )
    (listed,) = program.stages[0].steps
    settled = program.with_durations({id(listed.args["seconds"]): 2.0})
    assert [s.steps[0].args["seconds"] for s in settled.stages] == [2.0, 3.0]


def test_needed_capabilities_follow_from_stages_and_plan() -> None:
    program = Program((Stage("a", timeout_s=1.0), Stage("b", idle_timeout_s=1.0)))
    plan = Plan(
        runs=(RunSpec("x"), RunSpec("y")),
        stage_timeout_s=1.0,
        on_failure="continue",
        faults=(Fault("web"),),
    )
    assert required_capabilities(program, plan) == {
        *("stage_timeout", "stage_timeout_each", "heartbeat"),
        *("continue_on_failure", "concurrent_runs"),
    }


def test_what_stands_around_a_run_needs_what_it_is_asked_of() -> None:
    def needs(**plan: Any) -> frozenset[str]:
        return required_capabilities(Program((Stage("a"),)), Plan(**plan))

    assert needs(sink=Sink()) == {"events"}
    assert needs(sink=Sink(queue_max=1)) == needs(sink=Sink(policy="block"))
    assert needs(sink=Sink(queue_max=1)) == {"events", "event_queue"}
    assert needs(consumer=Consumer("a")) == {"stream_consumer"}
    assert needs(runs=(RunSpec(inputs={"k": 1}),)) == {"run_inputs"}
    assert needs(runs=(RunSpec(traceparent="00-1-2-01"),)) == {"trace_context"}
    assert needs(runs=(RunSpec(correlation="c"),)) == frozenset()
    for kind, capability in LAYER_KINDS.items():
        assert needs(layers=(Layer(kind, "x"),)) == {capability}


def test_a_redrive_runs_after_what_it_redrives_and_beside_another_redrive_of_it() -> None:
    def needs(**redrives: str) -> frozenset[str]:
        runs = tuple(RunSpec(name, redrives=of) for name, of in redrives.items())
        return required_capabilities(Program((Stage("a"),)), Plan(runs=runs))

    assert needs(a="", b="a", c="b") == {"checkpoint"}
    assert needs(a="", b="a", c="a") == {"checkpoint", "concurrent_runs"}
    assert needs(a="", b="", c="a") == {"checkpoint", "concurrent_runs"}


def test_a_declared_retry_is_kept_whole_and_needs_an_engine_that_retries() -> None:
    program = Program((Stage("a", retry=Retry(attempts=2, jitter_s=0.5)),))
    assert program.to_json()["stages"][0]["retry"] == {
        "attempts": 2,
        "backoff_s": 0.1,
        "factor": 2.0,
        "jitter_s": 0.5,
    }
    assert required_capabilities(program, Plan()) == {"retry"}
    (stage,) = Program.from_json({"stages": [{"name": "a", "retry": {"attempts": 2}}]}).stages
    assert stage.retry == Retry(attempts=2)


def test_what_stands_around_a_run_is_left_out_of_json_where_it_is_as_by_default() -> None:
    plan = Plan(
        runs=(RunSpec("a", inputs={"k": [1]}), RunSpec("b", redrives="a")),
        sink=Sink(policy="block"),
        consumer=Consumer("s", stop_after=0),
        layers=(Layer("deny", "auth", stages=("s",), runs=("a",)),),
    )
    assert plan.to_json() == {
        "version": 1,
        "runs": [{"id": "a", "inputs": {"k": [1]}}, {"id": "b", "redrives": "a"}],
        "sink": {"policy": "block"},
        "consumer": {"stage": "s", "stop_after": 0},
        "layers": [{"kind": "deny", "name": "auth", "stages": ["s"], "runs": ["a"]}],
    }


# Bad input: whatever JSON comes, it is taken, or refused in one line.

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -(10**400)])
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def spoilt(draw: st.DrawFn, data: Any) -> Any:
    """Put any JSON in the place of one value somewhere in the data."""
    if isinstance(data, (dict, list)) and data and draw(st.integers(0, 5)):
        keys = sorted(data) if isinstance(data, dict) else range(len(data))
        key = draw(st.sampled_from(keys))
        out: Any = data.copy()
        out[key] = spoilt(draw, data[key])
        return out
    return draw(JSON)


def refused_in_one_line(parse: Callable[[Any], object], data: Any) -> None:
    try:
        parse(data)
    except InputError as exc:
        assert "\n" not in str(exc) and str(exc)


def every_field(kind: type) -> dict[str, Any]:
    """Return a record's fields with values that JSON could hold."""
    return {f.name: [] if f.name in ("stages", "runs") else f.name for f in fields(kind)}


FULL_PLAN: dict[str, Any] = {
    "version": 1,
    **every_field(Plan),
    "runs": [{**every_field(RunSpec), "redrives": "", "start_s": 0, "inputs": {}}],
    "cancels": [{"target": "run", "run": "id", "at_s": 1, "times": 1, "gap_s": 0}],
    "faults": [every_field(Fault)],
    "layers": [every_field(Layer)],
    "sink": every_field(Sink),
    "consumer": every_field(Consumer),
}


@settings(max_examples=150)
@given(st.data())
def test_whatever_json_is_given_for_a_plan(data: st.DataObject) -> None:
    good = data.draw(plans().map(lambda p: through_json(p.to_json())) | st.just(FULL_PLAN))
    for _ in range(data.draw(st.integers(1, 3))):
        good = data.draw(st.composite(spoilt)(good))
    refused_in_one_line(Plan.from_json, good)


@settings(max_examples=150)
@given(st.data())
def test_whatever_json_is_given_for_a_program(data: st.DataObject) -> None:
    good = data.draw(programs().map(lambda p: through_json(p.to_json())))
    for _ in range(data.draw(st.integers(1, 3))):
        good = data.draw(st.composite(spoilt)(good))
    refused_in_one_line(Program.from_json, good)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"runs": [{"id": {}}]}, "plan.runs[0].id: expected a text, got {}"),
        ({"cancels": [{"at_point": "x"}]}, "plan.cancels[0].at_point: expected a whole number"),
        ({"cancels": [{"at_s": 1, "run": []}]}, "plan.cancels[0].run: expected a text"),
        ({"faults": [{"tool": "t", "error": {}}]}, "plan.faults[0].error: expected a text"),
        ({"faults": [{"tool": "t", "nth": True}]}, "plan.faults[0].nth: expected a whole number"),
        ({"layers": [{"kind": [], "name": "x"}]}, "plan.layers[0].kind: expected a text"),
        (
            {"layers": [{"kind": "raise", "name": "x", "stages": [1]}]},
            "plan.layers[0].stages: expected a list of texts, got [1]",
        ),
        ({"sink": {"queue_max": 1.5}}, "plan.sink.queue_max: expected a whole number, got 1.5"),
        ({"stage_timeout_s": 10**400}, "plan.stage_timeout_s: expected at most 1e+300 s"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(data: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Plan.from_json(data)
    assert str(caught.value).startswith(says)


def test_a_program_nested_without_end_is_refused() -> None:
    inner: list[Any] = []
    for _ in range(100_000):
        inner = [{"op": "timeout", "label": "t", "seconds": 1, "steps": inner}]
    with pytest.raises(InputError) as caught:
        Program.from_json({"stages": [{"name": "a", "steps": inner}]})
    assert str(caught.value) == "program: its steps or values are nested too deeply"
    while inner:  # so that the test's own data can be freed without recursion
        inner = inner[0].pop("steps")
