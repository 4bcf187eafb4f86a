"""Oracles beyond the clauses: what must not change an outcome, and what another engine says.

A metamorphic relation is a change of a case that must leave what the engine tells its user as
it was: another order of declaration, an independent stage more, all times doubled, other
names, a run before on the same object, a run beside it. The reference engine is asked the
same where the policy is declared equal. Both are asked only of cases that the program decides
without a tie: where two things are due in one instant, more than one outcome is right.

What they find are notes with both cases, not findings: no single run shows them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from harness.contract.reading import CLOSE_S, Reading
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.program import Program, Stage
from harness.kernel.record import RunRecord
from harness.kernel.steps import OPS, Step, step

__all__ = ["RELATIONS", "compare", "decided", "relate", "steady", "told"]

Case = tuple[Program, Plan]
Told = dict[str, Any]

FACTOR = 2.0
LATER_S = 500.0
EXTRA = "extra"
SCHEDULES = (11, 12, 13)
# What the outcome of a case may depend on besides the program: not asked about.
UNDECIDED_OPS = frozenset({"swallow", "flood", "thread", "store", "trespass", "identify", "mutate"})


def decided(reading: Reading) -> bool:
    """Say whether the program alone decides how an undisturbed run of it ends."""
    r, plan = reading, reading.plan
    if not r.sound or r.shape.faults or r.record.ended != "over":
        return False
    if len(plan.runs) > 1 or plan.layers or plan.sink or plan.consumer:
        return False
    if plan.faults or plan.toxics:
        return False
    if r.shape.ops & UNDECIDED_OPS or r.shape.attempts:
        return False
    if any(c.at_point is not None or c.times > 1 for c in plan.cancels):
        return False
    ones = [one for found in r.ran.values() for one in found]
    deciding = [f.cancels[0][1] for f in r.runs.values() if f.cancels]
    deciding += [one.end_s for one in ones if one.ended and one.how not in ("ok", "skip")]
    deciding += [r.time_of(i) for one in ones for i in one.interrupts]
    deciding += [
        one.start_s + limit
        for one in ones
        if one.run in r.runs and (limit := r.usable_timeout(one.stage)) is not None
    ]
    if not deciding:
        return True
    if "subpipeline" in r.shape.ops or any(s.idle_timeout_s for s in r.program.stages):
        return False
    # Nothing else may happen in the instant in which something is decided, but what comes of it.
    told_to_end = {(round(r.time_of(i), 6), one.stage) for one in ones for i in one.interrupts}
    busy: dict[float, set[str]] = {}
    for e in r.entries:
        at = round(e.at_s, 6)
        if e.stage and (at, e.stage) not in told_to_end:
            busy.setdefault(at, set()).add(e.stage)
    first = min(deciding)
    return len(busy.get(round(first, 6), ())) <= 1 and not any(
        CLOSE_S < abs(at - first) < 1e-3 for at in busy
    )


def steady(lab: Laboratory, program: Program, plan: Plan, base: RunRecord) -> bool:
    """Say whether a few other schedules tell the same: a tie that the journal does not show."""
    run = plan.runs[0].id
    said = told(base, run)
    return all(told(lab.run(program, plan, seed=seed), run) == said for seed in SCHEDULES)


def told(record: RunRecord, run: str, names: Mapping[str, str] | None = None) -> Told:
    """Return what the engine told of a run, as far as it is decided: statuses and outputs.

    Args:
        names: name in this case -> name to be called by.
    """
    outcome = record.outcomes.get(run)
    if outcome is None:
        return {"status": (record.build_error and "refused") or record.ended}
    called = names or {}
    stages = {
        called.get(name, name): (one.status, one.value)
        for name, one in outcome.stages.items()
        if name != EXTRA
    }
    return {"status": outcome.status, "stages": stages}


# Relations: each gives the changed case, the run of it to look at, and how its stages are called.

Related = tuple[Program, Plan, str, Mapping[str, str]]


def _reordered(program: Program, plan: Plan) -> Related:
    stages = tuple(reversed(program.stages))
    return Program(stages, program.name), plan, plan.runs[0].id, {}


def _with_branch(program: Program, plan: Plan) -> Related:
    extra = Stage(EXTRA, (step("ok", value=EXTRA),))
    return Program((*program.stages, extra), program.name), plan, plan.runs[0].id, {}


def _renamed(program: Program, plan: Plan) -> Related:
    names = {one.name: f"z{len(program.stages) - i}" for i, one in enumerate(program.stages)}

    def again(value: Any) -> Any:
        if isinstance(value, Step):
            args = {k: again(v) for k, v in value.args.items()}
            if value.op in ("read", "mutate"):
                args["stage"] = names.get(args["stage"], args["stage"])
            return Step(value.op, args)
        return tuple(again(v) for v in value) if isinstance(value, tuple) else value

    stages = tuple(
        dataclasses.replace(
            one,
            name=names[one.name],
            needs=tuple(names[n] for n in one.needs),
            steps=again(one.steps),
        )
        for one in program.stages
    )
    back = {new: old for old, new in names.items()}
    return Program(stages, program.name), plan, plan.runs[0].id, back


def _longer(value: Any, shape: str = "") -> Any:
    if isinstance(value, Step):
        fields = OPS[value.op].fields
        return Step(value.op, {k: _longer(v, fields[k].shape) for k, v in value.args.items()})
    if isinstance(value, Program):
        return Program(tuple(_longer_stage(one) for one in value.stages), value.name)
    if isinstance(value, tuple):
        return tuple(_longer(v, shape) for v in value)
    if shape == "duration" and value is not None:
        return value * FACTOR
    return value


def _times(value: float | None) -> float | None:
    return None if value is None else value * FACTOR


def _longer_stage(one: Stage) -> Stage:
    return dataclasses.replace(
        one,
        steps=_longer(one.steps),
        timeout_s=_times(one.timeout_s),
        idle_timeout_s=_times(one.idle_timeout_s),
    )


def _scaled(program: Program, plan: Plan) -> Related:
    def later(cancel: Cancel) -> Cancel:
        at_s = _times(cancel.at_s)
        return dataclasses.replace(cancel, at_s=at_s, gap_s=cancel.gap_s * FACTOR)

    longer = dataclasses.replace(
        plan,
        stage_timeout_s=_times(plan.stage_timeout_s),
        cleanup_grace_s=plan.cleanup_grace_s * FACTOR,
        cancels=tuple(later(c) for c in plan.cancels),
        runs=tuple(dataclasses.replace(s, start_s=s.start_s * FACTOR) for s in plan.runs),
        horizon_s=plan.horizon_s * FACTOR,
    )
    return _longer(program), longer, plan.runs[0].id, {}


def _twice(program: Program, plan: Plan, start_s: float) -> Related:
    first = plan.runs[0]
    second = dataclasses.replace(first, id="second", start_s=first.start_s + start_s)
    runs: tuple[RunSpec, ...] = (first, second)
    cancels = tuple(
        dataclasses.replace(c, run="second", at_s=None if c.at_s is None else c.at_s + start_s)
        for c in plan.cancels
    )
    plan = dataclasses.replace(
        plan, runs=runs, cancels=(*plan.cancels, *cancels), horizon_s=plan.horizon_s + start_s
    )
    return program, plan, "second", {}


def _again(program: Program, plan: Plan) -> Related:
    return _twice(program, plan, LATER_S)


def _together(program: Program, plan: Plan) -> Related:
    return _twice(program, plan, 0.0)


# Relation -> (the change, capability of the engine that it needs).
RELATIONS: Mapping[str, tuple[Callable[[Program, Plan], Related], str]] = {
    "declaration order": (_reordered, ""),
    "an independent branch": (_with_branch, ""),
    "all times doubled": (_scaled, ""),
    "stages renamed": (_renamed, ""),
    "run again on the same object": (_again, "concurrent_runs"),
    "two runs together": (_together, "concurrent_runs"),
}


def relate(lab: Laboratory, program: Program, plan: Plan, base: RunRecord) -> list[dict[str, Any]]:
    """Try every relation on a case whose undisturbed run is `base`; return those that broke."""
    broken = []
    before = told(base, plan.runs[0].id)
    for name, (change, needs) in RELATIONS.items():
        if needs and needs not in lab.info.capabilities:
            continue
        changed, circumstances, run, names = change(program, plan)
        record = lab.run(changed, circumstances)
        after = told(record, run, names)
        if after != before:
            broken.append(_note(name, (program, plan), (changed, circumstances), before, after))
    return broken


def compare(
    lab: Laboratory, reference: Laboratory, reading: Reading, base: RunRecord
) -> list[dict[str, Any]]:
    """Ask the reference engine the same, where the engine declares the policy that it has."""
    program, plan = reading.program, reading.plan
    if reading.policy() != plan.on_failure or lab.info.semantics:
        return []
    theirs = told(reference.run(program, plan), plan.runs[0].id)
    mine = told(base, plan.runs[0].id)
    # An engine need not tell of stages that did not complete.
    done = {k: v for k, v in theirs.get("stages", {}).items() if v[0] == "completed"}
    told_done = {k: v for k, v in mine.get("stages", {}).items() if v[0] == "completed"}
    if (mine["status"], told_done) == (theirs["status"], done):
        return []
    return [_note("the reference engine", (program, plan), (program, plan), theirs, mine)]


def _note(relation: str, case: Case, changed: Case, before: Told, after: Told) -> dict[str, Any]:
    return {
        "relation": relation,
        "expected": repr(before)[:1_000],
        "actual": repr(after)[:1_000],
        "program": case[0].to_json(),
        "plan": case[1].to_json(),
        "changed_program": changed[0].to_json(),
        "changed_plan": changed[1].to_json(),
    }
