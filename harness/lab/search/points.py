"""Exhaustive injection: for one program, every point at which something can cut in.

From an undisturbed run come the number of the loop's callbacks, each idle gap counted as one,
and the instants at which anything happened. Then, one at a time: the caller cancels at each of
these points, once or again; a caller's deadline expires at each instant, in the tick in which
something else is due; every stage is called off or fails at each of its steps; each call of a
tool fails, once and from there on; a stage beside fails at each instant; the engine's own
timeout is due then, for all stages or for one; the task of each stage under way is cancelled
from outside the engine, at each point; the caller's `asyncio.timeout`, `wait_for` or task group
ends the run at each instant. After each, all clauses judge, what is left is
looked for before anything is torn down, and a plain program must still end well on the same
adapter object.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from harness.kernel.errors import NotOffered
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Cancel, Fault, Plan, RunSpec, required_capabilities
from harness.kernel.program import Program, Stage
from harness.kernel.record import RunRecord
from harness.kernel.steps import Step, step
from harness.lab.search.finder import Finder
from harness.lab.search.rows import unit_row

__all__ = ["Injection", "injections", "points_unit"]

# More than a program of a few stages has; the row says so where it is not enough.
POINTS_MAX = 400
INSTANTS_MAX = 60
TOOL_ERRORS = ("RuntimeError", "TimeoutError", "CancelledError")
STAGE_ERRORS = ("CancelledError", "ValueError", "TimeoutError")
# The second cancel comes at once, or while what the first one stirred up goes on.
AGAIN_S = (0.0, 0.001, 0.05)
BESIDE = "beside"
AFTER_S = 1_000.0


class Injection(NamedTuple):
    """One way to cut in: what it is, and the case that does it."""

    label: str
    program: Program
    plan: Plan
    cancel_point: int | None = None


def injections(
    program: Program, plan: Plan, clean: RunRecord, capabilities: frozenset[str]
) -> Iterator[Injection]:
    """Yield every injection into a program.

    Args:
        plan: its own cancels are left out: these take their place.
        clean: an undisturbed run of the program under the plan without cancels.
    """
    calm = dataclasses.replace(plan, cancels=())
    # A run of the same pipeline object afterwards: it must still work.
    again = _run_after(calm) if "concurrent_runs" in capabilities else None
    yield from _cancels(program, calm, clean, again)
    yield from _deadlines(program, calm, clean, again)
    yield from _tool_faults(program, calm, clean)
    yield from _steps_failing(program, again or calm)
    yield from _beside(program, calm, clean)
    if "stage_timeout" in capabilities:
        for at_s in _instants(clean):
            limited = dataclasses.replace(calm, stage_timeout_s=at_s)
            yield Injection(f"a timeout of {at_s:g} s for all stages", program, limited)
    if "stage_timeout_each" in capabilities:
        yield from _timeouts(program, calm, clean)
    yield from _stage_cancels(program, again or calm, clean)
    yield from _deadlines_by(program, again or calm, clean)


def _run_after(calm: Plan) -> Plan | None:
    """Return the plan with one more run long after its own, or None where that would tell
    nothing: what layers keep, and what a redrive finds, is not as it was before."""
    if len(calm.runs) > 1 or calm.layers:
        return None
    second = RunSpec("after", start_s=AFTER_S, inputs=calm.runs[0].inputs)
    return dataclasses.replace(calm, runs=(*calm.runs, second), horizon_s=AFTER_S * 4)


def _all_instants(clean: RunRecord) -> list[float]:
    return sorted({round(e.at_s, 6) for e in clean.journal if e.at_s > 0})


def _instants(clean: RunRecord) -> list[float]:
    return _all_instants(clean)[:INSTANTS_MAX]


def _timeouts(program: Program, calm: Plan, clean: RunRecord) -> Iterator[Injection]:
    """Let each stage time out halfway to, and in the tick of, all that happens while it runs."""
    run = calm.runs[0].id
    starts = {e.stage: e.at_s for e in clean.journal.of("stage.start", run=run)}
    ends = {e.stage: e.at_s for e in clean.journal.of("stage.end", run=run)}
    for i, stage in enumerate(program.stages):
        if stage.name not in starts or stage.name not in ends:
            continue
        start_s, end_s = starts[stage.name], ends[stage.name]
        limits = {at_s - start_s for at_s in _instants(clean) if start_s < at_s <= end_s}
        limits |= {limit_s / 2 for limit_s in limits}
        for limit_s in sorted({round(limit_s, 6) for limit_s in limits}):
            limited = dataclasses.replace(stage, timeout_s=limit_s)
            stages = (*program.stages[:i], limited, *program.stages[i + 1 :])
            label = f"a timeout of {limit_s:g} s for stage {stage.name}"
            yield Injection(label, Program(stages, program.name), calm)


def _cancels(
    program: Program, calm: Plan, clean: RunRecord, after: Plan | None
) -> Iterator[Injection]:
    run = calm.runs[0].id
    cancels = (Cancel(run=run, at_point=1),)
    once = dataclasses.replace(calm, cancels=cancels)
    again = [
        dataclasses.replace(calm, cancels=(Cancel(run=run, at_point=1, times=2, gap_s=gap_s),))
        for gap_s in AGAIN_S
    ]
    if after is not None:
        after = dataclasses.replace(after, cancels=cancels)
    for point in range(1, min(clean.points, POINTS_MAX) + 1):
        yield Injection(f"the caller cancels at point {point}", program, once, point)
        for gap_s, plan in zip(AGAIN_S, again, strict=True):
            label = f"the caller cancels at point {point}, and again {gap_s:g} s later"
            yield Injection(label, program, plan, point)
        if after is not None:
            label = f"the caller cancels at point {point}; the pipeline is run once more"
            yield Injection(label, program, after, point)


def _deadlines(
    program: Program, calm: Plan, clean: RunRecord, after: Plan | None
) -> Iterator[Injection]:
    run = calm.runs[0].id
    for at_s in _instants(clean):
        cancels = (Cancel(run=run, at_s=at_s),)
        plan = dataclasses.replace(after or calm, cancels=cancels)
        yield Injection(f"the caller's deadline expires at {at_s:g} s", program, plan)


def _stage_cancels(program: Program, calm: Plan, clean: RunRecord) -> Iterator[Injection]:
    """Cancel the task of each stage, a subpipeline's too, at each point at which it is under way.

    To the engine it is as if the stage had raised CancelledError: nobody in it sent the cancel.
    """
    # A run that is to come afterwards has begun with a callback of its own.
    later = len(calm.runs) - len(clean.outcomes)
    for (run, stage), (first, last) in clean.stage_points.items():
        if run.split("/", 1)[0] != calm.runs[0].id:
            continue
        cancel = Cancel(target="stage", run=run, stage=stage, at_point=1)
        plan = dataclasses.replace(calm, cancels=(cancel,))
        name = stage if run in clean.outcomes else f"{stage} of {run}"
        for point in range(first + later, min(last, POINTS_MAX) + later + 1):
            label = f"the task of stage {name} is cancelled at point {point}"
            yield Injection(label, program, plan, point)


DEADLINES = {
    "timeout": "the caller's asyncio.timeout expires",
    "wait_for": "the caller's asyncio.wait_for gives up",
    "group": "another task of the caller's task group fails",
}


def _deadlines_by(program: Program, calm: Plan, clean: RunRecord) -> Iterator[Injection]:
    run = calm.runs[0].id
    for by, what in DEADLINES.items():
        for at_s in (0.0, *_instants(clean)):
            plan = dataclasses.replace(calm, cancels=(Cancel(run=run, at_s=at_s, by=by),))
            yield Injection(f"{what} at {at_s:g} s", program, plan)


def _tool_faults(program: Program, calm: Plan, clean: RunRecord) -> Iterator[Injection]:
    for tool, number in sorted({e.detail for e in clean.journal if e.kind == "call.begin"}):
        for error in TOOL_ERRORS:
            for onwards in (False, True):
                fault = Fault(tool, number, error, onwards)
                plan = dataclasses.replace(calm, faults=(*calm.faults, fault))
                since = "from there on" if onwards else "once"
                yield Injection(f"call {number} of {tool} raises {error}, {since}", program, plan)


def _steps_failing(program: Program, calm: Plan) -> Iterator[Injection]:
    """Let each stage be called off, or fail, before each of its steps."""
    for i, stage in enumerate(program.stages):
        for at in range(len(stage.steps) + 1):
            for error in STAGE_ERRORS:
                bad = step("raise", error=error, message="cut in here")
                steps: tuple[Step, ...] = (*stage.steps[:at], bad)
                broken = dataclasses.replace(stage, steps=steps)
                stages = (*program.stages[:i], broken, *program.stages[i + 1 :])
                label = f"stage {stage.name} raises {error} at its step {at + 1}"
                yield Injection(label, Program(stages, program.name), calm)


def _beside(program: Program, calm: Plan, clean: RunRecord) -> Iterator[Injection]:
    """Let a stage that nothing depends on fail in the tick of everything that happens."""
    if BESIDE in program.names:
        return
    for at_s in (0.0, *_instants(clean)):
        fails = step("raise", error="RuntimeError", message="the one beside failed")
        beside = Stage(BESIDE, (step("sleep", seconds=at_s), fails))
        label = f"a stage beside fails at {at_s:g} s"
        yield Injection(label, Program((*program.stages, beside), program.name), calm)


def inject_all(
    finder: Finder,
    program: Program,
    plan: Plan,
    *,
    progress: Callable[[int], None] | None = None,
    until: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Run a program undisturbed, then with every injection, unless `until` says enough.

    Returns:
        How many points and instants there are, and how many were left out as too many; how many
        cancels of a stage's task were taken; 1 under "cut_short" if `until` ended it.
    """
    calm = dataclasses.replace(plan, cancels=())
    clean = finder.run(program, calm)
    if clean.build_error is not None:
        return {}
    instants = len(_all_instants(clean))
    told = {
        "points": clean.points,
        "points_left_out": max(0, clean.points - POINTS_MAX),
        "instants": instants,
        "instants_left_out": max(0, instants - INSTANTS_MAX),
        "cut_short": 0,
        "stages_cancelled": 0,
    }
    for one in injections(program, plan, clean, finder.lab.info.capabilities):
        if until():
            return {**told, "cut_short": 1}
        try:
            record = finder.run(
                one.program, one.plan, cancel_point=one.cancel_point, label=one.label
            )
        except NotOffered:
            finder.refused += 1
            continue
        told["stages_cancelled"] += sum(e.detail[1] for e in record.journal.of("cancel.stage"))
        if record.build_error is None:
            finder.heal(one.program, one.plan, record)
        if progress is not None and finder.runs % 200 == 0:
            progress(finder.runs)
    return told


def points_unit(
    lab: Laboratory,
    program: Program,
    plan: Plan,
    *,
    budget_s: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Inject everywhere into one program; returns plain data in the shape of a unit's result.

    Args:
        budget_s: after which no further injection is made; the row then says so.
    """
    missing = sorted(required_capabilities(program, plan) - lab.info.capabilities)
    finder = Finder(lab)
    if not missing:
        deadline = None if budget_s is None else time.monotonic() + budget_s
        told = inject_all(
            finder,
            program,
            plan,
            progress=progress,
            until=lambda: deadline is not None and time.monotonic() > deadline,
        )
        row = unit_row(finder)
        row["figures"] |= told
        if row["verdict"] == "pass" and (why := _left_out(told)):
            row |= {"verdict": "inconclusive", "reason": why}
        return row
    return {
        **unit_row(finder),
        "verdict": "unsupported",
        "reason": f"needs {', '.join(missing)}",
        "missing": {c: lab.info.missing.get(c, "not offered") for c in missing},
    }


def _left_out(told: Mapping[str, int]) -> str:
    """Say what keeps an injection from being exhaustive, or ""."""
    if told.get("cut_short"):
        return "the budget ended it before every injection was made"
    points, instants = told.get("points_left_out"), told.get("instants_left_out")
    if points or instants:
        return f"{points} points and {instants} instants were left out: too many"
    return ""
