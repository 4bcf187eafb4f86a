"""CLEAN: what an engine must do with resources and cleanups.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

import json

from harness.contract import scripts
from harness.contract.beside import overlapping
from harness.contract.clause import Clause, Judgement, Violation, holds, untested, violated
from harness.contract.reading import CLOSE_S, Held, Ran, Reading

__all__ = ["CLEAN"]


# Of the grace of the run that they are part of.
CHILDS_SHARE = 0.75


def _execution(r: Reading, held: Held) -> Ran | None:
    found = None
    for one in r.ran.get((held.run, held.stage), ()):
        if one.start <= held.at:
            found = one
    return found


def _over(r: Reading, run: str) -> int:
    """Return the position at which the (top) run of a run id was reported as over, or -1."""
    facts = r.runs.get(run.split("/", 1)[0])
    return facts.end if facts is not None else -1


def _way(r: Reading, held: Held) -> str:
    """Say on which way out a resource's stage left."""
    one = _execution(r, held)
    facts = r.runs.get(held.run.split("/", 1)[0])
    if facts is not None and facts.cancels:
        return "caller cancel"
    if one is None:
        return "unknown"
    if held.run in r.runs and r.by_timeout(one):
        return "timeout"
    if one.how.startswith("raise") or one.how == "fail":
        return "failure"
    if one.how == "ok":
        return "ok"
    return "cancelled"


def _stubborn(r: Reading, held: Held) -> bool:
    """The stage swallows cancels or its thread cannot be stopped: not the engine's to clean."""
    one = _execution(r, held)
    if one is not None and one.swallowed and (not one.ended or 0 <= _over(r, held.run) < one.end):
        return True
    return _given_up(r, held)


def _given_up(r: Reading, held: Held) -> bool:
    """Say whether the run waited for all of the grace for the stage, or for another of the same
    subpipeline, and then was over without it."""
    facts = r.runs.get(held.run.split("/", 1)[0])
    if facts is None or not facts.over:
        return False
    latest_s = facts.end_s + r.tolerance_s
    return any(
        one.asked >= 0
        and (one.end < 0 or one.end > facts.end)
        and r.time_of(one.asked) + _grace_s(r, run) <= latest_s
        for (run, stage), ones in r.ran.items()
        if (held.run == run and (stage == held.stage or "/" in run))
        or held.run.startswith(f"{run}/")
        for one in ones
    ) or _waits_for_stubborn(r, held, latest_s - r.plan.cleanup_grace_s)


def _waits_for_stubborn(r: Reading, held: Held, asked_s: float) -> bool:
    """Say whether the stage was waiting at the end for a subpipeline of which a stage, cancelled at
    `asked_s` or before, did not stop: the whole grace has gone to that one."""
    over = _over(r, held.run)
    names = {e.detail for e in r.of("sub.begin", held.run, held.stage)}
    return any(
        one.swallowed
        and one.asked >= 0
        and (one.end < 0 or one.end > over)
        and r.time_of(one.asked) <= asked_s
        for (run, _), ones in (r.ran.items() if names else ())
        if run.startswith(f"{held.run}/")
        and run[len(held.run) + 1 :].split("/")[0].split("#")[0] in names
        for one in ones
    )


def _registered_late(r: Reading, held: Held) -> bool:
    """Say whether a stage of a subpipeline registered a cleanup when that was over without it:
    nobody would run it, and an engine may refuse it."""
    one = _execution(r, held)
    parent, _, name = held.run.rpartition("/")
    if not held.registered or one is None or not parent:
        return False
    return any(
        one.start < i < held.at
        for i, e in enumerate(r.entries[: held.at])
        if e.kind == "sub.end" and e.run == parent and e.detail[0] == name.split("#", 1)[0]
    )


def _in_time(r: Reading, held: Held) -> bool:
    """Say whether it was taken before the engine's own call for the run came out. What a stage
    takes later nobody releases for it: that it ran on is not CLEAN-1's."""
    facts = r.runs.get(_top(held.run))
    one = _execution(r, held)
    if held.registered and one is not None and one.ended and held.at > one.end:
        return False  # a task that the stage had let go registered it
    return facts is not None and facts.over and held.at < facts.left


def _let_go(r: Reading, held: Held) -> bool:
    """Say whether a task that its stage had let go holds it: the stage had ended before it was
    released, and what a stage holds by itself it releases first."""
    one = _execution(r, held)
    if not r.shape.detaches or held.registered or one is None or not one.ended:
        return False
    stopped = max(held.ended, held.cut, held.failed)
    return not 0 <= stopped < one.end


def check_clean_1(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    due = [h for h in r.held if _in_time(r, h) and not _stubborn(r, h)]
    due = [h for h in due if not _registered_late(r, h) and not _let_go(r, h)]
    due += [h for h in r.held if h.begun and h not in due]
    if not due:
        return untested()
    bad: list[Violation] = []
    missing = [
        h for h in due if _over(r, h.run) >= 0 and not any(b < _over(r, h.run) for b in h.begun)
    ]
    missing = [h for h in missing if _in_time(r, h) and not _stubborn(r, h)]
    missing = [h for h in missing if not _let_go(r, h)]
    if missing:
        first = missing[0]
        later = any(h.begun for h in missing)
        registered = first.registered
        done = len(due) - len(missing)
        bad.append(
            Violation(
                "registered-cleanup-not-run" if registered else "not-released",
                f"{len(due)} resources are released by the time the run is over ({_way(r, first)})",
                f"{done} were" + ("; others were released later" if later else ""),
                first.stage,
                r.left_location(first.run, first.stage),
                {"released": done, "acquired": len(due)},
                (first.at, _over(r, first.run)),
            )
        )
    twice = [h for h in due if len(h.begun) > 1]
    if twice:
        bad.append(
            Violation(
                "released-twice",
                f"{twice[0].name} is released once",
                f"its cleanup ran {len(twice[0].begun)} times",
                twice[0].stage,
                r.any_location(twice[0].run),
                {"times": len(twice[0].begun)},
                tuple(twice[0].begun[:5]),
            )
        )
    return violated(bad, acquired=len(due), released=len(due) - len(missing))


def _cleanup_took(r: Reading, held: Held) -> float:
    return r.time_of(held.cut) - r.time_of(held.begun[0])


def check_clean_2(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    awaited = 0
    for held in r.held:
        over = _over(r, held.run)
        if not held.begun or over < 0 or held.begun[0] > over or _let_go(r, held):
            continue
        stop = held.ended if held.ended >= 0 else held.failed
        if held.cut < 0 and stop >= 0 and r.time_of(stop) <= r.time_of(held.begun[0]) + CLOSE_S:
            continue  # nothing was awaited
        awaited += 1
        if held.cut >= 0:
            took = _cleanup_took(r, held)
            spent = r.time_of(held.cut) - _cleaning_since(r, held)
            if spent >= _grace_s(r, held.run) - CLOSE_S:
                continue  # the stated grace was used up
            if _own_scope_expired(r, held) or _first_word(r, held) or _cut_by_itself(r, held):
                continue
            top = held.run.split("/", 1)[0]
            if held.run != top and (r.stubborn_child(top) or _under_stubborn(r, held)):
                continue  # the grace went to a stage that swallowed its cancellation
            bad.append(
                Violation(
                    "cleanup-cut",
                    f"the cleanup of {held.name} may take up to {r.plan.cleanup_grace_s:g} s",
                    f"it was cancelled after {took:g} s",
                    held.stage,
                    r.any_location(held.run),
                    {"ran_s": round(took, 6), "grace_s": r.plan.cleanup_grace_s},
                    (held.begun[0], held.cut),
                )
            )
        elif stop < 0 or stop > over:
            spent = r.time_of(over) - _cleaning_since(r, held)
            if spent >= _grace_s(r, held.run) - CLOSE_S or _under_stubborn(r, held):
                continue
            one = _execution(r, held)
            if one is not None and one.children and r.stubborn_child(held.run):
                continue  # it waited for most of its grace for a subpipeline that did not stop
            bad.append(
                Violation(
                    "cleanup-not-awaited",
                    f"the cleanup of {held.name} has finished when the run is over",
                    "the run was over while it was still at it",
                    held.stage,
                    r.left_location(held.run, held.stage),
                    {},
                    (held.begun[0], over),
                )
            )
    return violated(bad, awaited_cleanups=awaited) if awaited else untested()


def _under_stubborn(r: Reading, held: Held) -> bool:
    """Say whether it is of a subpipeline of a stage that went on after it was cancelled."""
    return any(
        one.swallowed
        for (run, _), ones in r.ran.items()
        if held.run.startswith(f"{run}/")
        for one in ones
    )


def _grace_s(r: Reading, run: str) -> float:
    """Return how long a run has to clean up at least, in seconds: for a subpipeline an engine
    may keep back some of the grace, for what its parents have to do after it."""
    return float(r.plan.cleanup_grace_s * CHILDS_SHARE ** run.count("/"))


def _cleaning_since(r: Reading, held: Held) -> float:
    """Return when the cleanup that this one is part of began: the grace is for all of it."""
    starts = [r.time_of(held.begun[0])]
    one = _execution(r, held)
    if held.registered:
        starts += [
            r.time_of(h.begun[0]) for h in r.held if h.registered and h.run == held.run and h.begun
        ]
    elif one is not None and one.interrupts:
        starts.append(r.time_of(one.interrupts[0]))
    return min(starts)


def _first_word(r: Reading, held: Held) -> bool:
    """Say whether the cancel that cut a stage's own cleanup was the first that it got.

    No engine can know that a stage it cancels is in the midst of a `finally`.
    """
    one = _execution(r, held)
    if held.registered or one is None:
        return False
    return not any(i < held.begun[0] and not r.own_scope_due(one, i) for i in one.interrupts)


def _cut_by_itself(r: Reading, held: Held) -> bool:
    """Say whether it was the stage that cut its cleanup: by ending a task of its own, or by a
    timeout of its own code."""
    one = _execution(r, held)
    if held.registered or one is None:
        return False
    if one.called_off >= 0:
        return True  # or somebody outside the engine did
    return held.cut - 1 not in one.interrupts or r.own_scope_due(one, held.cut)


def _own_scope_expired(r: Reading, held: Held) -> bool:
    return any(
        s.run == held.run
        and s.stage == held.stage
        and s.at < held.begun[0]
        and s.expired > held.cut
        for s in r.scopes
    )


def check_clean_3(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    if len(r.held) < 2:
        return untested()
    bad: list[Violation] = []
    groups: dict[tuple[str, str, bool], list[Held]] = {}
    for held in r.held:
        if not held.begun or _of_earlier_attempt(r, held) or _beside_others(r, held):
            continue
        # Registered cleanups are the run's; those of parallel stages have no order of their own.
        key = (held.run, "" if held.registered else held.stage, held.registered)
        groups.setdefault(key, []).append(held)
    tested = 0
    unordered = r.shape.unordered
    for (_, stage, _), group in groups.items():
        if stage in unordered:
            continue
        # One after another is not nested: only what was held at once has an order.
        pairs = [(a, b) for a in group for b in group if a.at < b.at < a.begun[0]]
        tested += bool(pairs)
        wrong = [(a, b) for a, b in pairs if a.begun[0] < b.begun[0]]
        if wrong:
            first, later = wrong[0]
            bad.append(
                Violation(
                    "wrong-order",
                    f"{later.name}, which came after {first.name}, is cleaned up before it",
                    "it was cleaned up after it",
                    later.stage,
                    "",
                    {"wrong": len(wrong), "pairs": len(pairs)},
                    (first.begun[0], later.begun[0]),
                )
            )
    return violated(bad, groups_ordered=tested) if tested else untested()


def _beside_others(r: Reading, held: Held) -> bool:
    """Say whether a cleanup was registered in a run beside which another one was under way: if an
    engine lets one run the cleanups of the other, or forget them, that is CLEAN-6's."""
    top = _top(held.run)
    return held.registered and top in r.runs and bool(overlapping(r, top))


def _asked_with(r: Reading, one: Ran) -> bool:
    """Say whether a stage asked to end the run in the instant in which another one ended."""
    return any(
        other.how == "cancel_run" and abs(other.end_s - one.end_s) <= r.tolerance_s
        for other in r.executions(one.run)
    )


def _of_earlier_attempt(r: Reading, held: Held) -> bool:
    """Say whether a cleanup was registered by an attempt that was not the stage's last: an
    engine may run it before the next one, or at the end of the run."""
    one = _execution(r, held) if held.registered and r.shape.attempts else None
    return one is not None and one.again


# What a cleanup of the program raises when it is to fail.
FAULT = "StageFault"


def check_clean_4(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    failed = [h for h in r.held if h.failed >= 0 and _over(r, h.run) > h.failed]
    for held in failed:
        mates = [
            h
            for h in r.held
            if h.run == held.run
            and h.at < held.at
            and h.registered == held.registered
            and (held.registered or h.stage == held.stage)
            and not (h.begun and h.begun[0] < held.begun[0])
        ]
        undone = [h for h in mates if not any(b < _over(r, h.run) for b in h.begun)]
        if _beside_others(r, held):
            undone = []
        holder = _execution(r, held)
        if not held.registered and (holder is None or not 0 <= holder.end < _over(r, held.run)):
            undone = []  # it is still at its cleanups: that nobody waits for it is CLEAN-1's
        if undone:
            bad.append(
                Violation(
                    "stopped-after-failure",
                    f"the cleanup of {undone[0].name} runs although that of {held.name} failed",
                    "it did not run",
                    held.stage,
                    r.any_location(held.run),
                    {},
                    (held.failed,),
                )
            )
        outcome = r.outcome(held.run)
        one = _execution(r, held)
        if any(
            h.failed > held.failed and h.run == held.run and h.stage == held.stage
            for h in failed
            if not (h.registered or held.registered)
        ):
            continue  # of nested ones that fail, Python lets the outermost out of the stage
        if not held.registered and one is not None and one.again:
            continue  # it is an attempt that failed by it, and is tried again
        late = one is not None and r.used_up_grace(one)
        if not held.registered and (late or _given_up(r, held) or held.stage in r.shape.unordered):
            continue  # nobody waits for it, or tasks of its own may each have failed
        if not held.registered and one is not None and one.how != f"raise:{FAULT}":
            continue  # the stage itself kept it from the engine
        told = () if outcome is None else [f.stage for f in outcome.failures]
        if not held.registered and told and held.stage not in told:
            continue  # another stage's failure is told, and not this one's: PART-4
        ended = outcome is not None and outcome.status == "cancelled"
        if ended and one is not None and not held.registered and _asked_with(r, one):
            continue  # the run ended as another stage asked, in the instant of this failure
        if outcome is not None and not r.runs[held.run].cancels and r.told(held.run):
            said = json.dumps(outcome.to_json(), default=repr)
            if f"cleanup of {held.name} failed" not in said and held.name not in " ".join(
                outcome.cleanup_failures
            ):
                bad.append(
                    Violation(
                        "failure-not-reported",
                        f"the engine reports that the cleanup of {held.name} failed",
                        f"the run ended {outcome.status} and says nothing of it",
                        held.stage,
                        "",
                        {},
                        (held.failed, _over(r, held.run)),
                    )
                )
    return violated(bad, cleanups_failed=len(failed)) if failed else untested()


LEAKS = {
    "task": ("task-left", "no task is left"),
    "timer": ("timer-left", "no timer is left"),
    "asyncgen": ("asyncgen-left", "no async generator is left open"),
    "unretrieved": ("exception-unretrieved", "every exception has been fetched"),
    "thread": ("thread-left", "no thread is left"),
}


def check_clean_5(r: Reading) -> Judgement:
    if not r.sound or r.record.ended != "over":
        return untested()
    stages = [one for ones in r.ran.values() for one in ones]
    if not stages:
        return untested()
    if not r.record.leaks:
        return holds(runs_inspected=len(r.runs))
    explained = {
        one.stage
        for one in stages
        if not one.ended and (r.runs[_top(one.run)].cancels or one.swallowed)
    }
    for run in r.runs:
        _, kind = r.first_cause(run)
        if kind == "cancel_run" or any(r.by_timeout(o) for o in r.executions(run)):
            explained |= {o.stage for o in stages if _top(o.run) == run and not o.ended}
    # A cancelled stage that the run waited for all of the grace is given up, and with it what
    # its subpipelines do: CANCEL-4's to judge.
    given_up = {
        o.run
        for o in stages
        if not o.ended
        and o.asked >= 0
        and (over := r.runs[_top(o.run)]).over
        and over.end_s >= r.time_of(o.asked) + _grace_s(r, o.run) - r.tolerance_s
    }
    explained |= {
        o.stage
        for o in stages
        if not o.ended
        and any(o.run == run or o.run.startswith(f"{run}/") for run in given_up)
        and (o.interrupts or o.run not in given_up)
    }
    bad: list[Violation] = []
    seen: set[tuple[str, str]] = set()
    cancelled = any(f.cancels for f in r.runs.values())
    stage_left = any(x.kind == "task" and x.stage for x in r.record.leaks)
    first = next(iter(r.runs))
    for leak in r.record.leaks:
        shape, expected = LEAKS[leak.kind]
        if leak.kind == "task":
            # A stage that outlives a cancel, a timeout or a stage's request is judged by
            # CANCEL-3, TIME-3 and CANCEL-1; here it would be the same fact twice.
            if leak.stage and leak.stage in explained:
                continue
            if r.shape.detaches and leak.stage and leak.stage not in r.program.names:
                continue  # a task that a stage let go may be running that subpipeline
            # Tasks that only carry a stage's task are the same fact again.
            if not leak.stage and (stage_left or any(not o.ended for o in stages)):
                continue
            if not leak.stage and cancelled:
                continue
            shape = "stage-left-running" if leak.stage else shape
        elif leak.kind in ("asyncgen", "timer") and any(not o.ended for o in stages):
            continue  # held by a stage that is still running, which is judged as such
        elif leak.kind in ("unretrieved", "asyncgen", "timer") and r.shape.detaches:
            continue  # a task that a stage let go may hold it, and nobody was to fetch its error
        location = leak.location
        if shape == "stage-left-running":
            location = r.left_location(first, leak.stage)
        if (shape, location) in seen:
            continue
        seen.add((shape, location))
        bad.append(
            Violation(
                shape,
                f"{expected} when the run is over",
                f"left: {leak.what}" + (f" (stage {leak.stage})" if leak.stage else ""),
                leak.stage,
                location,
                {"left": sum(1 for x in r.record.leaks if x.kind == leak.kind)},
                tuple(f.end for f in r.runs.values() if f.over)[:1],
            )
        )
    return violated(bad, runs_inspected=len(r.runs))


def _top(run: str) -> str:
    return run.split("/", 1)[0]


def _child_cancelled(r: Reading, run: str) -> bool:
    """Say whether a stage of a subpipeline cancelled itself, which reaches the stage around it."""
    return any(
        child.self_cancelled
        for (inner, _), ones in r.ran.items()
        if inner.startswith(f"{run}/")
        for child in ones
    )


def check_clean_6(r: Reading) -> Judgement:
    if not r.sound or len(r.runs) < 2:
        return untested()
    bad: list[Violation] = []
    spans = [f for f in r.runs.values() if f.begin >= 0]
    together = sum(
        1
        for f in spans
        if any(
            g is not f and g.begin < (f.end if f.over else 1 << 60) and f.begin < g.begin
            for g in spans
        )
    )
    if not together:
        return untested()
    for run, facts in r.runs.items():
        if not facts.over:
            continue
        ones = r.executions(run)
        # One that was given up after the grace does not keep the run from its cleanups, and of
        # one that outlived the run it cannot be told whose end ran them: CANCEL-3, RETRY-1.
        last = max(
            (o.end for o in ones if not r.used_up_grace(o) and o.end < facts.end), default=-1
        )
        alone = not facts.cancels and not any(
            o.attempt_failed or o.self_cancelled or o.how == "cancel_run" or r.by_timeout(o)
            for o in ones
        )
        alone = alone and not any(map(r.by_default_timeout, ones))
        alone = alone and not r.layers_disturb(run) and not _child_cancelled(r, run)
        alone = alone and not r.all_of("consume.stop", run)  # a consumer that stops ends a stage
        for held in r.held:
            if held.run != run or not held.registered or _stubborn(r, held):
                continue
            if _of_earlier_attempt(r, held):
                continue
            if any(b < last for b in held.begun):
                bad.append(
                    Violation(
                        "ran-by-other-run",
                        f"the cleanup {held.name} of run {run} runs when run {run} ends",
                        "it ran while that run was still going on",
                        held.stage,
                        "",
                        {},
                        (held.begun[0], last),
                    )
                )
            elif _in_time(r, held) and (not held.begun or held.begun[0] > facts.end):
                bad.append(
                    Violation(
                        "cleared-by-other-run",
                        f"the cleanup {held.name} of run {run} runs when run {run} ends",
                        "it never ran: another run's end cleared it",
                        held.stage,
                        "",
                        {},
                        (held.at, facts.end),
                    )
                )
        # Of a tool that tasks of a stage's own call too, it cannot be told whose timeout it was.
        unclear = {stage for stage, _ in r.shape.own_calls}
        hit = [o for o in ones if alone and o.stage not in unclear]
        hit = [o for o in hit if any(not r.own_scope_due(o, i) for i in o.interrupts)]
        if hit:
            bad.append(
                Violation(
                    "other-run-interrupted",
                    f"run {run} goes on when another run ends",
                    f"its stage {hit[0].stage} was interrupted",
                    hit[0].stage,
                    "",
                    {},
                    (hit[0].interrupts[0],),
                )
            )
    return violated(bad, overlapping_runs=together)


CLEAN: tuple[Clause, ...] = (
    Clause(
        "CLEAN-1",
        "CLEAN",
        "release every acquired resource exactly once on every way out: ok, fail, timeout, stage "
        "cancel, caller cancel",
        "high",
        "reliability",
        check_clean_1,
        {
            "": "Resources are not released by the end of the run",
            "registered-cleanup-not-run": "Registered cleanups have not run when the run is over",
            "released-twice": "A cleanup runs twice",
        },
        "Connections, locks and files stay held after the run that took them.",
        "Await every stage, cancelled ones included, before the run is reported as over.",
        data_risk="medium",
        availability_risk="high",
        script_of_shape=scripts.clean_1,
    ),
    Clause(
        "CLEAN-2",
        "CLEAN",
        "let a cleanup that awaits finish (up to a stated grace), also when cancelled again "
        "meanwhile",
        "high",
        "reliability",
        check_clean_2,
        {
            "": "A cleanup is cut off",
            "cleanup-not-awaited": "A run is over before its cleanups are",
        },
        "Half-done cleanups leave locks taken and transactions open.",
        "Shield cleanups and bound them by the grace as a whole.",
        effort="medium",
        data_risk="medium",
        availability_risk="medium",
        script_of_shape=scripts.clean_2,
    ),
    Clause(
        "CLEAN-3",
        "CLEAN",
        "run cleanups in reverse order of acquisition, each once",
        "medium",
        "correctness",
        check_clean_3,
        {"": "Cleanups run in the wrong order"},
        "What depends on a resource is cleaned up after the resource itself.",
        "Keep cleanups on a stack.",
        effort="trivial",
        script=scripts.clean_3,
    ),
    Clause(
        "CLEAN-4",
        "CLEAN",
        "go on after a cleanup that fails, and report the failure",
        "medium",
        "silent_failure",
        check_clean_4,
        {
            "": "A failing cleanup is not handled",
            "failure-not-reported": "A failed cleanup is not reported to the caller",
        },
        "A resource leaks and nobody is told.",
        "Collect the exceptions of cleanups and attach them to the run's result or error.",
        script_of_shape=scripts.clean_4,
    ),
    Clause(
        "CLEAN-5",
        "CLEAN",
        "leave nothing behind when the run is over: tasks, timers, threads, sockets, files, async "
        "generators, unretrieved exceptions",
        "high",
        "reliability",
        check_clean_5,
        {
            "": "Something is left behind when the run is over",
            "stage-left-running": "A failed run is over while sibling stages are still running",
            "task-left": "A task is left behind when the run is over",
            "exception-unretrieved": "An exception of a stage is never retrieved",
            "timer-left": "A timer is left behind when the run is over",
            "asyncgen-left": "An async generator is left open when the run is over",
        },
        "What is left behind goes on working, holds memory, or hides a failure.",
        "Await or cancel every task that the run created before it ends.",
        data_risk="medium",
        availability_risk="medium",
        script_of_shape=scripts.clean_5,
    ),
    Clause(
        "CLEAN-6",
        "CLEAN",
        "keep runs apart: the end of one run never runs or clears another's cleanups",
        "critical",
        "reliability",
        check_clean_6,
        {
            "": "One run's end touches another run",
            "ran-by-other-run": "One run's end runs another run's cleanups",
            "cleared-by-other-run": "One run's end clears another run's cleanups",
        },
        "Resources are released while another request still uses them, or never.",
        "Keep the cleanup registry in an object of the run, not of the pipeline.",
        data_risk="high",
        availability_risk="high",
        script_of_shape=scripts.clean_6,
    ),
)
