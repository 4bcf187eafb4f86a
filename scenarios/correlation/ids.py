"""Correlation ids, in every place to which the code of a run goes."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan, RunSpec, Sink
from harness.kernel.program import Program
from scenarios.notation import (
    cleanup,
    emit,
    given,
    identify,
    log,
    never,
    ok,
    program,
    raises,
    sleep,
    spawn,
    stage,
    subpipeline,
    thread,
)

__all__ = ["IDS", "asked", "journey", "traceparent"]


def traceparent(number: int, *, flags: str = "01") -> str:
    """Return a caller's header; every number is a trace of its own."""
    return f"00-{0xA11CE << 64 | number + 1:032x}-{0xCA11 << 32 | number + 1:016x}-{flags}"


def asked(
    runs: int, *, apart_s: float = 0.03, traced: bool = False, marked: bool = False
) -> tuple[RunSpec, ...]:
    """Return overlapping runs, each with the ids that its caller gave it, and a marker if asked."""
    return tuple(
        RunSpec(
            f"r{i}",
            tenant=f"tenant-{i % 5}",
            start_s=round(i % 11 * apart_s, 3),
            inputs={"marker": f"request-{i:03d}-{i * 6947 % 1000:03d}"} if marked else {},
            correlation=f"corr-{i:03d}-{i * 104729 % 10007:05d}",
            traceparent=traceparent(i) if traced else "",
        )
        for i in range(runs)
    )


CHILD = program(
    "lookup",
    stage(
        "search",
        given(),
        identify("subpipeline"),
        sleep(0.1, 0.0),
        identify("subpipeline"),
        log("searched for $marker"),
        emit("searched", "$marker"),
        ok("hits"),
    ),
    stage(
        "rank",
        spawn("worker", sleep(0.0, 0.1), identify("subpipeline")),
        identify("subpipeline"),
        ok("ranked"),
        needs="search",
    ),
)


def journey(name: str, *, fails: bool = False) -> Program:
    """Five stages that go through every place there is."""
    end = raises("RuntimeError", "no answer") if fails else ok("answered")
    return program(
        name,
        stage(
            "intake",
            given(),
            identify(),
            log("intake of $marker"),
            emit("received", "$marker"),
            sleep(0.1, 0.0),
            identify(),
            ok("read"),
        ),
        stage(
            "search",
            identify(),
            cleanup("index", 0.1, identify=True),
            spawn("worker", identify("task"), sleep(0.1, 0.0), identify("task")),
            ok("found"),
            needs="intake",
        ),
        stage(
            "score",
            given(),
            thread((0.1, 0.0), identify=True),
            identify(),
            log("scored $marker"),
            ok("scored"),
            needs="intake",
        ),
        stage("delegate", identify(), subpipeline(CHILD), identify(), ok("done"), needs="intake"),
        stage(
            "answer",
            given(),
            sleep(0.0, 0.1),
            identify(),
            emit("answered", "$marker"),
            log("answered $marker"),
            end,
            needs="search score delegate",
        ),
    )


QUIET_CHILD = program(
    "lookup",
    stage("search", identify("subpipeline"), sleep(0.1, 0.0), ok("hits")),
    stage(
        "rank",
        spawn("worker", sleep(0.0, 0.1), identify("subpipeline")),
        identify("subpipeline"),
        ok("ranked"),
        needs="search",
    ),
)

PLAIN = program(
    "plain",
    stage("first", identify(), sleep(0.1, 0.0), identify(), ok("first")),
    stage(
        "second",
        spawn("worker", sleep(0.0, 0.1), identify("task")),
        sleep(0.05),
        identify(),
        ok("second"),
        needs="first",
    ),
    stage("third", thread((0.1, 0.0), identify=True), identify(), ok("third"), needs="first"),
)

IDS: tuple[Scenario, ...] = (
    Scenario(
        id="correlation/one_run",
        title="One run, its tasks and threads",
        program=PLAIN,
        plan=Plan(runs=asked(1)),
        clauses=("CORR-1",),
        tests=("CORRELATION/one_run",),
        purpose="Three stages, a task and a worker thread say for whom they work.",
        category="baseline",
        fires=("identity",),
    ),
    Scenario(
        id="correlation/ten_runs",
        title="Ten concurrent runs, their tasks and threads",
        program=PLAIN,
        plan=Plan(runs=asked(10)),
        clauses=("CORR-3", "CORR-1"),
        tests=("CORRELATION/ten_runs",),
        purpose="The stages, tasks and threads of ten runs say in turns for whom they work.",
        fires=("identity",),
    ),
    Scenario(
        id="correlation/log_records",
        title="Log records of ten concurrent runs",
        program=program(
            "log_records",
            stage(
                "a",
                given(),
                log("one of $marker"),
                sleep(0.1, 0.0),
                log("two of $marker"),
                spawn("worker", sleep(0.0, 0.1), log("three of $marker")),
                ok("a"),
            ),
            stage("b", given(), sleep(0.0, 0.1), log("four of $marker"), ok("b"), needs="a"),
        ),
        plan=Plan(runs=asked(10, marked=True)),
        clauses=("CORR-1", "CORR-3"),
        tests=("CORRELATION/log_records",),
        purpose="Stages and tasks of ten runs write log records in turns.",
        fires=("log",),
    ),
    Scenario(
        id="correlation/events",
        title="Events of ten concurrent runs",
        program=program(
            "events",
            stage(
                "a",
                given(),
                emit("one", "$marker"),
                sleep(0.1, 0.0),
                emit("two", "$marker"),
                ok("a"),
            ),
            stage(
                "b",
                given(),
                spawn("worker", sleep(0.0, 0.1), emit("three", "$marker")),
                ok("b"),
                needs="a",
            ),
        ),
        plan=Plan(runs=asked(10, marked=True)),
        clauses=("CORR-1", "CORR-3"),
        tests=("CORRELATION/events",),
        purpose="Stages and tasks of ten runs emit events in turns.",
        fires=("emit",),
    ),
    Scenario(
        id="correlation/events_through_a_queue",
        title="Events of ten runs through one queue and a slow sink",
        program=program(
            "events_through_a_queue",
            stage(
                "a", given(), emit("one", "$marker"), sleep(0.1, 0.0), emit("two", "$marker"), ok()
            ),
            stage("b", given(), sleep(0.0, 0.1), emit("three", "$marker"), ok(), needs="a"),
        ),
        plan=Plan(
            runs=asked(10, marked=True), sink=Sink(delivery_s=0.01, queue_max=1_000, drain_s=5.0)
        ),
        clauses=("CORR-1", "CORR-3"),
        purpose="Ten runs share one sink; what hands their events on belongs to none of them.",
        fires=("emit", "deliver.end"),
    ),
    Scenario(
        id="correlation/child_runs",
        title="Child runs of ten concurrent runs",
        program=program(
            "child_runs",
            stage("delegate", identify(), subpipeline(QUIET_CHILD), identify(), ok("done")),
            stage("again", subpipeline(QUIET_CHILD), identify(), ok("done")),
        ),
        plan=Plan(runs=asked(10)),
        clauses=("CORR-1", "CORR-3"),
        tests=("CORRELATION/child_runs",),
        purpose="Two stages of each of ten runs run a child pipeline at the same time.",
        fires=("sub.end", "identity"),
    ),
    Scenario(
        id="correlation/plain_errors",
        title="Runs whose stage raises",
        program=program(
            "plain_errors",
            stage("first", identify(), sleep(0.1, 0.0), ok("first")),
            stage("second", sleep(0.1, 0.0), raises("ValueError", "no answer"), needs="first"),
        ),
        plan=Plan(runs=asked(6)),
        clauses=("CORR-1",),
        tests=("CORRELATION/plain_errors",),
        purpose="Six runs fail; whoever gets the error can tell from it which request it was.",
        category="baseline",
        fires=("identity",),
    ),
    Scenario(
        id="correlation/fifty_runs",
        title="Fifty concurrent runs through five stages and every place",
        program=journey("fifty_runs"),
        plan=Plan(runs=asked(50, marked=True)),
        clauses=("CORR-1", "CORR-3"),
        tests=("CORRELATION/five_stages_fifty_runs",),
        purpose="Fifty runs go through tasks, threads, child runs, events, log records and "
        "cleanups at the same time.",
        fires=("identity", "thread.end", "sub.end", "emit", "log", "release.end"),
    ),
    Scenario(
        id="correlation/errors",
        title="Ten runs that fail",
        program=journey("errors", fails=True),
        plan=Plan(runs=asked(10, marked=True)),
        clauses=("CORR-1", "CORR-3"),
        tests=("CORRELATION/errors",),
        purpose="Ten runs fail at their last stage; each error and each cleanup is some run's.",
        category="chaos",
        fires=("identity", "release.end"),
    ),
    Scenario(
        id="correlation/cleanups_of_cancelled_runs",
        title="Cleanups of cancelled runs",
        program=program(
            "cleanups_of_cancelled_runs",
            stage(
                "hold",
                cleanup("first", 0.1, identify=True),
                identify(),
                sleep(0.2, 0.1),
                cleanup("second", identify=True),
                never(),
            ),
            stage("work", cleanup("third", 0.1, identify=True), sleep(0.3), ok("worked")),
        ),
        plan=Plan(
            runs=asked(6),
            cancels=tuple(Cancel(run=f"r{i}", at_s=0.4 + i / 20) for i in range(6)),
        ),
        clauses=("CORR-1", "CORR-3", "CLEAN-1"),
        tests=("CORRELATION/cleanups",),
        purpose="The callers of six runs cancel; their cleanups run beside each other and say for "
        "whom.",
        category="chaos",
        fires=("cancel.sent", "identity", "release.end"),
    ),
    Scenario(
        id="correlation/timeouts",
        title="Errors and cleanups of runs that time out",
        program=program(
            "timeouts",
            stage(
                "hold",
                cleanup("lock", 0.1, identify=True),
                identify(),
                spawn("worker", identify("task"), sleep(0.1, 0.2), identify("task")),
                never(),
            ),
        ),
        plan=Plan(runs=asked(10), stage_timeout_s=0.5),
        clauses=("CORR-1", "CORR-3"),
        tests=("CORRELATION/timeouts",),
        purpose="A stage of each of ten runs times out; error and cleanup are that run's.",
        category="chaos",
        fires=("identity", "interrupt"),
    ),
)
