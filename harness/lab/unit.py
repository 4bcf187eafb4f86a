"""A unit of a campaign: one scenario on one engine, run many times and judged beside the run.

Runs in the worker, inside the engine's own environment, and sends back sums and
witnesses only. The result depends on the scenario, the engine and the seed alone.

It is longer than others because counting, judging and telling share the tallies of one unit,
thousands of runs a second: taken apart, each part would reach into the others.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.contract.clause import Clause, Judgement, Violation
from harness.contract.clauses import CLAUSES
from harness.contract.reading import Reading
from harness.contract.shape import ProgramShape
from harness.kernel.adapter import CAPABILITIES
from harness.kernel.errors import HarnessFault, InputError, NotOffered
from harness.kernel.laboratory import Laboratory, digest
from harness.kernel.plan import Cancel, Fault, Plan, required_capabilities
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.lab.order import order_notes
from harness.lab.standalone import script_of
from harness.lab.touches import touches

__all__ = [
    "ScenarioData",
    "Unit",
    "Witness",
    "lacking",
    "result",
    "run_seeds",
    "run_unit",
    "summed_up",
]

WITNESS_JOURNAL_MAX = 400
SAMPLES_MAX = 100
PROGRESS_EVERY_S = 1.0
REMEMBERED_ENTRIES_MAX = 50_000
# What no run put to the test gets more of them: so many times those asked for, but no fewer.
MORE_RUNS_FACTOR = 3
MORE_RUNS_MIN = 40


@dataclass(frozen=True, slots=True)
class ScenarioData:
    """What a worker needs to know of a scenario."""

    id: str
    program: Program
    plan: Plan
    clauses: tuple[str, ...]
    sweep: str = ""
    fires: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScenarioData:
        """Check and build from JSON data; raises `InputError`."""
        unknown = [c for c in data["clauses"] if c not in CLAUSES]
        if unknown:
            raise InputError(f"scenario {data['id']}: unknown clause {unknown[0]!r}")
        return cls(
            id=str(data["id"]),
            program=Program.from_json(data["program"]),
            plan=Plan.from_json(data["plan"]),
            clauses=tuple(data["clauses"]),
            sweep=str(data.get("sweep", "")),
            fires=tuple(data.get("fires", ())),
        )


def run_seeds(scenario: str, seed: int, runs: int) -> Iterator[int]:
    """Yield the seeds of a unit's runs: 0, the undisturbed one, then drawn from both."""
    yield 0
    rng = random.Random(f"{scenario} {seed}")
    for _ in range(runs - 1):
        yield 1 + rng.getrandbits(47)


@dataclass(slots=True)
class _Tally:
    """What became of one clause over the runs of a unit."""

    exercised: int = 0
    violations: int = 0
    blocked_by: str = ""
    crashed: str = ""
    figures: dict[str, int] = field(default_factory=dict)

    def count(self, judgement: Judgement, runs: int) -> None:
        self.exercised += runs
        for name, value in judgement.figures.items():
            self.figures[name] = self.figures.get(name, 0) + value * runs


@dataclass(slots=True)
class Witness:
    """The first run that showed one kind of violation, and how many did."""

    clause: Clause
    violation: Violation
    record: RunRecord
    cancel_point: int | None
    cancelled_s: float
    first_seed: int
    runs: int = 0
    nondeterministic: bool = False
    timed: Plan | None = None


@dataclass(slots=True)
class _Seen:
    """A run without a violation, what was said of it, and how many more went just like it.

    A check is a pure function of what is compared here, so that it need not be asked again.
    """

    record: RunRecord
    said: list[tuple[_Tally, Judgement]]
    more: int = 0

    def is_like(self, other: RunRecord, *, points: bool) -> bool:
        mine = self.record
        return (
            mine.took_s == other.took_s
            and mine.late_s == other.late_s
            and mine.ended == other.ended
            and mine.leaks == other.leaks
            and mine.build_error == other.build_error
            and mine.journal.entries == other.journal.entries
            and mine.outcomes == other.outcomes
            and (not points or mine.points == other.points)
        )


class Unit:
    """The runs of one scenario on one engine while they are made and judged."""

    def __init__(self, lab: Laboratory, scenario: ScenarioData) -> None:
        self.lab = lab
        self.scenario = scenario
        self.shape = ProgramShape(scenario.program)
        self.tallies: dict[str, _Tally] = {}
        self.witnesses: dict[tuple[str, str, str], Witness] = {}
        self.judged = {
            c: CLAUSES[c] for c in scenario.clauses if CLAUSES[c].needs <= lab.info.capabilities
        }
        others = (c for c in CLAUSES.values() if c.id not in scenario.clauses)
        self.clauses: list[Clause] = [
            *self.judged.values(),
            *(
                c
                for c in others
                if c.needs <= lab.info.capabilities
                and touches(c, scenario.program, scenario.plan, self.shape)
            ),
        ]
        self.runs = 0
        self.violating = 0
        self.first_seed: int | None = None
        self.fired: set[str] = set()
        self.virtual_s = 0.0
        self.clean_points = 0
        self.seen: dict[tuple[tuple[str, str], ...], list[_Seen]] = {}
        self.remembered = 0
        self.counts_points = any(c.id == "GRAPH-4" for c in self.clauses)
        self.samples: list[dict[str, Any]] = []

    def run(self, runs: int, seed: int, progress: Callable[[int], None] | None) -> None:
        scenario = self.scenario
        if scenario.sweep == "cancel_points" or any(
            c.at_point is not None for c in scenario.plan.cancels
        ):
            clean = dataclasses.replace(scenario.plan, cancels=())
            self.clean_points = self.lab.run(scenario.program, clean).points
        told_s = time.monotonic()
        if scenario.sweep == "cancel_points":
            for point in range(1, self.clean_points + 1):
                self._one(0, point)
        more = max(MORE_RUNS_MIN, MORE_RUNS_FACTOR * runs)
        for done, run_seed in enumerate(run_seeds(scenario.id, seed, runs + more)):
            if done >= runs and not self.lacks():
                break
            self._one(run_seed, None)
            if progress is not None and time.monotonic() - told_s > PROGRESS_EVERY_S:
                told_s = time.monotonic()
                progress(self.runs)

    def lacks(self) -> bool:
        """Say whether chance alone may have kept a judged clause or a fault from a test."""
        if len(self.fired) < len(set(self.scenario.fires)):
            return True
        tallies = [self.tallies.get(c, _Tally()) for c in self.judged]
        return any(not (t.exercised or t.crashed or t.blocked_by) for t in tallies)

    def _one(self, seed: int, point: int | None) -> None:
        scenario = self.scenario
        record = self.lab.run(
            scenario.program,
            scenario.plan,
            seed=seed,
            cancel_point=point,
            clean_points=self.clean_points,
        )
        self.note_run(record, point)

    def note_run(self, record: RunRecord, point: int | None) -> None:
        """Count and judge one run.

        Args:
            point: of the loop, where its cancel was put, or None.
        """
        scenario, seed = self.scenario, record.seed
        self.runs += 1
        self.virtual_s += record.took_s
        broken = self._judge(record, point)
        if broken:
            self.violating += 1
            if self.first_seed is None:
                self.first_seed = seed
        if len(self.fired) < len(scenario.fires):
            self.fired |= {e.kind for e in record.journal} & set(scenario.fires)
        if len(self.samples) < SAMPLES_MAX:
            self.samples.append(
                {
                    "run": self.runs,
                    "virtual_s": round(record.took_s, 6),
                    "callbacks": record.points,
                    "journal_entries": len(record.journal),
                    "violated": int(broken),
                }
            )

    def _judge(self, record: RunRecord, point: int | None) -> bool:
        # Two runs that went alike have the same stages and kinds in the same order.
        key = tuple([(entry[2], entry[3]) for entry in record.journal.entries])
        alike = self.seen.get(key)
        if alike is not None:
            for seen in alike:
                if seen.is_like(record, points=self.counts_points):
                    seen.more += 1
                    return False
        reading = Reading(
            self.scenario.program, self.scenario.plan, record, self.lab.info, self.shape
        )
        broken = spoilt = False
        said: list[tuple[_Tally, Judgement]] = []
        for clause in self.clauses:
            tally = self.tallies.get(clause.id)
            if tally is None:
                tally = self.tallies[clause.id] = _Tally()
            try:
                judgement = clause.check(reading)
            except Exception as exc:
                tally.crashed = f"check of {clause.id} crashed: {type(exc).__name__}: {exc}"
                spoilt = True
                continue
            if judgement.verdict == "untested":
                continue
            if judgement.verdict == "blocked":
                tally.blocked_by = judgement.blocked_by
                continue
            if judgement.verdict == "holds" and record.ended != "over":
                continue  # what a run that never ends leaves intact is no proof of anything
            tally.count(judgement, 1)
            said.append((tally, judgement))
            if judgement.violations:
                spoilt = True
                if clause.id in self.judged:
                    broken = True
                tally.violations += 1
                self._note(clause, judgement, record, point)
        if not spoilt and self.remembered < REMEMBERED_ENTRIES_MAX:
            self.seen.setdefault(key, []).append(_Seen(record, said))
            self.remembered += len(key)
        return broken

    def sum_up(self) -> None:
        """Count what was said of a run for all that went like it."""
        for alike in self.seen.values():
            for seen in alike:
                for tally, judgement in seen.said:
                    tally.count(judgement, seen.more)
        self.seen.clear()

    def _note(
        self, clause: Clause, judgement: Judgement, record: RunRecord, point: int | None
    ) -> None:
        cancelled_s = _cancelled_s(record)
        if point is None and (drawn := record.tape.get("points")):
            point = 1 + drawn[0]
        by_key = {_key(clause, v): v for v in reversed(judgement.violations)}
        for key, violation in by_key.items():
            witness = self.witnesses.get(key)
            # A cancel in the midst of the work shows more than one before its begin.
            if witness is None or (cancelled_s > 0 and not witness.cancelled_s):
                runs, first = (witness.runs, witness.first_seed) if witness else (0, record.seed)
                witness = self.witnesses[key] = Witness(
                    clause, violation, record, point, cancelled_s, first, runs
                )
            witness.runs += 1

    def confirm_replays(self) -> None:
        """Run each witness again from its tape; a run that goes otherwise proves nothing."""
        for witness in self.witnesses.values():
            record = witness.record
            again = self.lab.run(
                self.scenario.program,
                self.scenario.plan,
                seed=record.seed,
                recorded=record.tape if record.seed else None,
                cancel_point=witness.cancel_point,
                clean_points=self.clean_points,
            )
            witness.nondeterministic = digest(again) != digest(record)

    def put_cancels_in_time(self) -> None:
        """Where a cancel by time shows the same as one by a point of the loop, take the time:
        a script can then say when, on any loop."""
        for key, witness in self.witnesses.items():
            if witness.cancel_point is None or not witness.cancelled_s:
                continue
            for later_s in (0.03, 0.01, 0.0):
                at_s = round(witness.cancelled_s + later_s, 6)
                plan = dataclasses.replace(
                    self.scenario.plan,
                    cancels=tuple(
                        c
                        if c.at_point is None
                        else dataclasses.replace(c, at_point=None, at_s=at_s)
                        for c in self.scenario.plan.cancels
                    ),
                )
                record = self.lab.run(self.scenario.program, plan)
                reading = Reading(self.scenario.program, plan, record, self.lab.info, self.shape)
                found = witness.clause.check(reading).violations
                alike = [v for v in found if _key(witness.clause, v) == key]
                if alike:
                    witness.timed, witness.record, witness.violation = plan, record, alike[0]
                    break

    # What is sent back.

    def clause_row(self, clause: Clause) -> dict[str, Any]:
        tally = self.tallies.get(clause.id, _Tally())
        reason = ""
        mine = [w for w in self.witnesses.values() if w.clause is clause]
        if tally.violations and clause.id in self.lab.info.semantics:
            verdict, reason = "note", self.lab.info.semantics[clause.id]
        elif tally.violations and all(w.nondeterministic for w in mine):
            verdict, reason = "inconclusive", "the runs that violate it do not replay alike"
        elif tally.violations:
            verdict = "fail"
        elif tally.crashed:
            verdict, reason = "inconclusive", tally.crashed
        elif tally.exercised:
            verdict = "pass"
        elif tally.blocked_by:
            verdict, reason = "blocked", f"by a defect under {tally.blocked_by}"
        else:
            verdict, reason = "inconclusive", "no run put it to the test"
        return {
            "verdict": verdict,
            "reason": reason,
            "blocked_by": tally.blocked_by,
            "runs": self.runs,
            "exercised": tally.exercised,
            "violations": tally.violations,
            "figures": tally.figures,
        }

    def witness_row(self, witness: Witness) -> dict[str, Any]:
        violation, record = witness.violation, witness.record
        plan = witness.timed or self.scenario.plan
        if witness.cancel_point is not None and witness.timed is None:
            plan = dataclasses.replace(
                plan, cancels=tuple(_at(c, witness.cancel_point) for c in plan.cancels)
            )
        plan = _with_fired(plan, record)
        rows = record.journal.to_json()
        program = self.scenario.program.with_durations(record.chosen)
        script, _ = script_of(self.lab.adapter, witness.clause, program, plan, violation.shape)
        return {
            "clause": witness.clause.id,
            "shape": violation.shape,
            "severity": witness.clause.severity,
            "stage": violation.stage,
            "expected": violation.expected,
            "actual": violation.actual,
            "location": violation.location,
            "figures": dict(violation.figures),
            "violations": witness.runs,
            "exercised": self.tallies[witness.clause.id].exercised,
            "first_seed": witness.first_seed,
            "seed": record.seed,
            "tape": record.tape,
            "program": program.to_json(),
            "plan": plan.to_json(),
            "journal": rows[:WITNESS_JOURNAL_MAX],
            "journal_cut": max(0, len(rows) - WITNESS_JOURNAL_MAX),
            "at": [i for i in violation.at if i >= 0],
            "digest": digest(record),
            "nondeterministic": witness.nondeterministic,
            "judged": witness.clause.id in self.judged,
            "scripted": script is not None,
        }


def _key(clause: Clause, violation: Violation) -> tuple[str, str, str]:
    where = violation.location.split(":", 1)[0] + violation.location.rpartition(" ")[2]
    return (clause.id, violation.shape, where)


def _cancelled_s(record: RunRecord) -> float:
    """Return when the caller's first cancel was sent, in seconds, or 0."""
    return next((e.at_s for e in record.journal if e.kind == "cancel.sent"), 0.0)


def _with_fired(plan: Plan, record: RunRecord) -> Plan:
    """Return the plan with the faults that chance let fire, so that a script can have them too."""
    drawn = {f.tool: f.error for f in plan.faults if f.one_in is not None}
    if not drawn or len(plan.runs) > 1:
        return plan
    kept = tuple(f for f in plan.faults if f.one_in is None)
    fired = tuple(
        Fault(e.detail[0], int(e.detail[1]), drawn[e.detail[0]])
        for e in record.journal
        if e.kind == "fault.fired" and e.detail[0] in drawn
    )
    return dataclasses.replace(plan, faults=(*kept, *fired))


def _at(cancel: Cancel, point: int) -> Cancel:
    return cancel if cancel.at_point is None else dataclasses.replace(cancel, at_point=point)


def run_unit(
    lab: Laboratory,
    scenario: ScenarioData,
    *,
    runs: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    order_runs: int = 0,
) -> dict[str, Any]:
    """Run and judge one scenario; returns the unit's result as plain data.

    Args:
        runs: how many seeds are run, the undisturbed one included; a sweep's come on top, and
            a limited number more while they have not put each judged clause to the test.
        seed: of the campaign.
        progress: called each second or so with the number of runs done: a sign of life.
        order_runs: runs out of asyncio's order, in each mode; the result then has `order`.
    """
    unsupported = lacking(lab, scenario)
    if unsupported is not None:
        return unsupported
    unit = Unit(lab, scenario)
    order: dict[str, Any] = {}
    try:
        unit.run(max(1, runs), seed, progress)
        if order_runs:
            order["order"] = order_notes(unit, _key, runs=order_runs, seed=seed, progress=progress)
        unit.sum_up()
        unit.confirm_replays()
        unit.put_cancels_in_time()
    except NotOffered as exc:
        # The engine has the capability, but cannot be told what this plan asks of it.
        return result("unsupported", str(exc), missing={"plan_settings": str(exc)})
    except HarnessFault as exc:
        return result("error", str(exc), runs=unit.runs)
    return {**summed_up(unit), **order}


def lacking(lab: Laboratory, scenario: ScenarioData) -> dict[str, Any] | None:
    """Return the result of a scenario that the engine has not the capabilities for, or None."""
    info = lab.info
    missing = sorted(required_capabilities(scenario.program, scenario.plan) - info.capabilities)
    primary = CLAUSES[scenario.clauses[0]]
    missing += sorted(c for c in primary.needs - info.capabilities if c not in missing)
    if not missing:
        return None
    said = {c: info.missing.get(c, f"not offered: {CAPABILITIES[c]}") for c in missing}
    return result("unsupported", f"needs {', '.join(missing)}", missing=said)


def summed_up(unit: Unit) -> dict[str, Any]:
    """Return the result of a unit whose runs are done, as plain data."""
    scenario, info = unit.scenario, unit.lab.info
    rows = {c.id: unit.clause_row(c) for c in unit.judged.values()}
    for clause_id in scenario.clauses:
        if clause_id not in rows:
            lacks = sorted(CLAUSES[clause_id].needs - info.capabilities)
            rows[clause_id] = {"verdict": "unsupported", "reason": f"needs {', '.join(lacks)}"}
            rows[clause_id] |= {"runs": 0, "exercised": 0, "violations": 0, "figures": {}}
    for clause in unit.clauses:
        if clause.id not in rows and unit.tallies[clause.id].violations:
            rows[clause.id] = unit.clause_row(clause)
    verdict, reason = _verdict(scenario, rows, unit.fired)
    witnesses = [unit.witness_row(w) for w in unit.witnesses.values()]
    return result(
        verdict,
        reason,
        runs=unit.runs,
        violations=unit.violating,
        first_seed=unit.first_seed,
        virtual_s=round(unit.virtual_s / unit.runs, 6),
        clauses=rows,
        figures=rows[scenario.clauses[0]]["figures"],
        witnesses=witnesses,
        samples=unit.samples,
    )


def _verdict(
    scenario: ScenarioData, rows: Mapping[str, Mapping[str, Any]], fired: set[str]
) -> tuple[str, str]:
    judged = {c: rows[c] for c in scenario.clauses}
    failing = [c for c, row in judged.items() if row["verdict"] == "fail"]
    if failing:
        return "fail", f"{', '.join(failing)} violated"
    silent = [k for k in scenario.fires if k not in fired]
    if silent:
        return "inconclusive", f"never happened: {', '.join(silent)}"
    for verdict in ("blocked", "inconclusive"):
        found = [c for c, row in judged.items() if row["verdict"] == verdict]
        if found:
            return verdict, f"{found[0]}: {judged[found[0]]['reason']}"
    return "pass", ""


def result(verdict: str, reason: str, **fields: Any) -> dict[str, Any]:
    """Return the result of a unit as plain data, blank but for what is given."""
    blank: dict[str, Any] = {
        "verdict": verdict,
        "reason": reason,
        "runs": 0,
        "violations": 0,
        "first_seed": None,
        "virtual_s": 0.0,
        "clauses": {},
        "figures": {},
        "witnesses": [],
        "missing": {},
        "samples": [],
    }
    return blank | fields
