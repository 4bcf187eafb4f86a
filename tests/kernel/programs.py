"""Hypothesis strategies for steps, programs and plans, drawn from the language's own table."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from harness.kernel.plan import LAYER_KINDS, Cancel, Consumer, Fault, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program, Retry, Stage
from harness.kernel.steps import ERRORS, OPS, Field, Step, parse_step

__all__ = ["plans", "programs", "steps"]

DEPTH_MAX = 2

seconds = st.floats(0, 86_400, allow_nan=False) | st.integers(0, 86_400)
names = st.text(min_size=1, max_size=8)
retries = st.builds(
    Retry, st.integers(1, 1_000), st.floats(0, 86_400), st.floats(1, 1_000), st.floats(0, 9)
)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


def _value(field: Field, depth: int) -> st.SearchStrategy[Any]:
    match field.shape:
        case "duration":
            some = seconds | st.lists(seconds, min_size=1, max_size=3)
            return some if field.default is not None else st.none() | some
        case "count":
            return st.integers(0, 10_000)
        case "flag":
            return st.booleans()
        case "name":
            return names
        case "text":
            return st.text(max_size=8)
        case "choice":
            return st.sampled_from(field.choices)
        case "error":
            some = st.sampled_from(ERRORS)
            return some if field.default is not None else st.none() | some
        case "block":
            return st.lists(steps(depth + 1), max_size=2)
        case "blocks":
            return st.lists(st.lists(steps(depth + 1), max_size=1), max_size=2)
        case "program":
            return programs(depth + 1)
        case _:
            return plain


@st.composite
def steps(draw: st.DrawFn, depth: int = 0) -> Step:
    deep = {"block", "blocks", "program"}
    ops = [
        op
        for op, spec in OPS.items()
        if depth < DEPTH_MAX or not any(f.shape in deep for f in spec.fields.values())
    ]
    op = draw(st.sampled_from(ops))
    data: dict[str, Any] = {"op": op}
    for name, field in OPS[op].fields.items():
        if field.required or draw(st.booleans()):
            data[name] = draw(_value(field, depth))
    return parse_step(data, where=op)


@st.composite
def programs(draw: st.DrawFn, depth: int = 0) -> Program:
    limits = st.none() | st.floats(-5, 5) | st.integers(-5, 5)
    stages = st.builds(
        Stage,
        names,
        st.lists(steps(depth), max_size=3).map(tuple),
        st.lists(names, max_size=2).map(tuple),
        limits,
        limits,
        st.none() | retries,
    )
    return Program(tuple(draw(st.lists(stages, max_size=3))), draw(st.text(max_size=5)))


moments = st.floats(0, 1e6)
some_names = st.lists(names, max_size=2).map(tuple)
sinks = st.builds(
    Sink,
    moments,
    st.none() | st.sampled_from(ERRORS),
    st.integers(1, 9),
    st.none() | st.integers(1, 9),
    st.none() | st.integers(1, 1_000),
    st.sampled_from(["", "block", "drop_newest", "drop_oldest", "spill"]),
    moments,
)
consumers = st.builds(
    Consumer, names, moments, st.none() | st.integers(0, 9), st.integers(1, 1_000)
)
layers = st.builds(
    Layer,
    st.sampled_from(sorted(LAYER_KINDS)),
    names,
    some_names,
    st.sampled_from(["before", "after"]),
    st.sampled_from(ERRORS),
    some_names,
    st.dictionaries(st.text(max_size=3), plain, max_size=2),
)


@st.composite
def runs(draw: st.DrawFn, ids: list[str]) -> tuple[RunSpec, ...]:
    inputs = st.dictionaries(st.text(max_size=3), plain, max_size=2)
    return tuple(
        draw(
            st.builds(
                RunSpec,
                st.just(one),
                names,
                moments,
                inputs,
                st.text(max_size=3),
                st.text(max_size=3),
                st.sampled_from(["", *ids[:i]]),
            )
        )
        for i, one in enumerate(ids)
    )


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    ids = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    at_s = st.builds(
        Cancel, run=st.sampled_from(ids), at_s=moments, times=st.integers(1, 9), gap_s=moments
    )
    at_point = st.builds(Cancel, run=st.sampled_from(ids), at_point=st.integers(-1, 900))
    return Plan(
        runs=draw(runs(ids)),
        stage_timeout_s=draw(st.none() | st.floats(-5, 50)),
        cleanup_grace_s=draw(st.floats(0, 1e6)),
        on_failure=draw(st.sampled_from(["cancel", "continue"])),
        cancels=tuple(draw(st.lists(at_s | at_point, max_size=3))),
        faults=tuple(
            draw(
                st.lists(
                    st.builds(
                        Fault, names, st.integers(1, 9), st.sampled_from(ERRORS), st.booleans()
                    ),
                    max_size=2,
                )
            )
        ),
        horizon_s=draw(st.floats(0, 1e7)),
        steps_max=draw(st.integers(1, 10**8)),
        sink=draw(st.none() | sinks),
        consumer=draw(st.none() | consumers),
        layers=tuple(draw(st.lists(layers, max_size=2))),
        options=draw(st.dictionaries(st.text(max_size=3), plain, max_size=2)),
    )
