"""Context: what a stage is handed, whoever runs it, and that siblings cannot change it."""

from __future__ import annotations

from harness.contract.scenario import Pack, Scenario
from harness.kernel.plan import Plan
from scenarios.context.mission import CONTEXT_UNIFICATION
from scenarios.notation import context, mutate, ok, program, read, sleep, stage

__all__ = ["PACK"]

SCENARIOS: tuple[Scenario, ...] = (
    Scenario(
        id="context/entry_points",
        title="What the context offers",
        program=program(
            "entry_points",
            stage("first", context(), sleep(0.1), ok("first")),
            stage("second", context(), ok("second"), needs="first"),
        ),
        plan=Plan(),
        clauses=("CTX-1",),
        tests=("CONTEXT-UNIFICATION/entry_points",),
        purpose="Two stages note what their context offers; a stage run directly is the measure.",
        category="baseline",
        fires=("context",),
    ),
    Scenario(
        id="context/changed_mapping",
        title="A stage changes a mapping that its sibling reads",
        program=program(
            "changed_mapping",
            stage("fetch", sleep(0.1), ok({"rows": [1, 2, 3]})),
            stage("rogue", mutate("fetch"), ok("changed"), needs="fetch"),
            stage("reader", sleep(0.1, 0.0), read("fetch"), ok("read"), needs="fetch"),
        ),
        plan=Plan(),
        clauses=("CTX-2",),
        tests=("CONTEXT-UNIFICATION/changed_mapping",),
        purpose="One stage changes the output that it was given; another reads it later.",
        fires=("mutated", "read"),
    ),
    Scenario(
        id="context/changed_list",
        title="A stage changes a list that a later stage reads",
        program=program(
            "changed_list",
            stage("fetch", sleep(0.1), ok([1, 2, 3])),
            stage("rogue", mutate("fetch"), ok("changed"), needs="fetch"),
            stage("reader", read("fetch"), ok("read"), needs="fetch rogue"),
        ),
        plan=Plan(),
        clauses=("CTX-2",),
        tests=("CONTEXT-UNIFICATION/changed_list",),
        purpose="A stage appends to the list that it was given; the next stage reads it.",
        fires=("mutated", "read"),
    ),
)

PACK = Pack(
    id="context",
    title="What a stage is handed",
    page=(
        "Does a stage find the same timer, data, ids and inputs whichever entry point runs it, "
        "and can one stage change what another reads?"
    ),
    scenarios=SCENARIOS,
    missions=(CONTEXT_UNIFICATION,),
)
