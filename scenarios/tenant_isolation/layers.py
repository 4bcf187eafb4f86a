"""State that the engine keeps between runs: one tenant's trouble must stay its own."""

from __future__ import annotations

from collections.abc import Iterator

from harness.contract.scenario import Scenario
from harness.kernel.plan import Layer, Plan, RunSpec
from harness.kernel.program import Program
from scenarios.notation import call, given, ok, program, raises, sleep, stage

__all__ = ["LAYERS"]


def shop(name: str) -> Program:
    return program(
        name,
        stage("read", given(), sleep(0.1, 0.0), ok("order of $marker")),
        stage("pay", given(), call("bank", (0.1, 0.0)), ok("paid by $marker"), needs="read"),
        stage("ship", given(), ok("shipped to $marker"), needs="pay"),
    )


def of(tenant: str, count: int, *, at_s: float, apart_s: float = 0.3) -> Iterator[RunSpec]:
    """Yield runs of one tenant, some time apart, each with a marker of its own."""
    for i in range(count):
        yield RunSpec(
            f"{tenant}{i}",
            tenant,
            round(at_s + i * apart_s, 3),
            inputs={"marker": f"marker-{tenant}-{i:02d}"},
        )


BREAKER = Layer("circuit_breaker", "breaker", ("pay",), options={"threshold": 5, "reset_s": 30.0})

LAYERS: tuple[Scenario, ...] = (
    Scenario(
        id="tenant_isolation/breaker",
        title="One tenant's failures and another tenant's stage",
        program=shop("breaker"),
        plan=Plan(
            runs=(*of("north", 6, at_s=0.0), *of("south", 3, at_s=3.0)),
            layers=(
                BREAKER,
                Layer("raise", "outage", ("pay",), runs=tuple(f"north{i}" for i in range(6))),
            ),
        ),
        clauses=("TENANT-2", "TENANT-1"),
        tests=("TENANT-ISOLATION/circuit_breaker",),
        purpose="Six runs of one tenant fail at a stage, enough to open its circuit; three runs of "
        "another tenant come to the same stage.",
        fires=("layer.raise",),
    ),
    Scenario(
        id="tenant_isolation/breaker_of_a_failing_stage",
        title="A stage that fails for everyone, by tenant",
        program=program(
            "breaker_of_a_failing_stage",
            stage("read", given(), sleep(0.1, 0.0), ok("order of $marker")),
            stage("pay", sleep(0.1, 0.0), raises("RuntimeError", "no bank"), needs="read"),
        ),
        plan=Plan(
            runs=(*of("north", 7, at_s=0.0), *of("south", 3, at_s=3.0), *of("west", 1, at_s=4.0)),
            layers=(BREAKER,),
        ),
        clauses=("TENANT-2",),
        purpose="Seven failures of one tenant open its circuit; two others fail less often, and "
        "their stages are to be tried each time.",
        fires=("stage.end",),
    ),
    Scenario(
        id="tenant_isolation/breaker_mixed",
        title="Two tenants' failures in turns",
        program=shop("breaker_mixed"),
        plan=Plan(
            runs=tuple(
                sorted(
                    (
                        *of("north", 3, at_s=0.0, apart_s=1.0),
                        *of("south", 5, at_s=0.5, apart_s=1.0),
                        *of("west", 2, at_s=6.0),
                    ),
                    key=lambda run: run.start_s,
                )
            ),
            layers=(
                BREAKER,
                Layer(
                    "raise",
                    "outage",
                    ("pay",),
                    runs=("north0", "north1", "north2", "south0", "south1"),
                ),
            ),
        ),
        clauses=("TENANT-2",),
        purpose="Three failures of one tenant and two of another, in turns: five together, but "
        "too few of either.",
        category="chaos",
        fires=("layer.raise",),
    ),
    Scenario(
        id="tenant_isolation/rate_limit",
        title="One tenant's load and another tenant's stage",
        program=shop("rate_limit"),
        plan=Plan(
            runs=(*of("north", 6, at_s=0.0, apart_s=0.1), *of("south", 2, at_s=1.0)),
            layers=(
                Layer("rate_limit", "quota", ("pay",), options={"limit": 5, "window_s": 30.0}),
            ),
        ),
        clauses=("TENANT-2",),
        tests=("TENANT-ISOLATION/rate_limit",),
        purpose="One tenant uses up its quota of a stage; another tenant comes within its own.",
    ),
    Scenario(
        id="tenant_isolation/idempotency",
        title="Two tenants under one idempotency key",
        program=shop("idempotency"),
        plan=Plan(
            runs=(*of("north", 2, at_s=0.0, apart_s=2.0), *of("south", 2, at_s=1.0, apart_s=2.0)),
            layers=(Layer("idempotency", "once", ("pay",), options={"key": "order-1"}),),
        ),
        clauses=("TENANT-2", "TENANT-1"),
        tests=("TENANT-ISOLATION/idempotency",),
        purpose="Two tenants happen to use the same key; each stage is to run for its own.",
        category="baseline",
    ),
    Scenario(
        id="tenant_isolation/idempotency_at_once",
        title="Two tenants under one idempotency key, at the same time",
        program=shop("idempotency_at_once"),
        plan=Plan(
            runs=(*of("north", 3, at_s=0.0, apart_s=0.0), *of("south", 3, at_s=0.0, apart_s=0.0)),
            layers=(Layer("idempotency", "once", ("pay",), options={"key": "order-1"}),),
        ),
        clauses=("TENANT-2", "TENANT-1"),
        purpose="Six runs of two tenants come to a stage at once, under the same key.",
        category="chaos",
    ),
)
