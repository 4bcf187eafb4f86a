"""From a picture's data to shapes: where each bar, mark and line of a timeline stands.

Templates print shapes and reckon nothing. Time runs from left to right, and what happened in
one tick is spread in order of happening, for that order is what many findings are about.
Coordinates are rounded to tenths, so that the same data gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.report.escape import shown

__all__ = ["WIDTH", "timeline_shapes"]

Row = Mapping[str, Any]

WIDTH = 720
LEFT = 150
RIGHT = WIDTH - 10
ROW = 15
LANE_GAP = 8
TOP = 22
LETTER = 5.4  # a letter's width at the pictures' size of type
LABEL_MAX = 24
LIMIT_LEGEND = 18
LIMIT_ENDS = 12
NUMBERS = 10  # the row of the marks' numbers
AFTER = 60  # what comes after the last moment
TICK_APART = 58
# Of the width, at most so much for telling apart what happened in one tick; in pixels each.
TICKS_SHARE = 0.5
STEP_MAX, STEP_ALONE, INSTANT_MIN = 16.0, 90.0, 4.0

_WORDS = {
    "stage": "runs",
    "resource": "holds",
    "cleanup": "cleanup",
    "call": "calls",
    "thread": "thread",
    "task": "task",
    "child": "subpipeline",
    "layer": "layer",
    "delivery": "delivers",
}


def timeline_shapes(picture: Row) -> dict[str, Any]:
    """Return the shapes of one timeline: lanes, bars, marks, run ends, legend, and its text."""
    axis = axis_of(picture)
    roots = {lane["run"].partition("/")[0] for lane in picture["lanes"]} - {""}
    several = len(roots) > 1
    lanes: list[dict[str, Any]] = []
    legend = _legend(picture, several)
    numbers = {one["words"]: number for number, one in enumerate(legend, 1)}
    y = TOP
    for lane in picture["lanes"]:
        bars = [_bar(bar, axis) for bar in lane["bars"]]
        rows = _packed(bars, y + LANE_GAP // 2)
        marks = [
            {"x": axis.x(mark["at_s"], mark.get("order", 0)), "what": _what(mark), "number": number}
            for mark in lane["marks"]
            if (number := numbers.get(_words(lane, mark, several)))
        ]
        # The numbers of marks have a row of their own, so that no bar's label hides them.
        height = rows * ROW + LANE_GAP + (NUMBERS if marks else 0)
        end = _end_of(lane, picture, axis)
        lanes.append(
            {
                "y": y,
                "height": height,
                "label_y": y + 14,
                "number_y": y + height - 2,
                "label": shown(_name(lane, several), LABEL_MAX),
                "bars": bars,
                "marks": _apart(marks),
                "end_x": end,
                "after_width": None if end is None else round(RIGHT - end, 1),
            }
        )
        y += height
    over = [] if len(picture["runs"]) == 1 else picture["runs"][:LIMIT_ENDS]
    told = [
        *({"number": number, **one} for number, one in enumerate(legend, 1)),
        *({"number": "", "what": "over", "words": _over(run)} for run in over),
    ]
    alone = picture["runs"][0] if len(picture["runs"]) == 1 else None
    alone_x = axis.x(alone["end_s"], alone.get("order", 0)) if alone else LEFT
    return {
        "width": WIDTH,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": y,
        "plot_height": y - TOP,
        "ticks_y": y + 12,
        "over_y": TOP - 4,
        "height": y + 24 + 13 * (len(told) + bool(axis.instants)),
        "foot_y": y + 21 + 13 * (len(told) + bool(axis.instants)),
        "lanes": lanes,
        "over": {
            "x": alone_x,
            "anchor": "end" if alone_x > WIDTH / 2 else "start",
            "words": shown(f"run {alone['run']} over: {alone['how']}", 60) if alone else "",
        },
        "instants": axis.instants,
        "instants_y": y + 26 + 13 * len(told),
        "ticks": _ticks(axis),
        "legend": [
            {"y": y + 26 + 13 * i, "mark_y": y + 17 + 13 * i, **one} for i, one in enumerate(told)
        ],
        "text": _text(picture, several),
    }


@dataclass(frozen=True, slots=True)
class Axis:
    """Where each moment stands; what happened in one tick is spread in order of happening.

    Attributes:
        places: (seconds, order) and the x of it, both rising.
        instants: ticks that are wide enough to be seen: x, width.
    """

    places: tuple[tuple[tuple[float, int], float], ...]
    instants: tuple[dict[str, Any], ...]

    def x(self, at_s: float, order: int) -> float:
        """Return the x of a moment that the picture shows, else the place next to it."""
        for when, x in self.places:
            if when >= (at_s, order):
                return x
        return float(RIGHT)


def axis_of(picture: Row) -> Axis:
    """Return the axis of a picture; its last part is what comes after all is over."""
    last_s = max([picture["last_s"], *(run["end_s"] for run in picture["runs"])])
    moments = {(run["end_s"], run.get("order", 0)) for run in picture["runs"]}
    for lane in picture["lanes"]:
        for bar in lane["bars"]:
            moments.add((bar["begin_s"], bar.get("begin_order", 0)))
            if bar["end_s"] is not None:
                moments.add((bar["end_s"], bar.get("end_order", 0)))
        # A deadline far behind the end is put at the edge.
        near = [m for m in lane["marks"] if m["at_s"] <= last_s * 1.5]
        moments |= {(m["at_s"], m.get("order", 0)) for m in near}
    whens = sorted(moments)
    wide = RIGHT - LEFT - AFTER
    steps = sum(a[0] == b[0] for a, b in pairwise(whens))
    span_s = whens[-1][0] - whens[0][0] if whens else 0.0
    share = 1.0 if not span_s else TICKS_SHARE
    step = min(STEP_MAX if span_s else STEP_ALONE, wide * share / steps) if steps else 0.0
    scale = (wide - step * steps) / span_s if span_s else 0.0
    x, places = float(LEFT), []
    for i, when in enumerate(whens):
        if i:
            same = when[0] == whens[i - 1][0]
            x += step if same else (when[0] - whens[i - 1][0]) * scale
        places.append((when, round(x, 1)))
    spread: dict[float, list[float]] = {}
    for (at_s, _), at_x in places:
        spread.setdefault(at_s, []).append(at_x)
    instants = tuple(
        {"x": xs[0], "width": round(xs[-1] - xs[0], 1)}
        for xs in spread.values()
        if xs[-1] - xs[0] >= INSTANT_MIN
    )
    return Axis(tuple(places), instants)


def _end_of(lane: Row, picture: Row, axis: Axis) -> float | None:
    """Return where the run of a lane was over; what all runs share is over with the last."""
    ends = [
        axis.x(run["end_s"], run.get("order", 0))
        for run in picture["runs"]
        if not lane["run"] or lane["run"] == run["run"] or lane["run"].startswith(f"{run['run']}/")
    ]
    if not ends:
        return None
    return min(ends) if lane["run"] else max(ends)


def _over(run: Row) -> str:
    return shown(f"{_ms(run['end_s'])}  run {run['run']} over: {run['how']}", 110)


def _name(lane: Row, several: bool) -> str:
    if not lane["stage"]:
        return f"run {lane['run']}" if lane["run"] else "shared by all runs"
    if several:
        return f"{lane['run']} {lane['stage']}"
    child = lane["run"].partition("/")[2]
    return f"{child}: {lane['stage']}" if child else str(lane["stage"])


def _bar(bar: Row, axis: Axis) -> dict[str, Any]:
    begin = axis.x(bar["begin_s"], bar.get("begin_order", 0))
    end = RIGHT if bar["end_s"] is None else axis.x(bar["end_s"], bar.get("end_order", 0))
    words = f"{_WORDS.get(bar['what'], bar['what'])} {bar['name']}".strip()
    if bar["after_end"]:
        words += ", still at work when the run was over"
    elif bar["end_s"] is None:
        words += ", never ended"
    elif bar["how"]:
        words += f", {bar['how']}"
    label = shown(words, 70)
    fits = begin + 3 + len(label) * LETTER <= RIGHT
    state = (
        "orphan" if bar["after_end"] else "bad" if bar["bad"] or bar["end_s"] is None else "good"
    )
    return {
        "x": begin,
        "y": 0,
        "width": round(max(1.5, end - begin), 1),
        "what": bar["what"],
        "state": state,
        "label": label,
        "label_x": begin + 3 if fits else RIGHT,
        "anchor": "start" if fits else "end",
        "label_y": 0,
        # A label that leaves its bar lies over what is behind it.
        "inside": fits and begin + 3 + len(label) * LETTER <= end,
    }


def _packed(bars: Sequence[dict[str, Any]], top: int) -> int:
    """Give every bar the first row in which it and its label are alone; return the rows."""
    taken: list[float] = []
    for bar in bars:
        begin = bar["x"]
        end = max(begin + bar["width"], begin + 3 + len(bar["label"]) * LETTER)
        if bar["anchor"] == "end":
            begin, end = min(begin, RIGHT - len(bar["label"]) * LETTER), RIGHT
        row = next((i for i, busy in enumerate(taken) if busy + 4 <= begin), len(taken))
        taken[row:] = [end] if row == len(taken) else [end, *taken[row + 1 :]]
        bar["y"] = top + row * ROW
        bar["label_y"] = bar["y"] + 9
    return max(1, len(taken))


def _legend(picture: Row, several: bool) -> list[dict[str, Any]]:
    """Return what the numbers of marks mean, in order of happening."""
    told = [
        ((mark["at_s"], mark.get("order", 0)), lane, mark)
        for lane in picture["lanes"]
        for mark in lane["marks"]
    ]
    legend: dict[str, dict[str, Any]] = {}
    for _, lane, mark in sorted(told, key=lambda one: one[0]):
        words = _words(lane, mark, several)
        if len(legend) < LIMIT_LEGEND:
            legend.setdefault(words, {"what": _what(mark), "words": words})
    return list(legend.values())


def _what(mark: Row) -> str:
    return f"{mark['what']} proof" if mark["proof"] else str(mark["what"])


def _words(lane: Row, mark: Row, several: bool) -> str:
    where = f"{_name(lane, several)}: " if lane["stage"] or (several and lane["run"]) else ""
    proof = " (proof)" if mark["proof"] else ""
    return shown(f"{_ms(mark['at_s'])}  {where}{mark['words']}{proof}", 110)


def _apart(marks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the numbers of marks that stand close together one beside the other."""
    placed: list[dict[str, Any]] = []
    free = 0.0
    for mark in marks:
        number_x = max(mark["x"] + 2, free)
        free = number_x + 7 * len(str(mark["number"])) + 2
        placed.append({**mark, "number_x": round(number_x, 1)})
    return placed


def _ticks(axis: Axis) -> list[dict[str, Any]]:
    """Return the times at which something happened, as many as can be read side by side."""
    first: dict[float, float] = {}
    for (at_s, _), x in axis.places:
        first.setdefault(at_s, x)
    wide = {one["x"] for one in axis.instants}
    # Those in which much happened come first, then the ends, then the others.
    times = list(first)
    order = sorted(times, key=lambda t: (first[t] not in wide, t not in (times[0], times[-1]), t))
    chosen: list[float] = []
    for at_s in order:
        if all(abs(first[at_s] - first[other]) >= TICK_APART for other in chosen):
            chosen.append(at_s)
    return [{"x": first[at_s], "words": _ms(at_s)} for at_s in sorted(chosen)]


def _ms(at_s: float) -> str:
    """Return a time in milliseconds, or in seconds from ten of them on."""
    if at_s >= 10:
        return f"{round(at_s, 3):g} s"
    return f"{round(at_s * 1000, 3):g} ms"


def _text(picture: Row, several: bool) -> str:
    """Say the picture in words, for who cannot see it."""
    sentences = []
    for lane in picture["lanes"]:
        said = []
        for bar in lane["bars"]:
            ended = "never ends" if bar["end_s"] is None else f"ends at {_ms(bar['end_s'])}"
            late = " after the run is over" if bar["after_end"] and bar["end_s"] else ""
            said.append(
                f"{_WORDS.get(bar['what'], bar['what'])} {bar['name']}".strip()
                + f" from {_ms(bar['begin_s'])}, {ended}{late}"
            )
        said += [f"{mark['words']} at {_ms(mark['at_s'])}" for mark in lane["marks"]]
        sentences.append(f"{_name(lane, several)}: {'; '.join(said)}.")
    sentences += [
        f"Run {run['run']} is over at {_ms(run['end_s'])}: {run['how']}." for run in picture["runs"]
    ]
    return shown(" ".join(sentences), 900)
