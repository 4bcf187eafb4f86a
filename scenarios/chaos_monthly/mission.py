"""CHAOS-MONTHLY: what a production month brings, each alone and all together.

Asked for by the comprehensive analysis of January 2026 as a monthly run: one stage in ten
fails, the network is late by half a second more or less, clocks are a second off, memory
runs out. It came without measurements, so there are no claims to review.
"""

from __future__ import annotations

from harness.contract.scenario import Hypothesis, Mission

__all__ = ["CHAOS_MONTHLY"]

TESTS = {
    "random_failures": "chaos_monthly/random_failures",
    "random_failures_retried": "chaos_monthly/random_failures_retried",
    "network_jitter": "chaos_monthly/latency_jitter",
    "network_cut": "chaos_monthly/cut_mid_stream",
    "network_reset": "chaos_monthly/reset",
    "network_hang": "chaos_monthly/hang",
    "network_hang_cancelled": "chaos_monthly/hang_cancelled",
    "network_slow_close": "chaos_monthly/slow_close",
    "network_bandwidth": "chaos_monthly/bandwidth",
    "clock_fast": "chaos_monthly/clock_fast",
    "clock_slow": "chaos_monthly/clock_slow",
    "clock_ahead": "chaos_monthly/clock_ahead",
    "clock_back": "chaos_monthly/clock_back",
    "clock_ahead_hour": "chaos_monthly/clock_ahead_hour",
    "clock_back_hour": "chaos_monthly/clock_back_hour",
    "memory": "chaos_monthly/memory",
    "together": "chaos_monthly/together",
    "together_timed": "chaos_monthly/together_timed",
}

_CLOCKS = tuple(s for name, s in TESTS.items() if name.startswith("clock_"))

HYPOTHESES = (
    Hypothesis(
        id="H1",
        statement="A call that fails by chance ends the run with its stage and cause named, and "
        "nothing stays held.",
        decides=(
            ("chaos_monthly/random_failures", "PART-4"),
            ("chaos_monthly/random_failures", "CANCEL-7"),
            ("chaos_monthly/random_failures", "CLEAN-1"),
        ),
    ),
    Hypothesis(
        id="H2",
        statement="Retries are made as declared, whichever calls fail.",
        decides=(("chaos_monthly/random_failures_retried", "RETRY-1"),),
    ),
    Hypothesis(
        id="H3",
        statement="On a late, slow or silent network, timeouts and cancels end what waits for it.",
        decides=(
            ("chaos_monthly/latency_jitter", "TIME-4"),
            ("chaos_monthly/slow_close", "TIME-4"),
            ("chaos_monthly/bandwidth", "TIME-4"),
            ("chaos_monthly/hang", "TIME-1"),
            ("chaos_monthly/hang_cancelled", "CANCEL-3"),
        ),
    ),
    Hypothesis(
        id="H4",
        statement="A connection that breaks is a failure of its stage, told with its cause.",
        decides=(
            ("chaos_monthly/cut_mid_stream", "PART-4"),
            ("chaos_monthly/reset", "PART-4"),
            ("chaos_monthly/cut_mid_stream", "CLEAN-1"),
            ("chaos_monthly/reset", "CLEAN-1"),
        ),
    ),
    Hypothesis(
        id="H5",
        statement="Setting the wall clock, by a second or by an hour, moves no timeout.",
        decides=(*((s, "TIME-1") for s in _CLOCKS), *((s, "TIME-2") for s in _CLOCKS)),
    ),
    Hypothesis(
        id="H6",
        statement="Memory that runs out in one stage fails that stage, and the others clean up.",
        decides=(
            ("chaos_monthly/memory", "PART-4"),
            ("chaos_monthly/memory", "CLEAN-1"),
        ),
    ),
    Hypothesis(
        id="H7",
        statement="All of it together changes none of this.",
        decides=(
            ("chaos_monthly/together", "PART-4"),
            ("chaos_monthly/together", "CLEAN-1"),
            ("chaos_monthly/together", "CLEAN-2"),
            ("chaos_monthly/together_timed", "TIME-1"),
            ("chaos_monthly/together_timed", "TIME-2"),
        ),
    ),
)

CHAOS_MONTHLY = Mission(
    id="CHAOS-MONTHLY",
    title="A month of chaos",
    pack="chaos_monthly",
    priority="P1",
    risk="High",
    summary=(
        "Faults of production do not come one at a time, nor from where tests put them. The "
        "mission asks whether an engine keeps what it promises when calls fail by chance, the "
        "network is late or breaks, the wall clock is set and memory runs out: each alone, and all "
        "at once."
    ),
    tests=TESTS,
    hypotheses=HYPOTHESES,
    claims=(),
    industry=(
        ("Payments", "A provider that fails one call in ten during an incident", "Critical"),
        ("Mobile services", "Clients and services behind lossy, late networks", "High"),
        ("Cloud platforms", "Virtual machines whose clocks are set after a migration", "High"),
        ("Data platforms", "Containers that are given less memory than a batch takes", "High"),
    ),
    state_of_the_art=(
        "Chaos engineering states a hypothesis about a system's steady state, and then injects "
        "faults that real operations bring to try to refute it.",
        "Toxiproxy puts latency, resets, cuts and silence between a client and a server, so that "
        "tests of networks need no broken network.",
        "Python documents `time.monotonic` as the clock for measuring time, because the system's "
        "clock may be set in either direction.",
        "asyncio's loops keep time by a monotonic clock, and so do its timeouts.",
    ),
    failure_modes=(
        "A deadline computed from the wall clock fires at once, or not for an hour.",
        "A connection that went silent is waited for without end.",
        "A reset connection is reported as a cancellation, or as nothing at all.",
        "The failure of one call hides those of others, and their resources stay held.",
        "An engine that runs out of memory in one stage loses all of the run's outputs.",
    ),
    questions=(
        ("One timeout for all stages of a run", "stage_timeout"),
        ("Retries", "retry"),
        ("Going on after a stage's failure", "continue_on_failure"),
    ),
    persona=(
        "Reliability engineer on call",
        "A platform team that runs other teams' pipelines",
        (
            "An incident elsewhere must not leave connections checked out here",
            "The error in the alert names the stage and its cause",
            "No run waits for a network that is gone",
            "What holds on a quiet day holds on a bad one",
        ),
    ),
)
