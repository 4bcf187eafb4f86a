"""Pictures of runs: what a finding's timeline must show, and that it stays small."""

from __future__ import annotations

from typing import Any

from harness.findings.picture import LIMIT_BARS, LIMIT_LANES, LIMIT_MARKS, picture

Row = list[Any]
STAGE = {"name": "slow", "steps": [{"op": "sleep", "seconds": 9}]}
PROGRAM = {"name": "p", "stages": [STAGE]}


def drawn(journal: list[Row], *at: int, program: Any = PROGRAM, **plan: Any) -> dict[str, Any]:
    out = picture(journal, program, plan, at)
    assert out is not None
    return out


def lane(out: dict[str, Any], stage: str) -> dict[str, Any]:
    (found,) = [one for one in out["lanes"] if one["stage"] == stage]
    return dict(found)


def marks(out: dict[str, Any], stage: str) -> list[tuple[str, float, str]]:
    return [(m["what"], m["at_s"], m["words"]) for m in lane(out, stage)["marks"]]


def test_a_stage_that_outlives_its_run_is_an_orphan() -> None:
    out = drawn(
        [
            [0.0, "r0", "", "run.begin", None],
            [0.0, "r0", "slow", "stage.start", None],
            [0.0, "r0", "quick", "stage.start", None],
            [0.1, "r0", "quick", "stage.end", "ok"],
            [0.5, "r0", "", "cancel.sent", [0, True]],
            [0.5, "r0", "", "run.end", "CancelledError"],
            [0.9, "r0", "slow", "stage.end", "ok"],
        ]
    )
    assert out["runs"] == [{"run": "r0", "end_s": 0.5, "how": "CancelledError", "order": 5}]
    assert lane(out, "slow")["bars"] == [
        {
            "what": "stage",
            "name": "",
            "begin_s": 0.0,
            "end_s": 0.9,
            "how": "ok",
            "bad": False,
            "begin_order": 1,
            "end_order": 6,
            "after_end": True,
        }
    ]
    assert lane(out, "quick")["bars"][0]["after_end"] is False
    assert marks(out, "") == [("cancel", 0.5, "caller cancels")]


def test_what_never_ended_after_the_run_is_an_orphan_and_without_an_end_is_not() -> None:
    journal: list[Row] = [
        [0.0, "r0", "slow", "stage.start", None],
        [0.0, "r0", "slow", "acquire", "lock"],
    ]
    assert {b["after_end"] for b in lane(drawn(journal), "slow")["bars"]} == {False}
    ended = drawn([*journal, [1.0, "r0", "", "run.end", "returned"]])
    assert {b["after_end"] for b in lane(ended, "slow")["bars"]} == {True}


def test_a_childs_run_is_over_with_its_parents() -> None:
    out = drawn(
        [
            [0.0, "r0", "slow", "stage.start", None],
            [0.1, "r0/child", "search", "stage.start", None],
            [0.2, "r0", "", "run.end", "CancelledError"],
        ]
    )
    assert lane(out, "search")["end_s"] == 0.2
    assert lane(out, "search")["bars"][0]["after_end"] is True


def test_deadlines_faults_cut_cleanups_and_drops_are_marked() -> None:
    out = drawn(
        [
            [0.0, "r0", "slow", "stage.start", None],
            [0.1, "r0", "slow", "fault.fired", ["db", 1]],
            [0.2, "r0", "slow", "account", [4, 1, 0, 3, 10]],
            [0.3, "r0", "slow", "account", [9, 1, 2, 3, 10]],
            [0.3, "r0", "slow", "offer.end", ["p", 7, "refused"]],
            [2.0, "r0", "slow", "release.begin", "lock"],
            [2.1, "r0", "slow", "release.cut", "lock"],
            [2.1, "r0", "", "run.end", "StageTimeout"],
        ],
        6,
        stage_timeout_s=2.0,
    )
    assert marks(out, "slow") == [
        ("fault", 0.1, "fault fires: db 1"),
        ("dropped", 0.3, "events dropped so far: 2"),
        ("dropped", 0.3, "event p 7 not taken: refused"),
        ("deadline", 2.0, "deadline, 2.0 s after its start"),
        ("cut", 2.1, "cleanup cut short: lock"),
    ]
    proved = [m["words"] for m in lane(out, "slow")["marks"] if m["proof"]]
    assert proved == ["cleanup cut short: lock"]


def test_a_deadline_that_was_met_is_not_marked() -> None:
    out = drawn(
        [[0.0, "r0", "slow", "stage.start", None], [0.4, "r0", "slow", "stage.end", "ok"]],
        stage_timeout_s=0.5,
    )
    assert marks(out, "slow") == []


def test_an_empty_journal_gives_no_picture() -> None:
    assert picture([], PROGRAM, {}) is None
    assert picture([[0.0, "r0", "", "run.begin", None]], None, None) is None


def test_a_picture_is_bounded_counts_what_it_leaves_out_and_keeps_the_proof() -> None:
    journal: list[Row] = [
        [0.0, "r0", f"stage-{i}", kind, detail]
        for i in range(100)
        for kind, detail in (("stage.start", None), *(("acquire", f"lock-{n}") for n in range(50)))
    ]
    journal += [[0.1, "r0", "stage-77", "interrupt", n] for n in range(50)]
    out = drawn(journal, 77 * 51 + 20)
    assert len(out["lanes"]) == LIMIT_LANES
    assert out["lanes_left_out"] == 100 - LIMIT_LANES
    proved = lane(out, "stage-77")
    assert len(proved["bars"]) == LIMIT_BARS
    assert len(proved["marks"]) == LIMIT_MARKS
    assert proved["left_out"] == 51 - LIMIT_BARS + 51 - LIMIT_MARKS
    assert [m["words"] for m in proved["marks"] if m["proof"]] == ["takes lock-19"]


def test_entries_of_one_tick_are_told_apart_by_their_order() -> None:
    out = drawn(
        [
            [0.0, "r0", "load", "stage.start", None],
            [0.0, "r0", "load", "stage.end", "raise:ValueError"],
            [0.0, "r0", "slow", "stage.start", None],
            [0.0, "r0", "", "run.end", "returned"],
        ],
        2,
    )
    ((load,), (slow,)) = (lane(out, name)["bars"] for name in ("load", "slow"))
    assert (load["begin_order"], load["end_order"], slow["begin_order"]) == (0, 1, 2)
    assert [(m["words"], m["order"]) for m in lane(out, "slow")["marks"]] == [("starts", 2)]


def test_many_deliveries_are_one_bar_and_events_that_never_came_are_counted() -> None:
    journal: list[Row] = [[0.0, "r0", "slow", "stage.start", None]]
    for n in range(6):
        journal += [[0.1, "r0", "slow", "offer.end", ["p", n, "taken"]]]
    for n in range(4):
        journal += [[0.2 + n, "", "", "deliver.begin", ["p", n]]]
        journal += [[0.3 + n, "", "", "deliver.end", ["p", n]]]
    journal += [[4.0, "r0", "", "run.end", "returned"]]
    out = drawn(journal, sink={"delivery_s": 0.1})
    (bar,) = lane({**out, "lanes": [x for x in out["lanes"] if not x["run"]]}, "")["bars"]
    assert (bar["name"], bar["begin_s"], bar["end_s"], bar["bad"]) == ("4 events", 0.2, 3.3, False)
    shared = next(x for x in out["lanes"] if not x["run"])
    assert [m["words"] for m in shared["marks"]] == ["events taken that never came to the sink: 2"]
    unwatched = drawn(journal)
    assert [m["words"] for x in unwatched["lanes"] for m in x["marks"]] == []


def test_a_second_cancel_and_one_that_came_too_late_are_said_to_be_so() -> None:
    out = drawn(
        [
            [0.0, "r0", "slow", "stage.start", None],
            [0.1, "r0", "", "cancel.sent", [0, True]],
            [0.2, "r0", "", "cancel.sent", [1, False]],
        ]
    )
    said = [m["words"] for x in out["lanes"] for m in x["marks"]]
    assert said == ["caller cancels", "caller cancels (no. 2), too late"]
