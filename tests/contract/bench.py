"""A bench for checks: judge a run of an engine, or a journal written by hand."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from harness.adapters.reference import Adapter
from harness.contract.clause import Judgement
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.kernel.adapter import CAPABILITIES, EngineInfo
from harness.kernel.journal import Journal
from harness.kernel.laboratory import Laboratory
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import Leak, RunRecord
from mocks.tools import simulated_tool

__all__ = ["Row", "by_hand", "judgements", "laboratory", "shapes"]

# (seconds, stage, kind), (seconds, stage, kind, detail); a stage of a subpipeline is named
# `child/stage`, and "" is the run.
Row = tuple[Any, ...]


@functools.cache
def laboratory(subject: str) -> Laboratory:
    return Laboratory(Adapter(subject), simulated_tool)


def judgements(subject: str, program: Program, plan: Plan, seed: int = 0) -> dict[str, Judgement]:
    """Run a program on the reference engine or a broken one; return what each clause says."""
    lab = laboratory(subject)
    record = lab.run(program, plan, seed=seed)
    reading = Reading(program, plan, record, lab.info)
    return {clause.id: clause.check(reading) for clause in CLAUSES.values()}


def by_hand(
    program: Program,
    plan: Plan,
    rows: Iterable[Row],
    *,
    outcome: Outcome | None = None,
    leaks: Sequence[Leak] = (),
    ended: str = "over",
    late_s: float = 0.0,
    overflowed: bool = False,
    facts: dict[str, Any] | None = None,
) -> dict[str, Judgement]:
    """Return what each clause says of a journal of one run that was written by hand."""
    journal = Journal()
    for at_s, name, kind, *detail in rows:
        child, _, stage = name.rpartition("/")
        run = f"r0/{child}" if child else "r0"
        journal.add(at_s, run, stage, kind, detail[0] if detail else None)
    journal.overflowed = overflowed
    record = RunRecord(
        lab="sim",
        seed=0,
        ended=ended,
        journal=journal,
        outcomes={} if outcome is None else {"r0": outcome},
        leaks=tuple(leaks),
        late_s=late_s,
        took_s=journal.entries[-1].at_s,
    )
    info = EngineInfo("by hand", "", frozenset(CAPABILITIES), "none", facts=facts or {})
    reading = Reading(program, plan, record, info)
    return {clause.id: clause.check(reading) for clause in CLAUSES.values()}


def shapes(said: dict[str, Judgement]) -> dict[str, list[str]]:
    """Return the shapes of the violations of each clause that was violated."""
    return {c: [v.shape for v in j.violations] for c, j in said.items() if j.violations}
