"""CANCEL: what an engine must do with cancellation.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

from harness.contract import scripts
from harness.contract.beside import troubled_beside
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.reach import failed_together, outputs_lost
from harness.contract.reading import Ran, Reading
from harness.kernel.plan import Plan

__all__ = ["CANCEL"]


# Of the grace of the run that they are part of.
CHILDS_SHARE = 0.75


def _left(r: Reading, one: Ran, since: int, why: str, shape: str) -> Violation:
    return Violation(
        shape,
        f"stage {one.stage} has ended when the run is over ({why})",
        "the run was over while it was still running",
        one.stage,
        r.left_location(one.run, one.stage),
        {},
        (since, one.start, r.runs[one.run].left),
    )


def _outlived(r: Reading, run: str) -> list[Ran]:
    """Return executions that were still running when the run was reported as over.

    Those that the engine gave up on after the grace, or says are still running, are left
    out; that it says so is CANCEL-4's and TIME-11's to judge.
    """
    facts = r.runs[run]
    outcome = r.outcome(run)
    reported = outcome.still_running if outcome is not None else ()
    stubborn = r.stubborn_child(run)
    return [
        one
        for one in r.executions(run)
        if (one.end < 0 or one.end > facts.left)
        and not _given_up(r, one, facts.end_s)
        and not (one.stage in reported and r.of("thread.begin", run, one.stage))
        and not (stubborn and one.children)
    ]


def _given_up(r: Reading, one: Ran, end_s: float) -> bool:
    """Say whether the run waited for a cancelled stage for all of the grace."""
    # A timeout of its own code that is due in the tick of the caller's cancel hides that one.
    cancels = r.runs[one.run].cancels if one.run in r.runs else []
    asked = [r.time_of(one.asked)] if one.asked >= 0 else [at_s for _, at_s in cancels[:1]]
    if not asked:
        return False
    asked_s = asked[0]
    # For a subpipeline an engine may keep back some of the grace.
    grace_s = r.plan.cleanup_grace_s * CHILDS_SHARE ** one.run.count("/")
    return end_s >= asked_s + grace_s - r.tolerance_s


def _hung(r: Reading, run: str, why: str) -> Violation:
    first = r.record.waiting[0] if r.record.waiting else None
    place = first.where[-1].split(":")[0] if first and first.where else ""
    where = f"; {first.task} waits in {place}" if first and place else ""
    return Violation(
        "hung",
        f"the run ends ({why})",
        f"it never ended: {r.record.ended}{where}",
        "",
        "",
        {},
        (r.runs[run].begin,),
    )


def _cancelling_stage(r: Reading, run: str) -> Ran | None:
    at, kind = r.first_cause(run)
    if kind != "cancel_run":
        return None
    return next(one for one in r.executions(run) if one.end == at)


def check_cancel_1(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    asked = 0
    for run, facts in r.runs.items():
        who = _cancelling_stage(r, run)
        if who is None or r.layers_disturb(run):
            continue
        if failed_together(r, who):
            continue  # an engine may go by the failure, and then PART and TIME-3 judge
        asked += 1
        why = f"stage {who.stage} asked to end it"
        if not facts.over:
            # What a stage that swallows its cancels does to a run is CANCEL-4's to judge.
            if not any(one.swallowed for one in r.executions(run)):
                bad.append(_hung(r, run, why))
            continue
        if not facts.cancels:  # else its caller did not let it wait: CANCEL-3
            bad += [_left(r, one, who.end, why, "stage-left-running") for one in _outlived(r, run)]
        called_off = min((i for i, _ in facts.cancels), default=1 << 60)
        for one in r.executions(run):
            # One that starts after its caller has cancelled the run is RETRY-1's and GRAPH-2's.
            late = who.end < one.start < called_off
            if late and one.start_s > who.end_s + r.tolerance_s:
                bad.append(
                    Violation(
                        "stage-started-after",
                        f"no stage starts after {who.stage} asked to end the run",
                        f"stage {one.stage} started {one.start_s - who.end_s:g} s later",
                        one.stage,
                        "",
                        {},
                        (who.end, one.start),
                    )
                )
            # What the engine sent to one that somebody else called off may have come with that.
            natural = one.ended and not one.interrupts and one.called_off < 0
            natural = natural and one.end_s > who.end_s + r.tolerance_s
            if one is not who and r.overlaps(one, who.end) and natural and one.end < facts.end:
                bad.append(
                    Violation(
                        "stage-not-cancelled",
                        f"stage {one.stage} is cancelled ({why})",
                        "it ran on to its own end",
                        one.stage,
                        "",
                        {},
                        (who.end, one.end),
                    )
                )
        outcome = r.outcome(run)
        if outcome is None:
            continue
        if outcome.status == "ok":
            bad.append(_said(who, "cancel-ignored", "the run is reported as cancelled", "as ok"))
            continue
        # Of several that asked in one instant, an engine may take any.
        asking = [o for o in r.executions(run) if o.how == "cancel_run"]
        first = {o.stage for o in asking if o.end_s <= who.end_s + r.tolerance_s}
        reasons = [
            # What stands before the marker, in whose place the run's own input is put.
            s.args["reason"].split("$marker")[0]
            for st, s in r.program.walk()
            if st.name in first and s.op == "cancel_run"
        ]
        if facts.cancels:
            continue  # its caller was cancelled as well, and is told of that
        if outcome.status == "failed" and _failed_too(r, run):
            continue  # a stage failed on its way out
        if troubled_beside(r, run, facts.end_s):
            continue  # what another run's trouble made of it is TENANT-4's
        told = outcome.reason or (outcome.raised.message if outcome.raised else "")
        if reasons and not any(one in told for one in reasons):
            wanted = f"the reason is given: {reasons[0]}"
            bad.append(_said(who, "reason-lost", wanted, told or "none"))
        bad += outputs_lost(r, run, who, shape="outputs-lost")
    return violated(bad, runs_cancelled_by_stage=asked) if asked else untested()


def _said(who: Ran, shape: str, expected: str, actual: str) -> Violation:
    return Violation(shape, expected, actual, who.stage, "", {}, (who.end,))


def check_cancel_2(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    asked = 0
    for run, facts in r.runs.items():
        who = next((o for o in r.executions(run) if o.how == "cancel_branch"), None)
        if who is None or not facts.over:
            continue
        if r.first_cause(run)[1] or any(
            r.gone_by_timeout(o) or o.attempt_failed for o in r.executions(run)
        ):
            continue  # something else ended the run as well
        if r.layers_disturb(run):
            continue
        asked += 1
        outcome = r.outcome(run)
        done = {o.stage for old in r.before(run) for o in r.executions(old) if o.how != "cancelled"}
        others = {o.stage for o in r.executions(run) if o.how == "cancel_branch"}
        below = {d for stage in others for d in r.program.descendants(stage)}
        # What a run that this one goes on with has called off may stay so.
        ended = {s for old in r.before(run) for s in _branches_ended(r, old)}
        ones = {one.stage: one for one in r.executions(run)}
        # A consumer that stops may end its stage, and what needs that is then skipped.
        unwanted = [stage for stage in r.program.names if r.of("consume.stop", run, stage)]
        spared = {*unwanted, *(d for stage in unwanted for d in r.program.descendants(stage))}
        for stage in sorted(below & set(ones)):
            bad.append(
                Violation(
                    "descendant-ran",
                    f"stage {stage}, below {who.stage}, is skipped",
                    "it ran",
                    stage,
                    "",
                    {},
                    (who.end, ones[stage].start),
                )
            )
        for stage in r.program.names:
            if stage in others or stage in below or (stage in done and stage not in ones):
                continue
            if stage in spared or (stage in ended and stage not in ones):
                continue
            if stage not in ones or ones[stage].how not in ("ok", "skip"):
                bad.append(
                    Violation(
                        "other-branch-ended",
                        f"stage {stage}, of another branch, completes",
                        f"it {'did not start' if stage not in ones else 'was ended'}",
                        stage,
                        r.any_location(run),
                        {},
                        (who.end,),
                    )
                )
        if outcome is not None and outcome.status != "ok":
            bad.append(_said(who, "run-not-ok", "the run goes on to its end", outcome.status))
    return violated(bad, branches_cancelled=asked) if asked else untested()


def _branches_ended(r: Reading, run: str) -> set[str]:
    """Return the stages that are called off as those of branches that stages of a run ended."""
    by = [one.stage for one in r.executions(run) if one.how == "cancel_branch"]
    return {*by, *(d for stage in by for d in r.program.descendants(stage))}


def _caller_cancel(r: Reading, least: int, most: int) -> Judgement:
    """CANCEL-3 (one cancel) and CANCEL-5 (several): what the caller finds after a cancel."""
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    sent = 0
    for run, facts in r.runs.items():
        # One that was cancelled before it was begun never came to the engine.
        if not least <= len(facts.cancels) <= most or facts.begin < 0:
            continue
        sent += 1
        since = facts.cancels[0][0]
        why = "the caller cancelled it"
        if not facts.over:
            # What a stage that swallows its cancels does to a run is CANCEL-4's to judge.
            if not any(one.swallowed for one in r.executions(run)):
                bad.append(_hung(r, run, why))
            continue
        left = _outlived(r, run)
        if left:
            running = [o for o in r.executions(run) if r.overlaps(o, since)]
            first = _left(r, left[0], since, why, "stage-outlived-run")
            figures = {"left_running": len(left), "running_at_cancel": len(running)}
            bad.append(
                Violation(
                    first.shape,
                    first.expected,
                    first.actual,
                    first.stage,
                    first.location,
                    figures,
                    first.at,
                )
            )
        bad += _deadline_lost(r, run)
        if facts.how == "returned":
            outcome = r.outcome(run)
            ended = any(o.how == "cancel_run" for o in r.executions(run))
            if not (ended or _failed_too(r, run)) or (
                outcome is not None and outcome.status == "ok"
            ):
                status = outcome.status if outcome is not None else "unknown"
                location = outcome.raised.location if outcome and outcome.raised else ""
                bad.append(
                    Violation(
                        "cancel-swallowed",
                        "the caller sees CancelledError",
                        f"the run returned as if it had not been cancelled ({status})",
                        "",
                        location,
                        {},
                        (since, facts.end),
                    )
                )
    return violated(bad, caller_cancels=sent) if sent else untested()


def _failed_too(r: Reading, run: str) -> bool:
    """Say whether a run that was called off had failed besides, so that its failure may be told
    in the cancel's stead: a stage failed, be it on its way out, timed out, or a layer failed."""
    if r.layers_disturb(run):
        return True
    return any(
        one.self_cancelled
        or one.how == "fail"
        or one.how.startswith("raise:")
        or r.by_timeout(one)
        or r.by_default_timeout(one)
        for one in r.executions(run)
    )


# How the caller's deadline works -> what the caller must find if that ended the run.
DEADLINES = {
    "timeout": ("asyncio.timeout", "TimeoutError"),
    "wait_for": ("asyncio.wait_for", "TimeoutError"),
    "group": ("task group", "Beside"),
}


def _deadline_lost(r: Reading, run: str) -> list[Violation]:
    """Find a caller whose own deadline ended the run, and who is not told so."""
    facts = r.runs[run]
    if facts.how != "CancelledError" or len(facts.cancels) != 1:
        return []
    for e in r.of("caller.end", run, ""):
        way, due = DEADLINES[e.detail[0]]
        if e.detail[1] != due:
            expected = f"the caller's {way}, which ended the run, ends as {due}"
            actual = f"it ended as {e.detail[1]}: the engine changed its caller's count of cancels"
            at = (facts.cancels[0][0], facts.end)
            return [Violation("deadline-lost", expected, actual, "", r.any_location(run), {}, at)]
    return []


def check_cancel_3(r: Reading) -> Judgement:
    return _caller_cancel(r, 1, 1)


def check_cancel_5(r: Reading) -> Judgement:
    return _caller_cancel(r, 2, 1_000_000)


def check_cancel_4(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    stubborn = 0
    for run, facts in r.runs.items():
        ones = [o for o in r.executions(run) if o.swallowed and not _tried_again(r, o)]
        ones = [o for o in ones if o.called_off < 0]  # what it swallowed was not the engine's
        # Others swallowed what their own scopes sent.
        ones = [o for o in ones if o.interrupts and not r.own_scope_due(o, o.interrupts[0])]
        if not ones:
            continue
        # One that ended while other stages went on did not hold the run up.
        last = max((o.end for o in r.executions(run)), default=-1)
        ones = [o for o in ones if not o.ended] or [o for o in ones if o.end == last]
        if not ones:
            continue
        stubborn += len(ones)
        asked_s = max(r.time_of(one.interrupts[0]) for one in ones)
        own_s = r.plan.cleanup_grace_s
        if not r.info.facts.get("takes_grace", True):  # the plan's could not be told to it
            own_s = max(own_s, Plan().cleanup_grace_s)
        more_s = 0.0
        if any(h.registered and h.begun and h.run.split("/", 1)[0] == run for h in r.held):
            more_s += own_s  # what was registered may have a grace of its own
        if any(e.kind == "undo.begin" and e.run.split("/", 1)[0] == run for e in r.entries):
            more_s += own_s  # and so may what undoes the run, its subpipelines' too
        if r.plan.sink is not None:
            more_s += r.plan.sink.drain_s
        due_s = max(asked_s + own_s, _waits_until_s(r, run)) + more_s
        if not facts.over:
            bad.append(_hung(r, run, f"stage {ones[0].stage} swallows its cancellation"))
            continue
        # Four waits at most follow each other, each with a timer of its own.
        if facts.end_s > due_s + 4 * r.tolerance_s and not _others_go_on(r, run):
            bad.append(
                Violation(
                    "grace-exceeded",
                    f"the run ends within the grace of {own_s + more_s:g} s",
                    f"it ended {facts.end_s - asked_s:g} s after the cancellation",
                    ones[0].stage,
                    "",
                    {"grace_s": own_s + more_s, "took_s": round(facts.end_s - asked_s, 6)},
                    (ones[0].interrupts[0], facts.end),
                )
            )
        outcome = r.outcome(run)
        for one in ones:
            if 0 <= one.end < facts.end:
                continue
            if facts.cancels:
                continue  # a CancelledError has no room for a report
            if outcome is None or one.stage not in outcome.still_running:
                bad.append(
                    Violation(
                        "not-reported",
                        f"the engine says that stage {one.stage} did not stop",
                        "it says nothing of it",
                        one.stage,
                        r.left_location(one.run, one.stage),
                        {},
                        (one.interrupts[0], facts.end),
                    )
                )
    return violated(bad, stages_swallowing=stubborn) if stubborn else untested()


def _tried_again(r: Reading, one: Ran) -> bool:
    """Say whether an attempt ended and another one was due: it does not hold the run up, which
    goes on. A layer may refuse all that follow; they are then not in the journal."""
    if not one.ended:
        return False
    left = len(r.ran[one.run, one.stage]) < r.shape.attempts.get(one.stage, 1)
    # What swallows its timeout ends well; then a layer around it may have failed, or its timeout
    # have begun while a layer kept it waiting.
    return one.again or (left and (r.by_timeout(one) or r.layers_disturb(one.run)))


def _waits_until_s(r: Reading, run: str) -> float:
    """Return until when, in seconds, a run may wait for stages that were cancelled: for each
    until its grace is over. What fails after its own has others cancelled, which then have
    theirs. Where the others go on, the run waits for those that nobody cancelled as well."""
    facts = r.runs[run]
    goes_on = r.policy() == "continue"
    until = [facts.cancels[0][1] if goes_on and facts.cancels else 0.0]
    for one in r.executions(run):
        if one.interrupts:
            sent = (i for i in one.interrupts if not r.own_scope_due(one, i))
            over_s = r.time_of(next(sent, one.interrupts[0])) + r.plan.cleanup_grace_s
            until.append(min(one.end_s, over_s) if one.ended else over_s)
        elif goes_on and 0 <= one.end < facts.end:
            until.append(one.end_s)
    return max(until)


def _others_go_on(r: Reading, run: str) -> bool:
    """Say whether a run goes on when a stage is ended, for the sake of others."""
    if r.plan.consumer is not None:
        return True
    cause = r.first_cause(run)[1]
    # That a stage asked to end the run may not have come through its layers.
    asked = cause == "cancel_run" and not r.layers_disturb(run)
    return r.policy() == "continue" and cause != "cancel" and not asked


def check_cancel_6(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    cancelled = failed = 0
    for (run, stage), children in r.ran.items():
        parent = run.rsplit("/", 1)[0]
        if run in r.runs or parent not in r.runs:
            continue
        facts = r.runs[parent]
        if r.shape.detaches and _in_own_task(r, run):
            continue  # a stage has let go of the task that runs it, or may have
        for child in children:
            if not facts.over:
                bad.append(_hung(r, parent, "it runs a subpipeline"))
                break
            cut, cut_s = _cut(r, child)
            running = child.start_s < cut_s and (
                not child.ended or child.end > cut or bool(child.interrupts)
            )
            if cut >= 0 and running and not child.failed_by_itself and not child.swallowed:
                cancelled += 1
                given_up = bool(child.interrupts) and _given_up(r, child, facts.end_s)
                given_up = given_up or r.stubborn_child(run)
                if (child.end < 0 or child.end > facts.end) and not given_up:
                    bad.append(
                        Violation(
                            "child-left-running",
                            f"stage {stage} of the subpipeline has ended when its parent run is",
                            "it was still running",
                            stage,
                            r.left_location(parent, stage),
                            {},
                            (cut, child.start, facts.end),
                        )
                    )
                elif facts.cancels and _ran_on(r, child, cut_s) and not _kept_by_parent(r, child):
                    bad.append(
                        Violation(
                            "child-not-cancelled",
                            f"stage {stage} of the subpipeline is cancelled with its parent run",
                            "it ran on to its own end",
                            stage,
                            "",
                            {},
                            (cut, child.end),
                        )
                    )
            elif child.failed_by_itself:
                failed += 1
                bad += _child_failure(r, parent, child)
    if not cancelled and not failed:
        return untested()
    return violated(bad, children_cancelled=cancelled, children_failed=failed)


def _in_own_task(r: Reading, run: str) -> bool:
    """Say whether it is a task of a stage's own that runs a subpipeline."""
    name = run.rsplit("/", 1)[1].split("#", 1)[0]
    return any((stage, name) in r.shape.own_children for stage in r.program.names)


def _ran_on(r: Reading, child: Ran, cut_s: float) -> bool:
    """Say whether a child ended well, untouched, though its parent had been cut at `cut_s`."""
    untouched = child.how == "ok" and not child.interrupts and not child.swallowed
    return untouched and child.end_s > cut_s + r.tolerance_s


def _holders(r: Reading, child: Ran) -> list[Ran]:
    """Return the executions that may be the one which runs a stage's subpipeline."""
    parent, name = child.run.rsplit("/", 1)
    name = name.split("#", 1)[0]
    return [
        one
        for one in r.executions(parent)
        if any(e.detail == name for e in r.of("sub.begin", parent, one.stage))
        and one.start < child.start
        and (not one.ended or child.start < one.end)
    ]


def _kept_by_parent(r: Reading, child: Ran) -> bool:
    """Say whether a stage that runs this subpipeline swallowed its own cancellation, or was at a
    cleanup still: what it awaits in a task of its own goes on until it comes to that."""
    own = _in_own_task(r, child.run)
    return any(
        one.swallowed or (own and _cleaning(r, one, child.end)) for one in _holders(r, child)
    )


def _cleaning(r: Reading, one: Ran, at: int) -> bool:
    """Say whether a stage had a cleanup under way at a position."""
    return any(
        held.begun and held.begun[0] < at and not 0 <= max(held.ended, held.failed, held.cut) < at
        for held in r.held
        if (held.run, held.stage) == (one.run, one.stage)
    )


def _cut(r: Reading, child: Ran) -> tuple[int, float]:
    """Return (position, seconds) of what was to end a subpipeline's stage early, or (-1, 0): what
    ended its parent run, or a timeout of the stage that runs the subpipeline."""
    parent = child.run.rsplit("/", 1)[0]
    at, kind = r.first_cause(parent)
    # That a stage asked to end the run may not have come through its layers.
    unheard = kind == "cancel_run" and r.layers_disturb(parent)
    if unheard or (kind == "fail" and r.policy() == "continue"):
        cancels = r.runs[parent].cancels
        at, kind = (cancels[0][0], "cancel") if cancels else (-1, "")
    found = [(at, r.time_of(at))] if kind else []
    holders = _holders(r, child)
    for due_s, one in r.timeouts_due(parent):
        if not one.interrupts:
            continue
        tries = r.shape.attempts.get(one.stage, 1)
        if one in holders:
            found.append((one.interrupts[0], due_s))
        elif r.policy() != "continue" and len(r.ran[parent, one.stage]) == tries and not one.again:
            # An engine may wait for that one's own cleanup before it cancels the others.
            found.append((one.interrupts[0], max(due_s, one.end_s)))
    return min(found, key=lambda c: c[1], default=(-1, 0.0))


def _child_failure(r: Reading, parent: str, child: Ran) -> list[Violation]:
    name = child.run.rsplit("/", 1)[1]
    ends = [e for e in r.record.journal.of("sub.end", run=parent) if e.detail[0] == name]
    if ends and ends[0].detail[1] == "ok":
        return [
            Violation(
                "child-failure-lost",
                f"the failure of the subpipeline's stage {child.stage} reaches its parent stage",
                "the subpipeline was reported as ok",
                child.stage,
                "",
                {},
                (child.end,),
            )
        ]
    outcome = r.outcome(parent)
    if not ends or outcome is None:
        return []
    told = [f for f in outcome.failures if f.stage == ends[0].stage and f.kind != "timeout"]
    if len(told) > 1 and ends[0].stage not in r.shape.attempts:
        return [
            Violation(
                "child-failure-doubled",
                "the failure of a subpipeline is reported once",
                f"it is reported {len(told)} times",
                ends[0].stage,
                "",
                {"reports": len(told)},
                (child.end,),
            )
        ]
    return []


def check_cancel_7(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    tested = 0
    for run, facts in r.runs.items():
        outcome = r.outcome(run)
        if outcome is None:
            continue
        called_off = any(at < facts.left or not facts.over for at, _ in facts.cancels)
        if facts.cancels and not called_off:
            continue  # the engine's call had come out when its caller was cancelled
        failed = [o for o in r.executions(run) if o.failed_by_itself]
        # One that swallows its timeout goes on, and ends by its own word.
        timed = [o for o in r.executions(run) if r.gone_by_timeout(o) and not o.swallowed]
        selfs = [o for (of, _), ones in r.ran.items() for o in ones if o.self_cancelled]
        selfs = [o for o in selfs if f"{o.run}/".startswith(f"{run}/")]
        asked = _cancelling_stage(r, run)
        wanted = called_off or any(o.how == "cancel_run" for o in r.executions(run))
        # Of a timeout that was swallowed, and a cancel, an engine may tell either; so of an attempt
        # that failed, and that it did not follow with another: whether it should is RETRY-1's.
        final = any(ones[-1].attempt_failed for (of, _), ones in r.ran.items() if of == run)
        if selfs or (wanted and (final or _failed_too(r, run))):
            continue
        if r.layers_disturb(run) or troubled_beside(r, run, facts.end_s):
            continue
        if called_off or asked:
            tested += 1
            if outcome.status == "failed":
                bad.append(_status(r, run, "cancelled-as-failed", "cancelled", outcome.status))
        elif failed or timed:
            tested += 1
            if outcome.status == "cancelled":
                bad.append(_status(r, run, "failed-as-cancelled", "failed", outcome.status))
            elif outcome.status == "ok" and r.policy() == "cancel":
                bad.append(_status(r, run, "failed-as-ok", "failed", outcome.status))
    return violated(bad, ended_early=tested) if tested else untested()


def _status(r: Reading, run: str, shape: str, expected: str, actual: str) -> Violation:
    return Violation(
        shape,
        f"the run is reported as {expected}",
        f"it is reported as {actual}",
        "",
        r.any_location(run),
        {},
        (r.runs[run].end,),
    )


def _stopped_too(r: Reading, one: Ran) -> bool:
    """Say whether the engine may have stopped a stage in the turn in which somebody else called
    it off, because its consumer had stopped."""
    if one.called_off < 0:
        return False
    return bool(r.of("consume.stop", one.run, one.stage))


def check_cancel_8(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    tested = 0
    for run, facts in r.runs.items():
        selfs = [
            o for o in r.executions(run) if o.self_cancelled and o.ended and o.how == "cancelled"
        ]
        selfs = [o for o in selfs if not o.interrupts and not o.again and not _stopped_too(r, o)]
        if not selfs or facts.cancels:
            continue
        tested += 1
        if not facts.over:
            bad.append(_hung(r, run, f"stage {selfs[0].stage} raised CancelledError by itself"))
            continue
        outcome = r.outcome(run)
        report = outcome.stages.get(selfs[0].stage) if outcome is not None else None
        if outcome is not None and outcome.status == "ok":
            done = report is not None and report.status == "completed"
            bad.append(
                Violation(
                    "taken-for-success" if done else "swallowed",
                    f"the run does not succeed when stage {selfs[0].stage} raises CancelledError",
                    "the run is reported as ok",
                    selfs[0].stage,
                    "",
                    {},
                    (selfs[0].end, facts.end),
                )
            )
    return violated(bad, self_raised=tested) if tested else untested()


CANCEL: tuple[Clause, ...] = (
    Clause(
        "CANCEL-1",
        "CANCEL",
        "when a stage asks to end the run: stop everything, await it, give the reason, and keep "
        "completed outputs",
        "high",
        "reliability",
        check_cancel_1,
        {
            "": "A stage's request to end the run is not carried out",
            "stage-left-running": "Stages run on after a stage has ended the run",
            "cancel-ignored": "A stage's request to end the run is taken for success",
        },
        "Work that was called off is done all the same.",
        "Cancel and await the other stages, then report the reason with what was completed.",
        needs=frozenset({"cancel_run"}),
        data_risk="medium",
        script_of_shape=scripts.cancel_1,
    ),
    Clause(
        "CANCEL-2",
        "CANCEL",
        "offer cancellation of one branch: its descendants are skipped, every other branch "
        "completes",
        "medium",
        "correctness",
        check_cancel_2,
        {"": "Cancelling one branch does not end just that branch"},
        "A branch that turns out to be needless costs the whole run.",
        "Offer a stage result that skips the stage's descendants only.",
        effort="medium",
        needs=frozenset({"cancel_branch"}),
    ),
    Clause(
        "CANCEL-3",
        "CANCEL",
        "when the caller cancels the run: leave no stage running, have cleanups run, and let the "
        "caller see CancelledError, at every suspension point",
        "critical",
        "reliability",
        check_cancel_3,
        {
            "": "A caller's cancellation is not carried out",
            "stage-outlived-run": "Stages run on after the caller has cancelled the run",
            "cancel-swallowed": "A caller's cancellation is swallowed",
            "hung": "A run hangs when its caller cancels it",
            "deadline-lost": "A caller's own timeout that ends a run is not told to the caller",
        },
        "A client that disconnects, or a server that shuts down, leaves work running that nobody "
        "owns: it goes on to write, to pay and to hold resources.",
        "Cancel the stage tasks and await them in a finally around the scheduling loop.",
        data_risk="high",
        availability_risk="high",
        script_of_shape=scripts.cancel_3,
    ),
    Clause(
        "CANCEL-4",
        "CANCEL",
        "not be hung by a stage that swallows CancelledError or loops in finally: end within a "
        "stated grace, and report that stage",
        "high",
        "reliability",
        check_cancel_4,
        {
            "": "A stage that swallows its cancellation holds the run",
            "not-reported": "A stage that did not stop is not reported",
        },
        "One stage of careless code blocks the end of every run it is in.",
        "Await cancelled stages with a bound and name those that did not stop.",
        effort="medium",
        availability_risk="high",
        script_of_shape=scripts.cancel_4,
    ),
    Clause(
        "CANCEL-5",
        "CANCEL",
        "take a second cancel, a cancel before the start, after the end, and during cleanup "
        "without losing any of the guarantees of cancellation",
        "high",
        "reliability",
        check_cancel_5,
        {
            "": "A repeated cancellation breaks what the first one guarantees",
            "stage-outlived-run": "Stages run on after the caller has cancelled repeatedly",
        },
        "Impatient callers and nested timeouts cancel more than once.",
        "Shield the wait for cancelled stages and remember further cancels until it is over.",
        effort="medium",
        data_risk="medium",
        availability_risk="medium",
        script_of_shape=scripts.cancel_3,
    ),
    Clause(
        "CANCEL-6",
        "CANCEL",
        "pass cancellation down to subpipelines and a subpipeline's failure up, once",
        "high",
        "reliability",
        check_cancel_6,
        {
            "": "Cancellation or failure does not cross a subpipeline's border",
            "child-left-running": "A subpipeline runs on after its parent run is over",
            "child-not-cancelled": "A subpipeline is not cancelled with its parent run",
        },
        "Child runs outlive, or hide the failure of, what depends on them.",
        "Await the child inside the parent stage's task.",
        needs=frozenset({"subpipeline"}),
        data_risk="medium",
        script=scripts.left_running,
    ),
    Clause(
        "CANCEL-7",
        "CANCEL",
        "tell a cancelled run from a failed one, and never turn the one into the other",
        "medium",
        "correctness",
        check_cancel_7,
        {
            "": "A failed and a cancelled run are mixed up",
            "failed-as-ok": "A failed run is reported as ok",
        },
        "Alerts and retries are based on the wrong kind of ending.",
        "Report cancellation and failure in distinct ways.",
        script_of_shape=scripts.cancel_7,
    ),
    Clause(
        "CANCEL-8",
        "CANCEL",
        "never swallow a CancelledError that a stage raises by itself, or take it for success",
        "high",
        "silent_failure",
        check_cancel_8,
        {
            "": "A CancelledError raised by a stage is taken for success",
            "hung": "A run hangs when a stage raises CancelledError by itself",
        },
        "A library that cancels its own work makes a stage look successful without a result.",
        "Treat a stage task that ends as cancelled, without the engine having cancelled it, "
        "as failed.",
        data_risk="medium",
    ),
)
