"""From a picture's data to shapes: where each bar, mark and line of a timeline stands.

Templates print shapes and reckon nothing. Coordinates are rounded to tenths, so that the same
data gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    span_s = _span(picture)

    def x(at_s: float) -> float:
        return round(LEFT + min(at_s, span_s) / span_s * (RIGHT - LEFT), 1)

    lanes: list[dict[str, Any]] = []
    legend = _legend(picture)
    numbers = {one["words"]: number for number, one in enumerate(legend, 1)}
    y = TOP
    for lane in picture["lanes"]:
        bars = [_bar(bar, x) for bar in lane["bars"]]
        rows = _packed(bars, y + LANE_GAP // 2)
        marks = [
            {"x": x(mark["at_s"]), "what": _what(mark), "number": numbers[words]}
            for mark in lane["marks"]
            if (words := _words(lane, mark)) in numbers
        ]
        height = rows * ROW + LANE_GAP
        lanes.append(
            {
                "y": y,
                "height": height,
                "label_y": y + 14,
                "number_y": y + height - 2,
                "label": shown(_name(lane), LABEL_MAX),
                "bars": bars,
                "marks": _apart(marks),
            }
        )
        y += height
    ends: list[dict[str, Any]] = [
        {
            "x": x(run["end_s"]),
            "anchor": "end" if x(run["end_s"]) > WIDTH / 2 else "start",
            "words": shown(f"run {run['run']} over: {run['how']}", 60),
        }
        for run in picture["runs"][:LIMIT_ENDS]
    ]
    after_x = max((e["x"] for e in ends), default=None)
    return {
        "width": WIDTH,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": y,
        "plot_height": y - TOP,
        "ticks_y": y + 12,
        "over_y": TOP - 4,
        "height": y + 24 + 13 * len(legend),
        "foot_y": y + 21 + 13 * len(legend),
        "lanes": lanes,
        # The ends of several runs would be written one over the other.
        "ends": [{**e, "words": e["words"] if len(ends) == 1 else ""} for e in ends],
        "after_x": after_x,
        "after_width": None if after_x is None else round(RIGHT - after_x, 1),
        "ticks": _ticks(span_s, x),
        "legend": [
            {"y": y + 26 + 13 * i, "mark_y": y + 17 + 13 * i, "number": i + 1, **one}
            for i, one in enumerate(legend)
        ],
        "text": _text(picture),
    }


def _name(lane: Row) -> str:
    if lane["stage"]:
        return str(lane["stage"])
    return f"run {lane['run']}" if lane["run"] else "shared by all runs"


def _span(picture: Row) -> float:
    """Return how many seconds the picture shows; a far deadline is put at its edge."""
    last = max([picture["last_s"], *(run["end_s"] for run in picture["runs"])])
    dues = [
        m["at_s"] for lane in picture["lanes"] for m in lane["marks"] if m["at_s"] <= last * 1.5
    ]
    return float(max([last, *dues])) * 1.12 or 1.0


def _bar(bar: Row, x: Any) -> dict[str, Any]:
    begin = x(bar["begin_s"])
    end = RIGHT if bar["end_s"] is None else x(bar["end_s"])
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


def _legend(picture: Row) -> list[dict[str, Any]]:
    """Return what the numbers of marks mean, in order of happening."""
    told = [(mark["at_s"], lane, mark) for lane in picture["lanes"] for mark in lane["marks"]]
    legend: dict[str, dict[str, Any]] = {}
    for _, lane, mark in sorted(told, key=lambda one: one[0]):
        words = _words(lane, mark)
        if len(legend) < LIMIT_LEGEND:
            legend.setdefault(words, {"what": _what(mark), "words": words})
    return list(legend.values())


def _what(mark: Row) -> str:
    return f"{mark['what']} proof" if mark["proof"] else str(mark["what"])


def _words(lane: Row, mark: Row) -> str:
    where = f"{lane['stage']}: " if lane["stage"] else ""
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


def _ticks(span_s: float, x: Any) -> list[dict[str, Any]]:
    step = next(
        (
            base * 10**power
            for power in range(-6, 7)
            for base in (1, 2, 5)
            if span_s / (base * 10**power) <= 6
        ),
        span_s,
    )
    count = int(span_s / step)
    return [{"x": x(i * step), "words": _ms(i * step)} for i in range(count + 1)]


def _ms(at_s: float) -> str:
    """Return a time in milliseconds, or in seconds from ten of them on."""
    if at_s >= 10:
        return f"{round(at_s, 3):g} s"
    return f"{round(at_s * 1000, 3):g} ms"


def _text(picture: Row) -> str:
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
        sentences.append(f"{_name(lane)}: {'; '.join(said)}.")
    sentences += [
        f"Run {run['run']} is over at {_ms(run['end_s'])}: {run['how']}." for run in picture["runs"]
    ]
    return shown(" ".join(sentences), 900)
