"""A finding: one thing that a campaign learned about one engine, with its proof.

Fields and their names are published (findings.schema.json) and read by other people's
scripts: add to them, never rename. A finding without an id has not been numbered yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from harness.findings.plain import plain

__all__ = [
    "KINDS",
    "Evidence",
    "Finding",
    "Impact",
    "Recommendation",
    "Reproduction",
    "frequency_of",
]

# Kind -> prefix of the id; also the order in which findings are listed.
KINDS = {"bug": "BUG", "dx": "DX", "improvement": "IMP", "strength": "STR"}


def frequency_of(rate: float) -> str:
    """Name a measured rate of violating runs."""
    if rate >= 1.0:
        return "always"
    if rate >= 0.2:
        return "often"
    if rate >= 0.02:
        return "sometimes"
    return "rarely"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured.

    Attributes:
        figures: of the clearest witness, or summed over the scenarios of a strength.
        seeds_tried: runs of the scenarios concerned.
        exercised: those of them that put the clause to the test.
        violations: those of them that violated it.
        rate: violations / exercised, None if nothing was exercised.
        measured: one row per scenario, version and laboratory.
        proof: journal entries `[at_s, run, stage, kind, detail]` that show it.
        witness: the proof with what it takes to understand it: 5 to 20 entries, or all there are.
    """

    figures: Mapping[str, Any] = field(default_factory=dict)
    seeds_tried: int = 0
    exercised: int = 0
    violations: int = 0
    rate: float | None = None
    first_seed: int | None = None
    measured: tuple[Mapping[str, Any], ...] = ()
    proof: tuple[Any, ...] = ()
    witness: tuple[Any, ...] = ()


@dataclass(frozen=True, slots=True)
class Reproduction:
    """How to see it again: replay token, program, plan, pictures, script, environment.

    Attributes:
        diagram: Mermaid flowchart of the program.
        timeline: Mermaid gantt of the run that shows it, "" if there is no journal.
        picture: the same run as data for a drawing: lanes, bars and marks; None without journal.
        script: stand-alone script, relative to the run directory, None if there is none.
        environment: engine, version, laboratory, seed and Python of the clearest witness.
        shrunk: what the run was `before` shrinking and is `after`, in stages, steps, faults and
            choices; `tries`, `taken`, and how it `ended`: "smallest", the limit that was hit, or
            "not shrunk" with `why`. Empty where no shrinking was asked for.
    """

    token: str | None = None
    program: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None
    diagram: str = ""
    timeline: str = ""
    picture: Mapping[str, Any] | None = None
    script: str | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)
    shrunk: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Impact:
    """What it means to a user; risks are none, low, medium or high."""

    statement: str
    data_risk: str = "none"
    security_risk: str = "none"
    availability_risk: str = "none"
    workaround: str = ""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What the engine's maintainers could do; `breaking_change` is None if nobody judged it."""

    summary: str
    effort: str = "small"
    breaking_change: bool | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; see REPORTS in the documentation for every field's meaning.

    Attributes:
        mission_tests: mission tests that show it, e.g. `DAG-009/resource_cleanup`.
        missions: ids of the missions whose scenarios show it.
        scenarios: ids of the scenarios that show it.
        component: the engine's function, or file, or what of the engine is concerned.
        location: `file:line function` inside the engine, "" if not located.
        frequency: always, often, sometimes or rarely; None where no rate was measured.
        confirmation: None where there is nothing to confirm (a missing capability).
        first_seen, last_seen: the run (id or date) that saw it first and last.
        occurrences: runs that saw it, this one included; 1 where no registry counts them.
    """

    kind: str
    type: str
    severity: str
    title: str
    description: str
    clause: str
    engine: str
    engine_versions: tuple[str, ...]
    fingerprint: str
    expected: str
    actual: str
    impact: Impact
    shape: str = ""
    id: str = ""
    priority: str | None = None
    component: str = ""
    location: str = ""
    mission_tests: tuple[str, ...] = ()
    missions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    frequency: str | None = None
    reproduction: Reproduction | None = None
    confirmation: str | None = None
    confirmation_note: str = ""
    recommendation: Recommendation | None = None
    status: str = "open"
    first_seen: str = ""
    last_seen: str = ""
    occurrences: int = 1
    related: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the finding as strict JSON data, as the published schema describes it."""
        out: dict[str, Any] = plain(asdict(self))
        return out
