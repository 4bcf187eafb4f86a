"""A run to look at: its journal as lines of text, and as a trace for Perfetto or Chrome.

The trace is JSON in the Trace Event Format: complete events ("X") for what lasts, instant
events ("i") for what merely happens, counters ("C") for the engine's account of events, and
metadata ("M") that names the tracks. A run is a process, a stage a thread in it; times are
microseconds of the run's own clock. Slices of one thread must lie one within another, or a
viewer drops them, so what overlaps goes to a further track of the same stage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["journal_lines", "trace"]

Row = Sequence[Any]

# Opening kind -> (closing kinds, category). A slice is closed by what has the same subject.
SPANS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "run.begin": (("run.end",), "run"),
    "stage.start": (("stage.end",), "stage"),
    "acquire": (("release.end", "release.cut", "release.fail"), "resource"),
    "release.begin": (("release.end", "release.cut", "release.fail"), "cleanup"),
    "call.begin": (("call.end",), "call"),
    "scope.enter": (("scope.exit", "scope.expired", "scope.leak"), "timeout"),
    "thread.begin": (("thread.end",), "thread"),
    "spawn": (("spawn.end",), "task"),
    "sub.begin": (("sub.end",), "subpipeline"),
    "layer.enter": (("layer.exit",), "layer"),
    "undo.begin": (("undo.end", "undo.cut", "undo.fail"), "cleanup"),
    "deliver.begin": (("deliver.end", "deliver.cut", "deliver.fail"), "event"),
    "offer.begin": (("offer.end",), "event"),
}
# Kinds that are shown as instants -> category; the others are in the text only.
INSTANTS: Mapping[str, str] = {
    "cancel.sent": "cancel",
    "interrupt": "cancel",
    "self_cancel": "cancel",
    "swallowed": "cancel",
    "fault.fired": "fault",
    "net.felt": "fault",
    "flaky": "fault",
    "layer.raise": "fault",
    "layer.deny": "fault",
    "release.cut": "cleanup",
    "release.fail": "cleanup",
    "undo.cut": "cleanup",
    "undo.fail": "cleanup",
    "register": "cleanup",
    "scope.expired": "timeout",
    "scope.leak": "timeout",
    "chunk": "event",
    "emit": "event",
    "deliver.fail": "event",
    "consume.stop": "event",
    "trespass": "tenant",
}
# What belongs to the run as a whole is marked across all of its tracks.
WHOLE_RUN = ("cancel.sent",)
WIDTH = 16
DETAIL_MAX = 200


def journal_lines(journal: Iterable[Row], marked: Iterable[int] = ()) -> Iterator[str]:
    """Yield one line for each entry; those that prove a violation begin with an arrow."""
    proof = set(marked)
    for i, (at_s, run, stage, kind, detail) in enumerate(journal):
        arrow = "->" if i in proof else "  "
        said = "" if detail is None else f" {detail!r}"[:DETAIL_MAX]
        yield f"{arrow} {at_s:>10.4f}  {run:<4} {stage:<{WIDTH}} {kind:<14}{said}".rstrip()


@dataclass(slots=True)
class _Slice:
    name: str
    category: str
    begin_us: float
    end_us: float
    args: dict[str, Any]
    open: bool = True


@dataclass(slots=True)
class _Track:
    """What one stage of one run did."""

    slices: list[_Slice] = field(default_factory=list)
    instants: list[dict[str, Any]] = field(default_factory=list)
    waiting: dict[tuple[str, str], list[_Slice]] = field(default_factory=dict)


def trace(
    journal: Sequence[Row],
    *,
    violations: Iterable[Mapping[str, Any]] = (),
    leaks: Iterable[Sequence[str]] = (),
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a trace of a journal given as `[at_s, run, stage, kind, detail]` rows.

    Args:
        violations: with clause, shape, actual, and `at`: the entries that prove each.
        leaks: `[kind, what, stage, location]`, marked where the run is over.
        about: what run this is; kept as the trace's `otherData`.
    """
    tracks: dict[tuple[str, str], _Track] = {}
    counters: list[tuple[str, dict[str, Any]]] = []
    dropped: dict[str, float] = {}
    last_us = 0.0
    for at_s, run, stage, kind, detail in journal:
        at_us = round(float(at_s) * 1e6, 3)
        last_us = max(last_us, at_us)
        _take(tracks.setdefault((run, stage), _Track()), at_us, stage, (kind, detail))
        if kind == "account" and isinstance(detail, (list, tuple)):
            counter = _counter(at_us, detail)
            counters.append((run, counter))
            lost = counter["args"].get("dropped", 0)
            if lost > dropped.get(run, 0):
                name = f"events dropped: {lost - dropped.get(run, 0)}, by the engine's account"
                tracks[run, stage].instants.append(_instant(name, "event", at_us, {}))
            dropped[run] = lost
    for violation in violations:
        _mark(tracks, journal, violation, last_us)
    for kind, what, stage, location in leaks:
        run = next((r for r, s in tracks if s == stage), next(iter(tracks), ("", ""))[0])
        track = tracks.setdefault((run, stage), _Track())
        said = {"what": what, "location": location}
        track.instants.append(_instant(f"left behind: {kind}", "leak", last_us, said))
    return {
        "traceEvents": list(_events(tracks, counters, last_us)),
        "displayTimeUnit": "ms",
        "otherData": dict(about or {}),
    }


def _take(track: _Track, at_us: float, stage: str, entry: tuple[str, Any]) -> None:
    kind, detail = entry
    for opening, (closings, _) in SPANS.items():
        if kind in closings:
            waiting = track.waiting.get((opening, _subject(opening, detail)))
            if waiting:
                one = waiting.pop()
                one.end_us, one.open = at_us, False
                one.args["ended"] = f"{kind} {_short(detail)}".strip()
    if kind in SPANS:
        subject = _subject(kind, detail)
        name = stage or "run" if kind in ("stage.start", "run.begin") else f"{kind} {subject}"
        one = _Slice(name.strip(), SPANS[kind][1], at_us, at_us, {"detail": _short(detail)})
        track.slices.append(one)
        track.waiting.setdefault((kind, subject), []).append(one)
    if kind in INSTANTS:
        name = f"{kind} {_short(detail)}".strip()
        scope = "p" if kind in WHOLE_RUN else "t"
        track.instants.append(_instant(name, INSTANTS[kind], at_us, {}, scope))
    if kind == "offer.end" and isinstance(detail, (list, tuple)) and detail[-1] != "taken":
        name = f"event not taken {_short(detail)}"
        track.instants.append(_instant(name, "event", at_us, {"answer": str(detail[-1])}))


def _subject(kind: str, detail: Any) -> str:
    """Name what a slice is of, alike in its opening and its closing entry."""
    if kind in ("run.begin", "stage.start", "thread.begin"):
        return ""
    if isinstance(detail, (list, tuple)):
        two = kind in ("call.begin", "deliver.begin", "offer.begin")
        return " ".join(str(d) for d in detail[: 2 if two else 1])
    return "" if detail is None else str(detail)


def _short(detail: Any) -> str:
    if isinstance(detail, (list, tuple)):
        return ", ".join(str(d) for d in detail)[:DETAIL_MAX]
    return "" if detail is None else str(detail)[:DETAIL_MAX]


def _instant(
    name: str, category: str, at_us: float, args: Mapping[str, Any], scope: str = "t"
) -> dict[str, Any]:
    return {"name": name, "cat": category, "ph": "i", "ts": at_us, "s": scope, "args": dict(args)}


def _counter(at_us: float, detail: Sequence[Any]) -> dict[str, Any]:
    names = ("offered", "delivered", "dropped", "pending")
    counts = {n: v for n, v in zip(names, detail, strict=False) if isinstance(v, (int, float))}
    return {"name": "events", "cat": "event", "ph": "C", "ts": at_us, "args": counts}


def _mark(
    tracks: dict[tuple[str, str], _Track],
    journal: Sequence[Row],
    violation: Mapping[str, Any],
    last_us: float,
) -> None:
    """Put a violation where the last entry that proves it is, or at the end of the run."""
    proof = [journal[i] for i in violation.get("at", ()) if 0 <= i < len(journal)]
    run, stage = next(iter(tracks), ("", ""))[0], str(violation.get("stage", ""))
    at_us = last_us
    if proof:
        at_us, run = round(float(proof[-1][0]) * 1e6, 3), proof[-1][1]
        stage = stage or proof[-1][2]
    track = tracks.setdefault((run, stage), _Track())
    name = f"{violation['clause']} violated: {violation.get('shape', '')}".rstrip(": ")
    said = {k: violation[k] for k in ("expected", "actual", "location") if violation.get(k)}
    track.instants.append(_instant(name, "violation", at_us, said, "p"))


def _events(
    tracks: Mapping[tuple[str, str], _Track],
    counters: Sequence[tuple[str, dict[str, Any]]],
    last_us: float,
) -> Iterator[dict[str, Any]]:
    runs = {run: i for i, run in enumerate(dict.fromkeys(run for run, _ in tracks), 1)}
    for run, pid in runs.items():
        yield _name("process_name", pid, 0, f"run {run}".strip())
        yield _order("process_sort_index", pid, 0, pid)
    tid = 0
    for (run, stage), track in sorted(tracks.items(), key=lambda item: runs[item[0][0]]):
        pid = runs[run]
        for one in track.slices:
            if one.open:
                one.end_us = last_us
                one.args["ended"] = "never"
        for number, lane in enumerate(_lanes(track.slices) or [[]]):
            tid += 1
            label = stage or "the run itself"
            yield _name("thread_name", pid, tid, f"{label} ({number + 1})" if number else label)
            yield _order("thread_sort_index", pid, tid, tid)
            for one in lane:
                yield {
                    "name": one.name,
                    "cat": one.category,
                    "ph": "X",
                    "ts": one.begin_us,
                    "dur": round(one.end_us - one.begin_us, 3),
                    "pid": pid,
                    "tid": tid,
                    "args": one.args,
                }
            if number == 0:
                yield from ({**one, "pid": pid, "tid": tid} for one in track.instants)
    for run, counter in counters:
        yield {**counter, "pid": runs[run], "tid": 0}


def _lanes(slices: Sequence[_Slice]) -> list[list[_Slice]]:
    """Spread slices over as few tracks as keep those of each one within another or apart."""
    lanes: list[list[_Slice]] = []
    ends: list[list[float]] = []
    for one in sorted(slices, key=lambda s: (s.begin_us, -s.end_us)):
        for lane, stack in zip(lanes, ends, strict=True):
            while stack and stack[-1] <= one.begin_us:
                stack.pop()
            if not stack or one.end_us <= stack[-1]:
                lane.append(one)
                stack.append(one.end_us)
                break
        else:
            lanes.append([one])
            ends.append([one.end_us])
    return lanes


def _name(kind: str, pid: int, tid: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {"name": name}}


def _order(kind: str, pid: int, tid: int, index: int) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "ts": 0, "pid": pid, "tid": tid, "args": {"sort_index": index}}
