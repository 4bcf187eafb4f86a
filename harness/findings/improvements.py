"""From what an engine does not offer to improvements: one per engine and capability.

Only what was missed counts: a capability that a scenario of this campaign needed or that a
mission of it asks about. Where it is not known which capability is lacking, the clause
that could not be judged stands for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.findings.bugs import measured_row, union
from harness.findings.campaign import Campaign, Row, clause_of
from harness.findings.finding import Evidence, Finding, Impact, Recommendation
from harness.findings.fingerprint import fingerprint
from harness.findings.order import EFFORTS, by_clause, by_version, gravest

__all__ = ["improvements"]

# What the capabilities are called where a sentence needs a noun.
WORDS = {
    "stage_timeout": "one timeout for all stages of a run",
    "stage_timeout_each": "a timeout of its own for each stage",
    "tool_timeout": "a timeout of its own for a tool call",
    "continue_on_failure": "going on beside a stage that failed",
    "worker_thread": "worker threads that the engine keeps account of",
    "heartbeat": "heartbeats of a stage",
    "subpipeline": "subpipelines",
    "cancel_run": "ending the run from a stage, without an error",
    "cancel_branch": "ending one branch while the others go on",
    "skip": "stages that finish as skipped",
    "inputs": "outputs of the stages that a stage needs",
    "events": "events",
    "streaming": "partial results handed on while a stage runs",
    "cleanup_registry": "cleanups that a stage registers with the engine",
    "context": "a context for each stage",
    "concurrent_runs": "several runs of one pipeline object at once",
    "run_inputs": "inputs of a run",
    "event_queue": "a bounded queue before a slow event sink, with an account",
    "delivery_count": "a count of the events that the sink has taken",
    "stream_consumer": "consuming partial results while the run goes on",
    "identity": "run, tenant and correlation id known to a stage",
    "log_records": "log records with the ids of their run",
    "trace_context": "spans of a W3C trace",
    "tenancy": "runs that belong to a tenant and are held to it",
    "tenant_store": "a store that tells tenants apart",
    "guard": "layers that can deny a stage its run",
    "circuit_breaker": "a circuit breaker around stages",
    "rate_limit": "a rate limit for stages",
    "idempotency": "idempotency keys of stages",
    "checkpoint": "redrive of a failed run from a checkpoint",
    "compensation": "compensations that run when the run fails",
    "retry": "retries of failed stages",
    "interceptors": "code put around every stage",
}
UNSAID = "The adapter does not say what its probe looked for"


@dataclass(slots=True)
class _Lack:
    """What is known of one thing that one engine lacks."""

    engine: str
    name: str
    sentence: str = ""
    versions: dict[str, None] = field(default_factory=dict)
    units: list[Row] = field(default_factory=list)
    unjudged: dict[str, None] = field(default_factory=dict)
    missions: dict[str, None] = field(default_factory=dict)


def improvements(campaign: Campaign) -> list[Finding]:
    """Return one finding per engine and missing capability, without ids."""
    lacks: dict[tuple[str, str], _Lack] = {}

    def lack(engine: str, name: str) -> _Lack:
        return lacks.setdefault((engine, name), _Lack(engine, name))

    for unit in campaign.units:
        for name, clauses in _missed(campaign, unit).items():
            one = lack(unit["engine"], name)
            one.sentence = one.sentence or str(unit.get("missing", {}).get(name, ""))
            one.versions[unit["engine_version"]] = None
            one.units.append(unit)
            one.unjudged.update(dict.fromkeys(clauses))
    for engine in campaign.engines:
        for mission in campaign.missions:
            for name in _asked(mission):
                sentence = engine.get("missing", {}).get(name)
                if sentence is None or name in engine.get("capabilities", ()):
                    continue
                one = lack(engine["name"], name)
                one.sentence = one.sentence or str(sentence)
                one.versions[engine["version"]] = None
                one.missions[mission["id"]] = None
    return [_finding(campaign, one) for one in lacks.values()]


def _missed(campaign: Campaign, unit: Row) -> dict[str, list[str]]:
    """Return what the unit lacked -> the clauses that therefore could not be judged."""
    unjudged = [c for c, row in unit["clauses"].items() if row["verdict"] == "unsupported"]
    if unit["verdict"] == "unsupported":
        unjudged = list(unit["clauses_judged"])
        if unit.get("missing"):
            return dict.fromkeys(unit["missing"], unjudged)
    offered = campaign.engine(unit["engine"], unit["engine_version"]).get("capabilities", ())
    missed: dict[str, list[str]] = {}
    for clause in unjudged:
        needs = clause_of(campaign.clauses, clause).needs - set(offered)
        for name in sorted(needs) or [clause]:
            missed.setdefault(name, []).append(clause)
    return missed


def _asked(mission: Row) -> list[str]:
    names = [name for _, name in mission["questions"]]
    for decided in (*mission["hypotheses"], *mission["claims"]):
        names += [name for subject, name in decided["decides"] if subject == "capability"]
    return names


def _finding(campaign: Campaign, lack: _Lack) -> Finding:
    unjudged = sorted(lack.unjudged, key=by_clause)
    # Clauses that are about the capability itself; others were only judged along with it.
    declared = [
        one
        for one in (clause_of(campaign.clauses, c) for c in unjudged)
        if lack.name in one.needs or lack.name == one.id
    ]
    scenarios = union([u["scenario"]] for u in lack.units)
    tests = union(u["tests"] for u in lack.units)
    words = WORDS.get(lack.name, lack.name)
    grave = bool(declared) and gravest(c.severity for c in declared) in ("critical", "high")
    asked = lack.missions.keys() - set(campaign.missions_of(scenarios))
    return Finding(
        kind="improvement",
        type="feature_request",
        severity="medium" if tests else "low",
        priority="P1" if grave else "P2",
        title=f"Not offered: {words}",
        description=" ".join(
            (
                f"{(lack.sentence or UNSAID).rstrip('.')}.",
                f"Not judged for lack of it: {', '.join(unjudged)}." if unjudged else "",
            )
        ).strip(),
        clause=declared[0].id if declared else "",
        shape=lack.name,
        engine=lack.engine,
        engine_versions=tuple(sorted(lack.versions, key=by_version)),
        component=lack.name,
        mission_tests=tests,
        missions=(*campaign.missions_of(scenarios), *sorted(asked)),
        scenarios=scenarios,
        expected="; ".join(f"{c.id} demands: {c.must}" for c in declared)
        or f"The engine offers {words}.",
        actual=lack.sentence or f"The adapter found no {words}.",
        evidence=Evidence(
            figures={"scenarios_not_runnable": len(scenarios), "tests_not_judged": len(tests)},
            measured=tuple(measured_row(u, 0, 0, {"figures": {}}) for u in lack.units),
        ),
        impact=Impact(
            f"Users must do without: {words}."
            + (f" Mission tests that could not be judged: {len(tests)}." if tests else "")
        ),
        recommendation=Recommendation(
            f"Offer {words}"
            + (f" (demanded by {', '.join(c.id for c in declared)})." if declared else "."),
            max((c.effort for c in declared), key=EFFORTS.index, default="medium"),
            False,
        ),
        fingerprint=fingerprint("improvement", "", lack.engine, "", lack.name),
        first_seen=campaign.seen,
        last_seen=campaign.seen,
    )
