"""A reading of one run: the journal sorted by run, stage and resource, once for all checks.

Checks are pure functions of a reading. What it holds is what happened, in the stages'
own words; what the engine said is in `record.outcomes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.contract.shape import ProgramShape
from harness.kernel.adapter import EngineInfo
from harness.kernel.journal import Entry
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan
from harness.kernel.program import Program, Stage
from harness.kernel.record import Leak, RunRecord

__all__ = ["CLOSE_S", "Held", "Ran", "Reading", "RunFacts", "Scope"]

# Two virtual instants this near are one: sums of decimal fractions differ in the last bits.
CLOSE_S = 1e-6


# Which operation alone makes entries of a kind; a program without it has none.
NOTED_BY = {"read": {"read"}, "context": {"context"}}


@dataclass(slots=True, eq=False)
class Ran:
    """One execution of one stage.

    Attributes:
        start, end: journal positions; end is -1 if it never ended.
        how: how it ended (see the journal's stage.end), "" if it never did.
        interrupts: positions at which a cancel reached it that none of its own scopes sent.
        self_cancelled: it raised CancelledError by itself.
    """

    run: str
    stage: str
    start: int
    start_s: float
    end: int = -1
    end_s: float = -1.0
    how: str = ""
    interrupts: list[int] = field(default_factory=list)
    self_cancelled: bool = False
    swallowed: int = 0

    @property
    def ended(self) -> bool:
        return self.end >= 0

    @property
    def failed_by_itself(self) -> bool:
        """It failed in its own right: not because it was interrupted."""
        return (self.how == "fail" or self.how.startswith("raise:")) and not self.interrupts


@dataclass(slots=True, eq=False)
class Held:
    """One resource, from its acquisition (or the registration of its cleanup) on."""

    run: str
    stage: str
    name: str
    at: int
    registered: bool
    begun: list[int] = field(default_factory=list)
    ended: int = -1
    cut: int = -1
    failed: int = -1


@dataclass(slots=True, eq=False)
class Scope:
    """One of a stage's own timeouts."""

    run: str
    stage: str
    label: str
    seconds: float
    at: int
    at_s: float
    expired: int = -1
    expired_s: float = -1.0
    left: int = -1
    leaked: int = -1


@dataclass(slots=True, eq=False)
class RunFacts:
    """One run as its caller saw it: positions and times of its begin and end."""

    begin: int = -1
    begin_s: float = 0.0
    end: int = -1
    end_s: float = -1.0
    how: str = ""
    cancels: list[tuple[int, float]] = field(default_factory=list)

    @property
    def over(self) -> bool:
        return self.end >= 0


class Reading:
    """The facts of one run of the laboratory, for checks to judge by.

    Attributes:
        ran: (run, stage) -> its executions; runs of subpipelines have ids of their own.
        shape: what the program alone says.
        tolerance_s: how far from its due time a timer may have fired.
    """

    __slots__ = (
        "_causes",
        "_due",
        "_executions",
        "_kinds",
        "_stages",
        "entries",
        "held",
        "info",
        "plan",
        "program",
        "ran",
        "record",
        "runs",
        "scopes",
        "shape",
        "tolerance_s",
    )

    def __init__(
        self,
        program: Program,
        plan: Plan,
        record: RunRecord,
        info: EngineInfo,
        shape: ProgramShape | None = None,
    ) -> None:
        self.shape = shape if shape is not None else ProgramShape(program)
        self.program = program
        self.plan = plan
        self.record = record
        self.info = info
        self.entries: list[Entry] = record.journal.entries
        self.tolerance_s = record.late_s + CLOSE_S
        self.runs: dict[str, RunFacts] = {spec.id: RunFacts() for spec in plan.runs}
        self.ran: dict[tuple[str, str], list[Ran]] = {}
        self.held: list[Held] = []
        self.scopes: list[Scope] = []
        self._executions: dict[str | None, list[Ran]] = {}
        self._kinds: dict[str, dict[tuple[str, str], list[Entry]]] | None = None
        self._due: dict[str, list[tuple[float, Ran]]] = {}
        self._causes: dict[str, tuple[int, str]] = {}
        self._stages = {s.name: s for s in reversed(program.stages)}
        self._read()

    def _read(self) -> None:
        open_held: dict[tuple[str, str, str], Held] = {}
        open_scopes: dict[tuple[str, str, str], list[Scope]] = {}
        ran, runs = self.ran, self.runs
        for i, (at_s, run, stage, kind, detail) in enumerate(self.entries):
            if kind == "stage.start":
                ran.setdefault((run, stage), []).append(Ran(run, stage, i, at_s))
            elif kind == "stage.end":
                one = ran[run, stage][-1]
                one.end, one.end_s, one.how = i, at_s, detail
            elif kind == "interrupt":
                if (run, stage) in ran:
                    ran[run, stage][-1].interrupts.append(i)
            elif kind in ("acquire", "register"):
                held = Held(run, stage, detail, i, kind == "register")
                open_held[run, stage, detail] = held
                self.held.append(held)
            elif kind.startswith("release."):
                found = open_held.get((run, stage, detail))
                if found is not None:
                    self._release(found, kind, i)
            elif kind.startswith("scope."):
                self._scope(kind, i, at_s, run, stage, detail, open_scopes)
            elif kind == "run.begin":
                runs[run].begin, runs[run].begin_s = i, at_s
            elif kind == "run.end":
                facts = runs[run]
                facts.end, facts.end_s, facts.how = i, at_s, detail
            elif kind == "cancel.sent":
                if detail[1]:
                    runs[run].cancels.append((i, at_s))
            elif kind == "self_cancel":
                ran[run, stage][-1].self_cancelled = True
            elif kind == "swallowed":
                ran[run, stage][-1].swallowed += 1

    @staticmethod
    def _release(held: Held, kind: str, i: int) -> None:
        if kind == "release.begin":
            held.begun.append(i)
        elif kind == "release.end":
            held.ended = i
        elif kind == "release.cut":
            held.cut = i
        else:
            held.failed = i

    def _scope(  # noqa: PLR0917 (the parts of one journal entry)
        self,
        kind: str,
        i: int,
        at_s: float,
        run: str,
        stage: str,
        detail: tuple[str, object],
        open_scopes: dict[tuple[str, str, str], list[Scope]],
    ) -> None:
        key = (run, stage, detail[0])
        if kind == "scope.enter":
            scope = Scope(run, stage, detail[0], float(detail[1]), i, at_s)  # type: ignore[arg-type]
            open_scopes.setdefault(key, []).append(scope)
            self.scopes.append(scope)
            return
        stack = open_scopes.get(key)
        if not stack:
            return
        scope = stack.pop()
        if kind == "scope.expired":
            scope.expired, scope.expired_s = i, at_s
            # What reached the stage since the scope was entered was sent by the scope.
            one = self.ran[run, stage][-1]
            one.interrupts = [k for k in one.interrupts if k < scope.at]
        elif kind == "scope.leak":
            scope.leaked = i
        else:
            scope.left = i

    # Questions that many checks ask.

    @property
    def sound(self) -> bool:
        """The program is well formed, so that clauses about running it apply."""
        return self.record.build_error is None and not self.record.journal.overflowed

    def executions(self, run: str | None = None) -> list[Ran]:
        """Return executions of the program's own stages (subpipelines' not), by start."""
        out = self._executions.get(run)
        if out is None:
            out = [
                one
                for (run_id, _), ones in self.ran.items()
                if run_id in self.runs and (run is None or run_id == run)
                for one in ones
            ]
            out.sort(key=lambda one: one.start)
            self._executions[run] = out
        return out

    def of(self, kind: str, run: str, stage: str) -> list[Entry]:
        """Return the entries of one kind, run and stage, in order."""
        if self._kinds is None:
            self._kinds = {}
            for entry in self.entries:
                by_stage = self._kinds.setdefault(entry.kind, {})
                by_stage.setdefault((entry.run, entry.stage), []).append(entry)
        return self._kinds.get(kind, {}).get((run, stage), [])

    def all_of(self, kind: str, run: str | None = None) -> list[Entry]:
        """Return the entries of one kind, of one run if given, in order."""
        if self.shape.ops.isdisjoint(NOTED_BY.get(kind, self.shape.ops)):
            return []
        return [e for e in self.entries if e.kind == kind and (run is None or e.run == run)]

    def stage(self, name: str) -> Stage:
        """Return the program's (first) stage of that name."""
        return self._stages[name]

    def timeout_of(self, stage: str) -> float | None:
        """Return the timeout, in seconds, that the engine is to hold a stage to, or None."""
        own = self._stages[stage].timeout_s
        return own if own is not None else self.plan.stage_timeout_s

    def timeouts_due(self, run: str) -> list[tuple[float, Ran]]:
        """Return (due time in seconds, execution) for stages that reached their timeout."""
        found = self._due.get(run)
        if found is None:
            found = []
            for one in self.executions(run):
                limit = self.usable_timeout(one.stage)
                if limit is None:
                    continue
                due = one.start_s + limit
                if not one.ended or one.end_s >= due - CLOSE_S:
                    found.append((due, one))
            self._due[run] = found
        return found

    def usable_timeout(self, stage: str) -> float | None:
        """Return the stage's timeout if it is a positive number, else None."""
        limit = self.timeout_of(stage)
        return limit if limit is not None and limit > 0 else None

    def time_of(self, position: int) -> float:
        return self.entries[position].at_s

    def outcome(self, run: str) -> Outcome | None:
        return self.record.outcomes.get(run)

    def leaked_stage(self, stage: str) -> Leak | None:
        """Return the leak of the task that runs this stage, if there is one."""
        for leak in self.record.leaks:
            if leak.kind == "task" and leak.stage == stage:
                return leak
        return None

    def any_location(self, run: str) -> str:
        """Return where in the engine the run's exception came from, or ""."""
        outcome = self.outcome(run)
        if outcome is not None and outcome.raised is not None:
            return outcome.raised.location
        return ""

    def left_location(self, run: str, stage: str) -> str:
        """Return where in the engine a run ended while a stage was still running; failing
        that, where the stage's task stands."""
        location = self.any_location(run)
        if location:
            return location
        leak = self.leaked_stage(stage)
        if leak is not None and leak.location:
            return leak.location
        return next((x.location for x in self.record.leaks if x.kind == "task"), "")

    def policy(self) -> str:
        """Return what the engine declares for siblings of a failed stage: cancel or continue."""
        return str(self.info.facts.get("on_failure", self.plan.on_failure))

    def overlaps(self, one: Ran, since: int) -> bool:
        """Say whether a stage was running at a journal position."""
        return one.start < since and (one.end < 0 or one.end > since)

    def first_cause(self, run: str) -> tuple[int, str]:
        """Return (position, kind) of what first ended the run early: "cancel", "fail",
        "cancel_run" or (-1, "")."""
        cached = self._causes.get(run)
        if cached is not None:
            return cached
        found: list[tuple[int, str]] = []
        facts = self.runs[run]
        if facts.cancels:
            found.append((facts.cancels[0][0], "cancel"))
        for one in self.executions(run):
            if one.how == "cancel_run" and not one.interrupts:
                found.append((one.end, "cancel_run"))
            elif one.failed_by_itself or (one.self_cancelled and one.ended):
                found.append((one.end, "fail"))
        cause = self._causes[run] = min(found, default=(-1, ""))
        return cause

    def by_timeout(self, one: Ran) -> bool:
        """Say whether the engine's timeout ended this execution, in the journal's words:
        it was interrupted when its timeout was due."""
        limit = self.usable_timeout(one.stage)
        if limit is None or not one.interrupts:
            return False
        return self.time_of(one.interrupts[0]) >= one.start_s + limit - CLOSE_S
