"""Small programs for exhaustive injection: between them, every way in which a stage can hold
something, be stopped, stop others, or not stop when it is told to.

Declared, not generated, so that a figure of one day can be set beside another's. They are
written for the clauses, CANCEL and CLEAN, and know no broken engine.
"""

from __future__ import annotations

from harness.kernel.plan import Plan, RunSpec
from harness.kernel.program import Program, Retry
from scenarios.notation import (
    acquire,
    call,
    cancel_branch,
    cancel_run,
    cleanup,
    fail,
    generate,
    ok,
    program,
    raises,
    sleep,
    stage,
    subpipeline,
    swallow,
    timeout,
    using,
)

__all__ = ["CASES"]

HELD = program(
    "held",
    stage("read", acquire("file", 0.1), sleep(0.2), ok("read")),
    stage("left", cleanup("lock", 0.1), cleanup("socket", 0.1), sleep(0.3), ok(1), needs="read"),
    stage("right", using("pool", call("bank", 0.2, holds=True, cleanup_s=0.1)), needs="read"),
    stage("join", ok("done"), needs="left right"),
)
FAILING_CLEANUPS = program(
    "failing_cleanups",
    stage("a", cleanup("first", 0.1), cleanup("second", 0.1, fails=True), sleep(0.2), ok("a")),
    stage("b", acquire("lock", 0.1, fails=True), sleep(0.3), ok("b")),
    stage("c", generate("rows", 2, 0.1), ok("c"), needs="a"),
)
CHILD = program(
    "child",
    stage("x", acquire("row", 0.1), sleep(0.2), ok("x")),
    stage("y", using("page", sleep(0.1)), sleep(0.2), ok("y"), needs="x"),
)
PARENT = program(
    "parent",
    stage("calls", acquire("lock", 0.1), subpipeline(CHILD), ok("calls")),
    stage("beside_it", sleep(0.4), ok("beside")),
    stage("last", ok("last"), needs="calls"),
)
FAILING_CHILD = program(
    "parent_of_a_failing_child",
    stage(
        "calls",
        subpipeline(program("failing", stage("x", sleep(0.1), raises("ValueError", "no row")))),
        ok("calls"),
    ),
    stage("beside_it", acquire("lock", 0.1), sleep(0.3), ok("beside")),
)
ENDS_RUN = program(
    "ends_run",
    stage("done", sleep(0.1), ok("done")),
    stage("ends", sleep(0.2), cancel_run("enough"), needs="done"),
    # What it holds takes longer to release than what it has registered: both are awaited.
    stage("held_by", acquire("lock", 0.3), cleanup("registered", 0.1), sleep(0.5), ok("long")),
)
ENDS_BRANCH = program(
    "ends_branch",
    stage("ends", acquire("lock", 0.1), sleep(0.1), cancel_branch("not needed")),
    stage("below", ok("below"), needs="ends"),
    stage("apart", sleep(0.3), ok("apart")),
    stage("below_apart", ok("b"), needs="apart"),
)
FAILS = program(
    "fails",
    stage("fails", cleanup("registered", 0.1), sleep(0.1), fail("no room")),
    stage("held_by", acquire("lock", 0.1), sleep(0.5), ok("held")),
    stage(
        "retried",
        acquire("row", 0.05),
        sleep(0.05),
        raises("OSError", "gone"),
        retry=Retry(attempts=2, backoff_s=0.1),
    ),
)
STUBBORN = program(
    "stubborn",
    stage("swallows", swallow(3, sleep(40.0)), ok("late")),
    stage("ends", sleep(0.2), raises("RuntimeError", "over")),
    stage("slow", acquire("lock", 6.0), sleep(0.3), ok("slow")),
)
SLOW_CLEANUPS = program(
    "slow_cleanups",
    stage("a", cleanup("slow", 1.5), sleep(0.2), ok("a")),
    stage("b", timeout("own", 0.1, using("page", sleep(0.2), cleanup_s=0.1)), ok("b")),
)
TWICE = program(
    "twice",
    stage("a", cleanup("registered", 0.1), acquire("lock", 0.1), sleep(0.2), ok("a")),
    stage("b", cleanup("another", 0.05), sleep(0.2), ok("b"), needs="a"),
)
TOGETHER = Plan(runs=(RunSpec("r0"), RunSpec("r1", start_s=0.1), RunSpec("r2", start_s=0.3)))

CASES: tuple[tuple[Program, Plan], ...] = (
    (HELD, Plan()),
    (FAILING_CLEANUPS, Plan()),
    (TWICE, TOGETHER),
    (PARENT, Plan()),
    (FAILING_CHILD, Plan()),
    (ENDS_RUN, Plan()),
    (ENDS_BRANCH, Plan()),
    (FAILS, Plan()),
    (STUBBORN, Plan(cleanup_grace_s=5.0)),
    (SLOW_CLEANUPS, Plan(cleanup_grace_s=2.0)),
)
