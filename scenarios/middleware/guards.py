"""Layers of the user's: their order, and what becomes of a stage when one fails or denies."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec
from harness.kernel.program import Program
from scenarios.notation import (
    acquire,
    fail,
    ok,
    program,
    raises,
    sleep,
    stage,
)

__all__ = ["GUARDS"]

WATCH = Layer("observe", "watch")
TRACE = Layer("observe", "trace")
CRASH = Layer("raise", "crash", stages=("pay",), error="RuntimeError")
LATE = Layer("raise", "late", stages=("pay",), phase="after", error="OSError")
GUARD = Layer("deny", "guard", stages=("pay",))


def order(name: str) -> Program:
    """An order that is paid and shipped; nothing may be shipped that was not paid for."""
    return program(
        name,
        stage("read", sleep(0.1, 0.0), ok("order")),
        stage("pay", sleep(0.1, 0.0), ok("paid"), needs="read"),
        stage("ship", sleep(0.1, 0.0), ok("shipped"), needs="pay"),
    )


GUARDS: tuple[Scenario, ...] = (
    Scenario(
        id="middleware/order",
        title="Three layers around two stages",
        program=program(
            "order",
            stage("read", sleep(0.1, 0.0), ok("order")),
            stage("pay", sleep(0.1, 0.0), ok("paid"), needs="read"),
        ),
        plan=Plan(layers=(WATCH, Layer("observe", "inner", stages=("pay",)), TRACE)),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Layers are entered from the outermost to the innermost, and left backwards.",
        category="baseline",
        fires=("layer.enter", "layer.exit"),
    ),
    Scenario(
        id="middleware/order_when_the_stage_fails",
        title="Layers around a stage that fails",
        program=program(
            "order_when_the_stage_fails",
            stage("read", sleep(0.1, 0.0), ok("order")),
            stage("pay", sleep(0.1, 0.0), raises("ValueError", "no funds"), needs="read"),
            stage("report", sleep(0.1), fail("no paper")),
        ),
        plan=Plan(layers=(WATCH, TRACE)),
        clauses=("GRAPH-5", "PART-4"),
        purpose="Layers that look on are passed in order whatever the stage does.",
        fires=("layer.enter",),
    ),
    Scenario(
        id="middleware/failing_layer",
        title="A layer fails before its stage",
        program=order("failing_layer"),
        plan=Plan(layers=(WATCH, CRASH, TRACE)),
        clauses=("GRAPH-5", "CLEAN-5"),
        purpose="A layer raises where it should let the stage run: the stage must not run.",
        tests=("CONTEXT-UNIFICATION/failing_layer",),
        fires=("layer.raise",),
    ),
    Scenario(
        id="middleware/failing_layer_goes_on",
        title="A layer fails, and independent stages go on",
        program=program(
            "failing_layer_goes_on",
            stage("pay", sleep(0.1), ok("paid")),
            stage("ship", ok("shipped"), needs="pay"),
            stage("report", sleep(0.2), ok("report")),
        ),
        plan=Plan(layers=(CRASH,), on_failure="continue"),
        clauses=("GRAPH-5",),
        purpose="Where a failure stops nobody else, it must still stop what needs its stage.",
        fires=("layer.raise",),
    ),
    Scenario(
        id="middleware/failing_layer_after",
        title="A layer fails after its stage",
        program=order("failing_layer_after"),
        plan=Plan(layers=(WATCH, LATE, TRACE)),
        clauses=("GRAPH-5", "GRAPH-2", "CLEAN-5"),
        purpose="A layer raises after the stage has run (an audit that cannot be written, say).",
        fires=("layer.raise",),
    ),
    Scenario(
        id="middleware/guard",
        title="A guard denies",
        program=program(
            "guard",
            stage("read", sleep(0.1, 0.0), ok("order")),
            stage("reserve", acquire("stock", 0.1), sleep(1.0, 0.1), ok("reserved")),
            stage("pay", sleep(0.1, 0.0), ok("paid"), needs="read"),
            stage("ship", sleep(0.1, 0.0), ok("shipped"), needs="pay reserve"),
        ),
        plan=Plan(layers=(WATCH, GUARD)),
        clauses=("GRAPH-5", "CLEAN-1", "CLEAN-5"),
        purpose="A guard denies a stage in the midst of a pipeline: it and what needs it stay out.",
        tests=("CONTEXT-UNIFICATION/guard_denies",),
        category="baseline",
        fires=("layer.deny",),
    ),
    Scenario(
        id="middleware/guard_within_failing_layer",
        title="A guard within a layer that fails",
        program=order("guard_within_failing_layer"),
        plan=Plan(layers=(CRASH, WATCH, GUARD)),
        clauses=("GRAPH-5",),
        purpose="A layer fails further out than the guard: that must not open the way past it.",
        tests=("CONTEXT-UNIFICATION/guard_within_failing_layer",),
        category="chaos",
        fires=("layer.raise",),
    ),
    Scenario(
        id="middleware/guard_around_failing_layer",
        title="A guard around a layer that fails in other runs",
        program=order("guard_around_failing_layer"),
        plan=Plan(
            runs=(RunSpec("r0"), RunSpec("r1"), RunSpec("r2", start_s=1.0)),
            layers=(
                Layer("deny", "guard", stages=("pay",), runs=("r0",)),
                Layer("raise", "crash", stages=("pay",), runs=("r1",)),
                WATCH,
            ),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Of three runs one is denied, in one a layer fails, and the third has to run.",
        category="chaos",
        fires=("layer.raise", "layer.deny"),
    ),
    Scenario(
        id="middleware/guard_denies_one_run",
        title="A guard denies some of many concurrent runs",
        program=order("guard_denies_one_run"),
        plan=Plan(
            runs=tuple(RunSpec(f"r{i}", tenant=f"t{i % 2}") for i in range(10)),
            layers=(
                WATCH,
                Layer("deny", "guard", stages=("pay",), runs=("r1", "r4", "r7")),
                TRACE,
            ),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Ten runs of one pipeline object at once, three of which a guard denies.",
        fires=("layer.deny",),
    ),
    Scenario(
        id="middleware/layers_cancelled_anywhere",
        title="The caller cancels anywhere in the layers",
        program=program(
            "layers_cancelled_anywhere",
            stage("read", acquire("file", 0.1), sleep(0.1), ok("order")),
            stage("pay", acquire("connection", 0.1), sleep(0.1), ok("paid"), needs="read"),
        ),
        plan=Plan(
            runs=(RunSpec("r0"), RunSpec("r1", start_s=20.0)),
            layers=(WATCH, TRACE),
            cancels=(Cancel(at_point=-1),),
        ),
        clauses=("GRAPH-5", "CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="A cancel lands at each point of a run with layers; a later run goes as ever.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
)
