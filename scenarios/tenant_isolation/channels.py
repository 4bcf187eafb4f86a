"""Markers: values that belong to one run only, on every way that values take out of it.

Every run is handed a marker of its own. The stages put it into whatever they hand on; the
checks look for it in all that the other runs produced.
"""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Layer, Plan, RunSpec, Sink
from harness.kernel.program import Program
from scenarios.notation import (
    chunk,
    cleanup,
    emit,
    given,
    identify,
    log,
    ok,
    program,
    raises,
    read,
    sleep,
    spawn,
    stage,
    subpipeline,
    thread,
)

__all__ = ["CHANNELS", "tenants"]


def tenants(runs: int, *, of: int | None = None, apart_s: float = 0.05) -> tuple[RunSpec, ...]:
    """Return runs that overlap, each with its own marker; of so many tenants, or one for each."""
    count = of or runs
    return tuple(
        RunSpec(
            f"r{i}",
            tenant=f"tenant-{i % count:03d}",
            start_s=round(i % 7 * apart_s, 3),
            inputs={"marker": f"marker-{i:03d}-{i * 7919 % 1000:03d}"},
        )
        for i in range(runs)
    )


def handed_on(name: str) -> Program:
    """A pipeline that hands the marker on from stage to stage."""
    return program(
        name,
        stage("intake", given(), sleep(0.1, 0.0, 0.2), ok({"customer": "$marker"})),
        stage("enrich", given(), read("intake"), sleep(0.1, 0.0), ok("$marker"), needs="intake"),
        stage("score", given(), read("intake"), sleep(0.0, 0.1), ok(["$marker"]), needs="intake"),
        stage(
            "answer", given(), read("enrich"), read("score"), ok("$marker"), needs="enrich score"
        ),
    )


CHILD = program("lookup", stage("search", given(), emit("found", "$marker"), ok("$marker")))


def spoken_of(name: str) -> Program:
    """A pipeline that tells of the marker in every way there is."""
    return program(
        name,
        stage(
            "intake",
            given(),
            log("intake of $marker"),
            emit("received", {"customer": "$marker"}),
            sleep(0.1, 0.0),
            ok({"customer": "$marker"}),
        ),
        stage(
            "enrich",
            given(),
            cleanup("session", 0.1),
            chunk("first part for $marker"),
            sleep(0.0, 0.1),
            chunk("second part for $marker"),
            ok("$marker"),
            needs="intake",
        ),
        stage(
            "score",
            given(),
            spawn("watch", sleep(0.0, 0.1), log("scored $marker"), identify("task")),
            thread((0.1, 0.0), identify=True),
            ok("$marker"),
            needs="intake",
        ),
        stage("delegate", given(), subpipeline(CHILD), identify(), ok("$marker"), needs="intake"),
        stage(
            "answer",
            given(),
            read("enrich"),
            emit("answered", "$marker"),
            ok("$marker"),
            needs="enrich score delegate",
        ),
    )


def failing(name: str) -> Program:
    """A pipeline whose last stage quotes the marker in its error, while a sibling is at work."""
    return program(
        name,
        stage("intake", given(), sleep(0.1, 0.0), ok("$marker")),
        stage(
            "check",
            given(),
            sleep(0.1, 0.0),
            raises("ValueError", "no account for $marker"),
            needs="intake",
        ),
        stage("enrich", given(), sleep(0.5), ok("$marker"), needs="intake"),
    )


CHANNELS: tuple[Scenario, ...] = (
    Scenario(
        id="tenant_isolation/two_tenants",
        title="Two tenants, one after the other",
        program=handed_on("two_tenants"),
        plan=Plan(
            runs=(
                RunSpec("r0", "north", inputs={"marker": "marker-north-one"}),
                RunSpec("r1", "south", 5.0, inputs={"marker": "marker-south-two"}),
            )
        ),
        clauses=("TENANT-1",),
        tests=("TENANT-ISOLATION/two_tenants",),
        purpose="A run of one tenant follows that of another on the same pipeline object.",
        category="baseline",
        fires=("input", "read"),
    ),
    Scenario(
        id="tenant_isolation/ten_runs",
        title="Ten concurrent runs of ten tenants",
        program=handed_on("ten_runs"),
        plan=Plan(runs=tenants(10)),
        clauses=("TENANT-1", "TENANT-4"),
        tests=("TENANT-ISOLATION/ten_concurrent_runs",),
        purpose="Ten runs on one pipeline object hand their markers from stage to stage.",
        fires=("input", "read"),
    ),
    Scenario(
        id="tenant_isolation/hundred_runs",
        title="A hundred concurrent runs of twenty tenants",
        program=handed_on("hundred_runs"),
        plan=Plan(runs=tenants(100, of=20, apart_s=0.02)),
        clauses=("TENANT-1", "TENANT-4"),
        tests=("TENANT-ISOLATION/hundred_concurrent_runs",),
        purpose="A hundred runs on one pipeline object hand their markers from stage to stage.",
        fires=("input", "read"),
    ),
    Scenario(
        id="tenant_isolation/every_channel",
        title="Ten tenants' values in events, logs, chunks, threads and child runs",
        program=spoken_of("every_channel"),
        plan=Plan(runs=tenants(10)),
        clauses=("TENANT-1", "TENANT-4"),
        tests=("TENANT-ISOLATION/every_channel",),
        purpose="Ten runs tell of their markers in every way that the engine has.",
        fires=("log", "emit", "chunk", "thread.end", "sub.end"),
    ),
    Scenario(
        id="tenant_isolation/every_channel_hundred",
        title="A hundred runs' values in events, logs, chunks, threads and child runs",
        program=spoken_of("every_channel_hundred"),
        plan=Plan(runs=tenants(100, of=20, apart_s=0.02)),
        clauses=("TENANT-1", "TENANT-4"),
        purpose="A hundred runs tell of their markers in every way that the engine has.",
        fires=("log", "emit", "chunk", "thread.end", "sub.end"),
    ),
    Scenario(
        id="tenant_isolation/events_and_logs",
        title="Ten tenants' events and log records",
        program=program(
            "events_and_logs",
            stage(
                "a",
                given(),
                emit("seen", {"of": "$marker"}),
                sleep(0.1, 0.0),
                log("seen $marker"),
                ok("a"),
            ),
            stage(
                "b",
                given(),
                sleep(0.0, 0.1),
                emit("done", "$marker"),
                log("done $marker"),
                ok("b"),
                needs="a",
            ),
        ),
        plan=Plan(runs=tenants(10)),
        clauses=("TENANT-1",),
        tests=("TENANT-ISOLATION/events_and_logs",),
        purpose="The stages of ten runs emit events and write log records in turns.",
        fires=("emit", "log"),
    ),
    Scenario(
        id="tenant_isolation/events_through_a_queue",
        title="Ten tenants' events through one queue and a slow sink",
        program=program(
            "events_through_a_queue",
            stage(
                "a",
                given(),
                emit("seen", {"of": "$marker"}),
                sleep(0.1, 0.0),
                emit("seen", "$marker"),
                ok("$marker"),
            ),
            stage("b", given(), sleep(0.0, 0.1), emit("done", ["$marker"]), ok("b"), needs="a"),
        ),
        plan=Plan(runs=tenants(10), sink=Sink(delivery_s=0.01, queue_max=1_000, drain_s=5.0)),
        clauses=("TENANT-1",),
        purpose="Ten runs share one sink, which is slow, so that their events wait side by side.",
        fires=("emit", "deliver.end"),
    ),
    Scenario(
        id="tenant_isolation/errors",
        title="Ten tenants' runs fail at once",
        program=failing("errors"),
        plan=Plan(runs=tenants(10)),
        clauses=("TENANT-1", "TENANT-4", "PART-4"),
        tests=("TENANT-ISOLATION/errors",),
        purpose="Ten runs fail, and each error quotes its own run's marker.",
        category="chaos",
        fires=("interrupt",),
    ),
    Scenario(
        id="tenant_isolation/errors_of_some",
        title="Four of ten runs fail beside each other",
        program=handed_on("errors_of_some"),
        plan=Plan(
            runs=tenants(10),
            layers=(Layer("raise", "outage", ("score",), runs=("r1", "r4", "r5", "r8")),),
        ),
        clauses=("TENANT-4", "TENANT-1"),
        tests=("TENANT-ISOLATION/failures_beside",),
        purpose="A layer fails in four of ten runs; the other six are to notice nothing.",
        category="chaos",
        fires=("layer.raise",),
    ),
    Scenario(
        id="tenant_isolation/cancels_of_some",
        title="Three of ten runs are cancelled",
        program=handed_on("cancels_of_some"),
        plan=Plan(
            runs=tenants(10),
            cancels=(
                Cancel(run="r2", at_s=0.05),
                Cancel(run="r3", at_s=0.17),
                Cancel(run="r6", at_s=0.35, times=2, gap_s=0.01),
            ),
        ),
        clauses=("TENANT-4", "TENANT-1"),
        tests=("TENANT-ISOLATION/cancels_beside",),
        purpose="The callers of three runs cancel; the other seven are to notice nothing.",
        category="chaos",
        fires=("cancel.sent",),
    ),
    Scenario(
        id="tenant_isolation/one_tenant_ten_runs",
        title="Ten concurrent runs of one tenant",
        program=handed_on("one_tenant_ten_runs"),
        plan=Plan(runs=tenants(10, of=1)),
        clauses=("TENANT-4",),
        purpose="Ten runs of one tenant, whose values are no secrets, but not to be mixed up.",
        category="baseline",
        fires=("input", "read"),
    ),
)
