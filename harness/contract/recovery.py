"""PART-5, PART-6 and RETRY-1: what an engine must do to go on after a failure, or to undo.

What is judged is what stages and compensations noted: how often they ran, when, in which
order. An engine that offers none of it is not judged. Where the contract leaves a choice
(whether timeouts are retried, whether a cancelled run is compensated, in which order what
completed in one instant is undone) the checks are silent.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from harness.contract import scripts
from harness.contract.beside import troubled_beside
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.reading import CLOSE_S, Ran, Reading
from harness.kernel.program import Retry
from harness.kernel.steps import walk

__all__ = ["RECOVERY", "RETRY"]

DONE = ("ok", "skip")
# A wait this much longer than declared is no scheduling any more.
WAIT_SHARE_MAX = 2.0
WAIT_MORE_S = 1.0


def _perhaps_timed_out(r: Reading, one: Ran) -> bool:
    """Say whether a timeout of the engine's may have ended an execution: its own, or one of zero,
    of a tool, or for want of heartbeats, of which the journal alone cannot always tell; nor of
    a scope of the stage's own."""
    if not one.interrupts:
        return False
    stage = r.stage(one.stage)
    odd = r.timeout_of(one.stage) is not None and r.usable_timeout(one.stage) is None
    inner = any(
        s.op == "timeout" or (s.op == "call" and s.args["timeout_s"] is not None)
        for s in walk(stage.steps)
    )
    return odd or inner or stage.idle_timeout_s is not None or r.by_timeout(one)


# PART-5


def check_part_5(r: Reading) -> Judgement:
    if not r.sound or r.shape.faults:
        return untested()
    bad: list[Violation] = []
    over = redriven = 0
    for run, facts in r.runs.items():
        earlier = r.before(run)
        if not earlier or facts.begin < 0 or not all(r.runs[old].over for old in earlier):
            continue
        done = _completed_before(r, earlier)
        over += len(done)
        redriven += 1
        bad += _run_again(r, run, done)
        bad += _changed(r, run, done)
        bad += _not_gone_on_with(r, run, earlier, done)
    bad += _redriven_twice(r)
    if not redriven:
        return untested()
    return violated(bad, redrives=redriven, completed_before=over)


def _completed_before(r: Reading, earlier: list[str]) -> dict[str, Ran]:
    """Return the stages that had completed in the runs that are gone on with, without doubt.

    Not those that completed when their run was being ended (unless the engine says that they
    have), nor what was undone since, nor what depends on that.
    """
    done: dict[str, Ran] = {}
    for run in earlier:
        at, _ = r.first_cause(run)
        timed = [one.interrupts[0] for one in r.executions(run) if _perhaps_timed_out(r, one)]
        ends = min([at, *timed] if at >= 0 else timed, default=-1)
        end_s = r.time_of(ends) if ends >= 0 else float("inf")
        outcome = r.outcome(run)
        for one in r.executions(run):
            if one.how not in DONE or one.interrupts or one.end > r.runs[run].end:
                continue
            if r.failed_in_layer(run, one.stage):
                continue
            report = outcome.stages.get(one.stage) if outcome is not None else None
            said = report is not None and report.status in ("completed", "skipped")
            if said or one.end_s < end_s - CLOSE_S:
                done[one.stage] = one
        for stage in _undone(r, run):
            for gone in {stage} | r.program.descendants(stage):
                done.pop(gone, None)
    return done


def _undone(r: Reading, run: str) -> set[str]:
    """Return the stages of which something was undone, in their subpipelines as well."""
    found: set[str] = set()
    children: set[str] = set()
    for e in r.entries:
        if e.kind == "undo.begin" and e.run == run:
            found.add(e.stage)
        elif e.kind == "undo.begin" and e.run.startswith(f"{run}/"):
            children.add(e.run[len(run) + 1 :].split("/", 1)[0].split("#", 1)[0])
    if children:
        found |= {e.stage for e in r.all_of("sub.begin", run) if e.detail in children}
    return found


def _run_again(r: Reading, run: str, done: dict[str, Ran]) -> list[Violation]:
    again = [one for one in r.executions(run) if one.stage in done]
    if not again:
        return []
    first = again[0]
    return [
        Violation(
            "completed-rerun",
            f"of the {len(done)} stages that had completed before the redrive, none is run again",
            f"{len({one.stage for one in again})} are",
            first.stage,
            "",
            {"rerun": len({one.stage for one in again}), "completed_before": len(done)},
            (done[first.stage].end, first.start),
        )
    ]


def _changed(r: Reading, run: str, done: dict[str, Ran]) -> list[Violation]:
    """Find outputs that a redrive, or a stage in it, has otherwise than they were returned."""
    outcome = r.outcome(run)
    for stage, one in done.items():
        said = r.of("returned", one.run, stage)
        if not said:
            continue
        value = said[-1].detail
        seen = [
            (e.stage, e.detail[2])
            for e in r.all_of("read", run)
            if tuple(e.detail[:2]) == (stage, "value")
        ]
        report = outcome.stages.get(stage) if outcome is not None else None
        if report is not None and report.status == "completed":
            seen.append(("", report.value))
        for reader, got in seen:
            if got != value:
                who = f"stage {reader} reads" if reader else "the outcome has"
                return [
                    Violation(
                        "output-changed",
                        f"the output of stage {stage} is {value!r} after the redrive as before",
                        f"{who} {got!r}",
                        stage,
                        r.any_location(run),
                        {},
                        (one.end, r.runs[run].begin),
                    )
                ]
    return []


def _not_gone_on_with(
    r: Reading, run: str, earlier: list[str], done: dict[str, Ran]
) -> list[Violation]:
    """Find stages that a redrive left out, and redrives that came to nothing without a reason."""
    facts, outcome = r.runs[run], r.outcome(run)
    if facts.cancels or outcome is None or r.layers_disturb(run):
        return []
    ones = r.executions(run)
    ran = {one.stage for one in ones}
    if outcome.status == "ok":
        tied = {o.stage for old in earlier for o in r.executions(old) if o.how in DONE}
        left = [s for s in r.program.names if s not in ran | tied and s not in r.shape.skippable]
        if not left:
            return []
        return [
            Violation(
                "unfinished-left-out",
                f"the redrive runs stage {left[0]}, which had not completed",
                "the redrive is reported as ok, and did not run it",
                left[0],
                "",
                {"left_out": len(left)},
                (facts.begin, facts.end),
            )
        ]
    reasons = [o for o in ones if o.how not in DONE and not o.again]
    timed = bool(r.timeouts_due(run)) or any(_perhaps_timed_out(r, one) for one in ones)
    if reasons or timed or _at_once(r, run, earlier):
        return []
    complete = {*done, *r.shape.skippable} >= set(r.program.names)
    if complete and not ones:
        return []  # there is nothing to redrive, and an engine may say so
    return [
        Violation(
            "redrive-failed",
            "the redrive ends ok, since no stage fails in it",
            f"it ended {outcome.status}"
            + (f": {outcome.raised.message[:160]}" if outcome.raised else ""),
            "",
            r.any_location(run),
            {},
            (facts.begin, facts.end),
        )
    ]


def _at_once(r: Reading, run: str, earlier: list[str]) -> bool:
    """Say whether another redrive of the same run was under way: then refusing is right."""
    mine = r.runs[run]
    for other, facts in r.runs.items():
        before = r.before(other)
        if other == run or not before or before[0] != earlier[0] or facts.begin < 0:
            continue
        if other not in earlier and facts.begin < mine.end and not 0 <= facts.end < mine.begin:
            return True
    return False


def _redriven_twice(r: Reading) -> list[Violation]:
    """Find stages that two redrives of one run ran at the same time."""
    ones = [one for run in r.runs if r.before(run) for one in r.executions(run)]
    for i, one in enumerate(ones):
        for other in ones[i + 1 :]:
            if (
                other.stage == one.stage
                and other.run != one.run
                and not _left_over(r, one, other)
                and not _left_over(r, other, one)
                and r.before(other.run)[0] == r.before(one.run)[0]
                and other.start < (one.end if one.ended else 1 << 60)
                and one.start < (other.end if other.ended else 1 << 60)
            ):
                return [
                    Violation(
                        "redriven-twice-at-once",
                        "a run is redriven by one redrive at a time",
                        f"runs {one.run} and {other.run} both run stage {one.stage}",
                        one.stage,
                        "",
                        {},
                        (one.start, other.start),
                    )
                ]
    return []


def _left_over(r: Reading, one: Ran, later: Ran) -> bool:
    """Say whether an execution had been given up, with its run, when another began."""
    return r.runs[one.run].over and r.runs[one.run].end < later.start


# PART-6


@dataclass(slots=True)
class _Undo:
    """One compensation: who declared it, and what became of it, as journal positions."""

    name: str
    by: Ran
    at: int
    begun: list[int] = field(default_factory=list)
    ended: int = -1
    cut: int = -1
    failed: int = -1


def check_part_6(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    due_count = kept = 0
    for run, facts in r.runs.items():
        undos = _undos(r, run)
        outcome = r.outcome(run)
        if not undos or not facts.over:
            continue
        first = min((u.begun[0] for u in undos if u.begun), default=-1)
        failed = r.first_cause(run)[1] == "fail" or any(
            r.gone_by_timeout(one) for one in r.executions(run)
        )
        if facts.cancels and not (0 <= first < facts.cancels[0][0]):
            continue  # cancelled before anything was undone: the engine's choice
        if not failed:
            if outcome is not None and outcome.status == "ok":
                kept += 1
                bad += _undone_for_nothing(undos)
            continue
        if outcome is not None and outcome.status not in ("failed", "cancelled"):
            continue  # an engine to which a failure is no failure of the run
        asked = any(o.how == "cancel_run" for o in r.executions(run))
        if asked and outcome is not None and outcome.status == "cancelled":
            continue  # a stage ended it as well; whether it was that is CANCEL-7's to judge
        due = [u for u in undos if _due(r, u)]
        due_count += len(due)
        bad += _missing(r, run, undos, due)
        bad += _wrong_order(r, due)
        bad += _not_finished(r, run, due)
        bad += _unreported(r, run, due)
    if not due_count and not kept and not bad:
        return untested()
    return violated(bad, compensations_due=due_count, runs_left_alone=kept)


def _undos(r: Reading, run: str) -> list[_Undo]:
    found: list[_Undo] = []
    if "compensate" not in r.shape.ops:
        return found
    for i, e in enumerate(r.entries):
        if e.run != run:
            continue
        if e.kind == "compensate":
            by = next(o for o in reversed(r.ran[run, e.stage]) if o.start < i)
            if by.ended and by.end < i:
                continue  # a task that the stage had let go declared it
            found.append(_Undo(e.detail, by, i))
        elif e.kind.startswith("undo."):
            mine = [u for u in found if u.name == e.detail and u.by.stage == e.stage]
            # Of several attempts that declared it, the one that completed is meant first.
            mine.sort(key=lambda u: (len(u.begun), u.by.how not in DONE, u.by.again))
            if e.kind == "undo.begin" and mine:
                mine[0].begun.append(i)
            elif mine:
                one = max(mine, key=lambda u: u.begun[-1] if u.begun else -1)
                setattr(one, {"undo.end": "ended", "undo.cut": "cut"}.get(e.kind, "failed"), i)
    return found


def _due(r: Reading, undo: _Undo) -> bool:
    """Say whether the stage has completed without doubt when its run failed."""
    one = undo.by
    if one.how != "ok" or one.interrupts or one.swallowed:
        return False
    if r.failed_in_layer(one.run, one.stage):
        return False
    at, _ = r.first_cause(one.run)
    ends = [r.timed_out_at(o) for o in r.executions(one.run) if r.gone_by_timeout(o)]
    if at >= 0:
        ends.append(at)
    if one.end_s < min(r.time_of(i) for i in ends) - CLOSE_S:
        return True
    outcome = r.outcome(one.run)
    report = outcome.stages.get(one.stage) if outcome is not None else None
    return report is not None and report.status == "completed"


def _undone_for_nothing(undos: list[_Undo]) -> list[Violation]:
    begun = [u for u in undos if u.begun]
    if not begun:
        return []
    return [
        _undo_bad(
            begun[0], "undone-without-failure", "nothing is undone: no stage failed", "it ran"
        )
    ]


def _undo_bad(
    undo: _Undo,
    shape: str,
    expected: str,
    actual: str,
    figures: dict[str, Any] | None = None,
) -> Violation:
    at = (undo.at, undo.by.end, *undo.begun[:2])
    return Violation(shape, expected, actual, undo.by.stage, "", figures or {}, at)


def _missing(r: Reading, run: str, undos: list[_Undo], due: list[_Undo]) -> list[Violation]:
    bad: list[Violation] = []
    end = r.runs[run].end
    left = [u for u in due if not any(b < end for b in u.begun)]
    began = [r.time_of(u.begun[0]) for u in due if u.begun]
    if began and r.time_of(end) - min(began) >= r.plan.cleanup_grace_s - CLOSE_S:
        left = []  # the grace was used up before it was their turn
    if left:
        done = len(due) - len(left)
        bad.append(
            _undo_bad(
                left[0],
                "not-undone",
                f"{len(due)} compensations have run when the failed run is over",
                f"{done} have; {left[0].name} has not",
                {"undone": done, "due": len(due)},
            )
        )
    twice = [u for u in due if len(u.begun) > 1]
    if twice:
        one = twice[0]
        bad.append(
            _undo_bad(
                one,
                "undone-twice",
                f"the compensation {one.name} runs once",
                f"it ran {len(one.begun)} times",
            )
        )
    early = [u for u in undos if u.begun and u.by.ended and u.by.how != "ok"]
    if early:
        one = early[0]
        bad.append(
            _undo_bad(
                one,
                "undone-though-not-completed",
                f"the compensation {one.name} counts once stage {one.by.stage} has completed",
                f"it ran, though that execution ended {one.by.how}",
            )
        )
    return bad


def _wrong_order(r: Reading, due: list[_Undo]) -> list[Violation]:
    ran = sorted((u for u in due if u.begun), key=lambda u: u.begun[0])
    for i, one in enumerate(ran):
        for later in ran[i + 1 :]:
            if one.by.end_s < later.by.end_s - CLOSE_S:
                return [
                    _undo_bad(
                        one,
                        "wrong-order",
                        f"{later.name} runs before {one.name}: its stage completed later",
                        "it ran after it",
                        {"order": [u.name for u in ran[:20]]},
                    )
                ]
            # What is not connected may be undone side by side; a stage after what it needs.
            needed = later.by.stage in _needs(r, one.by.stage)
            if needed and _still_at(one, later.begun[0]):
                return [
                    _undo_bad(
                        later,
                        "not-in-turn",
                        f"{later.name} runs when {one.name} is done, whose stage needs its own",
                        "it began before that",
                    )
                ]
    return []


def _needs(r: Reading, stage: str) -> frozenset[str]:
    return frozenset(n for n in r.program.names if stage in r.program.descendants(n))


def _still_at(undo: _Undo, position: int) -> bool:
    stop = max(undo.ended, undo.cut, undo.failed)
    return stop < 0 or stop > position


def _not_finished(r: Reading, run: str, due: list[_Undo]) -> list[Violation]:
    grace, end = r.plan.cleanup_grace_s, r.runs[run].end
    # What stages that completed after the failure, and subpipelines, have to undo counts as well.
    began = next((e.at_s for e in r.all_of("undo.begin") if f"{e.run}/".startswith(f"{run}/")), 0.0)
    for one in due:
        if not one.begun or one.begun[0] > end:
            continue
        if 0 <= max(one.ended, one.failed) < end:
            continue
        stop = one.cut if one.cut >= 0 else end
        spent = r.time_of(stop) - began
        if spent >= grace - CLOSE_S:
            continue  # the stated grace, which is for all of them, was used up
        cut = one.cut >= 0
        return [
            _undo_bad(
                one,
                "compensation-cut" if cut else "compensation-not-awaited",
                f"the compensation {one.name} may take up to {grace:g} s, and is awaited",
                f"it was cancelled after {r.time_of(stop) - r.time_of(one.begun[0]):g} s"
                if cut
                else "the run was over while it was still at it",
            )
        ]
    return []


def _unreported(r: Reading, run: str, due: list[_Undo]) -> list[Violation]:
    outcome = r.outcome(run)
    failed = [u for u in due if u.failed >= 0]
    if not failed or outcome is None or r.runs[run].cancels:
        return []
    said = json.dumps(outcome.to_json(), default=repr)
    for one in failed:
        if f"compensation {one.name} failed" not in said and one.name not in " ".join(
            outcome.compensation_failures
        ):
            return [
                _undo_bad(
                    one,
                    "failure-not-reported",
                    f"the engine reports that the compensation {one.name} failed",
                    f"the run ended {outcome.status} and says nothing of it",
                )
            ]
    return []


# RETRY-1


def check_retry_1(r: Reading) -> Judgement:
    if not r.sound or r.shape.faults or all(s.retry is None for s in r.program.stages):
        return untested()
    bad: list[Violation] = []
    failed = retries = 0
    for run in r.runs:
        if r.layers_disturb(run):
            continue  # a layer may fail an attempt, refuse one or let it wait
        for stage in r.program.stages:
            ones = r.ran.get((run, stage.name), [])
            failed += sum(1 for one in ones if one.attempt_failed or r.by_timeout(one))
            retries += max(0, len(ones) - 1)
            if len(ones) > 1:
                bad += _needless(r, ones, stage.retry)
            if stage.retry is not None and ones:
                bad += _number(r, ones, stage.retry)
                bad += _waits(r, ones, stage.retry)
                bad += _after_the_end(r, ones)
                bad += _said(r, ones)
    if not failed and not retries:
        return untested()
    return violated(bad, attempts_failed=failed, retries=retries)


def _retry_bad(
    one: Ran, shape: str, expected: str, actual: str, figures: dict[str, Any] | None = None
) -> Violation:
    return Violation(shape, expected, actual, one.stage, "", figures or {}, (one.start, one.end))


def _needless(r: Reading, ones: list[Ran], retry: Retry | None) -> list[Violation]:
    """Find executions that came after one which is not to be repeated."""
    for one, following in pairwise(ones):
        stage = one.stage
        if not one.ended or following.start < one.end:
            expected = f"an attempt of stage {stage} begins when the one before has ended"
            return [_retry_bad(following, "attempts-overlap", expected, "it began before")]
        called_off = one.how == "cancelled" and not _perhaps_timed_out(r, one)
        called_off = called_off and bool(one.interrupts)
        # One that was told to stop is done with, whatever it then returned.
        if one.how in ("ok", "skip", "cancel_run", "cancel_branch") and not one.interrupts:
            shape = "completed-rerun" if one.how in DONE else "called-off-rerun"
            expected = f"stage {stage} is not run again in its run, since it ended {one.how}"
            return [_retry_bad(following, shape, expected, "it was run again")]
        if called_off:
            expected = f"stage {stage}, which was cancelled, is not tried again"
            return [_retry_bad(following, "retried-after-cancel", expected, "it was tried again")]
        if retry is None:
            expected = f"stage {stage} is run once: it declares no retry"
            return [_retry_bad(following, "retried-undeclared", expected, "it was run again")]
    return []


def _number(r: Reading, ones: list[Ran], retry: Retry) -> list[Violation]:
    last = ones[-1]
    expected = f"stage {last.stage} is tried {retry.attempts} times while it goes on failing"
    figures = {"attempts": len(ones), "declared": retry.attempts}
    if len(ones) > retry.attempts:
        return [_retry_bad(last, "too-many", expected, f"it was tried {len(ones)} times", figures)]
    facts = r.runs[last.run]
    if len(ones) == retry.attempts or not last.attempt_failed or last.self_cancelled:
        return []
    if r.of("consume.stop", last.run, last.stage):
        return []  # nobody was to have what another attempt would bring
    if not facts.over and r.record.ended != "deadlock":
        return []
    due_s = last.end_s + _longest_s(retry, len(ones)) + r.tolerance_s
    if _called_off(r, last, due_s):
        return []
    return [_retry_bad(last, "too-few", expected, f"it was tried {len(ones)} times", figures)]


def _called_off(r: Reading, one: Ran, until_s: float) -> bool:
    """Say whether something else may have ended the run, until then or before it was over."""
    facts = r.runs[one.run]
    if facts.cancels:
        return True
    if any(due <= until_s for due, o in r.timeouts_due(one.run) if o.stage != one.stage):
        return True
    for other in r.executions(one.run):
        if other.stage == one.stage:
            continue
        failed = not other.again and (other.how == "fail" or other.how.startswith("raise:"))
        # One that was cut where it could not note it: nobody knows by whom.
        unclear = other.how == "cancelled" and not other.interrupts
        ends = failed or unclear or other.how == "cancel_run"
        timed = _perhaps_timed_out(r, other) and (
            r.time_of(other.interrupts[0]) <= until_s or other.in_child(until_s)
        )
        if timed or (ends and other.ended and other.end_s <= until_s):
            return True
    return False


def _shortest_s(retry: Retry, failed: int) -> float:
    return float(retry.backoff_s * retry.factor ** (failed - 1))


def _longest_s(retry: Retry, failed: int) -> float:
    declared = _shortest_s(retry, failed) + retry.jitter_s
    return declared * WAIT_SHARE_MAX + WAIT_MORE_S


def _waits(r: Reading, ones: list[Ran], retry: Retry) -> list[Violation]:
    for failed, (one, following) in enumerate(pairwise(ones), 1):
        waited = following.start_s - one.end_s
        least = _shortest_s(retry, failed)
        figures = {"waited_s": round(waited, 6), "backoff_s": round(least, 6)}
        expected = f"attempt {failed + 1} of stage {one.stage} comes {least:g} s after the failure"
        if waited < least - CLOSE_S:
            actual = f"it came after {waited:g} s"
            return [_retry_bad(following, "backoff-short", expected, actual, figures)]
        if waited > _longest_s(retry, failed) + r.tolerance_s:
            actual = f"it came only after {waited:g} s"
            return [_retry_bad(following, "backoff-long", expected, actual, figures)]
    return []


def _after_the_end(r: Reading, ones: list[Ran]) -> list[Violation]:
    """Find attempts that began when the run was cancelled, was being ended, or was over."""
    facts = r.runs[ones[0].run]
    for one in ones[1:]:
        if facts.over and one.start_s > facts.end_s + r.tolerance_s:
            return [
                _retry_bad(
                    one,
                    "retried-after-run",
                    f"stage {one.stage} is not tried again when its run is over",
                    f"it was, {one.start_s - facts.end_s:g} s later",
                )
            ]
        stops = [(s, "the caller cancelled the run") for _, s in facts.cancels]
        stops += [
            (other.end_s, f"stage {other.stage} ended the run")
            for other in r.executions(one.run)
            if other.how == "cancel_run" and not other.interrupts
        ]
        if r.policy() == "cancel":
            stops += [
                (other.end_s, f"stage {other.stage} failed")
                for other in r.executions(one.run)
                if other.failed_by_itself and other.stage != one.stage
            ]
        for stop_s, why in stops:
            if one.start_s > stop_s + r.tolerance_s:
                return [
                    _retry_bad(
                        one,
                        "retried-after-cancel",
                        f"stage {one.stage} is not tried again after {why}",
                        f"it was, {one.start_s - stop_s:g} s later",
                    )
                ]
    return []


def _said(r: Reading, ones: list[Ran]) -> list[Violation]:
    """Find what the engine says of a retried stage that is not so."""
    last = ones[-1]
    facts, outcome = r.runs[last.run], r.outcome(last.run)
    if outcome is None or facts.cancels or not last.ended or last.end > facts.end:
        return []
    report = outcome.stages.get(last.stage)
    told = None if report is None else report.attempts
    # One that was stopped before it came to do anything may be counted or not.
    unseen = told == len(ones) + 1 and _called_off(r, last, float("inf"))
    if told is not None and told != len(ones) and not unseen:
        return [
            _retry_bad(
                last,
                "attempts-misreported",
                f"the engine says that it ran stage {last.stage} {len(ones)} times",
                f"it says {told}",
            )
        ]
    if len(ones) > 1 and last.how == "ok" and not last.interrupts and outcome.status != "ok":
        if _called_off(r, last, float("inf")):
            return []
        finals = {one.stage: one for one in r.executions(last.run)}
        if any(one.how not in ("ok", "skip") for one in finals.values()):
            return []  # it is another stage that failed the run
        if troubled_beside(r, last.run, facts.end_s):
            return []  # or another run: TENANT-4
        words = outcome.raised.message[:160] if outcome.raised is not None else outcome.status
        return [
            _retry_bad(
                last,
                "success-lost",
                f"the run goes on with what attempt {len(ones)} of stage {last.stage} returned",
                f"it ended {outcome.status}: {words}",
            )
        ]
    return []


RECOVERY: tuple[Clause, ...] = (
    Clause(
        "PART-5",
        "PART",
        "redrive a failed run from its last checkpoint without re-running completed stages, also "
        "after the process was killed",
        "medium",
        "reliability",
        check_part_5,
        {
            "": "A redrive does not go on where the run ended",
            "completed-rerun": "A redrive runs stages again that had completed",
            "unfinished-left-out": "A redrive takes a stage for done that had not completed",
            "output-changed": "A redrive has another output than the stage returned",
            "redriven-twice-at-once": "Two redrives of one run run the same stage at once",
            "effect-twice": "Work that was not kept is done again, and nothing documents it",
            "run-twice": "A stage is run twice in one run",
            "not-stored": "A run is reported as ok though its stages could not be stored",
        },
        "Completed work is done again, with its side effects, or is taken for done when it is not.",
        "Write each stage's output when it has completed, before what needs it starts, and look "
        "it up before a stage is started.",
        effort="large",
        needs=frozenset({"checkpoint"}),
        data_risk="high",
        workaround="Have stages look up what an earlier run stored, and return that.",
    ),
    Clause(
        "PART-6",
        "PART",
        "on failure run declared compensations in reverse order of completion, each once, and "
        "report those that fail",
        "medium",
        "reliability",
        check_part_6,
        {
            "": "Completed stages of a failed run are not undone as declared",
            "undone-twice": "A compensation runs twice",
            "wrong-order": "Compensations do not run in reverse order of completion",
            "undone-without-failure": "A compensation runs although the run did not fail",
            "undone-though-not-completed": "A compensation of a stage that did not complete runs",
            "failure-not-reported": "A compensation's failure is not reported",
            "compensation-cut": "A compensation is cut short",
        },
        "Half of a transaction stays in place, or is undone twice.",
        "Keep a stack of the completed stages' compensations and run it down, shielded from "
        "cancels, when the run has failed.",
        effort="medium",
        needs=frozenset({"compensation"}),
        data_risk="high",
        workaround="Undo by hand in the code that catches the run's error.",
    ),
)

RETRY: tuple[Clause, ...] = (
    Clause(
        "RETRY-1",
        "RETRY",
        "where it retries: make attempts and waits as declared, and none after a cancel",
        "high",
        "correctness",
        check_retry_1,
        {
            "": "Retries are not made as declared",
            "too-few": "A stage that goes on failing is tried fewer times than declared",
            "too-many": "A stage is tried more often than declared",
            "backoff-short": "A retry does not wait as long as declared",
            "retried-after-cancel": "A stage is tried again after its run was cancelled",
            "completed-rerun": "A stage that had completed is run again",
            "success-lost": "A retry succeeds, and the run fails all the same",
        },
        "A failing service is hit harder than was meant, or work that was called off is done.",
        "Count attempts in one place, and wait where a cancel of the run ends the wait.",
        needs=frozenset({"retry"}),
        data_risk="medium",
        availability_risk="medium",
        script_of_shape=scripts.retry_1,
    ),
)
