"""The sentences of a chapter: its key findings and its conclusion, said from counts alone."""

from __future__ import annotations

from collections.abc import Sequence

from harness.findings.campaign import Row
from harness.findings.finding import Finding
from harness.findings.verdict import tally

__all__ = ["conclusion", "key_findings"]

# Outcome -> mark; the templates print the mark beside the word, for who cannot see it.
MARKS = {
    "good": "✅",
    "bad": "❌",
    "concern": "⚠️",
    "idea": "💡",
    "open": "⏸️",
    "note": "📋",
}


def _line(outcome: str, text: str, finding: str = "") -> dict[str, str]:
    return {"outcome": outcome, "mark": MARKS[outcome], "text": text, "finding": finding}


def key_findings(
    tests: Sequence[Row],
    findings: Sequence[Finding],
    hypotheses: Sequence[Row],
    claims: Sequence[Row],
) -> list[dict[str, str]]:
    """Return the executive summary's marked lines: tests, bugs, concerns, ideas, strengths."""
    counts = tally(tests)
    lines = [
        _line(
            "good" if counts["pass"] == len(tests) and tests else "concern",
            f"{counts['pass']} of {len(tests)} tests passed, {counts['fail']} failed, "
            f"{len(tests) - counts['pass'] - counts['fail']} could not be judged",
        )
    ]
    for one in findings:
        if one.kind == "bug":
            bad = one.severity in ("critical", "high")
            lines.append(
                _line("bad" if bad else "concern", f"{one.severity.upper()}: {one.title}", one.id)
            )
    for one in findings:
        if one.kind == "dx":
            lines.append(_line("concern", one.title, one.id))
    for one in findings:
        if one.kind == "improvement":
            lines.append(_line("idea", one.title, one.id))
    for one in findings:
        if one.kind == "strength":
            lines.append(_line("good", one.title, one.id))
    for test in tests:
        if test["verdict"] in ("blocked", "error", "inconclusive", "not run"):
            lines.append(
                _line("open", f"{test['test']}: {test['verdict']}, {test['reason'] or 'no reason'}")
            )
    if hypotheses:
        lines.append(_line("note", f"Hypotheses: {_words(hypotheses)}"))
    if claims:
        lines.append(_line("note", f"Claims of the earlier report: {_words(claims)}"))
    return lines


def _words(rows: Sequence[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["verdict"]] = counts.get(row["verdict"], 0) + 1
    return ", ".join(f"{n} {verdict}" for verdict, n in counts.items())


def conclusion(
    label: str,
    verdict: Row,
    tests: Sequence[Row],
    findings: Sequence[Finding],
    hypotheses: Sequence[Row],
) -> list[str]:
    """Return the conclusion's sentences, each from a count or a finding."""
    counts = tally(tests)
    said = [
        f"{label}: {verdict['verdict']}, because {verdict['rule']}.",
        f"{counts['pass']} of {len(tests)} tests passed and {counts['fail']} failed.",
    ]
    for one in findings:
        if one.kind == "bug" and one.severity in ("critical", "high"):
            said.append(f"{one.id} ({one.severity}): {one.title}. {_sureness(one)}")
    strengths = [f.clause for f in findings if f.kind == "strength"]
    if strengths:
        said.append(f"Held under every fault tried: {', '.join(strengths)}.")
    prefix = "Not offered: "
    lacking = [f.title.removeprefix(prefix) for f in findings if f.kind == "improvement"]
    if lacking:
        said.append(f"{prefix}{'; '.join(lacking)}.")
    undecided = [h["id"] for h in hypotheses if h["verdict"] in ("BLOCKED", "NOT TESTED")]
    if undecided:
        said.append(f"Left undecided: {', '.join(undecided)}.")
    if not any(f.kind == "bug" for f in findings):
        said.append(
            "No violation was found."
            if counts["pass"] + counts["fail"]
            else "Nothing was judged, so nothing can be said of this engine."
        )
    return said


def _sureness(one: Finding) -> str:
    if one.confirmation == "confirmed":
        return "Confirmed by a stand-alone script without dagstorm."
    if one.confirmation == "nondeterministic":
        return "It did not show on every replay."
    return "Not confirmed outside the laboratory."
