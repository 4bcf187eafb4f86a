"""The gate: which findings and thresholds make the exit code 1, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings.known import counts
from harness.findings.order import SEVERITIES

__all__ = ["decide", "gate_lines"]


def decide(
    fail_on: str,
    entries: Sequence[Mapping[str, Any]],
    changes: Mapping[str, Any],
    held: Sequence[Mapping[str, Any]] = (),
    expired: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the gate's verdict: fail, inconclusive (a threshold was not measured) or pass.

    Args:
        entries: the run's findings in their order.
        changes: as in changes.json; what it calls waived fails no gate.
        held: thresholds held against the run's figures.
        expired: findings whose waiver ran out; they count as new once.
    """
    waived = {one["id"] for one in changes["waived"]}
    failing = [
        e["id"]
        for e in entries
        if counts(e["kind"], e["clause"])
        and e["id"] not in waived
        # What one process alone has shown is told, but no reason to turn a build red.
        and e.get("confirmation") != "nondeterministic"
        and _named(fail_on, e, {*changes["new"], *changes["regressed"], *expired})
    ]
    broken = [h for h in held if h["verdict"] == "fail"]
    unmeasured = [h for h in held if h["verdict"] == "inconclusive"]
    verdict = "inconclusive" if unmeasured else "pass"
    if failing or broken or any(h["required"] for h in unmeasured):
        verdict = "fail"
    return {
        "fail_on": fail_on,
        "verdict": verdict,
        "findings": failing,
        "expired_waivers": list(expired),
        "thresholds": list(held),
        "exit_code": 1 if verdict == "fail" else 0,
    }


def _named(fail_on: str, entry: Mapping[str, Any], fresh: set[str]) -> bool:
    match fail_on:
        case "never":
            return False
        case "new":
            return entry["id"] in fresh
        case "any":
            return True
    return SEVERITIES.index(entry["severity"]) <= SEVERITIES.index(fail_on)


def gate_lines(gate: Mapping[str, Any]) -> list[str]:
    """Return what the terminal says of the gate; nothing if there was nothing to hold."""
    lines = []
    for one in gate["thresholds"]:
        bounds = [f"at least {one['min']}"] if one["min"] is not None else []
        bounds += [f"at most {one['max']}"] if one["max"] is not None else []
        where = f" on {one['engine']}" if one["engine"] else ""
        where += f" in {one['scenario']}" if one["scenario"] else ""
        value = "no run measured it" if one["value"] is None else f"{one['value']}"
        lines.append(
            f"threshold {one['verdict']}: {one['figure']}{where} must be "
            f"{' and '.join(bounds)}: {value} ({one['measured_from']})"
        )
    if gate["fail_on"] != "never":
        named = ", ".join(gate["findings"][:10])
        more = len(gate["findings"]) - 10
        named += f" and {more} more" if more > 0 else ""
        lines.append(
            f"gate (--fail-on {gate['fail_on']}): {gate['verdict']}"
            + (f": {named}" if named else "")
        )
    return lines
