"""TIME: what an engine must do with timeouts.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from harness.contract import scripts
from harness.contract.beside import troubled_beside
from harness.contract.clause import Clause, Judgement, Violation, holds, untested, violated
from harness.contract.reading import CLOSE_S, Ran, Reading, Scope

__all__ = ["TIME"]


def _due(r: Reading, one: Ran) -> float | None:
    """Return when the engine's timeout of this execution is due, or None."""
    limit = r.usable_timeout(one.stage)
    return None if limit is None else one.start_s + limit


def _other_cause(r: Reading, one: Ran, before_s: float) -> bool:
    """Say whether something else (a cancel, another stage's end) may end it before `before_s`; an
    odd timeout, of which TIME-5 says what an engine may make, counts as such."""
    return bool(_odd_timeouts(r)) or _other_end(r, one, before_s)


def _odd_timeouts(r: Reading) -> dict[str, float]:
    """Return the stages whose timeout is not above 0, with it, in seconds."""
    limits = {s.name: r.timeout_of(s.name) for s in r.program.stages}
    return {name: t for name, t in limits.items() if t is not None and not t > 0}


def _other_end(r: Reading, one: Ran, before_s: float) -> bool:
    if r.layers_disturb(one.run):
        return True
    at, kind = r.first_cause(one.run)
    if kind and r.time_of(at) <= before_s and not (kind == "fail" and at == one.end):
        return True
    if any(
        other is not one and other.attempt_failed and other.end_s <= before_s
        for other in map(_last, _attempts(r, one.run))
    ):
        return True  # that it was to be tried again, and was not, is RETRY-1's
    if any(
        child.self_cancelled and child.ended and child.end_s <= before_s
        for (run, _), ones in r.ran.items()
        if run.startswith(f"{one.run}/")
        for child in ones
    ):
        return True  # what a child's stage raised comes out of the subpipeline
    # Of a tool that tasks of its own call too, it cannot be told whose timeout it was: then the
    # stage may have failed by itself, though it was interrupted.
    unclear = {stage for stage, _ in r.shape.own_calls}
    if unclear and any(
        other is not one
        and other.how.startswith("raise:")
        and other.end_s <= before_s
        and other.stage in unclear
        for other in r.executions(one.run)
    ):
        return True
    return r.other_timeout(one, before_s)


def _attempts(r: Reading, run: str) -> list[list[Ran]]:
    """Return, for each stage of a run that declares a retry, its executions."""
    tried = [name for name in r.program.names if name in r.shape.attempts]
    return [r.ran[run, name] for name in tried if (run, name) in r.ran]


def _last(ones: list[Ran]) -> Ran:
    return ones[-1]


def _ends_at_timeout(r: Reading, *, own_only: bool) -> Judgement:
    """TIME-1 and TIME-7: a stage that outlives T is ended at T, and the engine says so."""
    bad: list[Violation] = []
    due_count = 0
    for one in r.executions():
        due = _due(r, one)
        if due is None or (own_only and r.stage(one.stage).timeout_s is None):
            continue
        limit = due - one.start_s
        if one.ended and one.end_s < due - CLOSE_S:
            continue
        if one.called_off >= 0:
            continue  # what the engine sent then may have come together with that
        if _other_cause(r, one, due - CLOSE_S):
            continue
        first = r.time_of(one.interrupts[0]) if one.interrupts else None
        if one.in_child(due) and r.stubborn_child(one.run):
            continue  # it waited for a stage that swallowed its cancellation
        if one.in_child(due) and not one.ended and r.runs[one.run].over:
            continue  # what reached it there it had not noted when its run was over: CANCEL-6
        if first is not None and first < due - CLOSE_S:
            continue  # ended too early: TIME-2
        if first is None and one.ended and one.end_s <= due + r.tolerance_s:
            continue  # a tie, TIME-2
        due_count += 1
        expected = f"stage {one.stage} is ended at its timeout of {limit:g} s"
        if first is None:
            if not one.ended and r.record.ended == "over" and one.in_child(due):
                continue  # it was to note its end when its subpipeline had ended: TIME-3, CANCEL-6
            if not one.ended and r.record.ended != "over":
                actual = "it was never ended; the run hung"
            elif not one.ended:
                actual = "it was still running when the run was over"
            else:
                actual = f"it ran on and ended by itself after {one.end_s - one.start_s:g} s"
            bad.append(
                Violation(
                    "not-ended",
                    expected,
                    actual,
                    one.stage,
                    r.left_location(one.run, one.stage),
                    {"timeout_s": limit},
                    (one.start,),
                )
            )
        elif first > due + r.tolerance_s and not one.in_child(due):
            # (What reaches a stage in a subpipeline it notes late; TIME-10 looks into that.)
            ran = first - one.start_s
            bad.append(
                Violation(
                    "late",
                    expected,
                    f"it was ended after {ran:g} s",
                    one.stage,
                    r.any_location(one.run),
                    {"timeout_s": limit, "ended_after_s": round(ran, 6)},
                    (one.start, one.interrupts[0]),
                )
            )
        else:
            bad += _attribution(r, one, limit)
    if not due_count:
        return untested()
    return violated(bad, timeouts_due=due_count)


def _attribution(r: Reading, one: Ran, limit: float) -> list[Violation]:
    outcome = r.outcome(one.run)
    if outcome is None or r.runs[one.run].cancels or one.again or not r.told(one.run):
        return []
    if outcome.status == "cancelled" and troubled_beside(r, one.run, one.end_s):
        return []
    if one.swallowed:
        return []  # it went on and ended by its own word, which asyncio.timeout() lets stand, too
    mine = [f for f in outcome.failures if f.stage == one.stage]
    if any(f.kind == "timeout" and _same(f.timeout_s, limit) for f in mine):
        return []
    if _idle_before(r, one, limit):
        return []  # its idle timeout may have ended it first, and how that is told is TIME-9's
    at = (one.start, one.interrupts[0])
    where = outcome.raised.location if outcome.raised else ""
    expected = f"the engine says that stage {one.stage} timed out after {limit:g} s"
    if not mine and any(f.stage not in (None, one.stage) for f in outcome.failures):
        return []  # another failure of the same tick is reported instead: PART-4
    if not mine and outcome.status == "cancelled" and _called_off_together(r, one, limit):
        return []  # what an engine tells of one instant is its own choice
    if not mine:
        told = [f for f in outcome.failures if f.kind == "timeout"]
        named = told[0].message if told else f"the run ended {outcome.status}"
        return [Violation("stage-not-named", expected, named, one.stage, where, {}, at)]
    if mine[0].kind != "timeout":
        if one.how.startswith("raise:"):
            return []  # an error of its own came out, and asyncio.timeout() lets that stand, too
        actual = f"it reports: {mine[0].message}"
        return [Violation("not-called-timeout", expected, actual, one.stage, where, {}, at)]
    actual = f"it names {mine[0].timeout_s} s" if mine[0].timeout_s is not None else "no T named"
    return [Violation("timeout-not-named", expected, actual, one.stage, where, {}, at)]


def _called_off_together(r: Reading, one: Ran, limit: float) -> bool:
    """Say whether another stage asked to end the run, or raised `CancelledError` by itself, in the
    instant in which an execution's timeout of `limit` seconds was due."""
    due_s = one.start_s + limit
    return any(
        other is not one
        and (other.how == "cancel_run" or other.self_cancelled)
        and abs(other.end_s - due_s) <= r.tolerance_s
        for other in r.executions(one.run)
    )


def _idle_before(r: Reading, one: Ran, limit: float) -> bool:
    """Say whether a stage's idle timeout was due no later than its timeout of `limit` seconds;
    one that waits for a subpipeline notes what reached it only later."""
    idle = r.stage(one.stage).idle_timeout_s
    if idle is None or not one.children:
        return False
    due_s = one.start_s + limit
    return r.beat_before(one, due_s) + idle <= due_s + r.tolerance_s


def _same(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) < 1e-3


def check_time_1(r: Reading) -> Judgement:
    return _ends_at_timeout(r, own_only=False) if r.sound else untested()


def check_time_2(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    tested = ties = 0
    for one in r.executions():
        due = _due(r, one)
        outcome = r.outcome(one.run)
        if due is None or outcome is None or r.layers_disturb(one.run):
            continue
        if r.stage(one.stage).idle_timeout_s is not None:
            continue  # which of the two timeouts it was is TIME-9's to judge
        if r.of("consume.stop", one.run, one.stage) or one.called_off >= 0:
            continue  # its consumer may have stopped it: STREAM-4; or somebody outside
        limit = due - one.start_s
        at = (one.start, one.end)
        if one.interrupts and not one.swallowed:
            first = r.time_of(one.interrupts[0])
            # A timeout may hold for all attempts of a stage together.
            whole = r.ran[one.run, one.stage][0].start_s + limit
            early = first < min(due, whole) - CLOSE_S
            # Of a tool that tasks of the stage's own call as well, it cannot be told whose
            # timeout it was.
            unclear = any(stage == one.stage for stage, _ in r.shape.own_calls)
            early = early and not unclear and not r.own_scope_due(one, one.interrupts[0])
            early = early and not troubled_beside(r, one.run, first)
            if early and not _other_cause(r, one, first + CLOSE_S):
                tested += 1
                bad.append(
                    Violation(
                        "ended-early",
                        f"stage {one.stage} may run for {limit:g} s",
                        f"it was interrupted after {first - one.start_s:g} s",
                        one.stage,
                        r.any_location(one.run),
                        {"timeout_s": limit},
                        at,
                    )
                )
            continue
        if one.how not in ("ok", "skip") or one.end_s > due + r.tolerance_s:
            continue
        if any(r.by_timeout(other) for other in r.ran[one.run, one.stage]):
            continue  # an earlier attempt timed out, and an engine may say so
        tested += 1
        report = outcome.stages.get(one.stage)
        timed_out = any(f.stage == one.stage and f.kind == "timeout" for f in outcome.failures) or (
            report is not None and report.status == "timed_out"
        )
        completed = report is not None and report.status in ("completed", "skipped")
        spent = f"stage {one.stage} finished after {one.end_s - one.start_s:g} of {limit:g} s"
        if one.end_s < due - CLOSE_S:
            if timed_out:
                bad.append(
                    Violation(
                        "timed-out-though-finished",
                        f"{spent} and counts as completed",
                        "the engine says that it timed out",
                        one.stage,
                        r.any_location(one.run),
                        {"timeout_s": limit},
                        at,
                    )
                )
            continue
        ties += 1
        if timed_out and completed:
            bad.append(_tie(one, spent, "both-verdicts", "it counts as completed and timed out"))
        elif not timed_out and not completed and outcome.status == "ok":
            bad.append(_tie(one, spent, "no-verdict", "it counts as neither"))
    if not tested:
        return untested()
    return violated(bad, finished_in_time=tested, ties=ties)


def _tie(one: Ran, spent: str, shape: str, actual: str) -> Violation:
    return Violation(
        shape, f"{spent} and has one verdict", actual, one.stage, "", {}, (one.start, one.end)
    )


def check_time_3(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    siblings = 0
    policy = r.policy()
    for run, facts in r.runs.items():
        ones = r.executions(run)
        if r.layers_disturb(run):
            continue
        gone = [one for one in ones if r.gone_by_timeout(one)]
        timed = {id(one): r.time_of(r.timed_out_at(one)) for one in ones if r.by_timeout(one)}
        if not gone or facts.cancels or not facts.over or r.first_cause(run)[1]:
            continue  # what else ended the run has its own rules for siblings
        first = min(gone, key=r.timed_out_at)
        if first.children:
            continue  # it noted its end only when its subpipeline had ended
        since = r.timed_out_at(first)
        for one in ones:
            together = timed.get(id(one), math.inf) <= r.time_of(since) + r.tolerance_s
            if one is first or together or not r.overlaps(one, since):
                continue
            if one.in_child(r.time_of(since)):
                continue  # what reached it shows in the subpipeline: CANCEL-6
            if r.of("consume.stop", run, one.stage) or one.called_off >= 0:
                continue  # its consumer may have stopped it, or somebody outside
            siblings += 1
            bad += _sibling(r, one, first, since, policy)
    if not siblings:
        return untested()
    return violated(bad, siblings_running=siblings)


def _sibling(r: Reading, one: Ran, first: Ran, since: int, policy: str) -> list[Violation]:
    facts = r.runs[one.run]
    timed = f"when stage {first.stage} timed out"
    at = (since, one.start, facts.end)
    outcome = r.outcome(one.run)
    reported = outcome is not None and one.stage in outcome.still_running
    if not one.ended or one.end > facts.left:
        if one.swallowed and reported:
            return []
        if one.interrupts and facts.end_s >= (
            r.time_of(one.interrupts[0]) + r.plan.cleanup_grace_s - r.tolerance_s
        ):
            return []  # the run waited for it for all of the grace: CANCEL-4
        return [
            Violation(
                "sibling-left-running",
                f"stage {one.stage}, running {timed}, has ended when the run is over",
                "the run was over while it was still running",
                one.stage,
                r.left_location(one.run, one.stage),
                {},
                at,
            )
        ]
    fate = [i for i in one.interrupts if r.time_of(i) >= r.time_of(since) - CLOSE_S]
    # An engine may wait for the timed-out stage's own cleanup before it cancels the others.
    # One that is still at it may take its grace for that.
    ended_s = first.end_s if first.ended else r.time_of(since) + r.plan.cleanup_grace_s
    bound_s = max(r.time_of(since), ended_s) + r.tolerance_s
    if first.swallowed:
        bound_s = max(bound_s, r.time_of(since) + r.plan.cleanup_grace_s + 2 * r.tolerance_s)
    # One that was told to end before is at it. What reached it now may have been sent by a scope
    # of its own that was due as well: nobody can tell.
    told = any(
        r.time_of(i) <= bound_s and (i in fate or not r.own_scope_due(one, i))
        for i in one.interrupts
    )
    if policy == "cancel" and one.end_s > bound_s and not told:
        return [
            Violation(
                "sibling-not-cancelled",
                f"stage {one.stage} is cancelled {timed} (declared policy)",
                "it ran on",
                one.stage,
                "",
                {},
                at,
            )
        ]
    if policy == "continue" and fate and one.how == "cancelled" and not r.by_timeout(one):
        return [
            Violation(
                "sibling-cancelled",
                f"stage {one.stage} goes on {timed} (declared policy)",
                "it was cancelled",
                one.stage,
                "",
                {},
                at,
            )
        ]
    return []


def check_time_4(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    expired = own_errors = 0
    for scope in r.scopes:
        due = scope.at_s + scope.seconds
        if _left_by_another(r, scope):
            continue
        if scope.expired >= 0:
            expired += 1
            if scope.expired_s < due - CLOSE_S:
                bad.append(_scope_bad(r, scope.stage, scope.label, "expired-early", scope.at))
    scopes: dict[tuple[str, str], list[Scope]] = {}
    for scope in r.scopes:
        scopes.setdefault((scope.run, scope.stage), []).append(scope)
    for one in r.executions():
        outcome = r.outcome(one.run)
        if outcome is None or r.runs[one.run].cancels or r.layers_disturb(one.run):
            continue
        mine = scopes.get((one.run, one.stage), [])
        inner = any(s.expired >= 0 for s in mine)
        limit = r.usable_timeout(one.stage)
        in_time = limit is None or one.end_s < one.start_s + limit - CLOSE_S
        if not one.ended or one.interrupts or not in_time:
            continue
        others = [o for o in r.ran[one.run, one.stage] if o is not one]
        tools = any(stage == one.stage for stage, _ in r.shape.tool_limits)
        if others and (tools or any(o.interrupts for o in others)):
            continue  # what the engine says of a timeout may be about another attempt
        own_error = one.how == "raise:TimeoutError"
        own_errors += own_error
        claims = [
            f
            for f in outcome.failures
            if f.stage == one.stage and f.kind == "timeout" and f.timeout_s is not None
        ]
        if own_error and claims:
            bad.append(
                Violation(
                    "own-timeout-taken-for-engines",
                    f"stage {one.stage} failed by a TimeoutError of its own code, after "
                    f"{one.end_s - one.start_s:g} s",
                    f"the engine says: {claims[0].message}",
                    one.stage,
                    r.any_location(one.run),
                    {"claimed_timeout_s": claims[0].timeout_s},
                    (one.start, one.end),
                )
            )
        elif inner and one.how == "ok" and claims:
            bad.append(_scope_bad(r, one.stage, mine[0].label, "inner-taken-for-outer", one.end))
        elif inner and one.how == "ok" and _only_failure(outcome, one.stage):
            bad.append(_scope_bad(r, one.stage, mine[0].label, "outer-scope-broken", one.end))
    if not expired and not own_errors:
        return untested()
    return violated(bad, inner_timeouts=expired, own_timeout_errors=own_errors)


def _only_failure(outcome: object, stage: str) -> bool:
    failures = getattr(outcome, "failures", ())
    return bool(failures) and all(f.stage == stage for f in failures)


def _scope_bad(r: Reading, stage: str, label: str, shape: str, at: int) -> Violation:
    says = {
        "expired-early": "it expired before its time",
        "inner-taken-for-outer": "the engine took it for the stage's own timeout",
        "outer-scope-broken": "the stage went on and finished, but the engine says it failed",
    }
    return Violation(
        shape,
        f"the inner timeout {label} of stage {stage} ends only its own block",
        says[shape],
        stage,
        "",
        {},
        (at,),
    )


def _is_bad(limit: object) -> bool:
    return (
        isinstance(limit, bool)
        or not isinstance(limit, (int, float))
        or math.isnan(limit)
        or limit < 0
    )


def check_time_5(r: Reading) -> Judgement:
    if r.record.journal.overflowed:
        return untested()
    odd = _odd_timeouts(r)
    if not odd:
        return untested()
    refusal = r.record.build_error
    outcomes = list(r.record.outcomes.values())
    if refusal is None and not r.ran and outcomes and outcomes[0].raised is not None:
        refusal = outcomes[0].raised.message
    own = [s for s in odd if r.stage(s).timeout_s is not None]
    if refusal is not None:
        # Of several that are bad, an engine may name the first.
        unnamed = [s for s in own if _is_bad(odd[s])]
        if unnamed and not any(s in refusal for s in own):
            return violated(
                [
                    Violation(
                        "refusal-names-no-stage",
                        f"the refusal of a timeout of {odd[unnamed[0]]} names the stage",
                        f"it says: {refusal[:200]}",
                        unnamed[0],
                    )
                ],
                odd_timeouts=len(odd),
            )
        return holds(odd_timeouts=len(odd))
    bad: list[Violation] = []
    seen = False
    for stage, limit in odd.items():
        if _is_bad(limit):
            bad.append(
                Violation(
                    "bad-timeout-accepted",
                    f"a timeout of {limit} is refused",
                    "the pipeline was built and run with it",
                    stage,
                )
            )
            continue
        for one in r.executions():
            if one.stage != stage or one.children or _other_end(r, one, one.start_s):
                continue
            seen = True
            ran = (one.end_s if one.ended else r.record.took_s) - one.start_s
            cut = bool(one.interrupts) and (
                r.time_of(one.interrupts[0]) <= one.start_s + r.tolerance_s
            )
            if not cut and (ran > r.tolerance_s or not one.ended):
                bad.append(
                    Violation(
                        "zero-means-none",
                        f"stage {stage} with a timeout of 0 ends at once, or is refused at build",
                        f"it ran for {ran:g} s as if it had no timeout",
                        stage,
                        "",
                        {"ran_s": round(ran, 6)},
                        (one.start, one.end),
                    )
                )
    if not bad and not seen:
        return untested()
    return violated(bad, odd_timeouts=len(odd))


MANY = 5


def _lasts_until(r: Reading, run: str, at_s: float) -> bool:
    """Say whether a run is still going on, and looked at, at a time: a stage that is left when its
    run is over is another defect, and nobody waits for its timeout."""
    facts = r.runs.get(run.split("/", 1)[0])
    over_s = facts.end_s if facts is not None and facts.over else r.record.took_s
    return over_s >= at_s - r.tolerance_s


def _after_another(r: Reading, one: Ran, position: int) -> bool:
    """Say whether another stage of its run had ended, and not well, when something reached one."""
    return any(
        other is not one and 0 <= other.end < position and other.how not in ("ok", "skip")
        for other in r.executions(one.run)
    )


def check_time_6(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    due = [
        one
        for one in r.executions()
        if (at := _due(r, one)) is not None
        and _lasts_until(r, one.run, at)
        and not (one.ended and not one.interrupts and one.end_s <= at + r.tolerance_s)
        and not r.runs[one.run].cancels
        and not one.in_child(at)
        and one.called_off < 0
    ]
    scopes = [
        s
        for s in r.scopes
        if s.left < 0
        and _lasts_until(r, s.run, s.at_s + s.seconds)
        and not _left_by_another(r, s)
        and not any(one.interrupts for one in r.ran.get((s.run, s.stage), ()))
        and not (s.run in r.runs and r.runs[s.run].cancels)
    ]
    if max(len(due), len(scopes)) < MANY:
        return untested()
    bad: list[Violation] = []
    late = [
        one
        for one in due
        if not one.interrupts
        or r.time_of(one.interrupts[0])
        > one.start_s + (r.timeout_of(one.stage) or 0) + r.tolerance_s
    ]
    if late:
        bad.append(
            Violation(
                "some-not-fired",
                f"each of {len(due)} concurrent timeouts ends its stage in time",
                f"{len(due) - len(late)} of {len(due)} did",
                late[0].stage,
                r.left_location(late[0].run, late[0].stage),
                {"fired": len(due) - len(late), "due": len(due)},
                tuple(one.start for one in late[:5]),
            )
        )
    # What reached it before its timeout was due was sent by somebody else, and so may be what
    # came when another stage had ended badly.
    sent = {
        id(one): [
            i
            for i in one.interrupts
            if r.time_of(i) >= (_due(r, one) or 0.0) - CLOSE_S
            and not r.own_scope_due(one, i)
            and not (r.policy() == "cancel" and _after_another(r, one, i))
        ]
        for one in due
    }
    twice = [one for one in due if len(sent[id(one)]) > 1 and not one.swallowed]
    if twice:
        bad.append(
            Violation(
                "fired-twice",
                "a timeout reaches its stage once",
                f"{len(twice)} of {len(due)} stages were interrupted more than once",
                twice[0].stage,
                "",
                {"twice": len(twice), "due": len(due)},
                tuple(twice[0].interrupts[:5]),
            )
        )
    off = [s for s in scopes if s.expired < 0 or s.expired_s > s.at_s + s.seconds + r.tolerance_s]
    # A scope's own block may take time to clean up before it counts as expired.
    off = [s for s in off if s.expired < 0 and not _around(r, s)]
    if off and len(scopes) >= MANY:
        bad.append(
            Violation(
                "some-not-fired",
                f"each of {len(scopes)} concurrent timeouts ends its block",
                f"{len(scopes) - len(off)} of {len(scopes)} did",
                off[0].stage,
                r.left_location(off[0].run, off[0].stage),
                {"fired": len(scopes) - len(off), "due": len(scopes)},
                tuple(s.at for s in off[:5]),
            )
        )
    return violated(bad, timeouts_due=max(len(due), len(scopes)))


def _around(r: Reading, inner: Scope) -> bool:
    """Say whether a scope of the same stage was due in the same instant, and expired: of nested
    ones asyncio lets the outermost tell."""
    return any(
        one is not inner
        and (one.run, one.stage) == (inner.run, inner.stage)
        and one.expired >= 0
        and abs(one.at_s + one.seconds - inner.at_s - inner.seconds) <= r.tolerance_s
        for one in r.scopes
    )


def _left_by_another(r: Reading, scope: Scope) -> bool:
    """Say whether a TimeoutError of something else came out of a scope before it was due."""
    due_s = scope.at_s + scope.seconds
    return scope.leaked >= 0 and r.time_of(scope.leaked) < due_s - CLOSE_S


def check_time_7(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    judged = _ends_at_timeout(r, own_only=True)
    declared = {s.name: s.timeout_s for s in r.program.stages if s.timeout_s is not None}
    bad = list(judged.violations)
    for run, facts in r.runs.items():
        outcome = r.outcome(run)
        if outcome is None or not declared or (facts.cancels and outcome.timeouts is None):
            continue  # a caller who is cancelled is told nothing of the pipeline
        shown = outcome.timeouts or {}
        for stage, limit in declared.items():
            if not _same(shown.get(stage), limit):
                bad.append(
                    Violation(
                        "not-in-description",
                        f"the pipeline's description shows {limit:g} s for stage {stage}",
                        f"it shows {shown.get(stage)}",
                        stage,
                    )
                )
    if judged.verdict == "untested":
        return judged
    return violated(bad, **dict(judged.figures))


def check_time_8(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    calls: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for stage, step in r.program.walk():
        if step.op == "call":
            calls.setdefault((stage.name, step.args["tool"]), []).append(step.args)
    # Where one tool is called by several steps, the journal does not say which step it was.
    limits = {
        key: args[0]
        for key, args in calls.items()
        if len(args) == 1 and isinstance(args[0]["timeout_s"], float)
    }
    bad: list[Violation] = []
    due_count = 0
    begun: dict[tuple[str, str, object], tuple[int, float]] = {}
    for i, e in enumerate(r.entries):
        if e.kind == "call.begin":
            begun[e.run, e.stage, e.detail] = (i, e.at_s)
        elif e.kind == "call.end":
            tool, number, how = e.detail
            args = limits.get((e.stage, tool))
            start = begun.pop((e.run, e.stage, (tool, number)), None)
            if args is None or start is None or isinstance(args["seconds"], tuple):
                continue
            limit = args["timeout_s"]
            if args["seconds"] <= limit + r.tolerance_s or how == "cancelled":
                continue
            due_count += 1
            took = e.at_s - start[1]
            allowed = limit + r.tolerance_s + (_longest(args["cleanup_s"]) + r.tolerance_s)
            if how != "timeout" or took > allowed:
                bad.append(
                    Violation(
                        "tool-timeout-not-kept",
                        f"a call of {tool} ends at its own timeout of {limit:g} s",
                        f"it ended {how} after {took:g} s",
                        e.stage,
                        "",
                        {"timeout_s": limit, "took_s": round(took, 6)},
                        (start[0], i),
                    )
                )
    return violated(bad, calls_due=due_count) if due_count else untested()


def _longest(duration: float | tuple[float, ...]) -> float:
    return max(duration) if isinstance(duration, tuple) else duration


def check_time_9(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    outlived = silent = 0
    for one in r.executions():
        idle = r.stage(one.stage).idle_timeout_s
        if idle is None or idle <= 0 or r.runs[one.run].cancels or one.swallowed or one.children:
            continue
        if one.called_off >= 0:
            continue
        if r.layers_disturb(one.run) or r.of("consume.stop", one.run, one.stage):
            continue  # what ended it may be what a layer did elsewhere, or its consumer
        noted = [e.at_s for e in r.of("heartbeat", one.run, one.stage)]
        if len(r.ran[one.run, one.stage]) > 1:  # those of other attempts are not this one's
            noted = [b for b in noted if one.start_s <= b and not (one.ended and b > one.end_s)]
        sent = [i for i in one.interrupts if not r.own_scope_due(one, i)]
        if one.interrupts and not sent:
            continue  # its own timeout, or a tool's
        end = r.time_of(sent[0]) if sent else one.end_s
        if not one.ended and not sent:
            end = r.record.took_s
        # One that comes in the tick of the timeout may be too late.
        beats = [one.start_s, *(b for b in noted if b < end - CLOSE_S)]
        marks = [*beats, end]
        gap_at = next(
            (a for a, b in pairwise(marks) if b - a > idle + r.tolerance_s),
            None,
        )
        if one.interrupts:
            silent += 1
            last = max(b for b in beats if b <= end)
            if r.by_timeout(one) and end < last + idle - CLOSE_S:
                continue  # its other timeout was due
            if end < last + idle - CLOSE_S and troubled_beside(r, one.run, end):
                continue
            if end < last + idle - CLOSE_S and not _other_cause(r, one, end):
                bad.append(_idle(one, "ended-though-alive", f"it was ended {end - last:g} s after"))
                continue
        if gap_at is not None:
            silent += 1
            bad.append(_idle(one, "silent-not-ended", "it ran on without a heartbeat"))
        elif not one.interrupts and end - one.start_s > idle + r.tolerance_s:
            outlived += 1
    if not outlived and not silent:
        return untested()
    return violated(bad, outlived_by_heartbeat=outlived, silent_stages=silent)


def _idle(one: Ran, shape: str, actual: str) -> Violation:
    return Violation(
        shape,
        f"stage {one.stage} lives while it heartbeats and is ended when it stops",
        f"{actual} (a heartbeat)" if shape == "ended-though-alive" else actual,
        one.stage,
        "",
        {},
        (one.start, one.end),
    )


def check_time_10(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    due_count = 0
    for (run, stage), ones in r.ran.items():
        parent_run = run.rsplit("/", 1)[0]
        if run in r.runs or parent_run not in r.runs:
            continue
        for child in ones:
            parents = [
                p
                for p in r.executions(parent_run)
                if p.start < child.start and (p.end < 0 or p.end > child.start)
            ]
            name = run.rsplit("/", 1)[1].split("#", 1)[0]
            dues = [(_due(r, p), p) for p in parents if _spawns(r, p.stage, name)]
            for due, parent in dues:
                if due is None or (child.ended and child.end_s < due - CLOSE_S):
                    continue
                if child.start_s >= due - CLOSE_S or parent.swallowed or child.in_child(due):
                    continue  # the parent went on after its deadline: not the engine's doing
                if child.called_off >= 0 or parent.called_off >= 0:
                    continue
                if child.ended and child.end_s <= due + r.tolerance_s and not child.interrupts:
                    continue  # a tie
                in_task = (parent.stage, name) in r.shape.own_children
                if in_task and r.shape.detaches:
                    continue  # the stage had let go of the task that runs it, or may have
                if in_task and parent.interrupts and child.ended and child.end_s <= parent.end_s:
                    continue  # the parent was told, and cleaned up before it ended its own task
                due_count += 1
                cut = r.time_of(child.interrupts[0]) if child.interrupts else None
                # What reached it then may have been sent by a scope of its own as well.
                noted = (e.at_s for e in r.of("interrupt", run, stage))
                reached = any(due - CLOSE_S <= at_s <= due + r.tolerance_s for at_s in noted)
                if not reached and (cut is None or cut > due + r.tolerance_s):
                    actual = "it ran on" if cut is None else f"it was ended {cut - due:g} s later"
                    bad.append(
                        Violation(
                            "deadline-not-handed-down",
                            f"stage {stage} of the subpipeline ends with the deadline of "
                            f"{parent.stage}",
                            actual,
                            stage,
                            r.left_location(parent_run, stage),
                            {},
                            (parent.start, child.start),
                        )
                    )
    return violated(bad, child_deadlines_due=due_count) if due_count else untested()


def _spawns(r: Reading, stage: str, child: str) -> bool:
    return any(
        s.name == stage and one.op == "subpipeline" and one.args["program"].name == child
        for s, one in r.program.walk()
    )


def check_time_11(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    due_count = 0
    for one in r.executions():
        due = _due(r, one)
        if due is None or one.swallowed or one.called_off >= 0 or r.runs[one.run].cancels:
            continue
        if one.in_child(due):
            continue  # when it was told shows only later
        began = [
            e
            for e in r.of("thread.begin", one.run, one.stage)
            if one.start_s <= e.at_s < due - CLOSE_S < e.at_s + e.detail
        ]
        if not began:
            continue
        done_s = began[0].at_s + began[0].detail
        if done_s <= due + r.tolerance_s or _other_cause(r, one, due - CLOSE_S):
            continue
        due_count += 1
        facts = r.runs[one.run]
        at = (one.start, facts.end)
        told_s = r.time_of(one.interrupts[0]) if one.interrupts else math.inf
        waited = one.end_s >= done_s - CLOSE_S and told_s > due + r.tolerance_s
        # One that was told, and is left at its cleanup when the run is over, was not waited for.
        held = not one.ended and min(told_s, facts.end_s) > due + r.tolerance_s
        if not facts.over or held or waited:
            bad.append(
                Violation(
                    "hung-on-thread",
                    f"the run goes on when stage {one.stage} times out, though its thread works on",
                    "the run waited for the thread",
                    one.stage,
                    r.left_location(one.run, one.stage),
                    {},
                    at,
                )
            )
            continue
        outcome = r.outcome(one.run)
        # An engine can name only threads that were started through it.
        still = facts.end_s < done_s - CLOSE_S and "worker_thread" in r.info.capabilities
        if still and (outcome is None or one.stage not in outcome.still_running):
            bad.append(
                Violation(
                    "thread-not-reported",
                    f"the engine says that the thread of stage {one.stage} is still running",
                    "it says nothing of it",
                    one.stage,
                    r.any_location(one.run),
                    {},
                    at,
                )
            )
    return violated(bad, threads_past_timeout=due_count) if due_count else untested()


TIME: tuple[Clause, ...] = (
    Clause(
        "TIME-1",
        "TIME",
        "end a stage that outlives its timeout T at T, and say which stage and which T",
        "high",
        "reliability",
        check_time_1,
        {
            "": "A stage outlives its timeout",
            "late": "A timeout fires late",
            "early": "A timeout fires early",
            "twice": "A stage is timed out twice",
            "stage-not-named": "A timeout is reported without the stage's name",
            "timeout-not-named": "A timeout is reported without its value",
            "not-called-timeout": "A timeout is reported as some other failure",
        },
        "A stage that hangs holds its run, and what the run holds, for as long as it likes.",
        "Run every stage under a deadline and carry stage name and timeout in the error.",
        needs=frozenset({"stage_timeout"}),
        availability_risk="high",
        workaround="Put asyncio.timeout() around the work inside the stage.",
        script_of_shape=scripts.time_1,
    ),
    Clause(
        "TIME-2",
        "TIME",
        "leave a stage that finishes before T alone, and give one that finishes in the very tick "
        "in which T expires one verdict",
        "high",
        "correctness",
        check_time_2,
        {
            "": "A stage that finished in time is treated as timed out",
            "run-twice": "A stage is run twice in one run",
        },
        "Finished work is thrown away, or counted twice.",
        "Decide by what happened first, in one place.",
        needs=frozenset({"stage_timeout"}),
        data_risk="medium",
        script_of_shape=scripts.time_2,
    ),
    Clause(
        "TIME-3",
        "TIME",
        "apply the declared policy to siblings of a timed-out stage, and await what it cancels",
        "high",
        "reliability",
        check_time_3,
        {
            "": "Siblings of a timed-out stage are not treated as declared",
            "sibling-left-running": "A timeout ends the run while sibling stages are still running",
        },
        "Stages work on, and touch the outside world, after their run was reported as over.",
        "Cancel the sibling tasks and await them before the run's error is raised.",
        needs=frozenset({"stage_timeout"}),
        data_risk="high",
        availability_risk="medium",
        script_of_shape=scripts.time_3,
    ),
    Clause(
        "TIME-4",
        "TIME",
        "attribute nested timeouts to the innermost scope that expired, and leave the outer "
        "scope usable",
        "high",
        "correctness",
        check_time_4,
        {
            "": "An inner timeout is taken for an outer one",
            "own-timeout-taken-for-engines": "A TimeoutError of the stage's own code is reported "
            "as the engine's timeout",
        },
        "Operators look for a slow stage where a fast one failed.",
        "Ask the timeout scope whether it expired instead of catching TimeoutError.",
        script=scripts.time_4,
    ),
    Clause(
        "TIME-5",
        "TIME",
        'treat a timeout of zero as "expires at once" or refuse it at build, and refuse negative, '
        "NaN and non-numbers with an error that names the stage",
        "medium",
        "correctness",
        check_time_5,
        {
            "": "An unusable timeout is accepted",
            "zero-means-none": "A timeout of zero switches the timeout off",
        },
        "A wrong configuration value silently removes the protection it was meant to set.",
        "Validate timeouts when the pipeline is built or the run is started.",
        effort="trivial",
        availability_risk="medium",
        script=scripts.time_5,
    ),
    Clause(
        "TIME-6",
        "TIME",
        "fire N concurrent timeouts exactly once each, within tolerance",
        "high",
        "reliability",
        check_time_6,
        {"": "Some of many concurrent timeouts do not fire once each"},
        "Under load some stages are never ended, or are cancelled again while they clean up.",
        "Give each stage a timeout scope of its own.",
        availability_risk="high",
    ),
    Clause(
        "TIME-7",
        "TIME",
        "let each stage declare its own timeout, visible in the pipeline's description",
        "medium",
        "reliability",
        check_time_7,
        {"": "A stage's own timeout is not kept or not shown"},
        "Timeouts cannot be reviewed where stages are declared.",
        "Take a timeout where a stage is declared and show it in the description.",
        needs=frozenset({"stage_timeout_each"}),
    ),
    Clause(
        "TIME-8",
        "TIME",
        "let each tool call declare its own timeout, inside the stage's",
        "medium",
        "reliability",
        check_time_8,
        {"": "A tool call's own timeout is not kept"},
        "One slow tool uses up the time of all others in its stage.",
        "Take a timeout for each tool call and enforce it around the handler.",
        needs=frozenset({"tool_timeout"}),
    ),
    Clause(
        "TIME-9",
        "TIME",
        "let a stage that heartbeats outlive its idle timeout, and end one that stops",
        "medium",
        "reliability",
        check_time_9,
        {"": "An idle timeout does not follow heartbeats"},
        "Long work cannot be told from hung work.",
        "Offer a heartbeat that moves an idle deadline.",
        effort="medium",
        needs=frozenset({"heartbeat"}),
    ),
    Clause(
        "TIME-10",
        "TIME",
        "hand the remaining deadline down to subpipelines",
        "medium",
        "reliability",
        check_time_10,
        {"": "A subpipeline outlives the deadline of the stage that runs it"},
        "Child runs go on when nobody waits for them any more.",
        "Run the child under the parent's deadline.",
        needs=frozenset({"subpipeline", "stage_timeout"}),
        availability_risk="medium",
        script=scripts.left_running,
    ),
    Clause(
        "TIME-11",
        "TIME",
        "time out a stage that blocks in a worker thread without hanging the run, and report the "
        "thread still running",
        "medium",
        "reliability",
        check_time_11,
        {
            "": "A stage that blocks in a thread is not timed out",
            "thread-not-reported": "A thread that outlives its stage's timeout is not reported",
        },
        "Threads pile up unseen until the pool is exhausted.",
        "Keep account of jobs handed to threads and name those left in the error.",
        effort="medium",
        needs=frozenset({"stage_timeout"}),
        availability_risk="medium",
    ),
)
