"""Prints a program and a plan as a stand-alone script on plain asyncio.

This is the half that no engine has a say in: what the stages do, the caller that
cancels, the faults, what is noted, how the verdict is told. The engine's half (how a
stage is declared, how a run is started, what a user reaches afterwards) comes as a
`Dialect` of source text from its adapter. A script is written for a maintainer to
read: helpers that its program does not use are left out, and so are notes that its
check does not look at.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.script_dialect import NOTES, Dialect
from harness.kernel.script_ends import HOWS
from harness.kernel.script_literals import Unrenderable, literal
from harness.kernel.script_parts import Parts
from harness.kernel.script_stage import StageWriter
from harness.kernel.script_steps import WRITERS

__all__ = ["NOTES", "Dialect", "Unrenderable", "literal", "render", "render_stage"]


def render_stage(
    stage: Stage,
    dialect: Dialect,
    plan: Plan,
    *,
    label: str | None = None,
    many_runs: bool = False,
    notes: Iterable[str] = NOTES,
    ends: Iterable[str] = HOWS,
    once: Iterable[str] = (),
) -> StageWriter:
    """Write one stage's body; see `StageWriter` for what comes out.

    Args:
        label: name of the stage in the notes, if not its own.
        many_runs: whether the name of the run has to be told apart in the notes.
        notes: those of `NOTES` that are wanted.
        ends: those of `HOWS` that are told apart in "stage.end", none if that it ended will do.
        once: tools that are called once in a run.

    Raises:
        Unrenderable: if the dialect has no words for a step.
    """
    writer = StageWriter(
        WRITERS,
        dialect,
        plan,
        label or stage.name,
        many_runs=many_runs,
        notes=frozenset(notes),
        ends=frozenset(ends),
        once=frozenset(once),
    )
    writer.write(stage.steps)
    return writer


def render(program: Program, plan: Plan, dialect: Dialect, clause: str, check: str) -> str:
    """Return the source of a script that runs `program` under `plan` and judges it by `check`.

    A step that lists several durations takes the first. With several runs, stages are
    noted and their outputs named as `run/stage`, and `error` is the first run's that has one.

    Raises:
        Unrenderable: if the dialect has no words for something in it.
    """
    parts = Parts(program, plan, dialect, check)
    stages = parts.stages(program, "")
    children = parts.children()
    return parts.assemble(clause, parts.placed([*children, *stages]))
