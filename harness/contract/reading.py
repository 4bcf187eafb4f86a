"""A reading of one run: the journal sorted by run, stage and resource, once for all checks.

Checks are pure functions of a reading. What it holds is what happened, in the stages'
own words; what the engine said is in `record.outcomes`.

Longer than most: one pass over the journal, and the questions that are put to what it found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

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


# Layers of the engine's own, which note nothing in the journal.
ENGINES_LAYERS = ("circuit_breaker", "rate_limit", "idempotency")

# What may make an engine stop stages, apart from timeouts: entries of these kinds, and ends of
# stages other than these.
STOPS = frozenset(
    {"cancel.sent", "cancel.stage", "consume.stop", "layer.raise", "layer.deny", "run.end"}
)
PASSES = ("ok", "skip", "cancel_branch")

# Which operation alone makes entries of a kind; a program without it has none.
NOTED_BY = {"read": {"read"}, "context": {"context"}}


@dataclass(slots=True, eq=False)
class Ran:
    """One execution of one stage.

    Attributes:
        start, end: journal positions; end is -1 if it never ended.
        how: how it ended (see the journal's stage.end), "" if it never did.
        interrupts: positions at which a cancel reached it that none of its own scopes sent.
        self_cancelled: it raised CancelledError by itself; also if somebody outside the engine
            cancelled its task, and it ended of that: to the engine the one is as the other.
        called_off: position at which a cancel from outside the engine reached it, or -1. One that
            the engine sent in the same turn may have come with it. It is an interrupt as well if
            a timeout of the engine's was due then.
        again: it is not the stage's last attempt in its run: the engine ran the stage once more,
            or was to do so, because the stage declares a retry. What such an attempt came to
            decides nothing about its run.
        children: [begin, end] of each of its subpipelines, in seconds. A stage notes what reached
            it there only when the subpipeline has ended.
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
    called_off: int = -1
    swallowed: int = 0
    again: bool = False
    children: list[list[float]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return self.end >= 0

    def in_child(self, at_s: float) -> bool:
        """Say whether it was waiting for a subpipeline at a time, in seconds."""
        return any(begun_s <= at_s <= ended_s for begun_s, ended_s in self.children)

    @property
    def asked(self) -> int:
        """Position of the first cancel that reached it, whoever sent it, or -1."""
        told = [*self.interrupts[:1], *([self.called_off] if self.called_off >= 0 else [])]
        return min(told, default=-1)

    @property
    def failed_by_itself(self) -> bool:
        """It failed in its own right, not because it was interrupted, and for good."""
        return self.attempt_failed and not self.again

    @property
    def attempt_failed(self) -> bool:
        """It failed in its own right, whether or not it is to be tried again."""
        return (self.how == "fail" or self.how.startswith("raise:")) and not self.interrupts


@dataclass(slots=True, eq=False)
class Held:
    """One resource, from its acquisition (or the registration of its cleanup) on.

    Attributes:
        begun: positions at which it began to be released: one, as a rule.
        ended, cut, failed: position at which the first release came to its end in one of these
            ways, or -1.
    """

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
    """One run as its caller saw it: positions and times of its begin and end.

    Attributes:
        left: position at which the engine's own call came out. What is the user's beside it, a
            consumer or the sink of all runs, may have ended only later, and the run with that.
    """

    begin: int = -1
    begin_s: float = 0.0
    left: int = -1
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
        "_doubtful",
        "_due",
        "_earliest",
        "_executions",
        "_kinds",
        "_redrives",
        "_stages",
        "_swallowed",
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
        self._earliest: dict[str, tuple[list[tuple[float, Ran]], ...]] = {}
        self._causes: dict[str, tuple[int, str]] = {}
        self._stages = {s.name: s for s in reversed(program.stages)}
        self._swallowed: set[int] = set()
        self._doubtful: list[tuple[Ran, int]] = []
        self._redrives = {spec.id: spec.redrives for spec in plan.runs if spec.redrives}
        self._read()

    def _read(self) -> None:
        self._read_entries()
        self._forget_own()
        if not self.shape.attempts:
            return
        for (_, stage), ones in self.ran.items():
            most = self.shape.attempts.get(stage)
            if most is None:
                continue
            for one in ones[:-1]:
                one.again = True
            # One that raised CancelledError by itself was called off, and may be final, unless
            # another error took the place of that one on its way out.
            last = ones[-1]
            called_off = last.self_cancelled and last.how == "cancelled"
            if len(ones) < most and last.ended and not called_off:
                cut = last.how == "cancelled" or last.how.startswith("raise:")
                timed = cut and stage in self._stages and self.by_timeout(last)
                last.again = last.attempt_failed or timed

    def _read_entries(self) -> None:
        open_held: dict[tuple[str, str, str], list[Held]] = {}
        open_scopes: dict[tuple[str, str, str], list[Scope]] = {}
        calls: dict[tuple[str, str, object], int] = {}
        outside: set[tuple[str, str]] = set()
        ran, runs = self.ran, self.runs
        for i, (at_s, run, stage, kind, detail) in enumerate(self.entries):
            if kind == "stage.start":
                ran.setdefault((run, stage), []).append(Ran(run, stage, i, at_s))
            elif kind == "stage.end":
                if detail == "raise:GeneratorExit":
                    continue  # nobody held its task any more, and the collector closed it
                one = ran[run, stage][-1]
                one.end, one.end_s, one.how = i, at_s, detail
                if one.called_off >= 0 or (run, stage) in outside:
                    outside.discard((run, stage))
                    self._end_called_off(one)
            elif kind == "interrupt":
                if (run, stage) in outside:
                    outside.discard((run, stage))
                    ran[run, stage][-1].called_off = i  # whose it counts as is decided at its end
                elif (run, stage) in ran:
                    ran[run, stage][-1].interrupts.append(i)
            elif kind == "cancel.stage":
                if detail[1]:
                    outside.add((run, stage))
            elif kind in ("acquire", "register"):
                held = Held(run, stage, detail, i, kind == "register")
                open_held.setdefault((run, stage, detail), []).append(held)
                self.held.append(held)
            elif kind.startswith("release."):
                found = open_held.get((run, stage, detail))
                if found is not None:
                    ended = all(one.ended for one in ran.get((run, stage), ()))
                    self._release(_meant(found, kind, ended=ended), kind, i)
            elif kind.startswith("scope."):
                self._scope(kind, i, at_s, run, stage, detail, open_scopes)
            elif kind == "run.begin":
                runs[run].begin, runs[run].begin_s = i, at_s
            elif kind == "run.end":
                facts = runs[run]
                facts.end, facts.end_s, facts.how = i, at_s, detail
                if facts.left < 0:
                    facts.left = i
            elif kind == "engine.end":
                runs[run].left = i
            elif kind == "cancel.sent":
                if detail[1]:
                    runs[run].cancels.append((i, at_s))
            elif kind == "self_cancel":
                ran[run, stage][-1].self_cancelled = True
            elif kind == "swallowed":
                one = ran[run, stage][-1]
                one.swallowed += 1
                self._swallowed.update(one.interrupts[-1:])
            elif kind == "call.begin":
                calls[run, stage, detail] = i
            elif kind == "call.end":
                begun = calls.pop((run, stage, detail[:2]), -1)
                if detail[2] == "timeout" and begun >= 0 and (run, stage) in ran:
                    self._forget_call(ran[run, stage][-1], begun, i)
            elif kind == "sub.begin":
                if (run, stage) in ran:
                    ran[run, stage][-1].children.append([at_s, math.inf])
            elif kind == "sub.end" and (run, stage) in ran and ran[run, stage][-1].children:
                ran[run, stage][-1].children[-1][1] = at_s

    def _end_called_off(self, one: Ran) -> None:
        """Decide whose an execution's end is that somebody outside the engine called off."""
        if one.how == "cancelled":
            one.self_cancelled = True
        if one.called_off < 0:
            return
        own = one.stage in self._stages and one.run in self.runs
        if own and self.timeout_due(one, self.time_of(one.called_off)):
            # The engine was to stop it as well, and nobody can tell the two apart.
            one.interrupts = sorted({*one.interrupts, one.called_off})

    @staticmethod
    def _release(held: Held, kind: str, i: int) -> None:
        if kind == "release.begin":
            held.begun.append(i)
        elif max(held.ended, held.cut, held.failed) >= 0:
            return  # it was released again: how the first time ended stands
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
        one = self.ran[run, stage][-1]
        in_stage = (stage, detail[0]) not in self.shape.own_scopes
        if kind == "scope.expired":
            scope.expired, scope.expired_s = i, at_s
            if in_stage:
                one.interrupts = [k for k in one.interrupts if not self._sent_by(scope, one, k)]
        elif kind == "scope.leak":
            scope.leaked = i
        else:
            scope.left = i
            due_s = scope.at_s + scope.seconds
            if not in_stage or at_s < due_s - CLOSE_S:
                return
            if detail[1]:
                self._forget_due(run, stage, scope, due_s, cancelled=detail[1] == "CancelledError")
            else:
                # The stage swallowed what the scope sent, so that it was left as if not due.
                since = [k for k in one.interrupts if scope.at < k]
                self._doubtful += [(one, k) for k in since if self._noted_for(one, k, due_s)]

    def _sent_by(self, scope: Scope, one: Ran, position: int) -> bool:
        """Say whether what reached a stage was sent by a scope that has expired.

        That sends once, and nothing before it is due. What the stage swallowed is not what the
        scope expired by: only if it came when the scope was due, and no timeout of the engine's
        was, it was sent by the scope all the same.
        """
        at_s, due_s = self.time_of(position), scope.at_s + scope.seconds
        if position < scope.at or at_s < min(due_s, scope.expired_s) - CLOSE_S:
            return False
        if position not in self._swallowed:
            return True
        return at_s <= due_s + self.tolerance_s and not self._engines_due(one, due_s)

    def _engines_due(self, one: Ran, at_s: float) -> bool:
        """Say whether a timeout of the engine's was due for an execution at just that time."""
        if one.stage not in self._stages:
            return False
        limit, idle = self.timeout_of(one.stage), self._stages[one.stage].idle_timeout_s
        dues = [] if limit is None else [one.start_s + limit]
        if idle is not None:
            dues.append(self.beat_before(one, at_s - CLOSE_S) + idle)
        return any(abs(due_s - at_s) <= self.tolerance_s for due_s in dues)

    def _noted_for(self, one: Ran, position: int, due_s: float) -> bool:
        """Say whether what a stage noted at a position may have been sent at a time, in seconds;
        one that waits for a subpipeline notes it only when that has ended."""
        at_s = self.time_of(position)
        return abs(at_s - due_s) <= self.tolerance_s or any(
            begun_s <= due_s <= ended_s and abs(ended_s - at_s) <= CLOSE_S
            for begun_s, ended_s in one.children
        )

    def _forget_call(self, one: Ran, begun: int, end: int) -> None:
        """Leave out what the timeout of a tool's call, which that has just ended, sent."""
        tool = self.entries[end].detail[0]
        if (one.stage, tool) not in self.shape.own_calls:
            one.interrupts = [k for k in one.interrupts if k < begun]
            return
        # If a task of the stage's own called, nothing reached the stage itself.
        k = max(one.interrupts, default=-1)
        limits = self.shape.tool_limits.get((one.stage, tool), ())
        due = any(self._noted_for(one, k, self.time_of(begun) + s) for s in limits)
        between = (e for e in self.entries[k + 1 : end] if e[1:3] == (one.run, one.stage))
        if k > begun and due and all(e.kind.startswith("release.") for e in between):
            self._doubtful.append((one, k))

    def _forget_due(
        self, run: str, stage: str, scope: Scope, due_s: float, *, cancelled: bool
    ) -> None:
        """Leave out what a scope sent when it was due, though something else ended it as well;
        not where the engine's own timeout was due at that instant, nor where nothing else can
        have been the cancel by which the scope was left."""
        one = self.ran[run, stage][-1]
        if self._engines_due(one, due_s):
            return
        kept = [k for k in one.interrupts if k < scope.at or not self._noted_for(one, k, due_s)]
        if not cancelled or any(k > scope.at for k in kept):
            one.interrupts = kept

    def _forget_own(self) -> None:
        """Leave out what scopes of a stage's own, or its calls, seem to have sent; not where the
        engine may have sent it as well."""
        for one, position in self._doubtful:
            if position in one.interrupts and not self._may_be_engines(one, position):
                one.interrupts.remove(position)

    def _may_be_engines(self, one: Ran, position: int) -> bool:
        """Say whether the engine had any cause to stop a stage at a journal position."""
        at_s = self.time_of(position)
        if one.run not in self.runs or self._layers_may_refuse(one.run):
            return True  # what a parent run, or a layer of the engine's, does is not noted
        for other in self.executions(one.run):
            if other.ended and other.end_s < at_s - self.tolerance_s:
                continue
            told = other is not one and any(k < position for k in other.interrupts)
            if told and other.swallowed and self.shape.attempts.get(other.stage, 1) > 1:
                return True  # that it is given up, and not tried again, is not noted either
            if self.timeout_due(other, at_s):
                return True
        return any(
            e.run == one.run
            and abs(e.at_s - at_s) <= self.tolerance_s
            and (
                e.kind in STOPS
                or (e.kind == "stage.end" and e.stage != one.stage and e.detail not in PASSES)
            )
            for e in self.entries[:position]
        )

    # Questions that many checks ask.

    @property
    def sound(self) -> bool:
        """The program is well formed, so that clauses about running it apply."""
        return not (self.shape.faults or self.record.build_error or self.record.journal.overflowed)

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
        noted_by = NOTED_BY.get(kind)
        if noted_by is not None and self.shape.ops.isdisjoint(noted_by):
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
        """Return (due time in seconds, execution) for stages that reached their timeout in a run,
        not for those that were given up before."""
        found = self._due.get(run)
        if found is None:
            found = []
            facts = self.runs[run]
            over_s = facts.end_s if facts.over else math.inf
            for one in self.executions(run):
                limit = self.usable_timeout(one.stage)
                if limit is None:
                    continue
                due = one.start_s + limit
                ended_s = min(one.end_s, over_s) if one.ended else over_s
                if ended_s >= due - CLOSE_S:
                    found.append((due, one))
            self._due[run] = found
        return found

    def timed_out(self, run: str) -> bool:
        """Say whether a timeout of the engine's, an idle one included, was due in a run or ended
        an execution of it."""
        return bool(self.timeouts_due(run)) or any(map(self.by_timeout, self.executions(run)))

    def used_up_grace(self, one: Ran) -> bool:
        """Say whether an execution took all of the grace or more to end after it was cancelled."""
        if one.asked < 0:
            return False
        return one.end_s >= self.time_of(one.asked) + self.plan.cleanup_grace_s - self.tolerance_s

    def other_timeout(self, one: Ran, until_s: float) -> bool:
        """Say whether a timeout of the engine's interrupted another execution of the same run up
        to a time, in seconds, or was due a little before it."""
        found = self._earliest.get(one.run)
        if found is None:
            # Thousands of timeouts are asked for each other: the earliest of them answer.
            due = sorted(self.timeouts_due(one.run), key=_first)
            ended = [
                (self.time_of(other.interrupts[0]), other)
                for other in self.executions(one.run)
                if self.by_timeout(other)
            ]
            # One that waits for a subpipeline notes its end only when that has ended.
            waited = [(at_s, other) for at_s, other in ended if other.children]
            found = self._earliest[one.run] = (due, sorted(ended, key=_first), waited)
        due, ended, waited = found
        return (
            any(other is not one for _, other in _until(due, until_s - CLOSE_S / 2))
            or any(other is not one for _, other in _until(ended, until_s))
            or any(other is not one and other.in_child(until_s) for _, other in waited)
        )

    def usable_timeout(self, stage: str) -> float | None:
        """Return the stage's timeout if it is a positive number, else None."""
        limit = self.timeout_of(stage)
        return limit if limit is not None and limit > 0 else None

    def time_of(self, position: int) -> float:
        return self.entries[position].at_s

    def outcome(self, run: str) -> Outcome | None:
        return self.record.outcomes.get(run)

    def told(self, run: str) -> bool:
        """Say whether the engine told the caller of a run anything: not where all that came out
        is a `CancelledError`, be it a stage's own, and the outcome is the laboratory's."""
        outcome = self.outcome(run)
        if outcome is None:
            return False
        return outcome.raised is None or outcome.raised.type != "CancelledError"

    def leaked_stage(self, stage: str) -> Leak | None:
        """Return the leak of the task that runs this stage, if there is one."""
        for leak in self.record.leaks:
            if leak.kind == "task" and leak.stage == stage:
                return leak
        return None

    def any_location(self, run: str) -> str:
        """Return where in the engine the run's exception came from, or "".

        A subpipeline has no outcome of its own; what it did is the doing of the run it is in.
        """
        outcome = self.outcome(run) or self.outcome(run.split("/", 1)[0])
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
            elif one.failed_by_itself or (one.self_cancelled and one.ended and not one.again):
                found.append((one.end, "fail"))
        unclear = bool(self.shape.attempts) and not found
        if unclear and not any(self.gone_by_timeout(one) for one in self.executions(run)):
            # Nothing else ended it: then it was a failure that should have been retried.
            last = [ones[-1] for (run_id, _), ones in self.ran.items() if run_id == run]
            found = [(one.end, "fail") for one in last if one.again and one.attempt_failed]
        cause = self._causes[run] = min(found, default=(-1, ""))
        return cause

    def by_timeout(self, one: Ran) -> bool:
        """Say whether a timeout of the engine's, an idle one included, ended this execution,
        in the journal's words: it was interrupted when the timeout was due."""
        return self.timed_out_at(one) >= 0

    def by_default_timeout(self, one: Ran) -> bool:
        """Say whether a limit that the engine has for stages where nobody sets one was up when
        an execution was interrupted."""
        limit = self.info.facts.get("default_stage_timeout_s")
        if not limit:
            return False
        due_s = one.start_s + float(limit) - CLOSE_S
        return any(self.time_of(i) >= due_s for i in one.interrupts)

    def timed_out_at(self, one: Ran) -> int:
        """Return the position of the interrupt by which a timeout of the engine's ended this
        execution, or -1 if none did."""
        if not one.interrupts:
            return -1
        first = one.interrupts[0]
        if len(one.interrupts) > 1:  # a timeout of the stage's own or a tool's may have come first
            first = next((i for i in one.interrupts if not self.own_scope_due(one, i)), first)
        return first if self.timeout_due(one, self.time_of(first)) else -1

    def timeout_due(self, one: Ran, at_s: float) -> bool:
        """Say whether a timeout of the engine's, an idle one included, was due for an execution
        at a time, in seconds, or before."""
        limit = self.timeout_of(one.stage)
        if limit is not None and limit >= 0 and at_s >= one.start_s + limit - CLOSE_S:
            return True
        idle = self._stages[one.stage].idle_timeout_s
        if idle is None or not idle >= 0:
            return False
        # A heartbeat of that very instant may have come when it was decided already.
        return at_s >= self.beat_before(one, at_s - CLOSE_S) + idle - CLOSE_S

    def beat_before(self, one: Ran, at_s: float) -> float:
        """Return when, in seconds, a stage last gave a heartbeat before a time; its start if
        it gave none."""
        beats = (e.at_s for e in self.of("heartbeat", one.run, one.stage))
        return max((b for b in beats if one.start_s <= b <= at_s), default=one.start_s)

    def own_scope_due(self, one: Ran, position: int) -> bool:
        """Say whether a timeout of the stage's own code, or of a tool that it called, was due at
        a journal position: what reached the stage then may be that timeout's doing."""
        at_s = self.time_of(position)
        for call in self.of("call.begin", one.run, one.stage) if self.shape.tool_limits else ():
            if self._answered_before(call, at_s):
                continue
            for limit in self.shape.tool_limits.get((one.stage, call.detail[0]), ()):
                if abs(call.at_s + limit - at_s) <= self.tolerance_s:
                    return True
        return any(
            scope.run == one.run
            and scope.stage == one.stage
            and scope.at < position
            and not 0 <= max(scope.left, scope.expired, scope.leaked) < position
            and self._sent_at(one, position, scope.at_s + scope.seconds)
            for scope in self.scopes
        )

    def _sent_at(self, one: Ran, position: int, due_s: float) -> bool:
        """Say whether what reached a stage at a journal position may have been sent at a time, in
        seconds: a stage that waits for a subpipeline notes it only when that has ended."""
        at_s = self.time_of(position)
        since_s = min((b for b, e in one.children if b <= at_s <= e), default=at_s)
        return since_s - self.tolerance_s <= due_s <= at_s + self.tolerance_s

    def _answered_before(self, call: Entry, at_s: float) -> bool:
        """Say whether a call had ended before a time: its timeout was due no more."""
        return any(
            end.detail[:2] == call.detail and end.at_s < at_s - CLOSE_S
            for end in self.of("call.end", call.run, call.stage)
        )

    def stubborn_child(self, run: str) -> bool:
        """Say whether a stage of one of a run's subpipelines swallowed its cancellation."""
        return any(
            one.swallowed
            for (child, _), ones in self.ran.items()
            if child.startswith(f"{run}/")
            for one in ones
        )

    def gone_by_timeout(self, one: Ran) -> bool:
        """Say whether the engine's timeout ended this execution, and with it the stage."""
        return not one.again and self.by_timeout(one)

    def end_began_s(self, one: Ran) -> float:
        """Return when, in seconds, a stage began to end: it may have cleaned up since then, and
        even have been left at it when the run was over."""
        return self.time_of(one.interrupts[0]) if one.interrupts else one.end_s

    @property
    def layers_decide(self) -> bool:
        """Say whether what becomes of a stage is not up to the stage alone, but to its layers."""
        return any(layer.kind != "observe" for layer in self.plan.layers)

    def layers_disturb(self, run: str) -> bool:
        """Say whether a layer may have had a hand in how a run went: one of the user's failed or
        denied in it, or one of the engine's own, which notes nothing, may have refused a stage
        or let it wait."""
        own = [layer for layer in self.plan.layers if layer.kind in ENGINES_LAYERS]
        if self.plan.layers and (self.all_of("layer.raise", run) or self.all_of("layer.deny", run)):
            return True
        if not own:
            return False
        mine, ends = self.runs[run], len(self.entries)
        beside = any(
            facts is not mine
            and 0 <= facts.begin < (mine.end if mine.over else ends)
            and mine.begin < (facts.end if facts.over else ends)
            for facts in self.runs.values()
        )
        if beside and any(layer.kind == "idempotency" for layer in own):
            return True
        return self._layers_may_refuse(run)

    def _layers_may_refuse(self, run: str) -> bool:
        """Say whether a layer of the engine's own may have refused a stage of a run."""
        own = [layer for layer in self.plan.layers if layer.kind in ENGINES_LAYERS]
        return any(
            (run, stage.name) not in self.ran or stage.retry is not None
            for stage in self.program.stages
            if any(not layer.stages or stage.name in layer.stages for layer in own)
        )

    def failed_in_layer(self, run: str, stage: str) -> bool:
        """Say whether a layer of the user's failed over a stage or denied it."""
        if not self.plan.layers:
            return False
        return bool(self.of("layer.raise", run, stage) or self.of("layer.deny", run, stage))

    def answered(self, run: str) -> frozenset[str]:
        """Return the stages that did not run and that a layer has answered for, by the outcome;
        whether it was right to do so is judged by GRAPH-5."""
        outcome = self.outcome(run)
        if outcome is None or not self.layers_decide:
            return frozenset()
        if outcome.raised is not None and outcome.raised.type == "CancelledError":
            # A caller who is cancelled is told nothing: any that could have been may have been.
            kept = [layer for layer in self.plan.layers if layer.kind == "idempotency"]
            return frozenset(
                stage
                for stage in self.program.names
                if (run, stage) not in self.ran
                and any(not layer.stages or stage in layer.stages for layer in kept)
            )
        told = (s for s, one in outcome.stages.items() if one.status == "completed")
        return frozenset(s for s in told if (run, s) not in self.ran)

    def before(self, run: str) -> list[str]:
        """Return the runs that this one goes on with, the first of them first; none if it is
        no redrive."""
        found: list[str] = []
        while (run := self._redrives.get(run, "")) and run not in found:
            found.insert(0, run)
        return found


def _first(dated: tuple[float, Ran]) -> float:
    return dated[0]


def _until(dated: Sequence[tuple[float, Ran]], until_s: float) -> Iterator[tuple[float, Ran]]:
    """Yield what is dated up to a time, in seconds, of what is sorted by time."""
    return takewhile(lambda one: one[0] <= until_s, dated)


def _meant(found: list[Held], kind: str, *, ended: bool) -> Held:
    """Return which of several resources of one name an entry is about: the one acquired last
    of those that are at that point of their release. A stage releases its own before it has
    `ended`, an engine runs the cleanups that were registered when it has."""
    if len(found) == 1:
        return found[0]
    found = [held for held in found if held.registered is ended] or found
    for held in reversed(found):
        if kind == "release.begin" and not held.begun:
            return held
        done = max(held.ended, held.cut, held.failed)
        if kind != "release.begin" and held.begun and done < held.begun[-1]:
            return held
    return found[-1]
