"""Idempotency: that only success is kept, for whom and for what, and that it is run once."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Fault, Layer, Plan, RunSpec
from harness.kernel.program import Program
from scenarios.middleware.breaker import breaker, spread
from scenarios.notation import call, ok, program, sleep, stage

__all__ = ["IDEMPOTENCY"]


def once(*stages: str) -> Layer:
    return Layer("idempotency", "once", stages=stages, options={"key": "order-1"})


def payment(name: str) -> Program:
    return program(
        name,
        stage("read", sleep(0.1, 0.0), ok("order")),
        stage("pay", sleep(0.3, 0.1), ok("paid"), needs="read"),
        stage("ship", sleep(0.1, 0.0), ok("shipped"), needs="pay"),
    )


ONE_AFTER_ANOTHER = (RunSpec("r0"), RunSpec("r1", start_s=2.0), RunSpec("r2", start_s=4.0))

IDEMPOTENCY: tuple[Scenario, ...] = (
    Scenario(
        id="middleware/same_key",
        title="The same key again",
        program=payment("same_key"),
        plan=Plan(runs=ONE_AFTER_ANOTHER, layers=(once("pay"),)),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Three runs, one after another, under one key: the stage runs in the first only.",
        category="baseline",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/same_key_at_once",
        title="The same key many times at once",
        program=payment("same_key_at_once"),
        plan=Plan(
            runs=(*(RunSpec(f"r{i}") for i in range(6)), RunSpec("r6", start_s=2.0)),
            layers=(once("pay"),),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Six runs at once under one key, and one later: the stage runs once.",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/key_of_two_stages",
        title="One key around two stages",
        program=payment("key_of_two_stages"),
        plan=Plan(runs=ONE_AFTER_ANOTHER, layers=(Layer("observe", "watch"), once())),
        clauses=("GRAPH-5",),
        purpose="Three stages under one key: none may be answered for with another's output.",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/key_of_two_tenants",
        title="One key of two tenants",
        program=payment("key_of_two_tenants"),
        plan=Plan(
            runs=(
                RunSpec("r0", tenant="t0"),
                RunSpec("r1", tenant="t1", start_s=0.2),
                RunSpec("r2", tenant="t1", start_s=2.0),
                RunSpec("r3", tenant="t2", start_s=4.0),
            ),
            layers=(once("pay"),),
        ),
        clauses=("TENANT-2", "GRAPH-5", "GRAPH-2"),
        purpose="Three tenants happen to use the same key, at once and one after another.",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/failure_under_a_key",
        title="What failed under a key is not kept",
        program=program(
            "failure_under_a_key",
            stage("pay", call("bank", (0.2, 0.0)), ok("paid")),
            stage("ship", ok("shipped"), needs="pay"),
        ),
        plan=Plan(
            runs=(*ONE_AFTER_ANOTHER, RunSpec("r3", start_s=4.0)),
            faults=(Fault("bank", error="OSError"),),
            layers=(once("pay"),),
        ),
        clauses=("GRAPH-5", "PART-4"),
        purpose="A stage fails each time; no later run under the key is told that it succeeded.",
        category="chaos",
        fires=("fault.fired",),
    ),
    Scenario(
        id="middleware/layer_failure_under_a_key",
        title="What a layer failed over is not kept",
        program=payment("layer_failure_under_a_key"),
        plan=Plan(
            runs=ONE_AFTER_ANOTHER,
            layers=(
                Layer("raise", "audit", stages=("pay",), phase="after", runs=("r0",)),
                once("pay"),
                Layer("raise", "crash", stages=("pay",), runs=("r1",)),
            ),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="A layer around the key fails after the stage had run, then one within it before.",
        category="chaos",
        fires=("layer.raise",),
    ),
    Scenario(
        id="middleware/denial_under_a_key",
        title="What was denied under a key is not kept",
        program=payment("denial_under_a_key"),
        plan=Plan(
            runs=ONE_AFTER_ANOTHER,
            layers=(once("pay"), Layer("deny", "guard", stages=("pay",), runs=("r0", "r1"))),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="A guard within the key denies two runs; the third must run the stage itself.",
        category="chaos",
        fires=("layer.deny",),
    ),
    Scenario(
        id="middleware/cancel_under_a_key",
        title="What was cancelled under a key is not kept",
        program=payment("cancel_under_a_key"),
        plan=Plan(
            runs=(RunSpec("r0"), RunSpec("r1", start_s=0.2), RunSpec("r2", start_s=3.0)),
            cancels=(Cancel(run="r0", at_point=-1),),
            layers=(once("pay"),),
        ),
        clauses=("GRAPH-5", "CANCEL-3", "CLEAN-5"),
        purpose="The first run under a key is cancelled at each point, while a second waits.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="middleware/timeout_under_a_key",
        title="What timed out under a key is not kept",
        program=program(
            "timeout_under_a_key",
            stage("pay", sleep(1.0, 0.5, 0.4), ok("paid"), timeout_s=0.5),
            stage("ship", ok("shipped"), needs="pay"),
        ),
        plan=Plan(runs=ONE_AFTER_ANOTHER, layers=(once("pay"),)),
        clauses=("GRAPH-5", "TIME-1", "TIME-2"),
        purpose="A stage outlives its timeout, or ends in its very tick, under a key.",
        category="chaos",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/open_circuit_under_a_key",
        title="A refusal under a key is not kept",
        program=program(
            "open_circuit_under_a_key",
            stage("pay", call("bank", (0.1, 0.0)), ok("paid")),
            stage("ship", ok("shipped"), needs="pay"),
        ),
        plan=Plan(
            runs=(*spread(7), *spread(1, first=7, at_s=60.0)),
            faults=(Fault("bank", error="RuntimeError"),),
            layers=(once("pay"), breaker("pay")),
        ),
        clauses=("GRAPH-5", "CANCEL-7"),
        purpose="The breaker within a key refuses two runs; that must not be kept as their output.",
        category="chaos",
        fires=("fault.fired",),
    ),
)
