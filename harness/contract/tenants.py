"""TENANT: runs of different tenants, and runs of one pipeline object, kept apart.

Whether a tenant sees what is not its own is found by values planted in each run's inputs and
looked for in all that every other run produced (`produced`). Whether a tenant suffers from
another is found by its own history: a stage of it that was not let run must be explained by
what its own runs did, as if the others were not there.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.contract import scripts
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.produced import Found, Searched, by_run, ids_seen, owner
from harness.contract.reading import Ran, Reading
from harness.kernel.plan import Layer

__all__ = ["TENANT"]

STATEFUL = frozenset({"circuit_breaker", "rate_limit", "idempotency"})
# A tenant's rows and its idempotent outputs are for all its runs.
SHARED_BY_TENANT = frozenset({"stored"})


def check_tenant_1(r: Reading) -> Judgement:
    if not r.sound or len(r.plan.runs) < 2:
        return untested()
    if len({spec.tenant for spec in r.plan.runs}) < 2:
        return untested()
    searched = Searched(r)
    runs = searched.runs()
    bad: list[Violation] = []
    planted = 0
    if len({searched.specs[run].tenant for run in runs}) > 1:
        planted = sum(len(searched.values[run]) for run in runs)
        found = searched.foreign(lambda mine, other: mine.tenant == other.tenant)
        bad += [_leak(r, searched, one) for one in found]
    named, wrong = _wrong_tenants(r, searched)
    bad += wrong
    if not planted and not named:
        return untested()
    return violated(bad, values_planted=planted, runs_searched=len(runs), tenants_named=named)


def _leak(r: Reading, searched: Searched, one: Found) -> Violation:
    mine, other = searched.specs[one.run], searched.specs[one.of]
    where = f"stage {one.stage}'s {one.where}" if one.stage else one.where or "what it produced"
    return Violation(
        f"leak-in-{one.channel}",
        f"no value of tenant {other.tenant} is in what run {mine.id} of tenant {mine.tenant} "
        "produced",
        f"{one.value!r}, an input of run {other.id}, is in its {where}",
        one.stage,
        r.any_location(one.run),
        {},
        (one.at,) if one.at >= 0 else (),
    )


def _wrong_tenants(r: Reading, searched: Searched) -> tuple[int, list[Violation]]:
    """Return how often a tenant was named, and where it was another run's."""
    tenants = {spec.tenant for spec in r.plan.runs}
    told: set[tuple[str, str]] = set()
    bad: list[Violation] = []
    named = 0
    for run, place, stage, ids, at in ids_seen(r, searched.specs):
        said, own = ids.get("tenant"), searched.specs[run].tenant
        named += said is not None
        if said is None or said == own or said not in tenants or (run, place) in told:
            continue
        told.add((run, place))
        bad.append(
            Violation(
                "wrong-tenant",
                f"what comes of run {run} is {own}'s, by the engine's word",
                f"by its {place} it is {said}'s",
                stage,
                r.any_location(run),
                {},
                (at,) if at >= 0 else (),
            )
        )
    return named, bad


def check_tenant_2(r: Reading) -> Judgement:
    """TENANT-2: what a tenant's stage was refused, or given in its place, comes of its own runs."""
    layers = [layer for layer in r.plan.layers if layer.kind in STATEFUL]
    tenants = {spec.id: spec.tenant for spec in r.plan.runs}
    if not r.sound or not layers or len(set(tenants.values())) < 2:
        return untested()
    bad: list[Violation] = []
    wrapped = 0
    troubled = {tenant for tenant in tenants.values() if _history(r, layers, tenant, tenants)}
    for run, tenant in tenants.items():
        if not troubled - {tenant}:
            continue
        calm = _undisturbed(r, run)
        around: dict[str, list[Layer]] = {}
        for stage in r.program.stages:
            mine = [one for one in layers if not one.stages or stage.name in one.stages]
            # What was let run shows that it was, whatever became of it then.
            ran = (run, stage.name) in r.ran
            if mine and (ran or (calm and _was_due(r, run, stage.needs))):
                around[stage.name] = mine
        wrapped += len(around)
        bad += _unexplained(r, run, around, tenants)
    return violated(bad, stages_behind_layers=wrapped) if wrapped else untested()


def _history(r: Reading, layers: Iterable[Layer], tenant: str, tenants: dict[str, str]) -> bool:
    """Say whether a tenant can have left anything in the state of the layers."""
    return any(
        _mine(r, layer, tenant, tenants) or _failures_in_layers(r, layer, tenant, tenants)
        for layer in layers
    )


def _mine(r: Reading, layer: Layer, tenant: str, tenants: dict[str, str]) -> list[Ran]:
    """Return the executions, in all runs of a tenant, of the stages that a layer is around."""
    return [
        one
        for one in r.executions()
        if tenants[one.run] == tenant and (not layer.stages or one.stage in layer.stages)
    ]


def _failed(one: Ran) -> bool:
    return one.how != "ok" or bool(one.interrupts)


def _let_run_after(r: Reading, layer: Layer, tenants: dict[str, str]) -> int:
    """Return the most failures of its own after which any tenant was let run."""
    most = 0
    for tenant in set(tenants.values()):
        failures = 0
        for one in _mine(r, layer, tenant, tenants):
            most = max(most, failures)
            failures += _failed(one)
    return most


def _failures_in_layers(
    r: Reading, layer: Layer, tenant: str, tenants: dict[str, str], kind: str = "layer.raise"
) -> int:
    """Count how often layers of the user's failed over the stages that this one is around too,
    or denied them."""
    return sum(
        1
        for run, entries in by_run(r, kind).items()
        for _, entry in entries
        if tenants[run] == tenant and (not layer.stages or entry.stage in layer.stages)
    )


def _undisturbed(r: Reading, run: str) -> bool:
    """Say whether nothing but a layer of the engine's can have kept a stage from running."""
    facts = r.runs[run]
    if not facts.over or facts.cancels or r.outcome(run) is None or r.timed_out(run):
        return False
    if r.first_cause(run)[1] or r.shape.skippable:
        return False
    if not any(layer.kind in ("deny", "raise") for layer in r.plan.layers):
        return True
    return not any(run in by_run(r, kind) for kind in ("layer.deny", "layer.raise"))


def _was_due(r: Reading, run: str, needs: Iterable[str]) -> bool:
    outcome = r.outcome(run)
    return outcome is not None and all(
        (report := outcome.stages.get(need)) is not None and report.status == "completed"
        for need in needs
    )


def _unexplained(
    r: Reading, run: str, around: Mapping[str, list[Layer]], tenants: dict[str, str]
) -> list[Violation]:
    """Judge the stages of a run that were due and did not run."""
    outcome = r.outcome(run)
    if outcome is None:
        return []
    tenant = tenants[run]
    refused: list[str] = []
    for stage, layers in around.items():
        report = outcome.stages.get(stage)
        if (run, stage) in r.ran or report is None:
            continue
        completed = report.status == "completed"
        if completed and (stage in outcome.reused or _has(layers, "idempotency")):
            cached = _cached(r, run, stage, layers, tenants)
            if cached:
                return cached
        elif completed or outcome.status != "ok":
            # Also what is called completed: it did not run, whoever answered for it.
            if any(_allowed(r, layer, tenant, tenants) for layer in layers):
                return []  # the others may be gone because of this one
            refused.append(stage)
    if not refused:
        return []
    # That a stage failed says more than that others were skipped for it.
    stage = min(refused, key=lambda name: outcome.stages[name].status != "failed")
    layers, report = around[stage], outcome.stages[stage]
    own = len(_mine(r, layers[0], tenant, tenants))
    return [
        Violation(
            f"refused-for-another-{layers[0].kind.replace('_', '-')}",
            f"stage {stage} of tenant {tenant} runs, as if no other tenant were there",
            f"it was not let run ({report.error or report.status}), though its own runs gave no "
            f"cause: {own} executions of theirs behind the layer",
            stage,
            r.any_location(run),
            {"own_executions": own},
            (r.runs[run].begin, r.runs[run].end),
        )
    ]


def _allowed(r: Reading, layer: Layer, tenant: str, tenants: dict[str, str]) -> bool:
    """Say whether a tenant's own history can explain that a layer refused it."""
    mine = _mine(r, layer, tenant, tenants)
    if layer.kind == "circuit_breaker":
        failures = sum(_failed(one) for one in mine)
        failures += _failures_in_layers(r, layer, tenant, tenants)
        if failures >= int(layer.options.get("threshold", 1)):
            return True
        # An engine that counts otherwise is no matter of tenants: what counts is that somebody
        # was let run after as many failures of their own.
        return failures > _let_run_after(r, layer, tenants)
    if layer.kind == "rate_limit":
        # What layers further in refused has passed this one all the same.
        refused = _failures_in_layers(r, layer, tenant, tenants)
        refused += _failures_in_layers(r, layer, tenant, tenants, "layer.deny")
        return len(mine) + refused >= int(layer.options.get("limit", 1))
    # An idempotency layer refuses nothing; it may let a second execution wait, or fail it,
    # while a first one of its tenant's is under way.
    return bool(mine)


def _has(layers: Iterable[Layer], kind: str) -> bool:
    return any(layer.kind == kind for layer in layers)


def _cached(
    r: Reading, run: str, stage: str, layers: list[Layer], tenants: dict[str, str]
) -> list[Violation]:
    """Judge an output that a stage is said to have, though it did not run in this run."""
    outcome = r.outcome(run)
    if outcome is None or stage in outcome.reused:
        return []
    tenant = tenants[run]
    origin = [one for one in r.executions() if one.stage == stage and one.how == "ok"]
    if any(tenants[one.run] == tenant for one in origin) or not origin:
        return []
    return [
        Violation(
            "output-of-another-tenant",
            f"stage {stage} of tenant {tenant} runs: no run of this tenant has run it",
            f"it is given an output without having run; tenant {tenants[origin[0].run]} ran it",
            stage,
            r.any_location(run),
            {},
            (origin[0].end, r.runs[run].end),
        )
    ]


def check_tenant_3(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    tries = 0
    specs = {spec.id: spec for spec in r.plan.runs}
    for i, entry in enumerate(r.entries):
        if entry.kind != "trespass":
            continue
        how, victim, refused, seen, changed = entry.detail
        run = owner(entry.run, specs)
        if run is None or specs[run].tenant == victim:
            continue
        tries += 1
        if refused and not seen and not changed:
            continue
        shape = "foreign-rows-changed" if changed else "foreign-rows-read"
        if not seen and not changed:
            shape = "not-refused"
        bad.append(
            Violation(
                shape,
                f"the store refuses tenant {specs[run].tenant} the rows of {victim} ({how})",
                f"{len(seen)} values or facts seen, {changed} rows changed",
                entry.stage,
                "",
                {"seen": len(seen), "changed": changed},
                (i,),
            )
        )
    rows, lost = _rows(r)
    bad += lost
    if not tries and not rows and not bad:
        return untested()
    return violated(bad, attempts=tries, rows_kept=rows)


def _rows(r: Reading) -> tuple[int, list[Violation]]:
    """Hold what each tenant finds in the store when its run is over against what it put there."""
    put: dict[str, dict[str, list[Any]]] = {}
    at: dict[tuple[str, str], tuple[int, bool]] = {}
    specs = {spec.id: spec for spec in r.plan.runs}
    for i, entry in enumerate(r.entries):
        run = owner(entry.run, specs) if entry.kind == "store" else None
        if run is not None:
            key, value = entry.detail
            ones = r.ran.get((entry.run, entry.stage), [])
            taken = bool(ones) and ones[-1].how in ("ok", "skip", "cancel_branch", "cancel_run")
            # A stage that was given up may put something there when its run is over.
            taken = taken and not 0 <= r.runs[run].end < i
            put.setdefault(specs[run].tenant, {}).setdefault(key, []).append(value)
            at[run, key] = (i, taken)
    bad: list[Violation] = []
    kept = 0
    for run, spec in specs.items():
        outcome = r.outcome(run)
        if outcome is None or outcome.stored is None:
            continue
        found = dict(outcome.stored)
        own = put.get(spec.tenant, {})
        mine = {key: i for (of, key), (i, taken) in at.items() if of == run and taken}
        wrong = [key for key in mine if key not in found]
        strange = [k for k, value in found.items() if value not in own.get(k, [])]
        kept += len(mine) - len(wrong)
        for key, shape in (
            *((k, "row-lost") for k in wrong),
            *((k, "row-foreign") for k in strange),
        ):
            bad.append(
                Violation(
                    shape,
                    f"tenant {spec.tenant} finds in the store what its runs put there",
                    f"under {key!r} it finds {found[key]!r}"
                    if key in found
                    else f"under {key!r} it finds nothing",
                    "",
                    "",
                    {},
                    (mine[key],) if key in mine else (),
                )
            )
    return kept, bad


def check_tenant_4(r: Reading) -> Judgement:
    if not r.sound or len(r.plan.runs) < 2:
        return untested()
    stateful = any(layer.kind in STATEFUL for layer in r.plan.layers)
    together = _together(r)
    if not together:
        return untested()
    bad: list[Violation] = []
    if not stateful:
        if any(spec.inputs for spec in r.plan.runs):
            searched = Searched(r, leave_out=SHARED_BY_TENANT)
            # What another tenant's run leaks is TENANT-1's.
            found = searched.foreign(lambda mine, other: mine.tenant != other.tenant)
            bad += [_mixed(r, one) for one in found]
        bad += _spread(r, together)
        bad += _outputs(r)
    bad += _inputs(r)
    return violated(bad, runs_at_once=len(together))


def _together(r: Reading) -> list[str]:
    """Return the runs that overlapped another one in time."""
    # A redrive is meant to have something of another run.
    begun = [(run, f) for run, f in r.runs.items() if f.begin >= 0 and not r.before(run)]
    out: list[str] = []
    last_end = -1
    previous = ""
    for run, facts in sorted(begun, key=lambda pair: pair[1].begin):
        if previous and facts.begin < last_end:
            out += [one for one in (previous, run) if one not in out]
        end = facts.end if facts.over else len(r.entries)
        if end > last_end:
            last_end, previous = end, run
    return out


def _mixed(r: Reading, one: Found) -> Violation:
    return Violation(
        f"mixed-in-{one.channel}",
        f"nothing of run {one.of} is in what run {one.run} produced",
        f"{one.value!r}, an input of run {one.of}, is in its {one.where or 'outcome'}",
        one.stage,
        r.any_location(one.run),
        {},
        (one.at,) if one.at >= 0 else (),
    )


def _calm(r: Reading, run: str) -> bool:
    """Say whether nothing that happened in a run gives a reason to end it early."""
    return (
        _undisturbed(r, run)
        and not any(one.again or r.by_default_timeout(one) for one in r.executions(run))
        and not any(
            one.self_cancelled  # in a child of its own
            for (of, _), ones in r.ran.items()
            if of.startswith(f"{run}/")
            for one in ones
        )
        and "swallow" not in r.shape.ops
        and r.plan.stage_timeout_s is None
        and not any(s.timeout_s is not None or s.idle_timeout_s for s in r.program.stages)
    )


def _spread(r: Reading, together: list[str]) -> list[Violation]:
    """Find runs in which nothing went wrong and that were spoilt all the same, beside others that
    had trouble or went well."""
    calm = [run for run in together if _calm(r, run)]
    spoilt = [run for run in calm if _is_spoilt(r, run)]
    if not spoilt or (len(spoilt) == len(calm) == len(together)):
        return []
    bad = []
    for run in spoilt:
        outcome = r.outcome(run)
        ones = r.executions(run)
        hit = next((one for one in ones if one.interrupts or one.how != "ok"), None)
        bad.append(
            Violation(
                "trouble-of-another-run",
                f"run {run}, in which nothing went wrong, runs all its stages and ends ok",
                f"{len(ones)} executions of {len(r.program.stages)} stages; the run ended "
                f"{'' if outcome is None else outcome.status}",
                "" if hit is None else hit.stage,
                r.any_location(run),
                {"executions": len(ones), "stages": len(r.program.stages)},
                () if hit is None else (hit.start,),
            )
        )
    return bad


def _is_spoilt(r: Reading, run: str) -> bool:
    outcome = r.outcome(run)
    ones = r.executions(run)
    if outcome is None or outcome.status != "ok":
        return True
    if any(one.interrupts or one.how != "ok" for one in ones):
        return True
    return {one.stage for one in ones} != {stage.name for stage in r.program.stages}


def _outputs(r: Reading) -> list[Violation]:
    """Find outputs, in reports or as read by other stages, that are those of another run."""
    returned: dict[str, dict[str, list[tuple[int, Any]]]] = {}
    claimed: list[tuple[str, str, Any, int]] = []
    for i, entry in enumerate(r.entries):
        if entry.kind == "returned" and entry.run in r.runs:
            returned.setdefault(entry.stage, {}).setdefault(entry.run, []).append((i, entry.detail))
        elif entry.kind == "read" and entry.run in r.runs:
            claimed.append((entry.run, entry.detail[0], entry.detail[2], i))
    for stage, runs_of in returned.items():
        for run, mine in runs_of.items():
            outcome = r.outcome(run)
            report = None if outcome is None else outcome.stages.get(stage)
            if report is not None and report.status == "completed":
                claimed.append((run, stage, report.value, mine[-1][0]))
    bad: list[Violation] = []
    for run, stage, value, at in claimed:
        runs_of = returned.get(stage, {})
        if value is None or any(value == own for _, own in runs_of.get(run, ())):
            continue
        if r.before(run):
            continue  # what a redrive takes over is judged by PART-5
        theirs = [o for o, ones in runs_of.items() if any(value == one for _, one in ones)]
        if theirs:
            bad.append(
                Violation(
                    "output-of-another-run",
                    f"the output of stage {stage} in run {run} is what it returned there",
                    f"it is what it returned in run {theirs[0]}",
                    stage,
                    r.any_location(run),
                    {},
                    (at,),
                )
            )
    return bad


def _inputs(r: Reading) -> list[Violation]:
    """Find inputs that a stage was handed and that are another run's."""
    specs = {spec.id: spec for spec in r.plan.runs}
    bad: list[Violation] = []
    for i, entry in enumerate(r.entries):
        run = owner(entry.run, specs) if entry.kind == "input" else None
        if run is None:
            continue
        key, value = entry.detail
        if key not in specs[run].inputs or value == specs[run].inputs[key]:
            continue
        theirs = [o for o, spec in specs.items() if spec.inputs.get(key) == value]
        if theirs:
            bad.append(
                Violation(
                    "input-of-another-run",
                    f"run {run} is handed its own input {key!r}",
                    f"stage {entry.stage} was handed that of run {theirs[0]}",
                    entry.stage,
                    "",
                    {},
                    (i,),
                )
            )
    return bad


TENANT: tuple[Clause, ...] = (
    Clause(
        "TENANT-1",
        "TENANT",
        "let no value of one tenant be seen in another's context, outputs, events, logs, metrics "
        "or errors, under any interleaving of concurrent runs",
        "critical",
        "security",
        check_tenant_1,
        {
            "": "A value of one tenant reaches another",
            "leak-in-context": "A stage is handed a value of another tenant's run",
            "leak-in-outputs": "Outputs of one tenant hold values of another",
            "leak-in-events": "Events of one tenant carry values of another",
            "leak-in-logs": "Log records of one tenant hold values of another",
            "leak-in-metrics": "Measurements of one tenant hold values of another",
            "leak-in-errors": "Errors of one tenant quote values of another",
            "leak-in-spans": "Spans of one tenant hold values of another",
            "leak-in-store": "Stored rows of one tenant hold values of another",
            "wrong-tenant": "What comes of a run carries another tenant's name",
            "leak-under-load": "Under load one tenant gets values of another",
        },
        "One customer's data is shown to another.",
        "Keep whatever belongs to a run in objects that are made for that run, and read it there.",
        effort="medium",
        needs=frozenset({"run_inputs", "concurrent_runs"}),
        data_risk="high",
        security_risk="high",
        script_of_shape=scripts.tenant_1,
    ),
    Clause(
        "TENANT-2",
        "TENANT",
        "keep engine state (circuit breakers, caches, rate limits, registries) from carrying one "
        "tenant's trouble to another",
        "high",
        "reliability",
        check_tenant_2,
        {
            "": "One tenant's trouble is carried to another",
            "refused-for-another-circuit-breaker": "A circuit breaker that one tenant's failures "
            "opened cuts off another tenant",
            "refused-for-another-rate-limit": "One tenant uses up the rate limit of another",
            "output-of-another-tenant": "A cached output of one tenant is given to another",
        },
        "One customer's failures, or their load, become an outage for all.",
        "Make the tenant part of the key under which such state is kept.",
        needs=frozenset({"concurrent_runs", "tenancy"}),
        security_risk="medium",
        availability_risk="high",
        script_of_shape=scripts.tenant_2,
    ),
    Clause(
        "TENANT-3",
        "TENANT",
        "have cross-tenant reads and writes of stored data refused by the store itself (row-level "
        "security), not only by convention",
        "high",
        "security",
        check_tenant_3,
        {
            "": "The store lets one tenant get at another's rows",
            "foreign-rows-read": "A tenant's session with the store can read another's rows",
            "foreign-rows-changed": "A tenant's session with the store can change another's rows",
            "row-lost": "A tenant's rows are gone from the store",
            "row-foreign": "A tenant finds rows in the store that it did not put there",
        },
        "One query without its condition shows, or overwrites, every customer's data.",
        "Open each session as an unprivileged role that is bound to the run's tenant, and let the "
        "store's own policies decide.",
        effort="large",
        needs=frozenset({"tenant_store"}),
        data_risk="high",
        security_risk="high",
    ),
    Clause(
        "TENANT-4",
        "TENANT",
        "keep two concurrent runs of the same pipeline object apart in every respect",
        "critical",
        "correctness",
        check_tenant_4,
        {
            "": "Concurrent runs of one pipeline object are mixed up",
            "trouble-of-another-run": "A run is spoilt by another run of the same pipeline object",
            "output-of-another-run": "A run is given the output of another run",
            "input-of-another-run": "A run is given the input of another run",
        },
        "A pipeline object that is shared, as in every server, gives wrong answers under load.",
        "Keep no state of a run on the pipeline or on its stages.",
        effort="medium",
        needs=frozenset({"concurrent_runs"}),
        data_risk="high",
        security_risk="medium",
        workaround="Build a pipeline object of its own for each run.",
        script_of_shape=scripts.tenant_4,
    ),
)
