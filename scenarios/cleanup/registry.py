"""The engine's own cleanup registry, where it has one."""

from __future__ import annotations

from harness.contract.scenario import Scenario
from harness.kernel.plan import Cancel, Plan, RunSpec
from scenarios.notation import cancel_run, cleanup, ok, program, raises, sleep, stage

__all__ = ["REGISTRY"]

TWO_RUNS = (RunSpec("r0", "t0"), RunSpec("r1", "t1", start_s=0.2))

REGISTRY: tuple[Scenario, ...] = (
    Scenario(
        id="cleanup/registry_order",
        title="Registered cleanups run backwards",
        program=program(
            "registry_order",
            stage("open", cleanup("database", 0.1), sleep(0.1), ok("open")),
            stage("load", cleanup("cursor", 0.1), cleanup("lock", 0.1), ok("rows"), needs="open"),
        ),
        plan=Plan(),
        clauses=("CLEAN-3", "CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="Two stages register three cleanups, and the run ends well.",
        category="baseline",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_on_failure",
        title="Registered cleanups when the run fails",
        program=program(
            "registry_on_failure",
            stage("open", cleanup("database", 0.1), sleep(0.1), ok("open")),
            stage("load", cleanup("cursor", 0.1), raises("ValueError", "no table"), needs="open"),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-3", "CLEAN-2", "CLEAN-5"),
        purpose="A stage fails after two cleanups were registered.",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_on_stage_cancel",
        title="Registered cleanups when a stage ends the run",
        program=program(
            "registry_on_stage_cancel",
            stage("open", cleanup("database", 0.1), sleep(0.1), ok("open")),
            stage("check", cancel_run("nothing new"), needs="open"),
        ),
        plan=Plan(),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A stage ends the run after a cleanup was registered.",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_on_timeout",
        title="Registered cleanups when a stage times out",
        program=program(
            "registry_on_timeout",
            stage("load", cleanup("cursor", 0.1), sleep(2.0), ok("rows")),
        ),
        plan=Plan(stage_timeout_s=0.5),
        clauses=("CLEAN-1", "CLEAN-2", "CLEAN-5"),
        purpose="A stage times out after it registered a cleanup.",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_on_caller_cancel",
        title="Registered cleanups when the caller cancels, at every point",
        program=program(
            "registry_on_caller_cancel",
            stage("open", cleanup("database", 0.2), sleep(0.1), ok("open")),
            stage("load", cleanup("cursor", 0.1), sleep(0.2), ok("rows"), needs="open"),
        ),
        plan=Plan(cancels=(Cancel(at_point=-1),)),
        clauses=("CLEAN-1", "CLEAN-3", "CLEAN-2", "CANCEL-3", "CLEAN-5"),
        tests=("CANCEL-CLEANUP/registered_cleanups",),
        purpose="The caller cancels before, in and after the run of registered cleanups.",
        category="chaos",
        sweep="cancel_points",
        fires=("cancel.sent", "register"),
    ),
    Scenario(
        id="cleanup/registry_recancelled",
        title="A second cancel while registered cleanups run",
        program=program(
            "registry_recancelled",
            stage("load", cleanup("database", 0.3), cleanup("cursor", 0.3), sleep(2.0), ok("rows")),
        ),
        plan=Plan(cancels=(Cancel(at_s=0.2, times=2, gap_s=0.1),)),
        clauses=("CLEAN-2", "CLEAN-1", "CANCEL-5", "CLEAN-5"),
        purpose="The caller cancels again while two registered cleanups are under way.",
        category="chaos",
        fires=("cancel.sent", "register"),
    ),
    Scenario(
        id="cleanup/registry_failing",
        title="A registered cleanup that fails",
        program=program(
            "registry_failing",
            stage(
                "load",
                cleanup("database", 0.1),
                cleanup("cursor", 0.1, fails=True),
                cleanup("lock", 0.1),
                ok("rows"),
            ),
        ),
        plan=Plan(),
        clauses=("CLEAN-4", "CLEAN-1", "CLEAN-3", "CLEAN-5"),
        purpose="The middle one of three registered cleanups raises.",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_slow",
        title="Registered cleanups that need most of the grace",
        program=program(
            "registry_slow",
            stage("load", cleanup("database", 0.4), cleanup("cursor", (0.2, 0.5)), ok("rows")),
        ),
        plan=Plan(cleanup_grace_s=1.0),
        clauses=("CLEAN-2", "CLEAN-1", "CLEAN-3", "CLEAN-5"),
        purpose="Two registered cleanups take up to 0.9 s of a grace of 1 s.",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_two_runs",
        title="Registered cleanups of two runs at once",
        program=program(
            "registry_two_runs",
            stage("load", cleanup("cursor", 0.1), sleep(0.6), ok("rows")),
        ),
        plan=Plan(runs=TWO_RUNS),
        clauses=("CLEAN-6", "CLEAN-1", "CLEAN-5"),
        purpose="Two runs of one pipeline overlap, and one ends while the other is at work.",
        fires=("register",),
    ),
    Scenario(
        id="cleanup/registry_two_runs_cancelled",
        title="Registered cleanups of two runs, one of which is cancelled",
        program=program(
            "registry_two_runs_cancelled",
            stage("load", cleanup("cursor", 0.1), sleep(0.6), ok("rows")),
        ),
        plan=Plan(runs=TWO_RUNS, cancels=(Cancel(run="r1", at_s=0.4),)),
        clauses=("CLEAN-6", "CLEAN-1", "CANCEL-3", "CLEAN-5"),
        purpose="One of two overlapping runs is cancelled while both have cleanups registered.",
        fires=("cancel.sent", "register"),
    ),
)
