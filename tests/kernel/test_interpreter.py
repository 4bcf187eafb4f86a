"""One ordered record for each operation of the step language, asserted whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from harness.kernel.interpreter import _COMPILERS
from harness.kernel.plan import Fault, Plan
from harness.kernel.program import Program, Stage
from harness.kernel.services import COMPILERS as SERVICES
from harness.kernel.steps import OPS, Step, step
from tests.kernel.bench import Row, journal

START: Row = (0.0, "stage.start", None)


def ended(at_s: float, how: str = "ok", value: Any = None) -> list[Row]:
    """Return the last rows of a stage that returns a verdict."""
    returned = [(at_s, "returned", value)] if how == "ok" else []
    said = "" if value is None else value
    return [*returned, (at_s, "stage.end", how), (at_s, "verdict", (how, said))]


def cancelled(at_s: float) -> list[Row]:
    return [(at_s, "stage.end", "cancelled"), (at_s, "CancelledError", "")]


def raised(at_s: float, error: str, message: str) -> list[Row]:
    return [(at_s, "stage.end", f"raise:{error}"), (at_s, error, message)]


def sleep(seconds: float) -> Step:
    return step("sleep", seconds=seconds)


def ignore(*_args: Any) -> None:
    """A service of the engine that does nothing."""


# (name, steps, cancels, port or plan, record)
Case = tuple[str, tuple[Step, ...], tuple[float, ...], dict[str, Any], list[Row]]

CASES: list[Case] = [
    ("no_steps", (), (), {}, [START, *ended(0.0)]),
    ("sleep", (sleep(1.5),), (), {}, [START, *ended(1.5)]),
    (
        "sleep_cancelled",
        (sleep(2),),
        (0.5,),
        {},
        [START, (0.5, "interrupt", None), *cancelled(0.5)],
    ),
    ("yield", (step("yield", times=3),), (), {}, [START, *ended(0.0)]),
    (
        "never",
        (step("never"),),
        (4.0,),
        {},
        [START, (4.0, "interrupt", None), *cancelled(4.0)],
    ),
    (
        "allocate",
        (sleep(1), step("allocate", megabytes=9)),
        (),
        {},
        [
            START,
            (1.0, "fault.fired", ("memory", 1)),
            *raised(1.0, "MemoryError", "9 MB are not to be had"),
        ],
    ),
    ("ok", (step("ok", value={"n": 1}),), (), {}, [START, *ended(0.0, "ok", {"n": 1})]),
    (
        "what_follows_an_end_does_not_run",
        (step("fail", message="no rows"), sleep(1)),
        (),
        {},
        [START, *ended(0.0, "fail", "no rows")],
    ),
    ("skip", (step("skip", reason="idle"),), (), {}, [START, *ended(0.0, "skip", "idle")]),
    (
        "cancel_run",
        (step("cancel_run", reason="stale"),),
        (),
        {},
        [START, *ended(0.0, "cancel_run", "stale")],
    ),
    (
        "cancel_branch",
        (step("cancel_branch", reason="short"),),
        (),
        {},
        [START, *ended(0.0, "cancel_branch", "short")],
    ),
    (
        "raise",
        (step("raise", error="OSError", message="disk"),),
        (),
        {},
        [START, *raised(0.0, "OSError", "disk")],
    ),
    (
        "raise_cancelled_by_itself",
        (step("raise", error="CancelledError", message=""),),
        (),
        {},
        [START, (0.0, "self_cancel", None), *cancelled(0.0)],
    ),
    (
        "acquire_is_held_to_the_end_of_the_block",
        (
            step("acquire", name="a", cleanup_s=0.5),
            step("acquire", name="b", cleanup="sync"),
            sleep(1),
        ),
        (),
        {},
        [
            START,
            (0.0, "acquire", "a"),
            (0.0, "acquire", "b"),
            (1.0, "release.begin", "b"),
            (1.0, "release.end", "b"),
            (1.0, "release.begin", "a"),
            (1.5, "release.end", "a"),
            *ended(1.5),
        ],
    ),
    (
        "acquire_cancelled_and_its_cleanup_cut",
        (step("acquire", name="a", cleanup_s=1), sleep(5)),
        (2.0, 2.25),
        {},
        [
            START,
            (0.0, "acquire", "a"),
            (2.0, "interrupt", None),
            (2.0, "release.begin", "a"),
            (2.25, "interrupt", None),
            (2.25, "release.cut", "a"),
            *cancelled(2.25),
        ],
    ),
    (
        "acquire_whose_cleanup_fails",
        (step("acquire", name="a", cleanup_s=0.5, fails=True),),
        (),
        {},
        [
            START,
            (0.0, "acquire", "a"),
            (0.0, "release.begin", "a"),
            (0.5, "release.fail", "a"),
            *raised(0.5, "StageFault", "cleanup of a failed"),
        ],
    ),
    (
        "release_early_and_once",
        (step("acquire", name="a"), sleep(1), step("release", name="a"), sleep(1)),
        (),
        {},
        [
            START,
            (0.0, "acquire", "a"),
            (1.0, "release.begin", "a"),
            (1.0, "release.end", "a"),
            *ended(2.0),
        ],
    ),
    (
        "using",
        (step("using", name="tx", cleanup_s=0.5, steps=[{"op": "sleep", "seconds": 1}]), sleep(1)),
        (),
        {},
        [
            START,
            (0.0, "acquire", "tx"),
            (1.0, "release.begin", "tx"),
            (1.5, "release.end", "tx"),
            *ended(2.5),
        ],
    ),
    (
        "cleanup",
        (step("cleanup", name="db"), sleep(1)),
        (),
        {"cleanup": ignore},
        [START, (0.0, "register", "db"), *ended(1.0)],
    ),
    (
        "generate",
        (step("generate", name="g", items=2, every_s=0.5), step("ok", value="$items")),
        (),
        {},
        [
            START,
            (0.0, "acquire", "g"),
            (0.5, "item", 0),
            (1.0, "item", 1),
            (1.0, "release.begin", "g"),
            (1.0, "release.end", "g"),
            *ended(1.0, "ok", [0, 1]),
        ],
    ),
    (
        "generate_cancelled",
        (step("generate", name="g", items=2, every_s=0.5),),
        (0.75,),
        {},
        [
            START,
            (0.0, "acquire", "g"),
            (0.5, "item", 0),
            (0.75, "interrupt", None),
            (0.75, "release.begin", "g"),
            (0.75, "release.end", "g"),
            *cancelled(0.75),
        ],
    ),
    (
        "chunk_emit_heartbeat",
        (step("chunk", value="c"), step("emit", type="e"), step("heartbeat")),
        (),
        {"chunk": ignore, "emit": ignore, "heartbeat": ignore},
        [START, (0.0, "chunk", "c"), (0.0, "emit", "e"), (0.0, "heartbeat", None), *ended(0.0)],
    ),
    (
        "chunk_that_nobody_takes",
        (step("acquire", name="socket"), step("chunk", value=1), step("chunk", value=2)),
        (),
        {"chunk": lambda _value: False},
        [
            START,
            (0.0, "acquire", "socket"),
            (0.0, "chunk", 1),
            (0.0, "release.begin", "socket"),
            (0.0, "release.end", "socket"),
            *ended(0.0),
        ],
    ),
    (
        "read",
        (step("read", stage="up"),),
        (),
        {"read": lambda stage, key: f"{stage}.{key}"},
        [START, (0.0, "read", ("up", "value", "up.value")), *ended(0.0)],
    ),
    (
        "mutate",
        (step("mutate", stage="up"), step("mutate", stage="up", key="tuple")),
        (),
        {"read": lambda _stage, key: (1,) if key == "tuple" else {"n": 1}},
        [
            START,
            (0.0, "mutated", ("up", "value", True)),
            (0.0, "mutated", ("up", "tuple", False)),
            *ended(0.0),
        ],
    ),
    (
        "context",
        (step("context"),),
        (),
        {"context": lambda: {"timer": True}},
        [START, (0.0, "context", {"timer": True}), *ended(0.0)],
    ),
    (
        "call",
        (
            step("call", tool="web", seconds=1, chunks=1, holds=True, cleanup_s=0.5),
            step("ok", value="$items"),
        ),
        (),
        {},
        [
            START,
            (0.0, "call.begin", ("web", 1)),
            (0.0, "acquire", "web#1"),
            (0.5, "item", "web#1.0"),
            (1.0, "release.begin", "web#1"),
            (1.5, "release.end", "web#1"),
            (1.5, "call.end", ("web", 1, "ok")),
            *ended(1.5, "ok", ["web#1.0"]),
        ],
    ),
    (
        "call_timed_out",
        (step("call", tool="web", seconds=2, timeout_s=0.5),),
        (),
        {},
        [
            START,
            (0.0, "call.begin", ("web", 1)),
            (0.5, "interrupt", None),
            (0.5, "call.end", ("web", 1, "timeout")),
            *raised(0.5, "TimeoutError", ""),
        ],
    ),
    (
        "call_that_the_plan_makes_fail",
        (step("call", tool="web", seconds=1), step("call", tool="web", seconds=1)),
        (),
        {"plan": Plan(faults=(Fault("web", nth=2, error="OSError"),))},
        [
            START,
            (0.0, "call.begin", ("web", 1)),
            (1.0, "call.end", ("web", 1, "ok")),
            (1.0, "call.begin", ("web", 2)),
            (1.0, "fault.fired", ("web", 2)),
            (2.0, "call.end", ("web", 2, "raise:OSError")),
            *raised(2.0, "OSError", "web call 2 failed"),
        ],
    ),
    (
        "parallel_where_one_fails",
        (
            step(
                "parallel",
                branches=[
                    [
                        {"op": "acquire", "name": "a", "cleanup_s": 0.5},
                        {"op": "sleep", "seconds": 9},
                    ],
                    [{"op": "sleep", "seconds": 1}, {"op": "raise", "message": "bad"}],
                ],
            ),
        ),
        (),
        {},
        [
            START,
            (0.0, "acquire", "a"),
            (1.0, "release.begin", "a"),
            (1.5, "release.end", "a"),
            *raised(1.5, "ValueError", "bad"),
        ],
    ),
    (
        "parallel_cancelled_twice_notes_each_cancel_and_awaits_its_branches",
        (
            step(
                "parallel",
                branches=[
                    [{"op": "acquire", "name": "a", "cleanup_s": 1}, {"op": "sleep", "seconds": 9}]
                ],
            ),
        ),
        (1.0, 1.5),
        {},
        [
            START,
            (0.0, "acquire", "a"),
            (1.0, "interrupt", None),
            (1.0, "release.begin", "a"),
            (1.5, "interrupt", None),
            (1.5, "release.cut", "a"),
            *cancelled(1.5),
        ],
    ),
    (
        "spawn_joined",
        (step("spawn", name="t", steps=[{"op": "sleep", "seconds": 2}]), sleep(1)),
        (),
        {},
        [START, (0.0, "spawn", "t"), (2.0, "spawn.end", "t"), *ended(2.0)],
    ),
    (
        "spawn_ended_with_the_stage_that_fails",
        (
            step("spawn", name="t", steps=[{"op": "never"}]),
            sleep(1),
            step("raise", message="bad"),
        ),
        (),
        {},
        # What ends the task is the stage itself: no interrupt of the engine's is noted.
        [START, (0.0, "spawn", "t"), *raised(1.0, "ValueError", "bad")],
    ),
    (
        "thread",
        (step("thread", seconds=2),),
        (),
        {},
        [START, (0.0, "thread.begin", 2.0), (2.0, "thread.end", 2.0), *ended(2.0)],
    ),
    (
        "thread_cancelled",
        (step("thread", seconds=2),),
        (0.5,),
        {},
        [START, (0.0, "thread.begin", 2.0), (0.5, "interrupt", None), *cancelled(0.5)],
    ),
    (
        "timeout_that_expires",
        (
            step(
                "timeout",
                label="t",
                seconds=0.5,
                steps=[{"op": "never"}],
                otherwise=[{"op": "ok", "value": "late"}],
            ),
        ),
        (),
        {},
        [
            START,
            (0.0, "scope.enter", ("t", 0.5)),
            (0.5, "interrupt", None),
            (0.5, "scope.expired", ("t", 0.5)),
            *ended(0.5, "ok", "late"),
        ],
    ),
    (
        "timeout_left_in_time",
        (step("timeout", label="t", seconds=2, steps=[{"op": "sleep", "seconds": 1}]),),
        (),
        {},
        [
            START,
            (0.0, "scope.enter", ("t", 2.0)),
            (1.0, "scope.exit", ("t", "")),
            *ended(1.0),
        ],
    ),
    (
        "timeout_through_which_another_error_comes",
        (
            step(
                "timeout",
                label="t",
                seconds=2,
                steps=[{"op": "raise", "error": "TimeoutError", "message": "socket"}],
            ),
        ),
        (),
        {},
        [
            START,
            (0.0, "scope.enter", ("t", 2.0)),
            (0.0, "scope.leak", ("t", "TimeoutError")),
            *raised(0.0, "TimeoutError", "socket"),
        ],
    ),
    (
        "timeout_cancelled_from_outside",
        (step("timeout", label="t", seconds=2, steps=[{"op": "never"}]),),
        (1.0,),
        {},
        [
            START,
            (0.0, "scope.enter", ("t", 2.0)),
            (1.0, "interrupt", None),
            (1.0, "scope.exit", ("t", "CancelledError")),
            *cancelled(1.0),
        ],
    ),
    (
        "subpipeline",
        (
            step(
                "subpipeline",
                program=Program((Stage("c", (sleep(1), step("ok", value=7))),), "child"),
            ),
        ),
        (),
        {},
        [
            START,
            (0.0, "sub.begin", "child"),
            (0.0, "r0/child: stage.start", None),
            (1.0, "r0/child: returned", 7),
            (1.0, "r0/child: stage.end", "ok"),
            (1.0, "sub.end", ("child", "ok")),
            *ended(1.0),
        ],
    ),
    (
        "subpipeline_that_fails_and_is_kept",
        (
            step(
                "subpipeline",
                keep=True,
                program=Program((Stage("c", (step("raise", message="bad"),)),), "child"),
            ),
        ),
        (),
        {},
        [
            START,
            (0.0, "sub.begin", "child"),
            (0.0, "r0/child: stage.start", None),
            (0.0, "r0/child: stage.end", "raise:ValueError"),
            (0.0, "sub.end", ("child", "raise:ValueError")),
            *ended(0.0),
        ],
    ),
    (
        "swallow",
        (step("swallow", times=1, steps=[{"op": "sleep", "seconds": 2}]),),
        (1.0, 1.5),
        {},
        [
            START,
            (1.0, "interrupt", None),
            (1.0, "swallowed", 1),
            (1.5, "interrupt", None),
            *cancelled(1.5),
        ],
    ),
    (
        "swallow_and_start_again",
        (step("swallow", times=1, steps=[{"op": "sleep", "seconds": 2}]),),
        (1.0,),
        {},
        [START, (1.0, "interrupt", None), (1.0, "swallowed", 1), *ended(3.0)],
    ),
]


@pytest.mark.parametrize(
    ("steps", "cancels", "given", "record"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_what_a_stage_does_is_what_its_steps_say(
    steps: tuple[Step, ...], cancels: tuple[float, ...], given: dict[str, Any], record: list[Row]
) -> None:
    assert journal(*steps, cancels=cancels, **given) == record


def test_every_operation_of_the_language_has_its_record() -> None:
    shown = {one.op for _, steps, *_ in CASES for one in steps}
    assert set(OPS) - shown == set(SERVICES) - {"emit"}  # test_services has these
    assert set(_COMPILERS) == set(OPS) - {"acquire", "spawn"}  # these take the rest of the block


def test_what_the_stage_registers_is_what_the_engine_runs() -> None:
    kept: list[tuple[str, Callable[[], Any]]] = []
    journal(
        step("cleanup", name="db", fails=True),
        cleanup=lambda name, callback: kept.append((name, callback)),
    )
    ((name, callback),) = kept
    assert name == "db"
    with pytest.raises(Exception, match="cleanup of db failed"):
        asyncio.run(callback())


def test_a_returned_value_that_is_changed_afterwards_is_noted_as_it_was() -> None:
    value = {"rows": [1]}
    rows = journal(step("ok", value=value))
    value["rows"].append(2)
    assert (0.0, "returned", {"rows": [1]}) in rows
