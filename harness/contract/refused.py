"""What the engine's own layers refused: that it is no success, and that there was a cause.

A stage is *refused* if it was its turn (its run was undisturbed and what it needs had completed)
and it did not run. A refusal has a cause if any layer of the engine's around the stage can have
one, by the most that an engine may count: each failure or timeout of the stage, each attempt
within a rate limit's window, any earlier execution under an idempotency key. Whose runs those were
is not asked here: that another tenant's are no cause is TENANT-2.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from harness.contract.beside import troubled_beside
from harness.contract.clause import Violation
from harness.contract.passage import ENGINES_OWN, layers_of
from harness.contract.reading import Ran, Reading
from harness.kernel.plan import Layer

__all__ = ["check_refused", "executions_for", "option", "tenant_of"]

# What an engine's layer does where the plan asks for nothing, and the plan's scenarios ask for.
DEFAULTS = {"threshold": 5, "reset_s": 30.0, "limit": 1, "window_s": 1.0}


def option(r: Reading, layer: Layer, name: str) -> Any:
    """Return a setting of an engine's layer: what the engine declares goes before the plan's."""
    declared = r.info.facts.get(layer.kind)
    if isinstance(declared, dict) and name in declared:
        return declared[name]
    return layer.options.get(name, DEFAULTS[name])


def tenant_of(r: Reading, run: str) -> str:
    return next(spec.tenant for spec in r.plan.runs if spec.id == run)


def executions_for(r: Reading, tenant: str, stage: str) -> list[Ran]:
    """Return a stage's executions in all runs of a tenant, by start."""
    return [one for one in r.executions() if one.stage == stage and tenant_of(r, one.run) == tenant]


def check_refused(r: Reading) -> tuple[list[Violation], int, int]:
    """Return violations, how many executions went through such layers, how many were refused."""
    own = [n for n in r.program.names if layers_of(r, n, *ENGINES_OWN)]
    bad: list[Violation] = []
    passed = refused = 0
    for run in r.runs if own else ():
        passed += sum((run, stage) in r.ran for stage in own)
        # What is told as completed without having run is looked at in `kept`.
        out = [
            stage
            for stage in own
            if (run, stage) not in r.ran
            and _its_turn(r, run, stage)
            and not _completed(r, run, stage)
        ]
        refused += len(out)
        caused = [stage for stage in out if _has_any_cause(r, run, stage)]
        # What another run's trouble kept out no layer did: that is TENANT-4's.
        beside = bool(out) and troubled_beside(r, run, r.runs[run].end_s)
        for stage in out:
            bad += _consequences(r, run, stage)
            # One refusal fails the run, and so may keep its other stages out.
            if stage not in caused and (not caused or r.policy() == "continue") and not beside:
                bad.append(_without_cause(r, run, stage))
    for stage in own:
        for layer in layers_of(r, stage, "circuit_breaker"):
            bad += _stayed_closed(r, stage, layer)
        for tenant in dict.fromkeys(spec.tenant for spec in r.plan.runs):
            ones = executions_for(r, tenant, stage)
            for layer in layers_of(r, stage, "rate_limit"):
                bad += _exceeded(r, ones, layer)
    return bad, passed, refused


def _completed(r: Reading, run: str, stage: str) -> bool:
    outcome = r.outcome(run)
    report = outcome.stages.get(stage) if outcome is not None else None
    return report is not None and report.status == "completed"


def _its_turn(r: Reading, run: str, stage: str) -> bool:
    """Say whether nothing but the engine's layers can have kept a stage from running."""
    facts = r.runs[run]
    outcome = r.outcome(run)
    if not facts.over or facts.cancels or outcome is None or r.timed_out(run):
        return False
    if outcome.status == "cancelled":
        return False  # a refusal is a failure or none: something else ended the run
    if r.before(run):
        return False  # what a redrive leaves out, or why it is refused, is PART-5's
    if r.all_of("layer.raise", run) or r.all_of("layer.deny", run):
        return False
    ended = {one.stage: one for one in r.executions(run)}
    # One that swallowed a cancel has not completed to the engine. A timeout may have been due
    # earlier than the journal says: the wait for a layer counts, and is in no journal.
    if any(one.how not in ("ok", "skip") or one.interrupts for one in ended.values()):
        return False
    return all(n in ended or _completed(r, run, n) for n in r.stage(stage).needs)


def _consequences(r: Reading, run: str, stage: str) -> list[Violation]:
    bad: list[Violation] = []
    outcome = r.outcome(run)
    assert outcome is not None  # it would not have been its turn
    at = r.runs[run].end
    ran = [one.stage for one in r.executions(run) if one.stage in r.program.descendants(stage)]
    if ran:
        bad.append(
            Violation(
                "dependents-ran",
                f"what needs stage {stage} does not run: the engine refused it",
                f"stage {ran[0]} ran",
                stage,
                "",
                {},
                (at,),
            )
        )
    if outcome.status == "ok" and stage not in outcome.stages:
        bad.append(
            Violation(
                "denial-untold",
                f"the outcome says that stage {stage} did not run: the engine refused it",
                "the run is reported as a success, and nothing is said of the stage",
                stage,
                "",
                {},
                (at,),
            )
        )
    return bad


def _without_cause(r: Reading, run: str, stage: str) -> Violation:
    kinds = ", ".join(one.kind.replace("_", " ") for one in layers_of(r, stage, *ENGINES_OWN))
    return Violation(
        "refused-without-cause",
        f"stage {stage} runs: its {kinds} can have nothing against it",
        f"run {run} was refused it",
        stage,
        r.any_location(run),
        {},
        (r.runs[run].end,),
    )


def _has_any_cause(r: Reading, run: str, stage: str) -> bool:
    return any(_has_cause(r, run, stage, one) for one in layers_of(r, stage, *ENGINES_OWN))


def _has_cause(r: Reading, run: str, stage: str, layer: Layer) -> bool:
    facts = r.runs[run]
    ones = [one for one in r.executions() if one.stage == stage and one.start < facts.end]
    if layer.kind == "idempotency":
        return bool(ones)
    if layer.kind == "rate_limit":
        since = facts.begin_s - float(option(r, layer, "window_s")) - r.tolerance_s
        attempts = [
            one
            for one in r.runs
            if one != run
            and 0 <= r.runs[one].begin < facts.end
            and (r.runs[one].end_s >= since or not r.runs[one].over)
        ]
        tried = sum(one.run in attempts and one.start_s >= since for one in ones)
        # What layers further in refused has passed it all the same.
        inner = (*r.all_of("layer.raise"), *r.all_of("layer.deny"))
        tried += sum(e.stage == stage and e.run in attempts and e.at_s >= since for e in inner)
        return max(len(attempts), tried) >= int(option(r, layer, "limit"))
    return _may_be_open(r, run, stage, ones, layer)


def _may_be_open(r: Reading, run: str, stage: str, ones: list[Ran], layer: Layer) -> bool:
    """Say whether a circuit can be open when a run begins, by the most that may be counted."""
    facts = r.runs[run]
    failed = [_counted_s(r, one) for one in ones if _counts(r, one)]
    failed += [e.at_s for e in r.all_of("layer.raise") if e.stage == stage and e.run in r.runs]
    before = sorted(at for at in failed if at <= facts.end_s + r.tolerance_s)
    threshold, reset_s = int(option(r, layer, "threshold")), float(option(r, layer, "reset_s"))
    if len(before) < threshold:
        return False
    # Long after the last failure it must let one try, unless a probe is under way.
    if facts.begin_s < before[-1] + reset_s + r.tolerance_s:
        return True
    probing_s = before[threshold - 1] + reset_s - r.tolerance_s
    return any(
        one.start_s >= probing_s and (one.how != "ok" or one.end > facts.begin) for one in ones
    )


def _counted_s(r: Reading, one: Ran) -> float:
    """Return when a failure counts, in seconds: one that was given up, when its run is over."""
    facts = r.runs[one.run]
    if one.ended and not (facts.over and facts.end < one.end):
        return one.end_s
    return facts.end_s


def _counts(r: Reading, one: Ran) -> bool:
    failed = one.how == "fail" or one.how.startswith("raise:") or one.self_cancelled
    return failed or r.by_timeout(one)


def _stayed_closed(r: Reading, stage: str, layer: Layer) -> list[Violation]:
    """A circuit, if it is all tenants' or one's, is open after so many failures of one tenant
    without a success of anybody's in between. It may have opened before, by failures of others
    or by such as an engine need not count: it is asked to be open from the earliest of these."""
    threshold, reset_s = int(option(r, layer, "threshold")), float(option(r, layer, "reset_s"))
    in_a_row: Counter[str] = Counter()
    # What a layer within the circuit refused, or failed over, may count as well.
    within = [e for run in r.runs for e in r.of("layer.raise", run, stage)]
    within += [e for run in r.runs for e in r.of("layer.deny", run, stage)]
    perhaps_s: list[float] = []
    ones = [one for one in r.executions() if one.stage == stage]
    for one in sorted((o for o in ones if o.ended), key=lambda o: o.end):
        tenant = tenant_of(r, one.run)
        if _counts(r, one):
            perhaps_s.append(one.end_s)
        elif one.how == "ok":
            perhaps_s.clear()
        if not one.failed_by_itself or one.self_cancelled:
            in_a_row.clear()
            continue
        in_a_row[tenant] += 1
        if in_a_row[tenant] < threshold or not r.runs[one.run].over:
            continue
        since_s = sorted([*perhaps_s, *(e.at_s for e in within if e.at_s <= one.end_s)])
        for later in executions_for(r, tenant, stage):
            late_s = later.start_s - since_s[threshold - 1]
            begun = r.runs[later.run].begin > r.runs[one.run].end
            if begun and late_s < reset_s - r.tolerance_s:
                return [
                    Violation(
                        "circuit-stayed-closed",
                        f"after {threshold} failures in a row stage {stage} is cut off for "
                        f"{reset_s:g} s",
                        f"it ran again {late_s:.3g} s later",
                        stage,
                        "",
                        {"failures_in_a_row": in_a_row[tenant]},
                        (one.end, later.start),
                    )
                ]
        return []
    return []


def _exceeded(r: Reading, ones: list[Ran], layer: Layer) -> list[Violation]:
    """A fixed window and a token bucket let through up to twice the limit, but no more."""
    limit, window_s = int(option(r, layer, "limit")), float(option(r, layer, "window_s"))
    starts = sorted(one.start_s for one in ones)
    for first, last in zip(starts, starts[2 * limit :], strict=False):
        if last - first < window_s - r.tolerance_s:
            return [
                Violation(
                    "rate-exceeded",
                    f"at most {limit} executions of stage {ones[0].stage} each {window_s:g} s",
                    f"more than {2 * limit} began within {last - first:.3g} s",
                    ones[0].stage,
                    "",
                    {"began": len(starts), "limit": limit},
                    (ones[0].start,),
                )
            ]
    return []
