"""Circuit breakers: what opens them, whom that concerns, and that a refusal is no success.

All of them ask for five failures and thirty seconds: so many engines have, and cannot change.
"""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Fault, Layer, Plan, RunSpec
from harness.kernel.program import Program
from scenarios.notation import call, ok, program, sleep, stage

__all__ = ["BREAKER", "breaker", "spread"]

THRESHOLD = 5
RESET_S = 30.0


def breaker(*stages: str) -> Layer:
    options = {"threshold": THRESHOLD, "reset_s": RESET_S}
    return Layer("circuit_breaker", "breaker", stages=stages, options=options)


def spread(count: int, *, tenant: str = "t0", first: int = 0, at_s: float = 0.0) -> list[RunSpec]:
    """Return runs one after the other, a second apart."""
    return [RunSpec(f"r{first + i}", tenant=tenant, start_s=at_s + i) for i in range(count)]


def remote(name: str) -> Program:
    return program(
        name,
        stage("read", sleep(0.1, 0.0), ok("order")),
        stage("pay", call("bank", (0.1, 0.0)), ok("paid"), needs="read"),
        stage("ship", ok("shipped"), needs="pay"),
    )


FAILING = (Fault("bank", error="RuntimeError"),)

BREAKER: tuple[Scenario, ...] = (
    Scenario(
        id="middleware/open_circuit",
        title="A stage that keeps failing is cut off",
        program=remote("open_circuit"),
        plan=Plan(runs=tuple(spread(8)), faults=FAILING, layers=(breaker("pay"),)),
        clauses=("GRAPH-5", "GRAPH-2", "CANCEL-7"),
        purpose="Five runs fail at one stage; three more find its circuit open: no success.",
        category="baseline",
        fires=("fault.fired",),
    ),
    Scenario(
        id="middleware/open_circuit_under_load",
        title="An open circuit and many runs at once",
        program=remote("open_circuit_under_load"),
        plan=Plan(
            runs=(*spread(5), *(RunSpec(f"r{5 + i}", start_s=10.0) for i in range(20))),
            faults=FAILING,
            layers=(Layer("observe", "watch"), breaker("pay")),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Twenty runs at once find the circuit open that five failures have opened.",
        fires=("fault.fired",),
    ),
    Scenario(
        id="middleware/circuit_closes",
        title="A circuit lets a stage run again when its time is over",
        program=remote("circuit_closes"),
        plan=Plan(
            runs=(*spread(5), *spread(2, first=5, at_s=6.0), *spread(3, first=7, at_s=60.0)),
            layers=(
                breaker("pay"),
                Layer("raise", "crash", stages=("pay",), runs=tuple(f"r{i}" for i in range(5))),
            ),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Five failures open the circuit; a minute later the stage works, and has to run.",
        category="chaos",
        fires=("layer.raise",),
    ),
    Scenario(
        id="middleware/circuit_and_cancels",
        title="Cancelled runs open no circuit",
        program=remote("circuit_and_cancels"),
        plan=Plan(
            runs=tuple(spread(8)),
            cancels=tuple(Cancel(run=f"r{i}", at_s=i + 0.15) for i in range(6)),
            layers=(breaker("pay"),),
        ),
        clauses=("GRAPH-5", "CANCEL-3"),
        purpose="Six runs are cancelled by their callers in the wrapped stage; two more must run.",
        category="chaos",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="middleware/circuit_and_denials",
        title="Denials open no circuit",
        program=remote("circuit_and_denials"),
        plan=Plan(
            runs=tuple(spread(8)),
            layers=(
                breaker("pay"),
                Layer("deny", "guard", stages=("pay",), runs=tuple(f"r{i}" for i in range(6))),
            ),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="A guard within the breaker denies six runs; two that it lets pass must run.",
        category="chaos",
        fires=("layer.deny",),
    ),
    Scenario(
        id="middleware/circuit_of_one_stage",
        title="The circuit of one stage is not that of another",
        program=program(
            "circuit_of_one_stage",
            stage("pay", call("bank", (0.1, 0.0)), ok("paid")),
            stage("notify", sleep(0.2), ok("notified")),
        ),
        plan=Plan(
            runs=tuple(spread(8)), faults=FAILING, layers=(breaker(),), on_failure="continue"
        ),
        clauses=("GRAPH-5", "CLEAN-5"),
        purpose="One stage fails again and again; another under the same breaker never does.",
        fires=("fault.fired",),
    ),
    Scenario(
        id="middleware/circuit_of_one_tenant",
        title="The circuit of one tenant is not that of another",
        program=remote("circuit_of_one_tenant"),
        plan=Plan(
            runs=(*spread(7), *spread(2, tenant="t1", first=7, at_s=8.0)),
            faults=FAILING,
            layers=(breaker("pay"),),
        ),
        clauses=("TENANT-2", "GRAPH-5", "GRAPH-2"),
        purpose="One tenant's runs fail until its circuit opens; another tenant's still run.",
        fires=("fault.fired",),
    ),
)
