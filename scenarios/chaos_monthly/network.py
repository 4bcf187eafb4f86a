"""A bad network between the stages and the services that they call."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan, Toxic
from scenarios.notation import acquire, call, ok, program, sleep, stage, timeout

__all__ = ["JITTER", "NETWORK"]

# Late by half a second, and by up to half a second more or less.
JITTER = Toxic("latency", {"latency": 500, "jitter": 500})
LATE = (ok("timed out"),)
KEEP = (ok("$items"),)
# A sibling that holds something while the call goes wrong.
WATCH = stage("watch", acquire("file", 0.1), sleep(2.0), ok("watched"))

NETWORK: tuple[Scenario, ...] = (
    Scenario(
        id="chaos_monthly/latency_jitter",
        title="A network that is late by half a second, more or less",
        program=program(
            "latency_jitter",
            stage(
                "hasty",
                timeout("search", 0.25, call("search", 0.2, holds=True), otherwise=LATE),
                ok("hits"),
            ),
            stage("patient", timeout("search", 3.0, call("orders", 0.2)), ok("orders")),
            stage("reply", ok("replied"), needs="hasty patient"),
        ),
        plan=Plan(toxics=(JITTER,)),
        clauses=("TIME-4", "CLEAN-1", "GRAPH-2", "CLEAN-5"),
        purpose="One stage gives the late network too little time, the other enough.",
        tests=("CHAOS-MONTHLY/network_jitter",),
        category="chaos",
        fires=("net.felt", "scope.expired"),
    ),
    Scenario(
        id="chaos_monthly/cut_mid_stream",
        title="A stream that is cut off in its midst",
        program=program(
            "cut_mid_stream",
            stage("stream", call("tokens", 0.9, chunks=8, holds=True), ok("$items")),
            WATCH,
        ),
        plan=Plan(toxics=(Toxic("limit_data", {"bytes": 1_150}),)),
        clauses=("PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="Some items of a stream have come when its connection ends.",
        tests=("CHAOS-MONTHLY/network_cut",),
        category="chaos",
        fires=("net.felt", "item"),
    ),
    Scenario(
        id="chaos_monthly/reset",
        title="A connection that is reset",
        program=program("reset", stage("ask", call("search", 0.1, holds=True), ok("hits")), WATCH),
        plan=Plan(toxics=(Toxic("reset_peer", {"timeout": 200}),)),
        clauses=("PART-4", "CANCEL-7", "CLEAN-1", "CLEAN-5"),
        purpose="The peer resets the connection instead of answering.",
        tests=("CHAOS-MONTHLY/network_reset",),
        category="chaos",
        fires=("net.felt",),
    ),
    Scenario(
        id="chaos_monthly/hang",
        title="A service that never gets the question",
        program=program(
            "hang",
            stage("ask", call("search", 0.1, holds=True, cleanup_s=0.1), ok("hits")),
            stage("quick", acquire("file", 0.1), sleep(0.2), ok("done")),
        ),
        plan=Plan(stage_timeout_s=0.5, toxics=(Toxic("timeout", stream="upstream"),)),
        clauses=("TIME-1", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A call hangs, until the timeout of its stage ends it.",
        tests=("CHAOS-MONTHLY/network_hang",),
        category="chaos",
        fires=("net.felt",),
    ),
    Scenario(
        id="chaos_monthly/hang_cancelled",
        title="The caller gives up on a call that hangs",
        program=program(
            "hang_cancelled",
            stage("ask", call("search", 0.1, holds=True, cleanup_s=0.1), ok("hits")),
            WATCH,
        ),
        plan=Plan(toxics=(Toxic("timeout", stream="upstream"),), cancels=(Cancel(at_s=0.4),)),
        clauses=("CANCEL-3", "CLEAN-1", "CLEAN-5"),
        purpose="A call hangs, and the caller cancels the run.",
        tests=("CHAOS-MONTHLY/network_hang_cancelled",),
        category="chaos",
        fires=("net.felt", "cancel.sent"),
    ),
    Scenario(
        id="chaos_monthly/slow_close",
        title="An answer whose end is late",
        program=program(
            "slow_close",
            stage("ask", timeout("search", 0.4, call("search", 0.1), otherwise=LATE), ok("hits")),
            stage("reply", sleep(0.1), ok("replied"), needs="ask"),
        ),
        plan=Plan(toxics=(Toxic("slow_close", {"delay": 700}),)),
        clauses=("TIME-4", "GRAPH-2", "CLEAN-5"),
        purpose="The answer is there in time, but its connection closes too late.",
        tests=("CHAOS-MONTHLY/network_slow_close",),
        category="chaos",
        fires=("net.felt", "scope.expired"),
    ),
    Scenario(
        id="chaos_monthly/bandwidth",
        title="A line of a kilobyte a second",
        program=program(
            "bandwidth",
            stage(
                "stream",
                timeout("reading", 1.0, call("tokens", 0.2, chunks=6, holds=True), otherwise=KEEP),
                ok("$items"),
            ),
            stage("reply", sleep(0.1), ok("replied"), needs="stream"),
        ),
        plan=Plan(toxics=(Toxic("bandwidth", {"rate": 1}),)),
        clauses=("TIME-4", "CLEAN-1", "GRAPH-2", "CLEAN-5"),
        purpose="A stream comes so slowly that its reader has time for some of it only.",
        tests=("CHAOS-MONTHLY/network_bandwidth",),
        category="chaos",
        fires=("net.felt", "scope.expired"),
    ),
)
