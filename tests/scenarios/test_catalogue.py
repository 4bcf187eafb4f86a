"""The catalogue of scenarios and missions is whole: every name in it leads somewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import scenarios
from harness.contract.clauses import CLAUSES
from harness.contract.scenario import Claim, Hypothesis, Mission, Scenario
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program
from scenarios.event_overflow.queue import QUEUE

ALL = list(scenarios.scenarios().values())
MISSIONS = list(scenarios.missions().values())
ROOT = Path(scenarios.__file__).parent

SEED_TESTS = {
    "DAG-009": [
        "simple_timeout",
        "no_timeout",
        "parallel_timeout_propagation",
        "async_generator_timeout",
        "resource_cleanup",
        "context_manager_cleanup",
        "nested_timeout",
        "concurrent_timeouts",
        "zero_timeout",
        "stage_cancel_cancels_pipeline",
    ],
    "WORK-007": [
        "slow_tool_timeout",
        "partial_result_tool",
        "streaming_tool_timeout",
        "concurrent_timeout",
        "resource_cleanup",
        "async_generator_timeout",
        "error_injection",
    ],
}
SEED_CLAIMS = {
    "DAG-009": {"BUG-016", "BUG-017", "DX-022", "IMP-033", "IMP-034"},
    "CONTRACT-003": {
        "BUG-020",
        "BUG-021",
        "DX-025",
        "DX-026",
        "STR-042",
        "IMP-040",
        "IMP-041",
    },
    "CANCEL-CLEANUP": {
        "Cancellation & Resource Cleanup",
        "Code Evidence 2",
        "Recommendation: TaskGroup",
    },
    "CONTEXT-UNIFICATION": {
        "Tier 1, 1.1",
        "Tier 1, 1.2",
        "Tier 1, 4.3",
        *(f"Code Evidence {i}" for i in (1, 3, 4, 5, 6, 7)),
    },
    "EVENT-OVERFLOW": {
        "Event Sink Backpressure",
        "Event Sink Backpressure (risk)",
        "Event Sink Overflow (test)",
        "Recommendation: Event Backpressure",
    },
    "CORRELATION": {
        "Code Evidence 4",
        "Code Evidence 4 (events)",
        "Observability Correlation IDs (test)",
        "Recommendation: OpenTelemetry Integration",
    },
    "TENANT-ISOLATION": {
        "Code Evidence 3",
        "Multi-Tenant Data Isolation (quotas)",
        "Multi-Tenant Data Isolation (risk)",
        "Tier 1, 1.1",
    },
    "PARTIAL-RESULTS": {"BUG-020", "BUG-021", "DX-025", "STR-042"},
    "REDRIVE": {"IMP-040", "IMP-041"},
    "CHAOS-MONTHLY": set(),
    "WORK-007": {"BUG-078", "BUG-078 (cause)", "BUG-079", "STR-092", "IMP-107"},
}


def decisions() -> Iterator[tuple[Mission, Hypothesis | Claim, str, str]]:
    for mission in MISSIONS:
        for one in (*mission.hypotheses, *mission.claims):
            for subject, name in one.decides:
                yield mission, one, subject, name


def test_every_folder_is_a_pack_of_its_own_name() -> None:
    folders = {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert folders == {p.id for p in scenarios.PACKS}
    for pack in scenarios.PACKS:
        assert {s.pack for s in pack.scenarios} == {pack.id}
        assert {m.pack for m in pack.missions} <= {pack.id}
        assert pack.title and pack.page


def test_ids_are_unique() -> None:
    ids = Counter(s.id for pack in scenarios.PACKS for s in pack.scenarios)
    assert [i for i, n in ids.items() if n > 1] == []
    assert len(ALL) == sum(ids.values())


@pytest.mark.parametrize("one", ALL, ids=lambda s: s.id)
def test_program_and_plan_survive_a_round_trip_through_json(one: Scenario) -> None:
    for value, kind in ((one.program, Program), (one.plan, Plan)):
        text = json.dumps(value.to_json(), sort_keys=True)
        again = kind.from_json(json.loads(text))
        assert json.dumps(again.to_json(), sort_keys=True) == text
        if "NaN" not in text:  # NaN is not equal to itself
            assert again == value


@pytest.mark.parametrize("one", ALL, ids=lambda s: s.id)
def test_a_scenario_says_what_it_is_for(one: Scenario) -> None:
    assert one.category in ("baseline", "stress", "chaos")
    assert one.sweep in ("", "cancel_points")
    assert one.title and one.purpose.endswith(".")
    assert one.clauses and len(set(one.clauses)) == len(one.clauses)
    assert set(one.clauses) <= set(CLAUSES)
    # What a sweep moves is a cancel with a point of its own.
    assert bool(one.sweep) == any(c.at_point == -1 for c in one.plan.cancels)


@pytest.mark.parametrize("one", ALL, ids=lambda s: s.id)
def test_only_scenarios_about_the_graph_are_ill_formed(one: Scenario) -> None:
    assert bool(one.program.faults()) == (one.clauses == ("GRAPH-1",))


@pytest.mark.parametrize("one", ALL, ids=lambda s: s.id)
def test_a_scenario_needs_no_capability_beside_its_point(one: Scenario) -> None:
    """Else an engine without that capability would be spared clauses that it could be held to."""
    needs = required_capabilities(one.program, one.plan)
    allowed = set(CLAUSES[one.clauses[0]].needs) | ALLOWED.get(one.id, set())
    allowed |= ALLOWED.get(one.clauses[0], set())
    assert needs <= allowed, sorted(needs - allowed)


# Every way that values take out of a run.
CHANNELS = (
    *("cleanup_registry", "events", "identity", "inputs", "log_records"),
    *("streaming", "subpipeline"),
)

# Capabilities that are the point of a clause or a scenario without being in the clause's needs.
ALLOWED: dict[str, set[str]] = {
    **{one.id: {"events", "event_queue"} for one in QUEUE},
    "timeouts/concurrent_timeouts_continue": {"continue_on_failure"},
    "TIME-5": {"stage_timeout", "stage_timeout_each"},
    "TIME-6": {"stage_timeout"},
    "CANCEL-1": {"cancel_run"},
    "CANCEL-2": {"cancel_branch"},
    "CANCEL-6": {"subpipeline"},
    "CLEAN-6": {"concurrent_runs", "cleanup_registry"},
    "CTX-1": {"context"},
    "CTX-2": {"inputs"},
    "PART-2": {"cancel_run"},
    "partial_results/parity_timeout": {"stage_timeout"},
    "partial_results/others_go_on": {"continue_on_failure"},
    "partial_results/failure_in_subpipeline": {"subpipeline"},
    "partial_results/failure_after_retries": {"retry"},
    "recovery/retry_after_timeout": {"stage_timeout_each"},
    "recovery/retry_around_subpipeline": {"subpipeline"},
    "recovery/retry_while_stage_ends_run": {"cancel_run"},
    "recovery/redrive_reads_outputs": {"inputs"},
    "recovery/redrive_past_skipped": {"skip", "cancel_branch"},
    "recovery/redrive_after_retries": {"retry"},
    "recovery/redrive_with_others_going_on": {"continue_on_failure"},
    "recovery/redrives_at_once": {"concurrent_runs"},
    "recovery/undo_after_retries": {"retry"},
    "recovery/undo_after_timeout": {"stage_timeout"},
    "recovery/undo_before_cleanups": {"cleanup_registry"},
    "TENANT-1": {"inputs"},
    "tenant_isolation/every_channel": {*CHANNELS},
    "tenant_isolation/every_channel_hundred": {*CHANNELS},
    "tenant_isolation/events_and_logs": {"events", "log_records"},
    "tenant_isolation/events_through_a_queue": {"events", "event_queue"},
    "TENANT-2": {"run_inputs"},
    "tenant_isolation/breaker": {"circuit_breaker", "interceptors"},
    "tenant_isolation/breaker_mixed": {"circuit_breaker", "interceptors"},
    "tenant_isolation/breaker_of_a_failing_stage": {"circuit_breaker"},
    "tenant_isolation/rate_limit": {"rate_limit"},
    "tenant_isolation/idempotency": {"idempotency"},
    "tenant_isolation/idempotency_at_once": {"idempotency"},
    "TENANT-3": {"run_inputs", "concurrent_runs"},
    "TENANT-4": {"run_inputs", "inputs"},
    "tenant_isolation/errors_of_some": {"interceptors"},
    "CORR-1": {"concurrent_runs"},
    "correlation/log_records": {"run_inputs", "log_records"},
    "correlation/events": {"run_inputs", "events"},
    "correlation/events_through_a_queue": {"run_inputs", "events", "event_queue"},
    "correlation/child_runs": {"subpipeline"},
    "correlation/fifty_runs": {*CHANNELS, "run_inputs"},
    "correlation/errors": {*CHANNELS, "run_inputs"},
    "correlation/cleanups_of_cancelled_runs": {"cleanup_registry"},
    "correlation/timeouts": {"cleanup_registry", "stage_timeout"},
    "CORR-2": {"concurrent_runs"},
    "correlation/spans_of_child_runs": {"subpipeline"},
    "correlation/spans_of_fifty_runs": {*CHANNELS, "run_inputs"},
    "GRAPH-3": {"inputs"},
    "event_overflow/two_runs_share_a_hung_sink": {"events", "event_queue", "concurrent_runs"},
    "streaming/consumer_stops_then_another_run": {"concurrent_runs"},
    "GRAPH-5": {
        *("interceptors", "guard", "circuit_breaker", "rate_limit", "idempotency"),
        "concurrent_runs",
    },
    "middleware/failing_layer_goes_on": {"continue_on_failure"},
    "middleware/circuit_of_one_stage": {"continue_on_failure"},
    "middleware/timeout_under_a_key": {"stage_timeout_each"},
    "middleware/circuit_of_one_tenant": {"circuit_breaker"},
    "middleware/rate_limit_of_one_tenant": {"rate_limit"},
    "middleware/key_of_two_tenants": {"idempotency"},
    "cleanup/cancelled_then_again": {"concurrent_runs"},
    **{
        f"cleanup/{name}": {"cleanup_registry"}
        for name in (
            "registry_order",
            "registry_on_failure",
            "registry_on_caller_cancel",
            "registry_recancelled",
            "registry_failing",
            "registry_slow",
        )
    },
    "cleanup/registry_on_stage_cancel": {"cleanup_registry", "cancel_run"},
    "cleanup/registry_on_timeout": {"cleanup_registry", "stage_timeout"},
    "cleanup/stage_cancel": {"cancel_run"},
    "branch_cancel/cancelled_run": {"cancel_run"},
    "branch_cancel/subpipeline_ends_itself": {"subpipeline", "cancel_run"},
    "graph/diamond_order": {"inputs"},
    "partial_results/same_tick_cancel": {"cancel_run"},
    "partial_results/timeout_partial_outputs": {"stage_timeout"},
    "streaming/chunks_before_timeout": {"stage_timeout"},
    "streaming/chunk_in_the_tick_of_the_timeout": {"stage_timeout"},
    "streaming/chunks_before_stage_cancel": {"cancel_run"},
    "timeouts/async_generator_timeout": {"stage_timeout"},
    "timeouts/context_manager_cleanup": {"stage_timeout"},
    "timeouts/generator_stage_timeout": {"stage_timeout"},
    "timeouts/nested_timeout": {"stage_timeout"},
    "timeouts/own_timeout_error": {"stage_timeout"},
    "timeouts/resource_cleanup": {"stage_timeout"},
    "timeouts/swallowed_timeout": {"stage_timeout"},
    "timeouts/tie_with_cleanup": {"stage_timeout"},
}


def test_each_clause_is_the_first_of_some_scenario() -> None:
    assert set(CLAUSES) - {s.clauses[0] for s in ALL} - JUDGED_IN_PASSING == set()


# A mark on a partial result is looked at wherever there is a partial result.
JUDGED_IN_PASSING = {"STREAM-2"}


def test_missions_are_those_of_the_seeds() -> None:
    assert set(scenarios.missions()) == set(SEED_CLAIMS)
    for name, tests in SEED_TESTS.items():
        assert list(scenarios.mission(name).tests) == tests
    for name, claims in SEED_CLAIMS.items():
        assert {c.id for c in scenarios.mission(name).claims} == claims


def test_mission_tests_and_scenarios_name_each_other() -> None:
    forward = {(f"{m.id}/{name}", sid) for m in MISSIONS for name, sid in m.tests.items()}
    backward = {(name, s.id) for s in ALL for name in s.tests}
    assert forward == backward


def test_every_decision_can_be_looked_up() -> None:
    unknown = []
    for mission, one, subject, name in decisions():
        if subject == "capability":
            known = name in CAPABILITIES
        elif subject == "probe":
            known = name.isidentifier()
        else:
            found = scenarios.scenarios().get(subject)
            known = found is not None and name in found.clauses
        if not known:
            unknown.append(f"{mission.id} {one.id}: {subject}, {name}")
    assert unknown == []


def test_a_mission_runs_every_scenario_that_decides_something_in_it() -> None:
    for mission in MISSIONS:
        run = {*mission.tests.values(), *mission.more_scenarios}
        assert run <= set(scenarios.scenarios())
        assert len(mission.more_scenarios) == len(set(mission.more_scenarios))
        assert not set(mission.tests.values()) & set(mission.more_scenarios)
        decided = {s for m, _, s, _ in decisions() if m is mission and "/" in s}
        assert decided - run == set()


def test_hypotheses_and_claims_are_complete() -> None:
    for mission in MISSIONS:
        assert [h.id for h in mission.hypotheses] == [
            f"H{i}" for i in range(1, len(mission.hypotheses) + 1)
        ]
        for one in (*mission.hypotheses, *mission.claims):
            assert one.decides and one.holds_if in ("pass", "fail"), one.id
            assert len(set(one.decides)) == len(one.decides), one.id
        for claim in mission.claims:
            assert claim.says and claim.earlier and claim.why, claim.id


def test_mission_texts_are_sentences() -> None:
    for mission in MISSIONS:
        texts = (
            mission.summary,
            *mission.state_of_the_art,
            *mission.failure_modes,
            *(h.statement for h in mission.hypotheses),
            *(c.says for c in mission.claims),
            *(c.earlier for c in mission.claims),
            *(c.why for c in mission.claims),
        )
        assert [t for t in texts if not t.endswith(".") or "  " in t] == []
        assert mission.industry and mission.questions and len(mission.persona) == 3
