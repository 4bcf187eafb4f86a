"""TENANT-ISOLATION: many tenants on one pipeline object.

The claims come from a report of January 2026 about Stageflow, which judged by reading code: a
name in a context was taken for isolation that is not enforced, a context that is made for each
run for isolation that is. Here values are planted and looked for.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["TENANT_ISOLATION"]

TESTS = {
    "two_tenants": "tenant_isolation/two_tenants",
    "ten_concurrent_runs": "tenant_isolation/ten_runs",
    "hundred_concurrent_runs": "tenant_isolation/hundred_runs",
    "every_channel": "tenant_isolation/every_channel",
    "events_and_logs": "tenant_isolation/events_and_logs",
    "errors": "tenant_isolation/errors",
    "failures_beside": "tenant_isolation/errors_of_some",
    "cancels_beside": "tenant_isolation/cancels_of_some",
    "circuit_breaker": "tenant_isolation/breaker",
    "rate_limit": "tenant_isolation/rate_limit",
    "idempotency": "tenant_isolation/idempotency",
    "stored_rows": "tenant_isolation/rows",
    "foreign_reads": "tenant_isolation/foreign_reads",
    "foreign_writes": "tenant_isolation/foreign_writes",
    "inferences": "tenant_isolation/inferences",
    "sessions": "tenant_isolation/sessions",
}

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="Whatever one tenant's run produces holds no value of another tenant's.",
        decides=(
            ("tenant_isolation/two_tenants", "TENANT-1"),
            ("tenant_isolation/ten_runs", "TENANT-1"),
            ("tenant_isolation/hundred_runs", "TENANT-1"),
            ("tenant_isolation/every_channel", "TENANT-1"),
            ("tenant_isolation/events_and_logs", "TENANT-1"),
            ("tenant_isolation/errors", "TENANT-1"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="Concurrent runs of one pipeline object go as if each were alone.",
        decides=(
            ("tenant_isolation/one_tenant_ten_runs", "TENANT-4"),
            ("tenant_isolation/ten_runs", "TENANT-4"),
            ("tenant_isolation/cancels_of_some", "TENANT-4"),
            ("tenant_isolation/errors_of_some", "TENANT-4"),
        ),
    ),
    Hypothesis(
        id="H3",
        statement="One tenant's failures, load and cached results stay that tenant's.",
        decides=(
            ("tenant_isolation/breaker", "TENANT-2"),
            ("tenant_isolation/breaker_of_a_failing_stage", "TENANT-2"),
            ("tenant_isolation/breaker_mixed", "TENANT-2"),
            ("tenant_isolation/rate_limit", "TENANT-2"),
            ("tenant_isolation/idempotency", "TENANT-2"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="The store itself refuses a tenant the rows of another.",
        decides=(
            ("tenant_isolation/foreign_reads", "TENANT-3"),
            ("tenant_isolation/foreign_writes", "TENANT-3"),
            ("tenant_isolation/inferences", "TENANT-3"),
            ("tenant_isolation/sessions", "TENANT-3"),
        ),
    ),
)

CLAIMS = (
    Claim(
        id="Code Evidence 3",
        says="Tenants are told apart by an id in the context only; no store enforces it.",
        decides=(("capability", "tenant_store"),),
        engine="stageflow",
        earlier="Code Evidence row 3: supported, by reading the two context modules.",
        why=("The engine offers a store that tells tenants apart, which can be attacked and was."),
    ),
    Claim(
        id="Multi-Tenant Data Isolation (risk)",
        says="The data of one organisation is exposed to another when their runs overlap.",
        decides=(
            ("tenant_isolation/ten_runs", "TENANT-1"),
            ("tenant_isolation/hundred_runs", "TENANT-1"),
            ("tenant_isolation/events_and_logs", "TENANT-1"),
        ),
        engine="stageflow",
        earlier="A risk of severity P1; ten concurrent runs were proposed and not run.",
        why=(
            "An id that nothing enforces is no isolation of what is stored, but it does not "
            "follow that values leak: every run here had a marker of its own, and in all that the "
            "other runs produced none was found."
        ),
    ),
    Claim(
        id="Tier 1, 1.1",
        says="Runs are apart because the data of each is kept by itself.",
        decides=(
            ("tenant_isolation/ten_runs", "TENANT-4"),
            ("tenant_isolation/cancels_of_some", "TENANT-4"),
        ),
        holds_if="pass",
        engine="stageflow",
        earlier="Given as a guarantee (CORE-010) that other missions rely on; not measured.",
        why="Runs of one pipeline object do have something in common, as the bugs named show.",
    ),
    Claim(
        id="Multi-Tenant Data Isolation (quotas)",
        says="One organisation's load or failures can keep another from being served.",
        decides=(
            ("tenant_isolation/breaker", "TENANT-2"),
            ("tenant_isolation/breaker_of_a_failing_stage", "TENANT-2"),
        ),
        engine="stageflow",
        earlier="Resource quotas for each tenant were proposed; nothing was measured.",
        why=(
            "Two cases were tried: a breaker that one tenant's failures open, and one over a stage "
            "that fails by itself. The verdicts beside say which of them reached the other tenant."
        ),
    ),
)

TENANT_ISOLATION = Mission(
    id="TENANT-ISOLATION",
    title="Tenants on one pipeline object",
    pack="tenant_isolation",
    priority="P1",
    risk="Severe",
    summary=(
        "A server builds its pipelines once and runs them for every customer at the same time. The "
        "mission plants a marker in each run and searches whatever the other runs produced, in "
        "ten and in a hundred concurrent runs; it asks whether failures, load and cached "
        "results of one tenant reach another, and whether the store refuses what a stage tries."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        ("Hospitals", "Records of several clinics in one triage service", "Critical"),
        ("Banking", "Scoring for competing lenders on one platform", "Critical"),
        ("Legal research", "Documents of opposing parties, read by one assistant", "Critical"),
        ("Online shops", "One shop's sale that must not slow its neighbours", "High"),
    ),
    state_of_the_art=(
        "PostgreSQL's row-level security adds a policy's condition to each statement. The table's "
        "owner is exempt unless it is forced, and superusers and roles with BYPASSRLS always are.",
        "A policy without WITH CHECK uses its USING condition for new rows too; one for SELECT "
        "only leaves writes to other policies.",
        "A setting that is made for a session stays on a pooled connection; SET LOCAL ends with "
        "the transaction.",
        "SQLite knows neither users nor policies. sqlite3_set_authorizer() is asked when a "
        "statement is compiled, and can deny what is not on a list.",
        "Uniqueness and foreign keys are checked against all rows, whoever may see them: a "
        "conflict tells that a row is there.",
        "contextvars give each task a copy of its parent's variables; one that is set in a "
        "callback or in a shared task shows in what comes after it.",
        "The circuit breaker pattern keeps one circuit for each dependency; if tenants fail for "
        "reasons of their own, it takes one for each tenant as well.",
    ),
    failure_modes=(
        "A stage object keeps the last run's values in an attribute.",
        "A cache is keyed by the request and not by whose request it is.",
        "An error quotes a row, a prompt or a key, and goes into a log that others read.",
        "A breaker opens for everyone when one tenant's credentials expire.",
        "A connection goes back to the pool as the tenant that used it last.",
        "A filter adds the tenant to each query, except to the one query that forgot it.",
    ),
    questions=(
        ("A run belongs to a tenant, and is held to it", "tenancy"),
        ("A store that tells tenants apart", "tenant_store"),
        ("Inputs of a run", "run_inputs"),
        ("Several runs of one pipeline object at once", "concurrent_runs"),
        ("Log records carry the run's ids", "log_records"),
        ("Circuit breaker", "circuit_breaker"),
        ("Rate limit", "rate_limit"),
        ("Idempotency", "idempotency"),
    ),
    persona=(
        "Security lead of a platform for many customers",
        "A provider of document analysis for law firms and clinics",
        (
            "No value of one customer is ever in what another gets",
            "One customer's outage is no other customer's",
            "A forgotten condition in a query shows nothing",
            "All of this is tested, and not argued from the code",
        ),
    ),
    more_scenarios=(
        "tenant_isolation/every_channel_hundred",
        "tenant_isolation/events_through_a_queue",
        "tenant_isolation/one_tenant_ten_runs",
        "tenant_isolation/breaker_mixed",
        "tenant_isolation/breaker_of_a_failing_stage",
        "tenant_isolation/idempotency_at_once",
        "tenant_isolation/intruders",
    ),
)
