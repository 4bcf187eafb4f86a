"""WORK-007: tools under timeouts.

The claims come from a report of January 2026. Its seven tests ran tools that its own
author had written under `asyncio.timeout`, so what it measured was largely those tools;
here every tool is dagstorm's mock, which notes by itself what happened to it.
"""

from __future__ import annotations

from harness.contract.scenario import Claim, Hypothesis, Mission

__all__ = ["WORK_007"]

TESTS = {
    "slow_tool_timeout": "tools/slow_tool_timeout",
    "partial_result_tool": "tools/partial_result_tool",
    "streaming_tool_timeout": "tools/streaming_tool_timeout",
    "concurrent_timeout": "tools/concurrent_timeout",
    "resource_cleanup": "tools/resource_cleanup",
    "async_generator_timeout": "tools/async_generator_timeout",
    "error_injection": "tools/error_injection",
}

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="A timeout around a tool ends the tool and leaves its stage and run alone.",
        decides=(
            ("tools/slow_tool_timeout", "TIME-4"),
            ("tools/slow_tool_fails_stage", "TIME-4"),
            ("tools/concurrent_timeout", "TIME-6"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="A tool that is ended gives back what it held, however many end at once.",
        decides=(
            ("tools/resource_cleanup", "CLEAN-1"),
            ("tools/resource_cleanup_one_stage", "CLEAN-1"),
            ("tools/resource_cleanup", "CLEAN-2"),
        ),
    ),
    Hypothesis(
        id="H3",
        statement="What a tool gave before its timeout reaches the user as its stage's output.",
        decides=(
            ("tools/partial_result_tool", "GRAPH-3"),
            ("tools/streaming_tool_timeout", "GRAPH-3"),
            ("tools/async_generator_timeout", "GRAPH-3"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="The failure of one tool is reported with its stage and its cause.",
        decides=(("tools/error_injection", "PART-4"), ("tools/error_injection", "CANCEL-7")),
    ),
)

CLAIMS = (
    Claim(
        id="BUG-078",
        says="The cleanups of tools that time out are not run.",
        decides=(
            ("tools/resource_cleanup", "CLEAN-1"),
            ("tools/resource_cleanup_one_stage", "CLEAN-1"),
        ),
        earlier="1 of 30 cleanups was counted.",
        why=(
            "Each mock notes the beginning and the end of its own cleanup. The source of the "
            "earlier tools and of their counter is not at hand, so how it came to one of thirty "
            "cannot be said with certainty."
        ),
    ),
    Claim(
        id="BUG-078 (cause)",
        says="asyncio.timeout() may fail to run the `finally` blocks of what it cancels.",
        decides=(
            ("tools/resource_cleanup", "CLEAN-1"),
            ("cleanup/own_timeout", "CLEAN-1"),
            ("timeouts/outer_expires_first", "CLEAN-1"),
        ),
        earlier="Given as the root cause of BUG-078; not measured.",
        why=(
            "asyncio.timeout() raises CancelledError at the await inside its block; like any "
            "exception it runs every `finally` on its way out."
        ),
    ),
    Claim(
        id="BUG-079",
        says="A streaming tool that times out loses the chunks it had given.",
        decides=(
            ("tools/streaming_tool_timeout", "GRAPH-3"),
            ("tools/partial_result_tool", "GRAPH-3"),
        ),
        earlier="0 of 20 chunks were received.",
        why=(
            "The earlier report names as the cause that its own tool did not keep chunks as they "
            "came. A stage that keeps them has them, and can return them, after the timeout."
        ),
    ),
    Claim(
        id="STR-092",
        says="A timeout around an async generator does not leak, and what came before is kept.",
        decides=(
            ("tools/async_generator_timeout", "TIME-4"),
            ("tools/async_generator_timeout", "GRAPH-3"),
            ("timeouts/generator_own_timeout", "TIME-4"),
        ),
        holds_if="pass",
        earlier="4 items were collected; the report counts them once as 4 of 5 and asks for 20.",
        why="A scenario above shows the leak or the loss.",
    ),
    Claim(
        id="IMP-107",
        says="A tool call cannot have a timeout of its own.",
        decides=(("capability", "tool_timeout"),),
        earlier="Proposed; all tools of a stage were said to share the stage's timeout.",
        why="This version takes a timeout for a tool call.",
    ),
)

WORK_007 = Mission(
    id="WORK-007",
    title="Tools under timeouts",
    pack="tools",
    priority="P1",
    risk="High",
    summary=(
        "Agents spend most of their time waiting for tools. The mission asks what is left when a "
        "tool is cut off: whether its stage goes on, whether it gave back what it held, whether "
        "what it had already delivered is still there, and whether the failure of one tool is "
        "told apart from the slowness of another."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=CLAIMS,
    industry=(
        (
            "Customer service",
            "An agent that asks a slow order system while the customer waits",
            "High",
        ),
        (
            "Banking",
            "A balance query that holds a pooled connection until it is cut off",
            "Critical",
        ),
        ("Research", "A crawler whose half-read pages are worth keeping", "Medium"),
        ("Software delivery", "A code agent whose test runs may hang for minutes", "High"),
    ),
    state_of_the_art=(
        "The Model Context Protocol asks implementations to set a timeout for every request and, "
        "when it expires, to cancel the request rather than only to stop waiting for it.",
        "Amazon's guidance on timeouts is to set one on every remote call and to choose it from "
        "the latency that the service really shows.",
        "asyncio.timeout() nests: each block converts only the cancellation that it sent itself.",
        "contextlib.aclosing() closes an async generator at the end of the block that reads it, "
        "and not when it happens to be collected.",
        "A heartbeat (Temporal, Amazon SWF) tells slow work from hung work, which no single "
        "timeout can do.",
    ),
    failure_modes=(
        "The caller stops waiting, and the tool works on at the other end.",
        "A cleanup that awaits is cut off by a second cancellation.",
        "A stream is dropped as a whole because its last chunk is missing.",
        "An async generator is left open, and closed later in another task's context.",
        "One slow tool uses up the time of all others in its stage.",
        "Many tools expire in one tick, and some of their cancellations are lost.",
    ),
    questions=(
        ("A timeout for each tool call", "tool_timeout"),
        ("One timeout for all stages of a run", "stage_timeout"),
        ("Streams through the engine", "streaming"),
        ("Registered cleanups", "cleanup_registry"),
        ("Retries", "retry"),
    ),
    persona=(
        "Engineer for an agent platform",
        "A software company whose agents call customers' systems",
        (
            "A slow tool costs its own time budget, not everybody's",
            "No connection stays checked out after its call was given up",
            "Half an answer is shown as half an answer",
            "An alert names the tool, not only the pipeline",
        ),
    ),
    more_scenarios=(
        "tools/slow_tool_fails_stage",
        "tools/resource_cleanup_one_stage",
        "tools/cleanup_when_sibling_fails",
        "timeouts/tool_timeout_each",
        "timeouts/resource_cleanup",
        "timeouts/generator_own_timeout",
        "timeouts/outer_expires_first",
        "cleanup/own_timeout",
        "streaming/chunks_before_timeout",
        "streaming/chunk_in_the_tick_of_the_timeout",
        "streaming/chunks_before_failure",
        "streaming/chunks_before_reported_failure",
        "streaming/chunks_before_stage_cancel",
        "streaming/chunks_before_sibling_failure",
    ),
)
