"""A run's journal as a picture's data: lanes of stages, their bars, and what happened when.

The picture answers at one look what a finding says: which stage held what until when, where its
deadline was, what was done to it, and what was still at work when the run was over. Times are
seconds of the run's own clock; `order` tells entries of one moment apart, in the order of their
happening, because many a defect is all in one tick. Everything is bounded, and what is left out
is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.findings.steps import arguments, limit_of, steps_of, walk

__all__ = ["LIMIT_BARS", "LIMIT_LANES", "LIMIT_MARKS", "picture"]

LIMIT_LANES = 10
LIMIT_BARS = 8  # in one lane
LIMIT_MARKS = 10  # in one lane
LIMIT_NAME = 60

Row = Sequence[Any]
_End = tuple[str, "_When", str]  # a run, when it was over, how

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
    "deliver.begin": (("deliver.end", "deliver.cut", "deliver.fail"), "delivery"),
}
# Kind of entry -> (kind of mark, words before the detail).
_MARKS: Mapping[str, tuple[str, str]] = {
    "cancel.sent": ("cancel", "caller cancels"),
    "interrupt": ("cancel", "cancellation arrives"),
    "self_cancel": ("cancel", "cancels itself"),
    "swallowed": ("cancel", "cancellation swallowed"),
    "fault.fired": ("fault", "fault fires:"),
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
# What the other kinds of entry are called where they prove a violation.
_PROOFS: Mapping[str, str] = {
    "run.begin": "run begins",
    "run.end": "run over:",
    "stage.start": "starts",
    "stage.end": "ends:",
    "returned": "returns",
    "acquire": "takes",
    "release.begin": "cleanup begins:",
    "release.end": "cleanup ends:",
    "chunk": "hands on",
    "item": "keeps",
    "register": "registers cleanup",
    "emit": "emits",
    "read": "reads output of",
    "call.begin": "calls",
    "call.end": "call ends:",
    "scope.enter": "own timeout begins:",
    "scope.exit": "own timeout left:",
    "spawn": "starts task",
    "spawn.end": "task ends:",
    "thread.begin": "thread begins",
    "thread.end": "thread ends",
    "sub.begin": "subpipeline begins:",
    "sub.end": "subpipeline ends:",
    "context": "looks at its context",
    "input": "is given",
    "identity": "by the engine's word:",
    "log": "logs",
    "offer.begin": "offers event",
    "offer.end": "event offered:",
    "account": "account (offered, delivered):",
    "deliver.begin": "delivery begins:",
    "deliver.end": "delivery ends:",
    "consume": "is consumed",
    "consume.stop": "consumer stops after",
    "layer.enter": "enters layer",
    "layer.exit": "leaves layer",
    "store": "stores",
    "compensate": "declares compensation",
    "undo.begin": "compensation begins:",
    "undo.end": "compensation ends:",
    "mutated": "changes",
}
# More deliveries in one lane than this are drawn as one bar.
DELIVERIES_APART = 3
_GOOD_ENDS = ("ok", "skip", "cancel_run", "cancel_branch")
_CUT = (
    *("release.cut", "release.fail", "undo.cut", "undo.fail"),
    *("deliver.cut", "deliver.fail"),
)


class _When(NamedTuple):
    """When an entry was made, and its place among all entries."""

    at_s: float
    order: int


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
    for order, (at_s, run, stage, kind, detail) in enumerate(journal):
        lane = lanes.setdefault((run, stage), _Lane(str(run), str(stage)))
        when = _When(float(at_s), order)
        _take(lane, when, kind, detail)
        if kind == "stage.start" and isinstance(limits.get(stage), (int, float)):
            # A deadline comes before what it brings about in the same tick.
            due = _When(float(at_s) + float(limits[stage]), -1)
            _mark(lane, due, "deadline", f"deadline, {limits[stage]} s after its start")
            lane.marks[-1]["due"] = True
        if kind == "account" and isinstance(detail, (list, tuple)) and len(detail) > 2:
            lost = detail[2] if isinstance(detail[2], int) else 0
            if lost > dropped.get(run, 0):
                _mark(lane, when, "dropped", f"events dropped so far: {lost}")
                dropped[run] = lost
    for i in at:
        if 0 <= i < len(journal):
            at_s, run, stage, kind, detail = journal[i]
            _prove(lanes[run, stage], _When(float(at_s), i), kind, detail)
    ends = _ends(journal)
    if ends and (plan or {}).get("sink") and (lost := _never_delivered(journal)):
        lane = lanes.setdefault(("", ""), _Lane("", ""))
        last = max(ends, key=lambda e: (e[1].at_s, e[1].order))[1]
        _mark(lane, last, "dropped", f"events taken that never came to the sink: {lost}")
    drawn = [lane for lane in lanes.values() if lane.bars or lane.marks]
    if not any(lane.bars for lane in drawn):
        return None
    last_s = max(float(row[0]) for row in journal)
    shown = _worst(drawn, ends)
    return {
        "last_s": round(last_s, 6),
        "runs": [
            {"run": run, "end_s": round(at.at_s, 6), "how": how, "order": at.order}
            for run, at, how in ends
        ],
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


def _never_delivered(journal: Sequence[Row]) -> int:
    """Count the events that the engine took and that had not come to the sink in the end."""
    taken, came = set(), set()
    for _, _, _, kind, detail in journal:
        if kind == "offer.end" and isinstance(detail, (list, tuple)) and detail[-1] == "taken":
            taken.add(tuple(detail[:2]))
        elif kind == "deliver.begin" and isinstance(detail, (list, tuple)):
            came.add(tuple(detail[:2]))
    return len(taken - came)


def _take(lane: _Lane, when: _When, kind: str, detail: Any) -> None:
    subject = _subject(detail)
    for opening, (closings, _) in _SPANS.items():
        key = (opening, "" if opening in ("stage.start", "thread.begin") else subject)
        if kind in closings and lane.waiting.get(key):
            bar = lane.waiting[key].pop(0)
            bar["end_s"] = round(when.at_s, 6)
            bar["end_order"] = when.order
            bar["how"] = _how(kind, detail)
            bar["bad"] = kind in _CUT or (kind == "stage.end" and str(detail) not in _GOOD_ENDS)
    if kind in _SPANS:
        what = _SPANS[kind][1]
        name = "" if kind in ("stage.start", "thread.begin") else subject
        bar = {"what": what, "name": name, "begin_s": round(when.at_s, 6), "end_s": None, "how": ""}
        lane.bars.append({**bar, "bad": False, "begin_order": when.order, "end_order": None})
        lane.waiting.setdefault((kind, name), []).append(lane.bars[-1])
    if kind in _MARKS:
        _mark(lane, when, _MARKS[kind][0], _said(kind, detail))
    if kind == "offer.end" and isinstance(detail, (list, tuple)) and detail[-1] != "taken":
        _mark(lane, when, "dropped", f"event {subject} not taken: {detail[-1]}")


def _mark(lane: _Lane, when: _When, what: str, words: str) -> None:
    mark = {"what": what, "at_s": round(when.at_s, 6), "words": words[:LIMIT_NAME]}
    lane.marks.append({**mark, "proof": False, "order": when.order})


def _prove(lane: _Lane, when: _When, kind: str, detail: Any) -> None:
    """Mark an entry as one that proves the violation, on its own mark if it has one."""
    said = _said(kind, detail)[:LIMIT_NAME]
    for mark in lane.marks:
        if mark["words"] == said and mark["at_s"] == round(when.at_s, 6):
            mark["proof"] = True
            return
    _mark(lane, when, _MARKS[kind][0] if kind in _MARKS else "proof", said)
    lane.marks[-1]["proof"] = True


def _said(kind: str, detail: Any) -> str:
    """Say an entry in plain words."""
    if kind == "cancel.sent" and isinstance(detail, (list, tuple)) and len(detail) > 1:
        number, accepted = detail[:2]
        which = f" (no. {number + 1})" if isinstance(number, int) and number else ""
        return f"{_MARKS[kind][1]}{which}{'' if accepted else ', too late'}"
    words = _MARKS[kind][1] if kind in _MARKS else _PROOFS.get(kind, kind)
    if kind in ("context", "thread.begin", "thread.end", "item"):
        return words
    return f"{words} {_subject(detail)}".strip()


def _subject(detail: Any) -> str:
    if isinstance(detail, (list, tuple)):
        return " ".join(_word(d) for d in detail[:2] if not isinstance(d, bool))[:LIMIT_NAME]
    return "" if detail is None else _word(detail)[:LIMIT_NAME]


def _word(detail: Any) -> str:
    if isinstance(detail, Mapping):
        return ", ".join(f"{key} {value}" for key, value in detail.items())
    return str(detail)


def _how(kind: str, detail: Any) -> str:
    if kind == "stage.end":
        return str(detail)[:LIMIT_NAME]
    if isinstance(detail, (list, tuple)) and len(detail) > 1:
        return str(detail[-1])[:LIMIT_NAME]
    return {"cut": "cut short", "fail": "failed"}.get(kind.rsplit(".", maxsplit=1)[-1], "ended")


def _ends(journal: Sequence[Row]) -> list[_End]:
    return [
        (str(run), _When(float(at_s), order), _subject(detail))
        for order, (at_s, run, _, kind, detail) in enumerate(journal)
        if kind == "run.end"
    ]


def _end_of(run: str, ends: Sequence[_End]) -> float | None:
    """Return when a run was over; a child's run ends at the latest with its parent's."""
    known = [at.at_s for name, at, _ in ends if run == name or run.startswith(f"{name}/")]
    return min(known, default=None)


def _together(bars: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Draw many deliveries of one sink as one bar; those that failed have marks of their own."""
    many = [b for b in bars if b["what"] == "delivery"]
    if len(many) <= DELIVERIES_APART:
        return list(bars)
    ended = [b for b in many if b["end_s"] is not None]
    last = max(ended, key=lambda b: b["end_order"]) if len(ended) == len(many) else None
    one = {
        **many[0],
        "name": f"{len(many)} events",
        "end_s": last and last["end_s"],
        "end_order": last and last["end_order"],
        "how": "",
        "bad": any(b["bad"] for b in many),
    }
    return [one if b is many[0] else b for b in bars if b is many[0] or b["what"] != "delivery"]


def _lane(lane: _Lane, ends: Sequence[_End]) -> dict[str, Any]:
    end_s = _end_of(lane.run, ends)
    bars = []
    for bar in _together(lane.bars):
        late = end_s is not None and (bar["end_s"] is None or bar["end_s"] > end_s)
        bars.append({**bar, "after_end": late})
    # What went wrong must not fall to the limit.
    kept = sorted(bars, key=lambda b: (b["what"] != "stage", not (b["after_end"] or b["bad"])))
    kept = kept[:LIMIT_BARS]
    # A deadline that a stage met explains nothing.
    told = [m for m in lane.marks if not m.get("due") or _reached(m["at_s"], bars)]
    marks = sorted(told, key=lambda m: (not m["proof"], m["what"] != "deadline", m["at_s"]))
    # What happened twice in one tick is told once.
    once: dict[tuple[Any, ...], dict[str, Any]] = {}
    for mark in marks:
        once.setdefault((mark["what"], mark["at_s"], mark["words"]), mark)
    seen = [{k: v for k, v in m.items() if k != "due"} for m in once.values()]
    return {
        "run": lane.run,
        "stage": lane.name,
        "end_s": None if end_s is None else round(end_s, 6),
        "bars": [b for b in bars if b in kept][:LIMIT_BARS],
        "marks": sorted(seen[:LIMIT_MARKS], key=lambda m: (m["at_s"], m["order"])),
        "left_out": len(bars) - len(kept) + max(0, len(seen) - LIMIT_MARKS),
    }


def _reached(due_s: float, bars: Sequence[Mapping[str, Any]]) -> bool:
    """Say whether a stage of the lane was still at work at its deadline."""
    stages = [b for b in bars if b["what"] == "stage" and b["begin_s"] <= due_s]
    return any(b["end_s"] is None or b["end_s"] >= round(due_s, 6) for b in stages)


def _worst(lanes: Sequence[_Lane], ends: Sequence[_End]) -> list[_Lane]:
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
