"""W3C trace context: the spans of a run as one tree under its caller's."""

from __future__ import annotations

from dataclasses import replace

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan, RunSpec
from scenarios.correlation.ids import asked, journey, traceparent
from scenarios.notation import ok, program, raises, sleep, stage, subpipeline

__all__ = ["SPANS"]

DEEP = program(
    "outer",
    stage(
        "delegate",
        subpipeline(
            program(
                "middle",
                stage(
                    "delegate_again",
                    subpipeline(
                        program(
                            "inner",
                            stage("work", sleep(0.1, 0.0), ok("worked")),
                        )
                    ),
                    ok("done"),
                ),
            )
        ),
        ok("done"),
    ),
)

TREE = program(
    "tree",
    stage("a", sleep(0.1, 0.0), ok("a")),
    stage("b", sleep(0.0, 0.1), ok("b"), needs="a"),
    stage("c", sleep(0.1, 0.0), ok("c"), needs="a"),
    stage("d", ok("d"), needs="b c"),
)

# What callers send: in order, without the sampled flag, with the flag of level 2, then headers
# that break the rules, each in another way.
HEADERS = (
    traceparent(1),
    traceparent(2, flags="00"),
    traceparent(3, flags="03"),
    "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
    "00-4bf92f3577b34da6-00f067aa0ba902b7-01",
    "no header at all",
)

SPANS: tuple[Scenario, ...] = (
    Scenario(
        id="correlation/spans",
        title="The spans of one run",
        program=TREE,
        plan=Plan(runs=asked(1, traced=True)),
        clauses=("CORR-2",),
        tests=("CORRELATION/spans",),
        purpose="Four stages in a diamond: spans under the run's, which is under the caller's.",
        category="baseline",
        fires=("stage.end",),
    ),
    Scenario(
        id="correlation/spans_without_a_caller",
        title="Runs whose callers are not traced",
        program=TREE,
        plan=Plan(runs=(*asked(3), replace(asked(4, traced=True)[3], start_s=0.0))),
        clauses=("CORR-2", "CORR-3"),
        purpose="Three runs begin traces of their own beside one that has its caller's.",
        fires=("stage.end",),
    ),
    Scenario(
        id="correlation/spans_of_child_runs",
        title="Spans across child runs",
        program=DEEP,
        plan=Plan(runs=asked(5, traced=True)),
        clauses=("CORR-2", "CORR-3"),
        tests=("CORRELATION/spans_of_child_runs",),
        purpose="Child runs within child runs: each is under the stage that runs it.",
        fires=("sub.end",),
    ),
    Scenario(
        id="correlation/spans_of_fifty_runs",
        title="The spans of fifty concurrent runs",
        program=journey("spans_of_fifty_runs"),
        plan=Plan(runs=asked(50, traced=True, marked=True)),
        clauses=("CORR-2", "CORR-3", "CORR-1"),
        tests=("CORRELATION/spans_of_fifty_runs",),
        purpose="Fifty runs with five stages and a child run each, every one in its own trace.",
        fires=("identity", "sub.end"),
    ),
    Scenario(
        id="correlation/spans_of_failing_runs",
        title="The spans of runs that fail",
        program=program(
            "spans_of_failing_runs",
            stage("a", sleep(0.1, 0.0), ok("a")),
            stage("b", sleep(0.1, 0.0), raises("ValueError", "b failed"), needs="a"),
            stage("c", sleep(1.0), ok("c"), needs="a"),
        ),
        plan=Plan(runs=asked(5, traced=True)),
        clauses=("CORR-2", "CORR-3"),
        purpose="A stage fails and its sibling is stopped: both have had a span.",
        category="chaos",
        fires=("interrupt",),
    ),
    Scenario(
        id="correlation/headers",
        title="Headers that callers should not send",
        program=TREE,
        plan=Plan(
            runs=tuple(
                RunSpec(f"r{i}", start_s=i / 20, correlation=f"corr-{i:03d}", traceparent=header)
                for i, header in enumerate(HEADERS)
            )
        ),
        clauses=("CORR-2", "CORR-3"),
        tests=("CORRELATION/headers",),
        purpose="Ten callers send a header each, seven of them one that breaks the rules: such a "
        "header is ignored and fails no run.",
        category="chaos",
        fires=("stage.end",),
    ),
)
