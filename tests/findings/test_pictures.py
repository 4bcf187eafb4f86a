"""Flowcharts and timelines: exact text, and nothing in a name that could break out of them."""

from __future__ import annotations

import re

from harness.findings.diagram import LIMIT_NODES, diagram
from harness.findings.steps import count_lines, outlives, purpose_of
from harness.findings.timeline import LIMIT_BARS, proof_rows, timeline
from tests.report.fixture import CHILD, SLOW, program, stage, witness

HOSTILE = 'a"]; click x "javascript:alert(1)"\n```\nsection # %% <b>|`{}:;'


def test_a_flowchart_shows_needs_timeouts_and_what_goes_wrong() -> None:
    shown = program(
        stage("a", {"op": "fail", "message": "x"}),
        stage("b", {"op": "cancel_run", "reason": "x"}, needs=["a"]),
        stage("c", {"op": "sleep", "seconds": [0, 3]}, needs=["a", "ghost"], timeout_s=2),
    )
    assert diagram(shown, {}, "c") == "\n".join(
        (
            "flowchart LR",
            '    s0["a"]',
            '    s1["b"]',
            '    s2["c<br/>timeout 2 s"]',
            "    s0 --> s1",
            "    s0 --> s2",
            '    u2x1["ghost: no such stage"] -.-> s2',
            "    classDef failing fill:#fde2e1,stroke:#b3261e,color:#410e0b",
            "    class s0 failing",
            "    classDef cancelling fill:#fff0d6,stroke:#9a6700,color:#3d2900",
            "    class s1 cancelling",
            "    classDef timing_out fill:#e3e9fd,stroke:#3355bb,color:#101c44",
            "    class s2 timing_out",
            "    classDef shown stroke-width:4px",
            "    class s2 shown",
        )
    )


def test_a_large_program_is_drawn_in_part_and_says_so() -> None:
    drawn = diagram(program(*(stage(f"s{i}") for i in range(LIMIT_NODES + 7))), {})
    assert drawn.count('["s') == LIMIT_NODES
    assert 'more["and 7 more stages"]' in drawn


def test_a_hostile_name_stays_inside_its_label() -> None:
    drawn = diagram(program(stage(HOSTILE)), {})
    label = re.fullmatch(r'flowchart LR\n    s0\["([^"\n`<>]*)"\]', drawn)
    assert label is not None


def test_a_stage_outlives_its_timeout_by_its_own_steps() -> None:
    slow = stage("s", {"op": "sleep", "seconds": 1}, {"op": "thread", "seconds": 1})
    assert outlives(slow, {"stage_timeout_s": 2})
    assert not outlives(slow, {"stage_timeout_s": 2.5})
    assert not outlives({**slow, "timeout_s": 9}, {"stage_timeout_s": 2})
    assert outlives(stage("s", {"op": "never"}), {"stage_timeout_s": 900})
    assert not outlives(stage("s", {"op": "never"}), {})


def test_steps_are_read_beside_op_and_under_args() -> None:
    flat = {"op": "timeout", "label": "t", "steps": [{"op": "sleep", "seconds": 3}]}
    nested = {
        "op": "timeout",
        "args": {"label": "t", "steps": [{"op": "sleep", "args": {"seconds": 3}}]},
    }
    assert purpose_of([flat]) == purpose_of([nested]) == "sets its own timeout t; sleeps 3 s"
    assert count_lines([flat]) == count_lines([nested]) == 2
    assert count_lines(CHILD["stages"][0]["steps"]) == 1 + sum(
        1 + len(s["steps"]) for s in SLOW["stages"]
    )


def test_a_timeline_marks_what_never_ended_and_what_was_cut_short() -> None:
    assert timeline(witness("TIME-1", "late", 1, 1)["journal"]) == "\n".join(
        (
            "gantt",
            "    dateFormat x",
            "    axisFormat %Q ms",
            "    section fetch",
            "    runs, ended ok :0, 0",
            "    section slow",
            "    runs, never ended :crit, 0, 2000",
            "    holds lock, cleanup cut short :crit, 0, 2000",
            "    release begins lock :milestone, 2000, 2000",
            "    section run",
            "    caller cancels :milestone, 1250, 1250",
        )
    )


def test_runs_and_stages_of_one_name_are_kept_apart() -> None:
    journal = [
        [0.0, "r0", "s", "stage.start", None],
        [0.0, "r1", "s", "stage.start", None],
        [1.0, "r1", "s", "stage.end", "ok"],
    ]
    drawn = timeline(journal)
    assert "section r0 s\n    runs, never ended :crit, 0, 1000" in drawn
    assert "section r1 s\n    runs, ended ok :0, 1000" in drawn


def test_equal_resources_are_paired_in_order() -> None:
    journal = [
        [0.0, "r0", "s", "acquire", "lock"],
        [1.0, "r0", "s", "acquire", "lock"],
        [2.0, "r0", "s", "release.end", "lock"],
    ]
    assert timeline(journal).splitlines()[-2:] == [
        "    holds lock, released :0, 2000",
        "    holds lock, never ended :crit, 1000, 2000",
    ]


def test_a_long_journal_is_drawn_in_part_and_says_so() -> None:
    journal = [[float(i), "r0", "s", "acquire", f"x{i}"] for i in range(LIMIT_BARS + 3)]
    drawn = timeline(journal)
    assert drawn.count("holds") == LIMIT_BARS
    assert "%% 3 more bars are left out" in drawn


def test_an_empty_journal_has_no_picture() -> None:
    assert timeline([]) == ""
    assert timeline([[0.0, "r0", "", "run.begin", None]]) == ""


def test_a_hostile_name_stays_a_word_of_the_timeline() -> None:
    drawn = timeline([[0.0, "r0", HOSTILE, "acquire", HOSTILE]])
    assert re.fullmatch(
        r"gantt\n    dateFormat x\n    axisFormat %Q ms\n    section [^#:;%`<\n]+\n"
        r"    holds [^#:;%`<\n]+ :crit, 0, 0",
        drawn,
    )


def test_proof_points_only_at_entries_that_are_there() -> None:
    journal = [[0.0, "r0", "s", "stage.start", None]]
    assert proof_rows({"journal": journal, "at": [0, 5, -1]}) == journal
