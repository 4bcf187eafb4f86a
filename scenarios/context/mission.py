"""CONTEXT-UNIFICATION: what a stage is handed, and what stands around it.

Recommended by a report of January 2026 as the next mission; another one of that month read the
code and judged seven claims by it, six of which are about the context, what is built from it
and what is put around a stage. Reading tells what code is meant to do; here it is run.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["CONTEXT_UNIFICATION"]

TESTS = {
    "entry_points": "context/entry_points",
    "changed_mapping": "context/changed_mapping",
    "changed_list": "context/changed_list",
    "failing_layer": "middleware/failing_layer",
    "guard_denies": "middleware/guard",
    "guard_within_failing_layer": "middleware/guard_within_failing_layer",
}

COPIES = (("context/changed_mapping", "CTX-2"), ("context/changed_list", "CTX-2"))
GUARDS = (
    ("middleware/guard", "GRAPH-5"),
    ("middleware/failing_layer", "GRAPH-5"),
    ("middleware/guard_within_failing_layer", "GRAPH-5"),
)
CYCLES = (
    ("graph/cycle", "GRAPH-1"),
    ("graph/self_cycle", "GRAPH-1"),
    ("graph/long_cycle", "GRAPH-1"),
)
# The ten tests that were to pass once the contexts are one, each by what it asks first.
DAG_009 = (
    ("timeouts/simple_timeout", "TIME-1"),
    ("timeouts/no_timeout", "TIME-2"),
    ("timeouts/parallel_timeout_propagation", "TIME-3"),
    ("timeouts/async_generator_timeout", "TIME-4"),
    ("timeouts/resource_cleanup", "CLEAN-1"),
    ("timeouts/context_manager_cleanup", "CLEAN-1"),
    ("timeouts/nested_timeout", "TIME-4"),
    ("timeouts/concurrent_timeouts", "TIME-6"),
    ("timeouts/zero_timeout", "TIME-5"),
    ("branch_cancel/stage_cancel_cancels_pipeline", "CANCEL-1"),
)

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="A stage finds the same in its context on every entry point.",
        decides=(("context/entry_points", "CTX-1"),),
    ),
    Hypothesis(
        id="H2",
        statement="No stage can change what another one reads.",
        decides=COPIES,
    ),
    Hypothesis(
        id="H3",
        statement="Layers around a stage are passed in the order that was declared.",
        decides=(
            ("middleware/order", "GRAPH-5"),
            ("middleware/order_when_the_stage_fails", "GRAPH-5"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="A stage does not run, and is no success, if a layer around it fails or denies.",
        decides=GUARDS,
    ),
    Hypothesis(
        id="H5",
        statement="What was refused or failed under a key is not kept as a success.",
        decides=(
            ("middleware/failure_under_a_key", "GRAPH-5"),
            ("middleware/denial_under_a_key", "GRAPH-5"),
            ("middleware/open_circuit_under_a_key", "GRAPH-5"),
        ),
    ),
    Hypothesis(
        id="H6",
        statement="One tenant's failures, limits and keys are not another's.",
        decides=(
            ("middleware/circuit_of_one_tenant", "TENANT-2"),
            ("middleware/rate_limit_of_one_tenant", "TENANT-2"),
            ("middleware/key_of_two_tenants", "TENANT-2"),
        ),
    ),
)

CLAIMS = (
    Claim(
        id="Tier 1, 1.1",
        says="Stages work on copies of the context, so that parallel stages are safe.",
        decides=COPIES,
        holds_if="pass",
        earlier="Stated as a guarantee that other reports had not contradicted; not measured.",
        why="A scenario above has a stage read what its sibling had changed.",
    ),
    Claim(
        id="Tier 1, 1.2",
        says="A stage that expects a timer fails when a pipeline runs it.",
        decides=(("context/entry_points", "CTX-1"),),
        earlier="Nine of ten tests of DAG-009 stopped at a missing `timer`.",
        why=(
            "Those tests handed the context of a run to the stage by hand. What the graph hands "
            "to its stages was compared here, entry point by entry point."
        ),
    ),
    Claim(
        id="Tier 1, 4.3",
        says="With one context for all, the ten tests of DAG-009 pass.",
        decides=DAG_009,
        holds_if="pass",
        earlier="Given as the mission's measure of success; 1 of 10 had passed.",
        why=(
            "Each of the ten is run here whatever the contexts look like. What fails then fails "
            "for a reason of its own, which its row names."
        ),
    ),
    Claim(
        id="Code Evidence 1",
        says="Events go straight to the sink; there is no buffer and no backpressure.",
        decides=(("probe", "offers_bounded_sink"), ("probe", "emit_leaves_event_to_queue")),
        earlier="Supported, by the code of try_emit_event() and of the two plain sinks.",
        why="This version has a sink with a bounded queue, though a user must ask for it.",
    ),
    Claim(
        id="Code Evidence 3",
        says="Tenants are kept apart by an id in the context, and nothing enforces it.",
        decides=(("capability", "tenancy"), ("capability", "tenant_store")),
        earlier="Supported: contexts carry org_id, and no row-level security was found.",
        why="This version holds a run to its tenant, or stores what it keeps by tenant.",
    ),
    Claim(
        id="Code Evidence 4",
        says="Correlation ids are only values handed along; they cross no asynchronous boundary.",
        decides=(("probe", "ids_in_contextvars"), ("probe", "imports_opentelemetry")),
        earlier="Supported: no export to OpenTelemetry and no propagation was found.",
        why=(
            "This version can keep the ids in context variables, which tasks inherit, or speaks "
            "to OpenTelemetry. Whether every record then carries them is another mission's."
        ),
    ),
    Claim(
        id="Code Evidence 5",
        says="A stage can change the snapshot that its siblings are given.",
        decides=(("probe", "snapshot_frozen"), ("probe", "snapshot_deeply_frozen"), *COPIES),
        earlier="Contradicted, because the snapshot is a frozen dataclass with slots.",
        why=(
            "Frozen is the outermost object: its attributes cannot be set. What the mappings and "
            "lists in it allow was tried by itself."
        ),
    ),
    Claim(
        id="Code Evidence 6",
        says="The builder lets cycles pass.",
        decides=CYCLES,
        earlier="Contradicted, by the code of the builder and its unit tests.",
        why="Cycles were built, and refused before anything ran.",
    ),
    Claim(
        id="Code Evidence 7",
        says="What stands around a stage can be got past, so that it runs without authorisation.",
        decides=(("probe", "auth_before_others"), ("probe", "failing_guard_denies"), *GUARDS),
        earlier="Contradicted, because interceptors are sorted and those for authorisation first.",
        why=(
            "Order is one way past a guard, and the probe looked at it; the other is to make the "
            "guard itself, or a layer around it, fail. That is what the scenarios do."
        ),
    ),
)

CONTEXT_UNIFICATION = Mission(
    id="CONTEXT-UNIFICATION",
    title="One context, and layers that hold",
    pack="context",
    priority="P1",
    risk="High",
    summary=(
        "A stage knows the world by the context that it is handed, and the world is kept from it "
        "by the layers that stand around it. The mission asks whether the context is the same "
        "whoever runs the stage, whether one stage can change what another is handed, and "
        "whether guards, circuit breakers, rate limits and idempotency keys hold when one of "
        "them fails, denies, or serves several tenants."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        (
            "Banking",
            "A payment stage behind a check of limits that calls a slow service",
            "Critical",
        ),
        ("Health care", "A stage that reads records only for those who may", "Critical"),
        ("Software as a service", "One customer's outage that must stay this customer's", "High"),
        ("Internal tools", "Stages that are tested alone and run in a pipeline", "Medium"),
    ),
    state_of_the_art=(
        "Saltzer and Schroeder named fail-safe defaults in 1975: without a decision to permit, "
        "access is denied.",
        "The OWASP Top 10 of 2025 lists failing open among mishandled exceptional conditions.",
        "In ASGI and WSGI a middleware is a callable around another: what it raises is the "
        "request's failure, and nothing within it is run.",
        "A circuit breaker has three states: closed, open, and half-open, in which it lets a "
        "limited number of calls try.",
        "Stripe's interface keys idempotency by account and keeps the first answer, also if it "
        "was an error: then the error is repeated, and not a success.",
    ),
    failure_modes=(
        "An exception in a guard is logged, and the stage runs.",
        "A refusal is reported with the status of a success and an empty output.",
        "That success resets the circuit breaker or is kept under an idempotency key.",
        "A failing layer ends the chain, so that the layers after it are never asked.",
        "State is keyed by the stage's name alone, and one tenant's failures cut all others off.",
        "A frozen object holds a list, and the list is shared.",
    ),
    questions=(
        ("Code around every stage", "interceptors"),
        ("Guards", "guard"),
        ("Circuit breakers", "circuit_breaker"),
        ("Rate limits", "rate_limit"),
        ("Idempotency keys", "idempotency"),
        ("Both contexts offer the same", "contexts_offer_alike"),
        ("A guard that fails denies", "failing_guard_denies"),
    ),
    persona=(
        "Security engineer of a platform team",
        "A company that runs many customers' pipelines in one process",
        (
            "A check that cannot be made counts as a check that was not passed",
            "A refusal can be told from a success in every log and report",
            "No customer notices another one's trouble",
            "A stage that is safe in its tests is safe in the pipeline",
        ),
    ),
    more_scenarios=(
        "middleware/order",
        "middleware/order_when_the_stage_fails",
        "middleware/guard_around_failing_layer",
        "middleware/guard_denies_one_run",
        "middleware/failing_layer_after",
        "middleware/failing_layer_goes_on",
        "middleware/open_circuit",
        "middleware/circuit_closes",
        "middleware/circuit_and_cancels",
        "middleware/circuit_and_denials",
        "middleware/circuit_of_one_tenant",
        "middleware/rate_limit_of_one_tenant",
        "middleware/same_key_at_once",
        "middleware/key_of_two_stages",
        "middleware/key_of_two_tenants",
        "middleware/failure_under_a_key",
        "middleware/layer_failure_under_a_key",
        "middleware/denial_under_a_key",
        "middleware/cancel_under_a_key",
        "middleware/open_circuit_under_a_key",
        "graph/cycle",
        "graph/self_cycle",
        "graph/long_cycle",
        "timeouts/simple_timeout",
        "timeouts/no_timeout",
        "timeouts/parallel_timeout_propagation",
        "timeouts/async_generator_timeout",
        "timeouts/resource_cleanup",
        "timeouts/context_manager_cleanup",
        "timeouts/nested_timeout",
        "timeouts/concurrent_timeouts",
        "timeouts/zero_timeout",
        "branch_cancel/stage_cancel_cancels_pipeline",
    ),
)
