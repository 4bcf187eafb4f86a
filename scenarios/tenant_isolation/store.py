"""The store: what one tenant's session can get at by itself, whatever the engine forgets."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.program import Program
from harness.kernel.steps import Step
from scenarios.notation import given, ok, program, put, sleep, stage, trespass
from scenarios.tenant_isolation.channels import tenants

__all__ = ["STORE"]

READS = ("read_all", "read_where", "read_by_key", "count")
WRITES = (
    "insert_as_victim",
    "update_victim",
    "update_all",
    "give_away",
    "delete_victim",
    "delete_all",
    "replace",
    "drop",
)
INFERENCES = ("infer_by_conflict", "infer_by_put", "path_error")
SESSIONS = (
    "set_tenant",
    "after_commit",
    "pooled_connection",
    "named_like_the_view",
    "attach_again",
    "new_view",
)

KEEP: tuple[Step, ...] = (given(), put("order-$marker", {"customer": "$marker", "total": 42}))


def intruder(name: str, attacks: tuple[str, ...]) -> Program:
    """Each run keeps a row of its own, and when all have, tries to get at another tenant's."""
    return program(
        name,
        stage("keep", *KEEP, ok("kept")),
        # By then every run has kept its row: an attack needs something to be got at.
        stage("attack", sleep(2.0), *(trespass(how) for how in attacks), ok("tried"), needs="keep"),
        stage("after", given(), put("receipt-$marker", "$marker"), ok("kept"), needs="attack"),
    )


TWO = (
    RunSpec("r0", "north", inputs={"marker": "marker-north-one"}),
    RunSpec("r1", "south", 0.2, inputs={"marker": "marker-south-two"}),
)


def attack(name: str, title: str, purpose: str, attacks: tuple[str, ...]) -> Scenario:
    return Scenario(
        id=f"tenant_isolation/{name}",
        tests=(f"TENANT-ISOLATION/{name}",),
        title=title,
        program=intruder(name, attacks),
        plan=Plan(runs=TWO),
        clauses=("TENANT-3",),
        purpose=purpose,
        fires=("trespass", "store"),
    )


STORE: tuple[Scenario, ...] = (
    Scenario(
        id="tenant_isolation/rows",
        title="Rows of ten tenants",
        program=program(
            "rows",
            stage("keep", *KEEP, sleep(0.1, 0.0), ok("kept")),
            stage("note", given(), put("note", "of $marker"), sleep(0.1), ok("kept"), needs="keep"),
        ),
        plan=Plan(runs=tenants(10)),
        clauses=("TENANT-3", "TENANT-1"),
        tests=("TENANT-ISOLATION/stored_rows",),
        purpose="Ten tenants keep rows, some under the same key, and each finds its own.",
        category="baseline",
        fires=("store",),
    ),
    attack(
        "foreign_reads",
        "Reading another tenant's rows",
        "A stage reads and counts, by its own "
        "session with the store, without and with a condition.",
        READS,
    ),
    attack(
        "foreign_writes",
        "Changing another tenant's rows",
        "A stage inserts, updates, hands "
        "over, replaces and deletes, by its own session with the store.",
        WRITES,
    ),
    attack(
        "inferences",
        "Learning of another tenant's rows by the answers",
        "A stage learns from conflicts, replies and error texts whether another tenant has a key.",
        INFERENCES,
    ),
    attack(
        "sessions",
        "Changing whose session it is",
        "A stage changes settings, comes after "
        "another tenant on a connection, and makes doors of its own.",
        SESSIONS,
    ),
    Scenario(
        id="tenant_isolation/intruders",
        title="Four tenants against each other",
        program=program(
            "intruders",
            stage("keep", *KEEP, ok("kept")),
            stage(
                "attack",
                sleep(2.0),
                trespass("read_all"),
                sleep(0.1, 0.0),
                trespass("delete_all"),
                trespass("pooled_connection"),
                ok("tried"),
                needs="keep",
            ),
        ),
        plan=Plan(runs=tenants(4, apart_s=0.01)),
        clauses=("TENANT-3", "TENANT-1"),
        purpose="Four runs attack while the others' sessions come and go between the attacks.",
        category="chaos",
        fires=("trespass", "store"),
    ),
)
