"""From probed facts to developer-experience findings, by one table of rules.

The table is printed in every mission report beside what was probed, so that a reader can
check each finding and see which rules the engine met. A fact that was not probed gives no
finding and no pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.findings.bugs import PRIORITIES
from harness.findings.campaign import Campaign, Row, engine_label
from harness.findings.finding import Evidence, Finding, Impact, Recommendation
from harness.findings.fingerprint import fingerprint
from harness.findings.order import by_version

__all__ = ["RULES", "FactRule", "experience", "rule_rows", "share_of"]


def share_of(value: Any) -> float | None:
    """Return a fact as a share from 0 to 1: a truth as 0 or 1, anything else as None."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)) and 0 <= value <= 1:
        return float(value)
    return None


@dataclass(frozen=True, slots=True)
class FactRule:
    """One rule: the fact it reads, what it demands, and what is said where it is not met.

    Attributes:
        met: True, False, or None if the fact has not the form that the rule reads.
    """

    fact: str
    demands: str
    met: Callable[[Any], bool | None]
    type: str
    severity: str
    title: str
    impact: str
    recommendation: str
    effort: str


def _at_least(least: float) -> Callable[[Any], bool | None]:
    def met(value: Any) -> bool | None:
        share = share_of(value)
        return None if share is None else share >= least

    return met


def _at_most(most: float) -> Callable[[Any], bool | None]:
    def met(value: Any) -> bool | None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return value <= most

    return met


def _every(value: Any) -> bool | None:
    if not isinstance(value, dict) or not value:
        return None
    return all(value.values())


def _no(value: Any) -> bool | None:
    return not value if isinstance(value, bool) else None


RULES: tuple[FactRule, ...] = (
    FactRule(
        "documented_partial_outputs",
        "README or docstrings say how to reach completed outputs after a failure",
        _at_least(1),
        "documentation",
        "low",
        "Undocumented: how to reach completed outputs after a failure",
        "Whoever handles a failed run must read the engine's source to learn what is left.",
        "Say in the documentation of the run call and of its exceptions where the outputs of "
        "completed stages are, for failure and for cancellation.",
        "trivial",
    ),
    FactRule(
        "public_api_documented",
        "at least 0.8 of the public classes and functions have a docstring",
        _at_least(0.8),
        "documentation",
        "low",
        "Public names without a docstring",
        "Editors and help() show nothing for these names.",
        "Give every public class and function a docstring.",
        "small",
    ),
    FactRule(
        "typed",
        "the package is marked as typed",
        _at_least(1),
        "dx",
        "low",
        "The package is not marked as typed",
        "Type checkers ignore its annotations, so mistakes in stages show only when run.",
        "Ship a py.typed marker and check the package with a type checker.",
        "small",
    ),
    FactRule(
        "hello_lines",
        "a complete program of one stage takes at most 20 lines",
        _at_most(20),
        "dx",
        "low",
        "A pipeline of one stage takes many lines",
        "A first pipeline needs names that have nothing to do with the task at hand.",
        "Offer one call that builds the context and runs the pipeline.",
        "medium",
    ),
    FactRule(
        "validates_graph",
        "every way to build a graph refuses unknown dependencies and cycles",
        _every,
        "dx",
        "medium",
        "Some ways to build a graph do not check it",
        "The same mistake is refused at build or shows at run, depending on the builder used.",
        "Check the graph in its constructor, so that every builder does.",
        "small",
    ),
    FactRule(
        "writes_debug_files",
        "a run writes no files of its own",
        _no,
        "dx",
        "medium",
        "A run writes debug files of its own",
        "Runs fail or leave files where the working directory is read-only or shared.",
        "Use logging instead of files.",
        "trivial",
    ),
    FactRule(
        "register_cleanup_needs_graph_object",
        "a stage can register a cleanup through its own context",
        _no,
        "dx",
        "low",
        "A stage cannot reach the cleanup registry through its context",
        "A stage must be handed the graph that runs it in order to register a cleanup.",
        "Offer register_cleanup on the stage's context.",
        "small",
    ),
)


def rule_rows(engine: Row) -> list[dict[str, Any]]:
    """Return the table of rules with what was probed: outcome met, not met or not probed."""
    rows = []
    for rule in RULES:
        value = engine.get("facts", {}).get(rule.fact)
        met = rule.met(value)
        rows.append(
            {
                "fact": rule.fact,
                "demands": rule.demands,
                "probed": value,
                "outcome": {True: "met", False: "not met", None: "not probed"}[met],
            }
        )
    return rows


def experience(campaign: Campaign) -> list[Finding]:
    """Return one finding per engine and rule that is not met, without ids."""
    found: list[Finding] = []
    for rule in RULES:
        unmet: dict[str, list[Row]] = {}
        for engine in campaign.engines:
            if rule.met(engine.get("facts", {}).get(rule.fact)) is False:
                unmet.setdefault(engine["name"], []).append(engine)
        found += [_finding(campaign, rule, name, engines) for name, engines in unmet.items()]
    return found


def _finding(campaign: Campaign, rule: FactRule, name: str, engines: list[Row]) -> Finding:
    engines = sorted(engines, key=lambda e: by_version(e["version"]))
    probed = {e["version"]: e["facts"][rule.fact] for e in engines}
    told = "; ".join(
        f"{rule.fact} = {_told(value)} on {engine_label(name, v)}" for v, value in probed.items()
    )
    return Finding(
        kind="dx",
        type=rule.type,
        severity=rule.severity,
        priority=PRIORITIES[rule.severity],
        title=rule.title,
        description=f"Rule: {rule.demands}. The probe of the installed engine found {told}.",
        clause="",
        shape=rule.fact,
        engine=name,
        engine_versions=tuple(e["version"] for e in engines),
        component="public API",
        missions=tuple(m["id"] for m in campaign.missions),
        expected=f"{rule.demands[0].upper()}{rule.demands[1:]}.",
        actual=f"The probe found {told}.",
        evidence=Evidence(
            figures={rule.fact: probed[engines[-1]["version"]]},
            measured=tuple(_probed_row(v, {rule.fact: value}) for v, value in probed.items()),
        ),
        impact=Impact(rule.impact),
        recommendation=Recommendation(rule.recommendation, rule.effort, False),
        fingerprint=fingerprint("dx", "", name, "", rule.fact),
        first_seen=campaign.seen,
        last_seen=campaign.seen,
    )


def _probed_row(version: str, figures: Row) -> dict[str, Any]:
    """Return a row of `Evidence.measured` for what was probed, not run."""
    nothing = dict.fromkeys(("runs", "exercised", "violations"), 0)
    row = {"scenario": "(probe)", "engine_version": version, "lab": "probe", **nothing}
    return {**row, "first_seed": None, "token": None, "figures": dict(figures)}


def _told(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + ", ".join(f"{key} = {_told(item)}" for key, item in value.items()) + ")"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(round(value, 6)) if isinstance(value, float) else str(value)
