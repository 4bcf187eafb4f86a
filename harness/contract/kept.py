"""What stands for a stage that did not run: only what the same stage has completed with.

A stage that is reported as completed and did not run in that run was answered for. An
idempotency layer may do so, with what this stage put out in another run, if that one was a
success; nothing else may. Whether it was another tenant's run is looked at by TENANT-2.
"""

from __future__ import annotations

from harness.contract.clause import Violation
from harness.contract.passage import layers_of
from harness.contract.reading import Ran, Reading
from harness.contract.refused import executions_for
from harness.kernel.outcome import StageReport

__all__ = ["check_kept"]

COMPLETED = "completed"


def check_kept(r: Reading) -> tuple[list[Violation], int]:
    """Return violations, and how many stages were answered for or not run again."""
    bad: list[Violation] = []
    answered = 0
    redriven = {spec.id for spec in r.plan.runs if spec.redrives}
    for run, outcome in r.record.outcomes.items():
        if run not in r.runs or run in redriven:
            continue
        for stage, report in outcome.stages.items():
            if report.status != COMPLETED or (run, stage) in r.ran or stage not in r.program.names:
                continue
            if not layers_of(r, stage) or r.failed_in_layer(run, stage):
                continue  # that a denied or failed stage is told as completed is judged by itself
            answered += 1
            bad += _answered(r, run, stage, report)
    for stage in r.program.names:
        if layers_of(r, stage, "idempotency"):
            for tenant in dict.fromkeys(spec.tenant for spec in r.plan.runs):
                bad += _ran_again(r, executions_for(r, tenant, stage))
    return bad, answered


def _answered(r: Reading, run: str, stage: str, report: StageReport) -> list[Violation]:
    def say(shape: str, actual: str) -> list[Violation]:
        return [
            Violation(
                shape,
                f"stage {stage} is reported as completed only if it ran, or had completed under "
                "its key",
                actual,
                stage,
                r.any_location(run),
                {},
                (r.runs[run].end,),
            )
        ]

    if not layers_of(r, stage, "idempotency"):
        return say("completed-without-running", f"in run {run} it did not run")
    before = [one for one in r.executions() if one.stage == stage and one.start < r.runs[run].end]
    sources = [one for one in before if one.how == "ok" and _was_success(r, one)]
    if not sources:
        if _of_another(r, stage, report):
            return say("kept-for-another-stage", f"its output in run {run} is another stage's")
        # Whether a failure was kept, or another layer's refusal, cannot be seen from outside.
        tried = f"{len(before)} earlier executions were no success" if before else "nor before"
        return say("completed-without-running", f"in run {run} it did not run; {tried}")
    values = [r.of("returned", one.run, stage) for one in sources]
    if any(not said for said in values) or any(report.value == said[-1].detail for said in values):
        return []
    shape = "kept-for-another-stage" if _of_another(r, stage, report) else "kept-wrong"
    return say(shape, f"in run {run} its output is {report.value!r:.80}")


def _of_another(r: Reading, stage: str, report: StageReport) -> bool:
    said = r.all_of("returned")
    return any(e.stage != stage and e.detail == report.value for e in said)


def _was_success(r: Reading, one: Ran) -> bool:
    """Say whether a run's outcome, if it says anything of the stage, calls it completed."""
    outcome = r.outcome(one.run)
    report = outcome.stages.get(one.stage) if outcome is not None else None
    return report is None or report.status == COMPLETED


def _told_success(r: Reading, one: Ran) -> bool:
    outcome = r.outcome(one.run)
    report = outcome.stages.get(one.stage) if outcome is not None else None
    return one.how == "ok" and report is not None and report.status == COMPLETED


def _ran_again(r: Reading, ones: list[Ran]) -> list[Violation]:
    for first in ones:
        if not _told_success(r, first):
            continue
        for later in ones:
            if later.run == first.run or later.start < first.start:
                continue
            after = r.runs[later.run].begin > r.runs[first.run].end >= 0
            beside = later.start < first.end and _told_success(r, later)
            if after or beside:
                how = "beside" if beside else "after"
                return [
                    Violation(
                        "ran-again-under-its-key",
                        f"stage {first.stage} does not run again under a key under which it "
                        "completed",
                        f"run {later.run} ran it {how} run {first.run}",
                        first.stage,
                        "",
                        {},
                        (first.start, later.start),
                    )
                ]
    return []
