"""What a clause is, and what a check says of a run.

A clause is a declaration (what the engine must do, how grave a violation is, which
capabilities it takes) and a check: a pure function of the program, the plan, the journal,
the leaks and the outcomes. A check has three answers: it holds, it is violated, or
this run did not put it to the test.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from harness.contract.scripts.source import Untold

if TYPE_CHECKING:
    from harness.contract.reading import Reading
    from harness.kernel.plan import Plan
    from harness.kernel.program import Program

__all__ = ["Clause", "Judgement", "Violation", "blocked", "holds", "untested", "violated"]


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which one run broke a clause.

    Attributes:
        shape: a short kebab-case name of the kind of violation, free of names, numbers and
            seeds; with clause, engine and component it makes the finding's fingerprint.
        expected, actual: one sentence each, about this run.
        stage: the stage concerned, or "".
        location: `file:line function` inside the engine, or "".
        figures: what was counted, e.g. {"cleanups_done": 1, "cleanups_due": 30}.
        at: indices of the journal entries that prove it.
    """

    shape: str
    expected: str
    actual: str
    stage: str = ""
    location: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer of one check on one run: "holds", "violated", "untested" or "blocked".

    "blocked" means that a defect under another clause, named in `blocked_by`, keeps this
    one from being put to the test.

    Figures are counts of what was put to the test (also when it holds); they are summed
    over the runs of a scenario.
    """

    verdict: str
    violations: tuple[Violation, ...] = ()
    figures: Mapping[str, int] = field(default_factory=dict)
    blocked_by: str = ""


UNTESTED = Judgement("untested")


def untested() -> Judgement:
    return UNTESTED


def blocked(by: str) -> Judgement:
    return Judgement("blocked", blocked_by=by)


def holds(**figures: int) -> Judgement:
    return Judgement("holds", figures=figures)


def violated(violations: list[Violation], **figures: int) -> Judgement:
    """Return "violated" if there is any violation, else "holds"."""
    verdict = "violated" if violations else "holds"
    return Judgement(verdict, tuple(violations), figures)


Check = Callable[["Reading"], Judgement]


def _none(_program: Program, _plan: Plan) -> str | None:
    """No script."""
    return None


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of the contract.

    Attributes:
        id: e.g. "TIME-1"; never changes its meaning once released.
        family: TIME, CANCEL, CLEAN, STREAM, PART, EVENT, TENANT, CORR, GRAPH, CTX or RETRY.
        must: what the engine must do, completing "The engine must …".
        severity: critical, high, medium or low: default severity of a violation.
        type: correctness, reliability, security, performance, silent_failure, dx,
            documentation or feature_request: type of the finding.
        needs: capabilities without which it is unsupported.
        check: judges one run.
        title: title of a bug, by violation shape; "" is the default title.
        impact: what a violation means to a user, one sentence.
        data_risk, security_risk, availability_risk: none, low, medium or high.
        workaround: what a user can do meanwhile, or "".
        recommendation: what the engine's maintainers could do, one sentence.
        effort: trivial, small, medium, large or epic.
        script: returns the source of `violation(seen, error, outputs, left, took)` for a
            stand-alone script (see `Adapter.render`), or None where a script cannot tell.
        script_of_shape: the same for one shape of violation, where a check of all of them
            would be longer than whoever reads it needs; then `script` is not asked.
    """

    id: str
    family: str
    must: str
    severity: str
    type: str
    check: Check
    title: Mapping[str, str]
    impact: str
    recommendation: str
    effort: str = "small"
    needs: frozenset[str] = frozenset()
    data_risk: str = "none"
    security_risk: str = "none"
    availability_risk: str = "none"
    workaround: str = ""
    script: Callable[[Program, Plan], str | None] = _none
    script_of_shape: Callable[[Program, Plan, str], str | None] | None = None

    def check_of(self, program: Program, plan: Plan, shape: str) -> str | None:
        """Return the source of a script's check that looks for violations of one shape."""
        try:
            return self._check_of(program, plan, shape)
        except Untold:
            return None

    def why_no_check(self, program: Program, plan: Plan, shape: str) -> str:
        """Say, where `check_of` returns None, what a script cannot tell or is not there for."""
        try:
            self._check_of(program, plan, shape)
        except Untold as exc:
            return str(exc)
        kind = f"{self.id} ({shape})" if shape else self.id
        if len(plan.runs) > 1:
            try:
                alone = self._check_of(
                    program, replace(plan, runs=plan.runs[:1], cancels=()), shape
                )
            except Untold:
                alone = None
            if alone is not None:
                return f"that for {kind} is written for one run, and this takes {len(plan.runs)}"
        if self.script_of_shape is None and self.script is _none:
            return f"dagstorm has none for {self.id}"
        return f"dagstorm has none for {kind} of a program and plan like this"

    def _check_of(self, program: Program, plan: Plan, shape: str) -> str | None:
        if self.script_of_shape is not None:
            return self.script_of_shape(program, plan, shape)
        return self.script(program, plan)
