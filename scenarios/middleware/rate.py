"""Rate limits: that more than twice the limit never runs, and whom a limit concerns."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Layer, Plan, RunSpec
from harness.kernel.program import Program
from scenarios.notation import ok, program, sleep, stage

__all__ = ["RATE"]

LIMIT = Layer("rate_limit", "limit", stages=("search",), options={"limit": 2, "window_s": 10.0})
START = Layer("rate_limit", "limit", options={"limit": 2, "window_s": 10.0})


def search(name: str) -> Program:
    return program(
        name,
        stage("search", sleep(0.1, 0.0), ok("hits")),
        stage("answer", sleep(0.1), ok("answer"), needs="search"),
    )


RATE: tuple[Scenario, ...] = (
    Scenario(
        id="middleware/rate_limit",
        title="More runs than a rate limit allows",
        program=search("rate_limit"),
        plan=Plan(
            runs=tuple(RunSpec(f"r{i}", start_s=0.5 * (i // 4)) for i in range(8)),
            layers=(LIMIT,),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Eight runs within half a second, of which two may run a stage in ten seconds.",
        category="baseline",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/rate_limit_passes",
        title="A rate limit is over when its window is",
        program=search("rate_limit_passes"),
        plan=Plan(
            runs=(
                *(RunSpec(f"r{i}") for i in range(6)),
                RunSpec("r6", start_s=30.0),
                RunSpec("r7", start_s=30.5),
            ),
            layers=(LIMIT,),
        ),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="A burst uses the limit up; two runs thirty seconds later have to be let through.",
        category="chaos",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/rate_limit_of_one_tenant",
        title="The rate limit of one tenant is not that of another",
        program=search("rate_limit_of_one_tenant"),
        plan=Plan(
            runs=(
                *(RunSpec(f"r{i}", tenant="t0") for i in range(6)),
                RunSpec("r6", tenant="t1", start_s=0.2),
                RunSpec("r7", tenant="t2", start_s=0.2),
            ),
            layers=(LIMIT,),
        ),
        clauses=("TENANT-2", "GRAPH-5", "GRAPH-2"),
        purpose="One tenant uses its limit up in a burst; two others come right after it.",
        fires=("stage.start",),
    ),
    Scenario(
        id="middleware/rate_limit_of_one_stage",
        title="The rate limit of one stage is not that of another",
        program=search("rate_limit_of_one_stage"),
        plan=Plan(runs=(RunSpec("r0"), RunSpec("r1", start_s=0.2)), layers=(START,)),
        clauses=("GRAPH-5", "GRAPH-2"),
        purpose="Two runs of two stages each stay within a limit of two for each stage.",
        fires=("stage.start",),
    ),
)
