"""A trace has the shape that viewers read, and shows what the journal says."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.adapters.reference import Adapter
from harness.kernel.laboratory import Laboratory
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.lab.trace import INSTANTS, SPANS, journal_lines, trace
from mocks.tools import simulated_tool
from tests.engine.random_programs import random_case

# Trace Event Format: phase -> the fields that an event of it must have.
COMMON = {"name", "ph", "ts", "pid", "tid", "args"}
PHASES = {
    "X": COMMON | {"cat", "dur"},
    "i": COMMON | {"cat", "s"},
    "C": COMMON | {"cat"},
    "M": COMMON,
}
METADATA = {"process_name", "thread_name", "process_sort_index", "thread_sort_index"}

JOURNAL: list[list[Any]] = [
    [0.0, "r0", "", "run.begin", None],
    [0.0, "r0", "a", "stage.start", None],
    [0.1, "r0", "a", "acquire", "db"],
    [0.2, "r0", "a", "call.begin", ["t", 1]],
    [0.3, "r0", "", "cancel.sent", [0, True]],
    [0.3, "r0", "a", "interrupt", None],
    [0.3, "r0", "a", "release.begin", "db"],
    [0.4, "r0", "a", "account", [3, 1, 2, 0, 8]],
    [0.5, "r0", "a", "release.cut", "db"],
    [0.5, "r0", "", "run.end", "CancelledError"],
]


def of(events: list[dict[str, Any]], phase: str) -> list[tuple[Any, ...]]:
    names = {"X": ("name", "cat", "ts", "dur"), "i": ("name", "cat", "ts", "s")}[phase]
    return [tuple(e[n] for n in names) for e in events if e["ph"] == phase]


def assert_valid(data: dict[str, Any]) -> None:
    """Hold a trace against the format, and its slices against what a viewer can nest."""
    assert json.loads(json.dumps(data)) == data
    assert set(data) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert data["displayTimeUnit"] in ("ms", "ns")
    named: set[tuple[int, int]] = set()
    owner: dict[int, int] = {}
    slices: dict[int, list[tuple[float, float]]] = {}
    for event in data["traceEvents"]:
        assert set(event) == PHASES[event["ph"]]
        assert isinstance(event["name"], str) and isinstance(event["args"], dict)
        assert isinstance(event["pid"], int) and isinstance(event["tid"], int)
        assert event["ts"] >= 0
        if event["ph"] == "M":
            assert event["name"] in METADATA
            named.add((event["pid"], event["tid"]))
        if event["ph"] == "i":
            assert event["s"] in ("g", "p", "t")
        if event["ph"] == "C":
            assert all(isinstance(v, (int, float)) for v in event["args"].values())
        if event["ph"] == "X":
            assert event["dur"] >= 0
            slices.setdefault(event["tid"], []).append((event["ts"], event["ts"] + event["dur"]))
        if event["tid"]:
            assert owner.setdefault(event["tid"], event["pid"]) == event["pid"]
        assert (event["pid"], event["tid"]) in named or event["ph"] == "C"
    for spans in slices.values():
        for i, (begin, end) in enumerate(spans):
            for other_begin, other_end in spans[i + 1 :]:
                apart = other_begin >= end - 1e-6 or begin >= other_end - 1e-6
                nested = begin <= other_begin and other_end <= end + 1e-6
                assert apart or nested or (other_begin <= begin and end <= other_end + 1e-6)


def test_a_run_by_hand_is_drawn_event_by_event() -> None:
    data = trace(
        JOURNAL,
        violations=[{"clause": "CLEAN-2", "shape": "cleanup-cut", "actual": "cut", "at": [8]}],
        leaks=[["task", "body", "a", "dag.py:3 run"]],
        about={"engine": "toy"},
    )
    assert_valid(data)
    assert data["otherData"] == {"engine": "toy"}
    assert of(data["traceEvents"], "X") == [
        ("run", "run", 0.0, 500_000.0),
        ("a", "stage", 0.0, 500_000.0),
        ("acquire db", "resource", 100_000.0, 400_000.0),
        ("call.begin t 1", "call", 200_000.0, 300_000.0),
        ("release.begin db", "cleanup", 300_000.0, 200_000.0),
    ]
    assert of(data["traceEvents"], "i") == [
        ("cancel.sent 0, True", "cancel", 300_000.0, "p"),
        ("interrupt", "cancel", 300_000.0, "t"),
        ("events dropped: 2, by the engine's account", "event", 400_000.0, "t"),
        ("release.cut db", "cleanup", 500_000.0, "t"),
        ("CLEAN-2 violated: cleanup-cut", "violation", 500_000.0, "p"),
        ("left behind: task", "leak", 500_000.0, "t"),
    ]
    never = [e["name"] for e in data["traceEvents"] if e["args"].get("ended") == "never"]
    assert never == ["a", "call.begin t 1"]


def test_what_overlaps_in_one_stage_gets_a_track_of_its_own() -> None:
    rows = [
        [0.0, "r0", "a", "stage.start", None],
        [0.1, "r0", "a", "acquire", "x"],
        [0.2, "r0", "a", "acquire", "y"],
        [0.3, "r0", "a", "release.end", "x"],
        [0.4, "r0", "a", "release.end", "y"],
        [0.5, "r0", "a", "stage.end", "ok"],
    ]
    data = trace(rows)
    assert_valid(data)
    threads = [e["args"]["name"] for e in data["traceEvents"] if e["name"] == "thread_name"]
    assert threads == ["a", "a (2)"]


def test_an_empty_journal_is_an_empty_trace() -> None:
    assert trace([]) == {"traceEvents": [], "displayTimeUnit": "ms", "otherData": {}}


@given(st.integers(1, 3_000))
def test_every_run_gives_a_valid_trace_with_all_that_was_marked(seed: int) -> None:
    laboratory = Laboratory(Adapter("reference"), simulated_tool)
    record = laboratory.run(*random_case(seed), seed=seed)
    rows = json.loads(json.dumps(record.journal.to_json(), default=repr))
    data = trace(rows)
    assert_valid(data)
    events = data["traceEvents"]
    kinds = [row[3] for row in rows]
    assert sum(e["ph"] == "X" for e in events) == sum(k in SPANS for k in kinds)
    marked = sum(e["ph"] == "i" and e["name"].split(" ")[0] in INSTANTS for e in events)
    assert marked == sum(k in INSTANTS for k in kinds)


def test_runs_at_once_are_processes_of_their_own() -> None:
    program = Program.from_json(
        {"stages": [{"name": "a", "steps": [{"op": "sleep", "seconds": 1}]}]}
    )
    plan = Plan.from_json({"runs": [{"id": "r0"}, {"id": "r1"}]})
    laboratory = Laboratory(Adapter("reference"), simulated_tool)
    data = trace(laboratory.run(program, plan).journal.to_json())
    assert_valid(data)
    processes = [e["args"]["name"] for e in data["traceEvents"] if e["name"] == "process_name"]
    assert processes == ["run r0", "run r1"]


def test_lines_point_at_what_proves_it() -> None:
    lines = list(journal_lines(JOURNAL, marked=[8]))
    assert len(lines) == len(JOURNAL)
    assert lines[0] == "       0.0000  r0                    run.begin"
    assert lines[8] == "->     0.5000  r0   a                release.cut    'db'"
