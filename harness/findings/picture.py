"""A run's journal as a picture's data: lanes of stages, their bars, and what happened when.

The picture answers at one look what a finding says: which stage held what until when, where its
deadline was, what was done to it, and what was still at work when the run was over. Times are
seconds of the run's own clock. Everything is bounded, and what is left out is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.findings.steps import arguments, limit_of, steps_of, walk

__all__ = ["LIMIT_BARS", "LIMIT_LANES", "LIMIT_MARKS", "picture"]

LIMIT_LANES = 10
LIMIT_BARS = 8  # in one lane
LIMIT_MARKS = 10  # in one lane
LIMIT_NAME = 60

Row = Sequence[Any]

# Opening kind -> (closing kinds, what the bar is).
_SPANS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "stage.start": (("stage.end",), "stage"),
    "acquire": (("release.end", "release.cut", "release.fail"), "resource"),
    "release.begin": (("release.end", "release.cut", "release.fail"), "cleanup"),
    "call.begin": (("call.end",), "call"),
    "thread.begin": (("thread.end",), "thread"),
    "spawn": (("spawn.end",), "task"),
    "sub.begin": (("sub.end",), "child"),
    "undo.begin": (("undo.end", "undo.cut", "undo.fail"), "cleanup"),
    "layer.enter": (("layer.exit",), "layer"),
    "deliver.begin": (("deliver.end", "deliver.fail"), "delivery"),
}
# Kind of entry -> (kind of mark, words before the detail).
_MARKS: Mapping[str, tuple[str, str]] = {
    "cancel.sent": ("cancel", "cancel sent"),
    "interrupt": ("cancel", "cancellation arrives"),
    "self_cancel": ("cancel", "cancels itself"),
    "swallowed": ("cancel", "cancellation swallowed"),
    "fault.fired": ("fault", "fault"),
    "flaky": ("fault", "execution"),
    "layer.raise": ("fault", "layer fails:"),
    "layer.deny": ("fault", "layer denies:"),
    "trespass": ("fault", "trespass"),
    "scope.expired": ("deadline", "own timeout expires"),
    "scope.leak": ("deadline", "expiry leaks out of"),
    "release.cut": ("cut", "cleanup cut short:"),
    "release.fail": ("cut", "cleanup fails:"),
    "undo.cut": ("cut", "compensation cut short:"),
    "undo.fail": ("cut", "compensation fails:"),
    "deliver.fail": ("dropped", "sink refuses"),
}
_GOOD_ENDS = ("ok", "skip", "cancel_run", "cancel_branch")
_CUT = ("release.cut", "release.fail", "undo.cut", "undo.fail", "deliver.fail")


@dataclass(slots=True)
class _Lane:
    run: str
    name: str
    bars: list[dict[str, Any]] = field(default_factory=list)
    marks: list[dict[str, Any]] = field(default_factory=list)
    waiting: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)


def picture(
    journal: Sequence[Row],
    program: Mapping[str, Any] | None,
    plan: Mapping[str, Any] | None,
    at: Sequence[int] = (),
) -> dict[str, Any] | None:
    """Return the data of a run's picture, or None if the journal holds nothing to draw.

    Args:
        journal: `[at_s, run, stage, kind, detail]` rows.
        at: indices of the entries that prove the violation; they are marked.
    """
    lanes: dict[tuple[str, str], _Lane] = {}
    dropped: dict[str, int] = {}
    limits = dict(_limits(program or {}, plan or {}))
    for at_s, run, stage, kind, detail in journal:
        lane = lanes.setdefault((run, stage), _Lane(str(run), str(stage)))
        _take(lane, float(at_s), kind, detail)
        if kind == "stage.start" and isinstance(limits.get(stage), (int, float)):
            due = float(at_s) + float(limits[stage])
            _mark(lane, due, "deadline", f"deadline, {limits[stage]} s after its start")
            lane.marks[-1]["due"] = True
        if kind == "account" and isinstance(detail, (list, tuple)) and len(detail) > 2:
            lost = detail[2] if isinstance(detail[2], int) else 0
            if lost > dropped.get(run, 0):
                _mark(lane, float(at_s), "dropped", f"events dropped so far: {lost}")
                dropped[run] = lost
    for i in at:
        if 0 <= i < len(journal):
            at_s, run, stage, kind, detail = journal[i]
            _prove(lanes[run, stage], float(at_s), kind, detail)
    ends = _ends(journal)
    drawn = [lane for lane in lanes.values() if lane.bars or lane.marks]
    if not any(lane.bars for lane in drawn):
        return None
    last_s = max(float(row[0]) for row in journal)
    shown = _worst(drawn, ends)
    return {
        "last_s": round(last_s, 6),
        "runs": [{"run": run, "end_s": round(at_s, 6), "how": how} for run, at_s, how in ends],
        "lanes": [_lane(lane, ends) for lane in shown],
        "lanes_left_out": len(drawn) - len(shown),
    }


def _limits(
    program: Mapping[str, Any], plan: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield (stage, its timeout in seconds), children's stages by the names they journal under."""
    for stage in program.get("stages", ()):
        limit = limit_of(stage, plan)
        if limit is not None and not isinstance(limit, bool):
            yield f"{prefix}{stage['name']}", limit
        for step in walk(steps_of(stage)):
            child = arguments(step).get("program")
            if isinstance(child, Mapping):
                yield from _limits(child, plan, f"{prefix}{child.get('name', '')}/")


def _take(lane: _Lane, at_s: float, kind: str, detail: Any) -> None:
    subject = _subject(detail)
    for opening, (closings, _) in _SPANS.items():
        key = (opening, "" if opening in ("stage.start", "thread.begin") else subject)
        if kind in closings and lane.waiting.get(key):
            bar = lane.waiting[key].pop(0)
            bar["end_s"] = round(at_s, 6)
            bar["how"] = _how(kind, detail)
            bar["bad"] = kind in _CUT or (kind == "stage.end" and str(detail) not in _GOOD_ENDS)
    if kind in _SPANS:
        what = _SPANS[kind][1]
        name = "" if kind in ("stage.start", "thread.begin") else subject
        bar = {"what": what, "name": name, "begin_s": round(at_s, 6), "end_s": None, "how": ""}
        lane.bars.append({**bar, "bad": False})
        lane.waiting.setdefault((kind, name), []).append(lane.bars[-1])
    if kind in _MARKS:
        what, words = _MARKS[kind]
        _mark(lane, at_s, what, f"{words} {subject}".strip())
    if kind == "offer.end" and isinstance(detail, (list, tuple)) and detail[-1] != "taken":
        _mark(lane, at_s, "dropped", f"event {subject} not taken: {detail[-1]}")


def _mark(lane: _Lane, at_s: float, what: str, words: str) -> None:
    lane.marks.append(
        {"what": what, "at_s": round(at_s, 6), "words": words[:LIMIT_NAME], "proof": False}
    )


def _prove(lane: _Lane, at_s: float, kind: str, detail: Any) -> None:
    """Mark an entry as one that proves the violation, on its own mark if it has one."""
    what, words = _MARKS.get(kind, ("proof", kind))
    said = f"{words} {_subject(detail)}".strip()[:LIMIT_NAME]
    for mark in lane.marks:
        if mark["words"] == said and mark["at_s"] == round(at_s, 6):
            mark["proof"] = True
            return
    _mark(lane, at_s, what, said)
    lane.marks[-1]["proof"] = True


def _subject(detail: Any) -> str:
    if isinstance(detail, (list, tuple)):
        return " ".join(str(d) for d in detail[:2] if not isinstance(d, bool))[:LIMIT_NAME]
    return "" if detail is None else str(detail)[:LIMIT_NAME]


def _how(kind: str, detail: Any) -> str:
    if kind == "stage.end":
        return str(detail)[:LIMIT_NAME]
    if isinstance(detail, (list, tuple)) and len(detail) > 1:
        return str(detail[-1])[:LIMIT_NAME]
    return {"cut": "cut short", "fail": "failed"}.get(kind.rsplit(".", maxsplit=1)[-1], "ended")


def _ends(journal: Sequence[Row]) -> list[tuple[str, float, str]]:
    return [
        (str(run), float(at_s), _subject(detail))
        for at_s, run, _, kind, detail in journal
        if kind == "run.end"
    ]


def _end_of(run: str, ends: Sequence[tuple[str, float, str]]) -> float | None:
    """Return when a run was over; a child's run ends at the latest with its parent's."""
    known = [at_s for name, at_s, _ in ends if run == name or run.startswith(f"{name}/")]
    return min(known, default=None)


def _lane(lane: _Lane, ends: Sequence[tuple[str, float, str]]) -> dict[str, Any]:
    end_s = _end_of(lane.run, ends)
    bars = []
    for bar in lane.bars:
        late = end_s is not None and (bar["end_s"] is None or bar["end_s"] > end_s)
        bars.append({**bar, "after_end": late})
    # What went wrong must not fall to the limit.
    kept = sorted(bars, key=lambda b: (b["what"] != "stage", not (b["after_end"] or b["bad"])))
    kept = kept[:LIMIT_BARS]
    # A deadline that a stage met explains nothing.
    told = [m for m in lane.marks if not m.get("due") or _reached(m["at_s"], bars)]
    marks = sorted(told, key=lambda m: (not m["proof"], m["what"] != "deadline", m["at_s"]))
    seen = [
        {k: v for k, v in m.items() if k != "due"}
        for i, m in enumerate(marks)
        if m not in marks[:i]
    ]
    return {
        "run": lane.run,
        "stage": lane.name,
        "end_s": None if end_s is None else round(end_s, 6),
        "bars": [b for b in bars if b in kept][:LIMIT_BARS],
        "marks": sorted(seen[:LIMIT_MARKS], key=lambda m: m["at_s"]),
        "left_out": len(bars) - len(kept) + max(0, len(seen) - LIMIT_MARKS),
    }


def _reached(due_s: float, bars: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a stage of the lane was still at work at its deadline."""
    stages = [b for b in bars if b["what"] == "stage" and b["begin_s"] <= due_s]
    return any(b["end_s"] is None or b["end_s"] >= round(due_s, 6) for b in stages)


def _worst(lanes: Sequence[_Lane], ends: Sequence[tuple[str, float, str]]) -> list[_Lane]:
    """Return at most so many lanes, in order: those with a proof, then with what went wrong."""

    def weight(lane: _Lane) -> tuple[bool, bool]:
        end_s = _end_of(lane.run, ends)
        wrong = any(
            b["bad"] or (end_s is not None and (b["end_s"] is None or b["end_s"] > end_s))
            for b in lane.bars
        )
        return (not any(m["proof"] for m in lane.marks), not wrong)

    chosen = sorted(range(len(lanes)), key=lambda i: (weight(lanes[i]), i))[:LIMIT_LANES]
    return [lanes[i] for i in sorted(chosen)]
