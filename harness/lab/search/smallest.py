"""The smallest run that shows a violation, as a worker finds it beside the engine.

Brings laboratory, clauses and shrinking together: takes a witness as plain data, gives back
what shrinking changes of it, with the run of the smallest case on record.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.contract.clause import Violation
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.errors import InputError
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import Cancel, Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.lab.search.shrink import (
    TRIES_MAX,
    Key,
    RunAndJudge,
    Seen,
    Shrunk,
    Tape,
    is_shown,
    key_of,
    shrink,
)
from harness.lab.search.simpler import in_less_time, without_time
from harness.lab.search.telling import (
    NOW_AND_THEN,
    SCRIPTED,
    SHOWN,
    UNTOLD,
    told_by_script,
    with_longer_times,
)

__all__ = ["judging", "run_taped", "shrink_witness"]

JOURNAL_MAX = 400
STURDY_RUNS = 6
PROGRESS_EVERY_S = 1.0
# What the engine's default limit of stages becomes where a run lasts as long as that, in seconds.
SOONER_S = 0.6
CHOICES_MAX = 200  # of a disturbed run, in each stream
# By how much what a caller does at a time is late, or early, in disturbed runs, by turns.
NUDGES_S = (0.0, 0.02, -0.02)
# What comes when something else does is tried so much later or sooner.
APART_S = (0.05, -0.05, 0.02, -0.02, 0.01, -0.01)


def judging(
    lab: Laboratory, clause: str, seed: int, ran: Callable[[], None] = lambda: None
) -> RunAndJudge:
    """Return what runs a case in this laboratory and judges it by one clause."""
    check = CLAUSES[clause].check

    def run_and_judge(program: Program, plan: Plan, tape: Tape) -> Seen:
        ran()
        record = run_taped(lab, program, plan, seed, tape)
        try:
            judgement = check(Reading(program, plan, record, lab.info))
        except Exception:
            # A check that crashes is a fault of ours, and no violation.
            return Seen(frozenset(), record.points, record.took_s)
        return Seen(
            keys=frozenset(key_of(clause, v.shape, v.location) for v in judgement.violations),
            callbacks=record.points,
            took_s=record.took_s,
            cancelled_s=next((e.at_s for e in record.journal if e.kind == "cancel.sent"), None),
            chosen=record.chosen,
        )

    return run_and_judge


def run_taped(
    lab: Laboratory, program: Program, plan: Plan, seed: int, tape: Tape | None
) -> RunRecord:
    """Run a case from its tape alone, or from its seed if there is no tape (None).

    An empty tape is one that chooses the first alternative everywhere, not none at all.
    """
    clean_points = 0
    if any(c.at_point is not None and c.at_point < 0 for c in plan.cancels):
        clean_points = lab.run(program, dataclasses.replace(plan, cancels=())).points
    recorded = None if tape is None else dict(tape) or {"points": []}
    return lab.run(program, plan, seed=seed, recorded=recorded, clean_points=clean_points)


def shrink_witness(
    lab: Laboratory, request: Mapping[str, Any], progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Shrink one witness; answers a worker's request of operation "shrink".

    Args:
        request: program, plan, seed, tape (absent: drawn from the seed), and key [clause, shape,
            component or `ANYWHERE`] or the clauses to look for one in; tries_max.
        progress: called with the number of tries, now and then: a sign of life.

    Returns:
        The fields of a witness row that shrinking changes, and `shrunk`: what it took.

    Raises:
        InputError: if the run violates nothing of what is asked for.
    """
    program, plan = Program.from_json(request["program"]), Plan.from_json(request["plan"])
    seed, tape = int(request.get("seed", 0)), request.get("tape")
    record = run_taped(lab, program, plan, seed, tape)
    plan = _points_fixed(plan, record.tape)
    tape = {k: v for k, v in record.tape.items() if k != "points"}
    key = tuple(request["key"]) if request.get("key") else _gravest(lab, request, plan, record)
    clause = CLAUSES[key[0]]
    tries = spent = 0
    said_s = time.monotonic()

    def ran() -> None:
        nonlocal tries, said_s
        tries += 1
        if progress is not None and time.monotonic() > said_s + PROGRESS_EVERY_S:
            said_s = time.monotonic()
            progress(tries)

    def spend(points: int) -> None:
        nonlocal spent
        spent += points

    if (sooner := _sooner(lab, key, program, plan, record)) is not None:
        program, plan, tape = *sooner, {}

    def tells_of(smaller: Program, circumstances: Plan, wanted: int = UNTOLD) -> int:
        if smaller == smaller.with_durations({}):
            return told_by_script(lab, key, smaller, circumstances, wanted, spend=spend)
        # A script takes the first of several durations: it is that of another run.
        return min(SCRIPTED, told_by_script(lab, key, smaller, circumstances, SHOWN, spend=spend))

    told = tells_of(program, plan)
    sturdy = _sturdy(lab, key, program, plan, 0) if told else 0

    def keeps(smaller: Program, circumstances: Plan) -> bool:
        nonlocal sturdy, told
        # What a script has come to tell on the way it is to go on telling, and what has become
        # sturdier is not to become a race again.
        tells = tells_of(smaller, circumstances, told)
        if tells < told:
            return False
        if tells and _is_timeless(smaller, circumstances):
            shown = sturdy
            if not is_shown(key, run_and_judge(smaller, circumstances, {}).keys):
                return False
        elif tells:
            shown = _sturdy(lab, key, smaller, circumstances, sturdy)
            if shown < sturdy:
                return False
        else:
            shown = 0
        told, sturdy = tells, shown
        return True

    # A seed also numbers what the engine draws by itself; without one there is less to say.
    run_and_judge = judging(lab, key[0], 0, ran)
    if seed and is_shown(key, run_and_judge(program, plan, tape).keys):
        seed = 0
    elif seed:
        run_and_judge = judging(lab, key[0], seed, ran)
    judge = run_and_judge

    def with_rehearsals(smaller: Program, circumstances: Plan, tape: Tape) -> Seen:
        nonlocal spent
        seen = judge(smaller, circumstances, tape)
        seen, spent = dataclasses.replace(seen, callbacks=seen.callbacks + spent), 0
        return seen

    run_and_judge = with_rehearsals
    tries_max = int(request.get("tries_max", TRIES_MAX))
    small = shrink(program, plan, tape, key, run_and_judge, tries_max=tries_max, keeps=keeps)
    longer = (
        with_longer_times(lab, key, small, told, run_and_judge) if told < NOW_AND_THEN else None
    )
    if longer is not None:
        program, plan, told = longer
        sturdy, tape, tries_max = 0, small.tape, tries_max - small.tries
        anew = shrink(program, plan, tape, key, run_and_judge, tries_max=tries_max, keeps=keeps)
        small = dataclasses.replace(
            anew,
            before=small.before,
            tries=small.tries + anew.tries,
            taken=small.taken + anew.taken,
        )
    if told:
        small = dataclasses.replace(small, plan=_off_ties(lab, key, small, run_and_judge))
    record = run_taped(lab, small.program, small.plan, seed, small.tape)
    again = run_taped(lab, small.program, small.plan, seed, small.tape)
    found = clause.check(Reading(small.program, small.plan, record, lab.info)).violations
    violation: Violation | None = next(
        (v for v in found if is_shown(key, [key_of(clause.id, v.shape, v.location)])), None
    )
    if violation is None:
        raise InputError(f"shrink: the run of the smallest case does not show {key[0]} again")
    rows = record.journal.to_json()
    return {
        "program": small.program.to_json(),
        "plan": small.plan.to_json(),
        "seed": seed,
        "tape": dict(small.tape),
        "stage": violation.stage,
        "expected": violation.expected,
        "actual": violation.actual,
        "location": violation.location,
        "figures": dict(violation.figures),
        "journal": rows[:JOURNAL_MAX],
        "journal_cut": max(0, len(rows) - JOURNAL_MAX),
        "at": [i for i in violation.at if i >= 0],
        "digest": digest(record),
        "nondeterministic": digest(again) != digest(record),
        "key": list(key_of(clause.id, violation.shape, violation.location)),
        "scripted": told > UNTOLD,
        "told": told,
        "shrunk": {
            "before": dict(small.before),
            "after": dict(small.after),
            "tries": small.tries,
            "taken": small.taken,
            "ended": small.ended,
        },
    }


def _points_fixed(plan: Plan, tape: Tape) -> Plan:
    """Replace "where the tape draws" by the point that it drew."""
    drawn = list(tape.get("points", ()))

    def fixed(cancel: Cancel) -> Cancel:
        if cancel.at_point is None or cancel.at_point >= 0:
            return cancel
        return dataclasses.replace(cancel, at_point=1 + (drawn.pop(0) if drawn else 0))

    return dataclasses.replace(plan, cancels=tuple(fixed(c) for c in plan.cancels))


def _sturdy(lab: Laboratory, key: Key, program: Program, plan: Plan, wanted: int) -> int:
    """Count the disturbed runs of a case that show it as well, or give up below `wanted`.

    A script runs on a real clock, where timers are late and ties are broken as it happens. A
    case that shows it only if two moments coincide is no simpler than one that does not care.
    Of several durations it takes the first.
    """
    check = CLAUSES[key[0]].check
    program = program.with_durations({})
    shown = 0
    for tried, tape in enumerate(STURDY_TAPES):
        if shown + STURDY_RUNS - tried < wanted:
            break
        nudged = _nudged(plan, NUDGES_S[tried % len(NUDGES_S)])
        record = run_taped(lab, program, nudged, 0, tape)
        try:
            found = check(Reading(program, nudged, record, lab.info)).violations
        except Exception:
            continue  # a check of ours that crashes shows nothing
        shown += is_shown(key, [key_of(key[0], v.shape, v.location) for v in found])
    return shown


def _disturbed(number: int) -> dict[str, list[int]]:
    """Return the tape of a disturbed run: all that may go otherwise for a script as well. Extra
    turns before its steps are no part of it, as a script has none."""
    rng = random.Random(number)
    tape = {"tasks": [rng.randrange(1 << 16)]} if number % 2 else {}
    for stream, of, since in (("late", 4, 1), ("jobs", 3, 2), ("ties", 3, 3)):
        if number >= since:
            tape[stream] = [rng.randrange(of) for _ in range(CHOICES_MAX)]
    return tape


STURDY_TAPES = tuple(map(_disturbed, range(STURDY_RUNS)))


def _off_ties(lab: Laboratory, key: Key, small: Shrunk, run_and_judge: RunAndJudge) -> Plan:
    """Return the plan with its cancels, the starts of its later runs, or its stages' timeout, a
    little later or sooner, if more disturbed runs then show it: a cancel at 0.1 s beside a sleep
    of as long comes before or after its end as it happens."""
    program, plan = small.program, small.plan
    shown = _sturdy(lab, key, program, plan, 0)
    for apart in _apart(small.plan):
        if shown == STURDY_RUNS:
            break
        more = _sturdy(lab, key, program, apart, shown + 1)
        shows = more > shown and is_shown(key, run_and_judge(program, apart, small.tape).keys)
        told = told_by_script(lab, key, program, plan)
        if shows and told_by_script(lab, key, program, apart, told) >= told:
            plan, shown = apart, more
    return plan


def _apart(plan: Plan) -> Iterator[Plan]:
    """Yield a plan with its cancels at other times, then with its later runs at other times, then
    with another limit for its stages."""
    for by_s in APART_S:
        moved = _nudged(plan, by_s)
        if plan.cancels != moved.cancels and 0.0 not in {c.at_s for c in moved.cancels}:
            yield dataclasses.replace(plan, cancels=moved.cancels)
    for by_s in APART_S:
        moved = _nudged(plan, by_s)
        if plan.runs != moved.runs:
            yield dataclasses.replace(plan, runs=moved.runs)
    for by_s in APART_S:
        limit_s = round((plan.stage_timeout_s or 0.0) + by_s, 6)
        if plan.stage_timeout_s is not None and limit_s > 0:
            yield dataclasses.replace(plan, stage_timeout_s=limit_s)


def _sooner(
    lab: Laboratory, key: Key, program: Program, plan: Plan, record: RunRecord
) -> tuple[Program, Plan] | None:
    """Return a case that takes too long for a script, with all times as much shorter as a limit of
    the plan is than the engine's own default; None if that is not what it shows."""
    limit_s = lab.info.facts.get("default_stage_timeout_s")
    named = plan.stage_timeout_s is not None or "stage_timeout" not in lab.info.capabilities
    if not limit_s or named or record.took_s < limit_s:
        return None
    settled = program.with_durations(record.chosen).to_json()
    whole = {**plan.to_json(), "stage_timeout_s": limit_s}
    scaled = Program.from_json(in_less_time(settled, SOONER_S / limit_s))
    limited = Plan.from_json(in_less_time(whole, SOONER_S / limit_s))
    shown = judging(lab, key[0], 0)(scaled, limited, {}).keys
    return (scaled, limited) if is_shown(key, shown) else None


def _is_timeless(program: Program, plan: Plan) -> bool:
    """Say whether nothing in a case takes time: then asyncio's own order of turns is all that
    there is, in a script as here."""
    told = program.to_json(), plan.to_json()
    threads = any(one.op in ("thread", "timeout") for _, one in program.walk())
    return not plan.cancels and not threads and tuple(map(without_time, told)) == told


def _nudged(plan: Plan, by_s: float) -> Plan:
    """Return a plan whose cancels, and runs that wait for their start, come so much later."""
    cancels = [
        one
        if one.at_s is None
        else dataclasses.replace(one, at_s=max(0.0, round(one.at_s + by_s, 6)))
        for one in plan.cancels
    ]
    runs = [
        dataclasses.replace(one, start_s=max(0.0, round(one.start_s + by_s, 6)))
        if one.start_s
        else one
        for one in plan.runs
    ]
    return dataclasses.replace(plan, cancels=tuple(cancels), runs=tuple(runs))


def _gravest(lab: Laboratory, request: Mapping[str, Any], plan: Plan, record: RunRecord) -> Key:
    """Return the key of the gravest violation in a run, of the clauses asked for first."""
    program = Program.from_json(request["program"])
    reading = Reading(program, plan, record, lab.info)
    wanted = list(request.get("clauses") or ())
    grave = ("critical", "high", "medium", "low", "info")
    ordered = sorted(CLAUSES.values(), key=lambda c: (c.id not in wanted, grave.index(c.severity)))
    for clause in ordered:
        if clause.needs <= lab.info.capabilities:
            for violation in clause.check(reading).violations:
                return key_of(clause.id, violation.shape, violation.location)
    raise InputError("shrink: this run violates no clause; there is nothing to shrink")
