"""Tool calls under a stage's own timeout: slow, streaming, holding resources, failing."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Fault, Plan
from scenarios.notation import (
    call,
    generate,
    ok,
    parallel,
    program,
    raises,
    sleep,
    stage,
    timeout,
)

__all__ = ["CALLS"]

LATE = (ok("timed out"),)
KEEP = (ok("$items"),)

CALLS: tuple[Scenario, ...] = (
    Scenario(
        id="tools/slow_tool_timeout",
        title="A slow tool",
        program=program(
            "slow_tool_timeout",
            stage("act", timeout("search", 0.5, call("search", 3.0), otherwise=LATE), ok("hits")),
            stage("reply", sleep(0.1), ok("replied"), needs="act"),
        ),
        plan=Plan(),
        clauses=("TIME-4", "GRAPH-2", "CLEAN-5"),
        purpose="A tool of 3 s is given 0.5 s; the stage goes on and so does the run.",
        tests=("WORK-007/slow_tool_timeout",),
        category="baseline",
        fires=("call.begin", "scope.expired"),
    ),
    Scenario(
        id="tools/slow_tool_fails_stage",
        title="A slow tool whose timeout is left to fail the stage",
        program=program(
            "slow_tool_fails_stage",
            stage("fetch", sleep(0.1), ok("page")),
            stage(
                "act",
                timeout(
                    "search",
                    0.5,
                    call("search", 3.0),
                    otherwise=(raises("TimeoutError", "search took too long"),),
                ),
                needs="fetch",
            ),
        ),
        plan=Plan(),
        clauses=("TIME-4", "PART-4", "CANCEL-7", "CLEAN-5"),
        purpose="The timeout of a tool fails its stage; it must not be called the engine's own.",
        fires=("call.begin", "scope.expired"),
    ),
    Scenario(
        id="tools/partial_result_tool",
        title="A tool with partial results",
        program=program(
            "partial_result_tool",
            stage(
                "act",
                timeout("report", 0.5, call("report", 1.1, chunks=10), otherwise=KEEP),
                ok("$items"),
            ),
            stage("reply", sleep(0.1), ok("replied"), needs="act"),
        ),
        plan=Plan(),
        clauses=("GRAPH-3", "TIME-4", "CLEAN-5"),
        purpose="A tool has given four of ten results when it times out; the stage returns them.",
        tests=("WORK-007/partial_result_tool",),
        category="baseline",
        fires=("item", "scope.expired"),
    ),
    Scenario(
        id="tools/streaming_tool_timeout",
        title="A streaming tool",
        program=program(
            "streaming_tool_timeout",
            stage(
                "act",
                timeout(
                    "stream", (2.0, 1.9), call("stream", 4.2, chunks=20, holds=True), otherwise=KEEP
                ),
                ok("$items"),
            ),
            stage("reply", sleep(0.1), ok("replied"), needs="act"),
        ),
        plan=Plan(),
        clauses=("GRAPH-3", "TIME-4", "CLEAN-1", "CLEAN-5"),
        purpose="A tool gives a chunk each 0.2 s and times out with one, or between two.",
        tests=("WORK-007/streaming_tool_timeout",),
        category="baseline",
        fires=("item", "scope.expired"),
    ),
    Scenario(
        id="tools/concurrent_timeout",
        title="Twenty tools time out at once",
        program=program(
            "concurrent_timeout",
            *(
                stage(
                    f"act{i:02}",
                    timeout("search", 0.5, call("search", 3.0, holds=True), otherwise=LATE),
                )
                for i in range(20)
            ),
            stage("reply", ok("replied"), needs=" ".join(f"act{i:02}" for i in range(20))),
        ),
        plan=Plan(),
        clauses=("TIME-6", "TIME-4", "CLEAN-1", "GRAPH-2", "CLEAN-5"),
        purpose="Twenty stages side by side each time out a tool.",
        tests=("WORK-007/concurrent_timeout",),
        fires=("call.begin", "scope.expired"),
    ),
    Scenario(
        id="tools/resource_cleanup",
        title="Thirty tools with resources time out",
        program=program(
            "resource_cleanup",
            *(
                stage(
                    f"act{i:02}",
                    timeout(
                        "query",
                        0.5,
                        call("database", 3.0, holds=True, cleanup_s=0.1),
                        otherwise=LATE,
                    ),
                )
                for i in range(30)
            ),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "TIME-6", "CLEAN-5"),
        purpose="Thirty tools hold a resource when they time out; each cleanup awaits 0.1 s.",
        tests=("WORK-007/resource_cleanup",),
        fires=("call.begin", "scope.expired"),
    ),
    Scenario(
        id="tools/resource_cleanup_one_stage",
        title="Thirty tools of one stage time out",
        program=program(
            "resource_cleanup_one_stage",
            stage(
                "act",
                parallel(
                    *(
                        (
                            timeout(
                                f"query{i:02}",
                                0.5,
                                call("database", 3.0, holds=True, cleanup_s=0.1),
                            ),
                        )
                        for i in range(30)
                    )
                ),
                ok("done"),
            ),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "TIME-6", "CLEAN-5"),
        purpose="One stage calls thirty tools side by side, and each of them times out.",
        fires=("call.begin", "scope.expired"),
    ),
    Scenario(
        id="tools/cleanup_when_sibling_fails",
        title="Tools with resources when a sibling stage fails",
        program=program(
            "cleanup_when_sibling_fails",
            *(
                stage(
                    f"act{i}",
                    timeout("query", 5.0, call("database", 3.0, holds=True, cleanup_s=0.1)),
                )
                for i in range(5)
            ),
            stage("guard", sleep(0.4), raises("RuntimeError", "guard crashed")),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="Five tools hold resources when another stage fails, long before they time out.",
        fires=("call.begin",),
    ),
    Scenario(
        id="tools/async_generator_timeout",
        title="A tool that is an async generator",
        program=program(
            "async_generator_timeout",
            stage(
                "act",
                timeout("reading", (2.2, 2.0), generate("feed", 20, 0.5), otherwise=KEEP),
                ok("$items"),
            ),
            stage("reply", sleep(0.1), ok("replied"), needs="act"),
        ),
        plan=Plan(),
        clauses=("TIME-4", "CLEAN-1", "GRAPH-3", "CLEAN-5"),
        purpose="A generator gives an item each 0.5 s and times out between two, or with one.",
        tests=("WORK-007/async_generator_timeout",),
        category="chaos",
        fires=("item", "scope.expired"),
    ),
    Scenario(
        id="tools/error_injection",
        title="One of three tools fails",
        program=program(
            "error_injection",
            stage("look", timeout("search", 3.0, call("search", 0.3, holds=True)), ok("hits")),
            stage("query", timeout("database", 3.0, call("database", 0.2)), ok("rows")),
            stage("read", timeout("files", 3.0, call("files", 0.1)), ok("text")),
            stage("reply", ok("replied"), needs="look query read"),
        ),
        plan=Plan(faults=(Fault("database", error="RuntimeError"),)),
        clauses=("PART-4", "CANCEL-7", "CLEAN-1", "PART-1", "CLEAN-5"),
        purpose="The fault hits one of three tools that run side by side.",
        tests=("WORK-007/error_injection",),
        category="chaos",
        fires=("fault.fired",),
    ),
)
