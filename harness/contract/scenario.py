"""A scenario and a mission: what is run, and why.

A scenario is a program, a plan and the clauses it is there to judge. A mission is a
question about an engine, answered by scenarios; its texts are dagstorm's own, its claims
come from an earlier report and are hypotheses until measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["Claim", "Hypothesis", "Mission", "Pack", "Scenario"]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that is run on every engine.

    Attributes:
        id: `<pack>/<name>`, unique.
        clauses: ids judged by this scenario; the first is the one that a result row names.
        tests: mission tests that this scenario answers, e.g. `DAG-009/simple_timeout`.
        category: "baseline", "stress" or "chaos".
        purpose: one sentence on what is tried.
        sweep: "" (one run a seed) or "cancel_points": a run for every point at which a cancel
            of the run can land, found from a clean run of the same program; "points": one for
            everything that can cut in; "swarm": generated programs in place of this one.
        fires: journal kinds or fault names that must occur in at least one run, else the
            scenario is inconclusive; on top of what each clause itself demands.
    """

    id: str
    title: str
    program: Program
    plan: Plan
    clauses: tuple[str, ...]
    purpose: str
    tests: tuple[str, ...] = ()
    category: str = "stress"
    sweep: str = ""
    fires: tuple[str, ...] = ()

    @property
    def pack(self) -> str:
        return self.id.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """H1, H2, …: a statement, and the scenarios (with clauses) whose verdicts decide it.

    Attributes:
        holds_if: "pass" if the hypothesis is confirmed by passing verdicts, "fail" if it
            states that something is broken and so is confirmed by failing ones.
        decides: (scenario id, clause id) pairs; a probe is written ("probe", fact name).
    """

    id: str
    statement: str
    decides: tuple[tuple[str, str], ...]
    holds_if: str = "pass"


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of an earlier report about one engine, to be judged by measurement.

    Attributes:
        id: as in that report, e.g. BUG-078.
        says: the claim in our words; `earlier` gives the earlier figures, if it had any.
        engine: subject that the claim is about. The review judges it on that one, and on those
            of the same package (`stageflow-legacy` for `stageflow`).
        decides, holds_if: as for a hypothesis.
        why: what misled the earlier measurement, printed only where something measured
            disagrees with the claim; so it must be true of any verdict but SUPPORTED.
    """

    id: str
    says: str
    decides: tuple[tuple[str, str], ...]
    holds_if: str = "fail"
    earlier: str = ""
    engine: str = "stageflow"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Mission:
    """A mission: question, persona, research, hypotheses, tests and claims.

    Attributes:
        tests: test name -> scenario id, in report order.
        industry: (industry, use case, criticality) rows.
        state_of_the_art, failure_modes: sentences.
        questions: what the engine is probed for: (label, capability or fact name) rows.
        persona: (role, organisation, concerns).
    """

    id: str
    title: str
    pack: str
    priority: str
    risk: str
    summary: str
    tests: Mapping[str, str]
    hypotheses: tuple[Hypothesis, ...]
    claims: tuple[Claim, ...]
    industry: tuple[tuple[str, str, str], ...]
    state_of_the_art: tuple[str, ...]
    failure_modes: tuple[str, ...]
    questions: tuple[tuple[str, str], ...]
    persona: tuple[str, str, tuple[str, ...]]
    more_scenarios: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pack:
    """A folder of scenarios with one theme.

    Attributes:
        page: what it checks and why, shown by `dagstorm packs show`.
    """

    id: str
    title: str
    page: str
    scenarios: tuple[Scenario, ...]
    missions: tuple[Mission, ...] = field(default_factory=tuple)
