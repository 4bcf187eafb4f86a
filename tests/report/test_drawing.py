"""Where things stand in a timeline: order within one tick, and runs beside one another."""

from __future__ import annotations

from typing import Any

from harness.findings.picture import picture
from harness.report.drawing import LEFT, RIGHT, axis_of, timeline_shapes

Row = list[Any]


def shapes(journal: list[Row], *at: int) -> dict[str, Any]:
    out = picture(journal, None, None, at)
    assert out is not None
    return timeline_shapes(out)


ONE_TICK: list[Row] = [
    [0.0, "r0", "load", "stage.start", None],
    [0.0, "r0", "load", "stage.end", "raise:ValueError"],
    [0.0, "r0", "reply", "stage.start", None],
    [0.0, "r0", "reply", "stage.end", "ok"],
    [0.0, "r0", "", "run.end", "returned"],
]


def test_what_happens_in_one_tick_is_drawn_in_its_order_and_the_column_is_marked() -> None:
    drawn = shapes(ONE_TICK, 2)
    (load,), (reply,) = (lane["bars"] for lane in drawn["lanes"])
    assert LEFT == load["x"] < load["x"] + load["width"] < reply["x"]
    assert reply["x"] + reply["width"] < drawn["over"]["x"] < RIGHT
    assert [i["x"] for i in drawn["instants"]] == [LEFT]
    assert drawn["ticks"] == [{"x": LEFT, "words": "0 ms"}]


def test_a_picture_without_order_puts_what_is_of_one_tick_in_one_place() -> None:
    out = picture(ONE_TICK, None, None)
    assert out is not None
    for lane in out["lanes"]:
        for bar in lane["bars"]:
            del bar["begin_order"], bar["end_order"]
    for run in out["runs"]:
        del run["order"]
    assert {x for _, x in axis_of(out).places} == {LEFT}
    assert not timeline_shapes(out)["instants"]


def test_time_that_passes_keeps_its_proportions() -> None:
    axis = axis_of(
        {
            "last_s": 3.0,
            "runs": [{"run": "r0", "end_s": 3.0, "how": "ok"}],
            "lanes": [{"bars": [{"begin_s": 0.0, "end_s": 1.0}], "marks": []}],
        }
    )
    begin, middle, end = (axis.x(at_s, 0) for at_s in (0.0, 1.0, 3.0))
    assert abs((end - middle) - 2 * (middle - begin)) < 0.2  # places are rounded to tenths
    assert axis.x(99.0, 0) == RIGHT


def test_each_of_several_runs_has_its_name_its_end_and_its_afterwards() -> None:
    journal: list[Row] = [
        [0.0, "r0", "load", "stage.start", None],
        [0.0, "r1", "load", "stage.start", None],
        [0.1, "r1", "", "run.end", "CancelledError"],
        [0.3, "r0", "load", "stage.end", "ok"],
        [0.3, "r0", "", "run.end", "returned"],
    ]
    drawn = shapes(journal)
    assert [lane["label"] for lane in drawn["lanes"]] == ["r0 load", "r1 load"]
    late, early = (lane["end_x"] for lane in drawn["lanes"])
    assert early < late
    assert [g["words"] for g in drawn["legend"]] == [
        "100 ms run r1 over: CancelledError",
        "300 ms run r0 over: returned",
    ]
    assert drawn["over"]["words"] == ""


def test_a_label_that_leaves_its_bar_is_told_from_one_inside() -> None:
    bars = [bar for lane in shapes(ONE_TICK)["lanes"] for bar in lane["bars"]]
    assert [bar["inside"] for bar in bars] == [False, True]
