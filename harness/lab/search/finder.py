"""The finder: runs one program after the other, judges each run, keeps one witness a kind.

Two violations are of one kind if clause, shape and place in the engine are the same; seeds,
times and names are no part of it, so that thousands of failing runs become a handful. Of each
kind the run with the shortest journal is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness.contract.clause import Clause, Violation
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.contract.shape import ProgramShape
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.record import RunRecord
from harness.kernel.steps import step
from harness.lab.search.coverage import situations
from harness.lab.search.shrink import Key, key_of
from harness.lab.touches import touches

__all__ = ["HEAL", "Finder", "Found", "Tally", "heals"]

HEAL = Program(
    (
        Stage("first", (step("sleep", seconds=0.1), step("ok", value="first"))),
        Stage("left", (step("sleep", seconds=0.1), step("ok", value="left")), ("first",)),
        Stage("right", (step("ok", value="right"),), ("first",)),
        Stage("last", (step("ok", value="last"),), ("left", "right")),
    ),
    "heal",
)
HEALED_CLAUSE = "CLEAN-5"
HEALED_SHAPE = "next-run-spoilt"


@dataclass(slots=True)
class Found:
    """One kind of violation: its smallest run so far, and how many there were."""

    clause: Clause
    violation: Violation
    program: Program
    plan: Plan
    record: RunRecord
    cancel_point: int | None
    clean_points: int
    first_seed: int
    size: int
    label: str = ""
    runs: int = 1
    nondeterministic: bool = False


@dataclass(slots=True)
class Tally:
    """What became of one clause."""

    exercised: int = 0
    violations: int = 0
    crashed: str = ""
    figures: dict[str, int] = field(default_factory=dict)


class Finder:
    """Judges runs of many programs and keeps what is found.

    Attributes:
        found: by key of the violation.
        seen: how often each situation came up.
        related, notes: cases that the relations of `oracles` were tried on, and what broke one.
        kept_to: ids of the only clauses that are judged, or None for all that apply.
    """

    def __init__(self, lab: Laboratory, kept_to: Iterable[str] | None = None) -> None:
        self.lab = lab
        capabilities = lab.info.capabilities
        wanted = None if kept_to is None else set(kept_to)
        self.clauses = [
            c
            for c in CLAUSES.values()
            if c.needs <= capabilities and (wanted is None or c.id in wanted)
        ]
        self.found: dict[Key, Found] = {}
        self.tallies: dict[str, Tally] = {}
        self.seen: Counter[str] = Counter()
        self.runs = self.programs = self.unhealed = self.violating = self.refused = 0
        self.virtual_s = 0.0
        self.first_seed: int | None = None
        self.related = 0
        self.notes: list[dict[str, object]] = []
        self._shape: ProgramShape | None = None
        self._program: Program | None = None
        self._plan: Plan | None = None
        self._touching: list[Clause] = []

    def run(
        self,
        program: Program,
        plan: Plan,
        *,
        seed: int = 0,
        cancel_point: int | None = None,
        clean_points: int = 0,
        label: str = "",
    ) -> RunRecord:
        """Run once, judge, count situations."""
        record = self.lab.run(
            program, plan, seed=seed, cancel_point=cancel_point, clean_points=clean_points
        )
        self.runs += 1
        self.virtual_s += record.took_s
        if self._program is not program:
            self._program, self._shape = program, ProgramShape(program)
            self._plan = None
            self.programs += 1
        assert self._shape is not None  # set with the program
        if self._plan is not plan:
            self._plan = plan
            shape = self._shape
            self._touching = [c for c in self.clauses if touches(c, program, plan, shape)]
        reading = Reading(program, plan, record, self.lab.info, self._shape)
        self.seen.update(situations(record, reading))
        broken = False
        for clause in self._touching:
            broken |= self._judge(clause, reading, cancel_point, clean_points, label)
        if broken:
            self.violating += 1
            if self.first_seed is None:
                self.first_seed = seed
        return record

    def _judge(
        self, clause: Clause, r: Reading, point: int | None, clean_points: int, label: str
    ) -> bool:
        tally = self.tallies.get(clause.id)
        if tally is None:
            tally = self.tallies[clause.id] = Tally()
        try:
            judgement = clause.check(r)
        except Exception as exc:
            tally.crashed = f"check of {clause.id} crashed: {type(exc).__name__}: {exc}"
            return False
        verdict = judgement.verdict
        if verdict in ("untested", "blocked") or (verdict == "holds" and r.record.ended != "over"):
            return False
        tally.exercised += 1
        for name, value in judgement.figures.items():
            tally.figures[name] = tally.figures.get(name, 0) + value
        if not judgement.violations:
            return False
        tally.violations += 1
        keys: set[Key] = set()
        for violation in judgement.violations:
            key = key_of(clause.id, violation.shape, violation.location)
            if key not in keys:
                keys.add(key)
                self.keep(key, clause, violation, r, point, clean_points, label)
        return True

    def keep(  # noqa: PLR0917 (a witness is made of all of this)
        self,
        key: Key,
        clause: Clause,
        violation: Violation,
        r: Reading,
        point: int | None = None,
        clean_points: int = 0,
        label: str = "",
    ) -> None:
        """Count a violation; keep its run if it is the first of its kind, or the smallest."""
        size = len(r.entries)
        known = self.found.get(key)
        if known is not None:
            known.runs += 1
            if size >= known.size:
                return
        if point is None and (drawn := r.record.tape.get("points")):
            point = 1 + drawn[0]
        record = r.record
        self.found[key] = Found(
            clause,
            violation,
            r.program,
            r.plan,
            record,
            point,
            clean_points,
            record.seed if known is None else known.first_seed,
            size,
            label,
            1 if known is None else known.runs,
        )

    def heal(self, program: Program, plan: Plan, record: RunRecord) -> None:
        """Let a plain program run on the same adapter object: it must end well."""
        why = heals(self.lab)
        if not why:
            return
        self.unhealed += 1
        clause = CLAUSES[HEALED_CLAUSE]
        expected = "after it, a plain program without any fault ends ok on the same engine"
        violation = Violation(HEALED_SHAPE, expected, why)
        key = key_of(clause.id, HEALED_SHAPE, "")
        tally = self.tallies.setdefault(clause.id, Tally())
        tally.violations += 1
        self.keep(key, clause, violation, Reading(program, plan, record, self.lab.info))

    def confirm_replays(self) -> None:
        """Run each witness again from its tape; a run that goes otherwise proves nothing."""
        for one in self.found.values():
            record = one.record
            again = self.lab.run(
                one.program,
                one.plan,
                seed=record.seed,
                recorded=record.tape if record.seed else None,
                cancel_point=one.cancel_point,
                clean_points=one.clean_points,
            )
            one.nondeterministic = digest(again) != digest(record)


def heals(lab: Laboratory) -> str:
    """Return "" if a plain program ends well, else what became of it."""
    record = lab.run(HEAL, Plan())
    outcome = record.outcomes.get("r0")
    if record.build_error is not None:
        return f"it was not built: {record.build_error[:120]}"
    if record.ended != "over" or outcome is None:
        return f"it never ended: {record.ended}"
    if outcome.status != "ok":
        said = outcome.raised.message[:120] if outcome.raised else ""
        return f"it ended {outcome.status}: {said}"
    if record.leaks:
        return f"it left something behind: {record.leaks[0].kind} {record.leaks[0].what}"
    return ""
