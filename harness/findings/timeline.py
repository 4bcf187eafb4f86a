"""A run's journal as a Mermaid gantt on the run's own clock, in milliseconds.

Bars are stages, held resources, tool calls, threads and subpipelines; what never came to
its end is marked. Cancels, expiries and faults are milestones. The picture is bounded; the
replay token shows the whole run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["proof_rows", "timeline"]

LIMIT_BARS = 40
LIMIT_PROOF = 12
LIMIT_LABEL = 60

# Opening kind -> (closing kinds, what is said of the bar).
_SPANS: dict[str, tuple[tuple[str, ...], str]] = {
    "stage.start": (("stage.end",), "runs"),
    "acquire": (("release.end", "release.cut", "release.fail"), "holds"),
    "call.begin": (("call.end",), "calls"),
    "thread.begin": (("thread.end",), "thread"),
    "sub.begin": (("sub.end",), "subpipeline"),
    "spawn": (("spawn.end",), "task"),
}
_CLOSING = {closing: kind for kind, (closings, _) in _SPANS.items() for closing in closings}
_MARKS = {
    "cancel.sent": "caller cancels",
    "fault.fired": "fault fired",
    "net.felt": "network fault",
    "scope.expired": "own timeout expired",
    "scope.leak": "expiry leaked",
    "swallowed": "cancel swallowed",
    "release.begin": "release begins",
}
_GOOD_ENDS = ("ok", "skip", "cancel_run", "cancel_branch")


@dataclass(slots=True)
class _Bar:
    section: str
    words: str
    begin_ms: int
    end_ms: int | None = None
    ending: str = ""
    critical: bool = False
    mark: bool = False


@dataclass(slots=True)
class _Chart:
    bars: list[_Bar] = field(default_factory=list)
    open: dict[tuple[str, str, str, str], list[_Bar]] = field(default_factory=dict)
    last_ms: int = 0


def timeline(journal: Sequence[Sequence[Any]]) -> str:
    """Return the gantt of a journal given as `[at_s, run, stage, kind, detail]` rows.

    Returns "" if the journal holds nothing that can be drawn.
    """
    chart = _Chart()
    several = len({row[1] for row in journal}) > 1
    for at_s, run, stage, kind, detail in journal:
        at_ms = round(float(at_s) * 1000)
        chart.last_ms = max(chart.last_ms, at_ms)
        section = _words(f"{run} {stage}" if several else stage) or "run"
        _take(chart, (str(run), str(stage)), section, (at_ms, kind, detail))
    if not chart.bars:
        return ""
    lines = ["gantt", "    dateFormat x", "    axisFormat %Q ms"]
    shown = chart.bars[:LIMIT_BARS]
    for section in dict.fromkeys(bar.section for bar in shown):
        lines.append(f"    section {section}")
        lines += [_line(bar, chart.last_ms) for bar in shown if bar.section == section]
    if len(chart.bars) > len(shown):
        lines.append(f"    %% {len(chart.bars) - len(shown)} more bars are left out")
    return "\n".join(lines)


def _take(chart: _Chart, where: tuple[str, str], section: str, entry: tuple[int, str, Any]) -> None:
    at_ms, kind, detail = entry
    name = _subject(detail)
    if kind in _SPANS:
        subject = "" if kind == "stage.start" else name
        bar = _Bar(section, f"{_SPANS[kind][1]} {subject}".strip(), at_ms)
        chart.bars.append(bar)
        chart.open.setdefault((*where, kind, subject), []).append(bar)
    elif kind in _CLOSING:
        subject = "" if kind == "stage.end" else name
        waiting = chart.open.get((*where, _CLOSING[kind], subject))
        if waiting:
            bar = waiting.pop(0)
            bar.end_ms = at_ms
            bar.ending = _ending(kind, detail)
            bar.critical = _is_bad(kind, detail)
    elif kind in _MARKS:
        words = _MARKS[kind] if kind == "cancel.sent" else f"{_MARKS[kind]} {name}".strip()
        chart.bars.append(_Bar(section, words, at_ms, at_ms, mark=True))


def _subject(detail: Any) -> str:
    if isinstance(detail, (list, tuple)):
        # (tool, number, how): the first two name the call, the last says how it ended.
        return " ".join(str(d) for d in detail[:2] if not isinstance(d, bool))
    return "" if detail is None else str(detail)


def _ending(kind: str, detail: Any) -> str:
    if kind == "stage.end":
        return f"ended {detail}"
    if kind in ("call.end", "sub.end") and isinstance(detail, (list, tuple)) and detail:
        return str(detail[-1])
    return {
        "release.end": "released",
        "release.cut": "cleanup cut short",
        "release.fail": "cleanup failed",
    }.get(kind, "ended")


def _is_bad(kind: str, detail: Any) -> bool:
    if kind == "stage.end":
        return str(detail) not in _GOOD_ENDS
    return kind in ("release.cut", "release.fail")


def _line(bar: _Bar, last_ms: int) -> str:
    if bar.mark:
        return f"    {_words(bar.words)} :milestone, {bar.begin_ms}, {bar.begin_ms}"
    if bar.end_ms is None:
        words = f"{bar.words}, never ended"
        return f"    {_words(words)} :crit, {bar.begin_ms}, {last_ms}"
    words = f"{bar.words}, {bar.ending}"
    tag = "crit, " if bar.critical else ""
    return f"    {_words(words)} :{tag}{bar.begin_ms}, {bar.end_ms}"


def _words(value: object) -> str:
    """Keep what Mermaid's gantt takes for plain words; its labels know no escapes."""
    shown = "".join(c if c.isalnum() or c in " .,_-+/()=" else " " for c in str(value))
    return " ".join(shown.split())[:LIMIT_LABEL].strip()


def proof_rows(witness: Mapping[str, Any]) -> list[list[Any]]:
    """Return the journal entries that a witness points at, as they happened, at most a dozen."""
    journal = witness.get("journal") or ()
    at = [i for i in witness.get("at") or () if 0 <= i < len(journal)]
    return [list(journal[i]) for i in sorted(set(at[:LIMIT_PROOF]))]
