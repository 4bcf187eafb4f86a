"""Timeouts inside a stage: an engine must not take them for its own, nor break them."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Plan
from scenarios.notation import (
    acquire,
    call,
    generate,
    ok,
    parallel,
    program,
    raises,
    sleep,
    stage,
    thread,
    timeout,
)

__all__ = ["OWN"]

OWN: tuple[Scenario, ...] = (
    Scenario(
        id="timeouts/async_generator_timeout",
        title="A timeout around an async generator, inside the stage's",
        program=program(
            "async_generator_timeout",
            stage(
                "tokens",
                timeout("reading", 0.5, generate("stream", 20, 0.2)),
                sleep(0.3),
                ok("$items"),
            ),
            stage("store", sleep(0.1), ok("stored"), needs="tokens"),
        ),
        plan=Plan(stage_timeout_s=2.0),
        clauses=("TIME-4", "CLEAN-1", "GRAPH-3", "CLEAN-5"),
        purpose="A timeout of 0.5 s ends an async generator; the stage's 2 s must not notice.",
        tests=("DAG-009/async_generator_timeout",),
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/generator_own_timeout",
        title="A timeout around an async generator, and no other",
        program=program(
            "generator_own_timeout",
            stage(
                "tokens",
                timeout("reading", (0.5, 0.4), generate("stream", 20, 0.2)),
                sleep(0.3),
                ok("$items"),
            ),
            stage("store", sleep(0.1), ok("stored"), needs="tokens"),
        ),
        plan=Plan(),
        clauses=("TIME-4", "CLEAN-1", "GRAPH-3", "CLEAN-5"),
        purpose="A timeout ends an async generator, between two items or with one of them.",
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/nested_timeout",
        title="Timeouts in one another, inside the stage's",
        program=program(
            "nested_timeout",
            stage(
                "ask",
                timeout("outer", 1.0, timeout("inner", 0.2, sleep(3.0)), sleep(0.3)),
                ok("answered"),
            ),
        ),
        plan=Plan(stage_timeout_s=2.0),
        clauses=("TIME-4", "TIME-2", "CLEAN-5"),
        purpose="The innermost of three timeouts expires; the two around it stay usable.",
        tests=("DAG-009/nested_timeout",),
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/nested_own_timeout",
        title="Timeouts in one another, without the engine's",
        program=program(
            "nested_own_timeout",
            stage(
                "ask",
                timeout("outer", (1.0, 0.2), timeout("inner", 0.2, sleep(3.0)), sleep(0.3)),
                ok("answered"),
            ),
        ),
        plan=Plan(),
        clauses=("TIME-4", "CLEAN-5"),
        purpose="Of two timeouts the inner expires first, or both at once.",
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/outer_expires_first",
        title="The outer of two timeouts expires",
        program=program(
            "outer_expires_first",
            stage(
                "ask",
                timeout("outer", 0.2, acquire("socket", 0.1), timeout("inner", 1.0, sleep(3.0))),
                ok("answered"),
            ),
        ),
        plan=Plan(),
        clauses=("TIME-4", "CLEAN-1", "CLEAN-5"),
        purpose="The outer timeout expires inside the inner, and a resource is given back.",
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/own_timeout_error",
        title="A TimeoutError of the stage's own",
        program=program(
            "own_timeout_error",
            stage("ask", sleep(0.2), raises("TimeoutError", "the upstream did not answer")),
        ),
        plan=Plan(stage_timeout_s=2.0),
        clauses=("TIME-4", "PART-4", "CLEAN-5"),
        purpose="A stage fails by a TimeoutError of its own, long before the engine's timeout.",
    ),
    Scenario(
        id="timeouts/own_timeout_lets_siblings_be",
        title="A stage times out its own work while others run",
        program=program(
            "own_timeout_lets_siblings_be",
            stage("ask", timeout("asking", 0.3, sleep(2.0)), ok("no answer")),
            stage("fetch", acquire("socket", 0.1), sleep(0.6, 0.3), ok("page")),
            stage("join", sleep(0.1), ok("joined"), needs="ask fetch"),
        ),
        plan=Plan(),
        clauses=("TIME-4", "GRAPH-3", "CLEAN-1", "CLEAN-5"),
        purpose="A timeout inside one stage must reach no other stage.",
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/own_tie",
        title="Work that ends in the tick of its own timeout",
        program=program(
            "own_tie",
            stage(
                "ask",
                timeout("asking", 0.3, sleep(0.1, 0.3, 0.6), otherwise=(ok("late"),)),
                ok("in time"),
            ),
            stage("store", sleep(0.1), ok("stored"), needs="ask"),
        ),
        plan=Plan(),
        clauses=("TIME-4", "GRAPH-2", "CLEAN-5"),
        purpose="A stage's own timeout and the work under it end at one time, or nearly.",
    ),
    Scenario(
        id="timeouts/concurrent_own_timeouts",
        title="Fifty timeouts at once, none of them the engine's",
        program=program(
            "concurrent_own_timeouts",
            *(
                stage(f"worker{i:02}", timeout("working", 0.5, sleep(2.0)), ok(i))
                for i in range(50)
            ),
        ),
        plan=Plan(),
        clauses=("TIME-6", "TIME-4", "GRAPH-3", "CLEAN-5"),
        purpose="Fifty stages side by side each time out their own work.",
        fires=("scope.expired",),
    ),
    Scenario(
        id="timeouts/own_timeout_over_thread",
        title="A worker thread under the stage's own timeout",
        program=program(
            "own_timeout_over_thread",
            stage("parse", timeout("parsing", 0.3, thread(1.0)), ok("gave up")),
            stage("store", sleep(0.1), ok("stored"), needs="parse"),
        ),
        plan=Plan(),
        clauses=("TIME-4", "GRAPH-2", "CLEAN-5"),
        purpose="A stage gives up on its worker thread; the run goes on without it.",
        fires=("thread.begin", "scope.expired"),
    ),
    Scenario(
        id="timeouts/tool_timeout_each",
        title="A timeout of each tool call's own",
        program=program(
            "tool_timeout_each",
            stage(
                "act",
                parallel(
                    (call("database", 2.0, timeout_s=0.3, holds=True, cleanup_s=0.1),),
                    (call("search", 0.4, timeout_s=1.0),),
                ),
                ok("done"),
            ),
        ),
        plan=Plan(),
        clauses=("TIME-8", "CLEAN-1", "CLEAN-5"),
        purpose="Two tools of one stage have timeouts of their own; one outlives its own.",
        fires=("call.begin",),
    ),
)
