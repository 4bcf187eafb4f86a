"""PART and STREAM: partial outputs of a run, and of a stage.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

from typing import Any

from harness.contract import scripts
from harness.contract.beside import troubled_beside
from harness.contract.clause import Clause, Judgement, Violation, blocked, untested, violated
from harness.contract.reach import failed_together, outputs_lost
from harness.contract.reading import CLOSE_S, Ran, Reading

__all__ = ["PART", "STREAM"]


def _ender(r: Reading, run: str) -> tuple[str, Ran | None]:
    """Return what ended the run early ("fail", "timeout", "cancel_run" or "") and by whom."""
    facts = r.runs[run]
    if facts.cancels or not facts.over:
        return "", None
    timed = [o for o in r.executions(run) if r.gone_by_timeout(o)]
    at, kind = r.first_cause(run)
    timed.sort(key=r.timed_out_at)
    if timed and (not kind or r.timed_out_at(timed[0]) < at):
        return "timeout", timed[0]
    if kind in ("fail", "cancel_run"):
        return kind, next(o for o in r.executions(run) if o.end == at)
    return "", None


def _early(r: Reading, run: str, who: Ran) -> list[Ran]:
    return [
        o
        for o in r.executions(run)
        if o.how == "ok" and o.end_s < r.end_began_s(who) - CLOSE_S and o is not who
    ]


def check_part_1(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    completed = 0
    for run in r.runs:
        kind, who = _ender(r, run)
        if who is None or kind not in ("fail", "timeout") or not r.told(run):
            continue
        early = _early(r, run, who)
        completed += len(early)
        if early:
            bad += outputs_lost(r, run, who, shape="outputs-lost")
            bad += _changed(r, run, early)
    return violated(bad, completed_before_failure=completed) if completed else untested()


def _changed(r: Reading, run: str, ones: list[Ran]) -> list[Violation]:
    """Find reachable outputs that are not what the stage returned."""
    outcome = r.outcome(run)
    if outcome is None:
        return []
    for one in ones:
        said = r.of("returned", run, one.stage)
        report = outcome.stages.get(one.stage)
        if not said or report is None or report.status != "completed":
            continue
        if any(entry.detail[0] == one.stage for entry in r.all_of("mutated", run)):
            continue  # another stage did it: CTX-2
        if r.failed_in_layer(run, one.stage):
            continue  # what it returned counts for nothing; another layer may have answered since
        if report.value != said[-1].detail:
            return [
                Violation(
                    "output-changed",
                    f"the output of stage {one.stage} is {said[-1].detail!r}",
                    f"it is {report.value!r}",
                    one.stage,
                    "",
                    {},
                    (one.end,),
                )
            ]
    return []


def check_part_2(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    completed = 0
    for run in r.runs:
        kind, who = _ender(r, run)
        if who is None or kind != "cancel_run" or failed_together(r, who):
            continue
        early = _early(r, run, who)
        completed += len(early)
        if early:
            bad += outputs_lost(r, run, who, shape="outputs-lost")
            bad += _changed(r, run, early)
    return violated(bad, completed_before_cancel=completed) if completed else untested()


def check_part_3(r: Reading) -> Judgement:
    """PART-3: stages that completed in the tick of the failure count as completed."""
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    ties = 0
    obstructed = False
    for run, facts in r.runs.items():
        outcome = r.outcome(run)
        at, kind = r.first_cause(run)
        if outcome is None or kind not in ("fail", "cancel_run") or facts.cancels:
            continue
        if not r.told(run):
            continue
        when = r.time_of(at)
        done = [o for o in r.executions(run) if o.how == "ok" and not o.interrupts]
        tied = [o for o in done if abs(o.end_s - when) <= CLOSE_S and o.end < facts.end]
        tied = [o for o in tied if o.start_s < when - CLOSE_S]
        tied = [o for o in tied if not r.failed_in_layer(run, o.stage)]
        if not tied or outcome.status == "ok":
            continue
        earlier = [o for o in done if o.end_s < when - CLOSE_S]
        reach = [s for s, rep in outcome.stages.items() if rep.status == "completed"]
        if earlier and not any(o.stage in reach for o in earlier):
            obstructed = True
            continue
        ties += len(tied)
        missing = [o for o in tied if o.stage not in reach]
        if missing:
            bad.append(
                Violation(
                    "tied-output-lost",
                    f"{len(tied)} stages that completed in the tick of the "
                    f"{'failure' if kind == 'fail' else 'cancellation'} count as completed",
                    f"{len(tied) - len(missing)} do",
                    missing[0].stage,
                    r.any_location(run),
                    {"reachable": len(tied) - len(missing), "tied": len(tied)},
                    (missing[0].end, at),
                )
            )
    if not ties:
        return blocked("PART-1") if obstructed else untested()
    return violated(bad, completed_in_tie=ties)


def check_part_4(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    failures = 0
    for run, facts in r.runs.items():
        outcome = r.outcome(run)
        if outcome is None or facts.cancels or not facts.over or not r.told(run):
            continue
        failed = [o for o in r.executions(run) if o.failed_by_itself and o.end < facts.end]
        if not failed or r.first_cause(run)[1] != "fail":
            continue
        if outcome.status == "cancelled" and _called_off(r, run, failed):
            continue
        failures += len(failed)
        told = [f.stage for f in outcome.failures]
        missing = [o for o in failed if o.stage not in told]
        # Of a stage that was to be tried again, or that timed out, an engine may tell as well, and
        # then does not tell of the others without their names, but not at all.
        others = {
            o.stage for o in r.executions(run) if (o.attempt_failed and o.again) or r.by_timeout(o)
        }
        more = len(others & set(told) - {o.stage for o in failed})
        where = r.any_location(run)
        at = tuple(o.end for o in failed[:5])
        if missing and len(missing) == len(failed) and not more:
            bad.append(
                Violation(
                    "stage-not-named",
                    f"the failure of stage {missing[0].stage} is reported with its name",
                    f"the run ended {outcome.status}; reported: "
                    f"{[f.message for f in outcome.failures][:2]}",
                    missing[0].stage,
                    where,
                    {},
                    at,
                )
            )
        elif missing:
            bad.append(
                Violation(
                    "failures-lost",
                    f"all {len(failed) + more} failures are reported",
                    f"{len(failed) + more - len(missing)} of {len(failed) + more} are",
                    missing[0].stage,
                    where,
                    {
                        "reported": len(failed) + more - len(missing),
                        "failures": len(failed) + more,
                    },
                    at,
                )
            )
        bad += _cause(r, run, failed, where)
    return violated(bad, failures=failures) if failures else untested()


def _called_off(r: Reading, run: str, failed: list[Ran]) -> bool:
    """Say whether something else may have ended a run as well: a stage that asked for it in the
    instant of a failure, or the failure of another run (TENANT-4)."""
    asked = [o for o in r.executions(run) if o.how == "cancel_run"]
    return troubled_beside(r, run, r.runs[run].end_s) or any(
        abs(one.end_s - other.end_s) <= r.tolerance_s for one in failed for other in asked
    )


def _cause(r: Reading, run: str, failed: list[Ran], where: str) -> list[Violation]:
    outcome = r.outcome(run)
    assert outcome is not None  # the caller has checked it
    for one in failed:
        if not one.how.startswith("raise:") or r.failed_in_layer(run, one.stage):
            continue
        name = one.how.removeprefix("raise:")
        mine = [f for f in outcome.failures if f.stage == one.stage]
        if not mine:
            continue
        chain = outcome.raised.chain if outcome.raised is not None else ()
        # Of a stage that was retried, an engine may report each attempt.
        told = {f.error for f in mine} if one.stage in r.shape.attempts else {mine[0].error}
        if name not in told and name not in chain:
            return [
                Violation(
                    "cause-lost",
                    f"the failure of stage {one.stage} carries its {name}",
                    f"the exception is gone; what is left says: {mine[0].message}",
                    one.stage,
                    where,
                    {},
                    (one.end,),
                )
            ]
    return []


def check_stream_1(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    produced = 0
    for one in r.executions():
        outcome = r.outcome(one.run)
        every = [e.detail for e in r.of("chunk", one.run, one.stage)]
        if not one.ended:  # what it brings when the run is over, nobody waits for
            left = r.entries[: r.runs[one.run].left] if r.runs[one.run].over else r.entries
            mine = (e for e in left if e.kind == "chunk" and e[1:3] == (one.run, one.stage))
            every = [e.detail for e in mine]
        chunks = _chunks_of(r, one, every)
        done = one.how in ("ok", "skip")
        if not chunks or done or outcome is None or r.runs[one.run].cancels or not r.told(one.run):
            continue
        given_up = one.swallowed and (not one.ended or r.used_up_grace(one))
        if r.layers_disturb(one.run) or given_up or one.end > r.runs[one.run].end:
            continue  # what it brings when the run is over, nobody waits for
        if one.stage in r.shape.attempts and r.of("consume.stop", one.run, one.stage):
            continue  # between two attempts, it may be
        if _consumer_gone(r, one):
            continue  # nobody was to have them
        produced += len(chunks)
        report = outcome.stages.get(one.stage)
        got = list(report.partial or ()) if report is not None else []
        # Of a stage that was retried, an engine may keep those of all attempts.
        kept = [chunks, every, *((chunks[:-1], every[:-1]) if _waited(r, one) else ())]
        if r.plan.consumer is not None and one.stage in r.shape.attempts and len(chunks) == 1:
            kept.append(every[:-1])  # the attempt before may have closed the consumer's channel
        if got not in kept:
            bad.append(
                Violation(
                    "chunks-lost" if len(got) < len(chunks) else "chunks-changed",
                    f"the {len(chunks)} chunks that stage {one.stage} produced can be reached",
                    f"{len(got)} can",
                    one.stage,
                    r.any_location(one.run),
                    {"reachable": len(got), "produced": len(chunks)},
                    (one.start, one.end),
                )
            )
    return violated(bad, chunks_produced=produced) if produced else untested()


def _chunks_of(r: Reading, one: Ran, every: list[Any]) -> list[Any]:
    """Return those of a stage's chunks that belong to this execution; none of an attempt that
    another one followed."""
    ones = r.ran[one.run, one.stage]
    if len(ones) == 1 or not every:
        return every
    if one is not ones[-1]:
        return []
    after = [e for e in r.entries[one.start :] if e.kind == "chunk" and e.run == one.run]
    return every[len(every) - sum(1 for e in after if e.stage == one.stage) :]


def _consumer_gone(r: Reading, one: Ran) -> bool:
    """Say whether the consumer of a stage's chunks had stopped when the stage ended."""
    if r.plan.consumer is None:
        return False
    return any(
        e.kind == "consume.stop" and e.run == one.run and e.stage == one.stage
        for e in r.entries[one.start : one.end]
    )


def _waited(r: Reading, one: Ran) -> bool:
    """Say whether a stage may have been stopped while it handed on its last chunk."""
    if one.interrupts:
        at = one.interrupts[0]
        own = [e for e in r.entries[one.start : at] if e[1:3] == (one.run, one.stage)]
        if own[-1].kind == "chunk" and own[-1].at_s >= r.time_of(at) - CLOSE_S:
            return True
    # All channels have its bound. One that never ended may wait for its consumer still.
    return r.plan.consumer is not None and (bool(one.interrupts) or not one.ended)


def check_stream_2(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    partial = 0
    for one in r.executions():
        outcome = r.outcome(one.run)
        chunks = _chunks_of(r, one, r.of("chunk", one.run, one.stage))
        # One that asks to end the run or its branch ends by its own word, with all its chunks.
        done = one.how in ("ok", "skip", "cancel_run", "cancel_branch")
        if not chunks or done or outcome is None or r.runs[one.run].cancels or not r.told(one.run):
            continue
        partial += 1
        report = outcome.stages.get(one.stage)
        if report is not None and report.partial is not None and report.complete:
            bad.append(
                Violation(
                    "not-marked-partial",
                    f"the result of stage {one.stage}, which ended early, is marked as partial",
                    "it looks complete",
                    one.stage,
                    "",
                    {},
                    (one.end,),
                )
            )
    return violated(bad, partial_results=partial) if partial else untested()


STREAM: tuple[Clause, ...] = (
    Clause(
        "STREAM-1",
        "STREAM",
        "keep every chunk produced before a timeout, failure or cancel reachable from the "
        "outcome, in order, none twice",
        "medium",
        "reliability",
        check_stream_1,
        {"": "Chunks produced before a stage ended early are lost"},
        "Finished parts of an answer have to be produced, and paid for, again.",
        "Keep what a stage has streamed in its report.",
        effort="medium",
        needs=frozenset({"streaming"}),
        data_risk="medium",
    ),
    Clause(
        "STREAM-2",
        "STREAM",
        "mark such a result as partial, with how far it came",
        "medium",
        "silent_failure",
        check_stream_2,
        {"": "A partial result is not marked as partial"},
        "Half an answer is taken for a whole one.",
        "Carry a completeness flag with streamed results.",
        needs=frozenset({"streaming"}),
        script=scripts.stream_2,
    ),
)

PART: tuple[Clause, ...] = (
    Clause(
        "PART-1",
        "PART",
        "make the outputs of all stages that completed reachable when the run fails",
        "high",
        "reliability",
        check_part_1,
        {"": "Outputs of completed stages are lost when a run fails"},
        "Completed work is thrown away and must be done again.",
        "Carry the completed outputs on the exception that reports the failure.",
        data_risk="medium",
        workaround="Have each stage store its output outside the engine.",
        script=scripts.part_1,
    ),
    Clause(
        "PART-2",
        "PART",
        "give cancellation the same access to completed outputs as failure",
        "medium",
        "reliability",
        check_part_2,
        {"": "Outputs of completed stages are lost when a stage cancels the run"},
        "Completed work is thrown away and must be done again.",
        "Carry the completed outputs on what reports the cancellation.",
        script=scripts.part_1,
    ),
    Clause(
        "PART-3",
        "PART",
        "lose no output to a tie: stages that complete in the same tick as the failure count as "
        "completed",
        "high",
        "correctness",
        check_part_3,
        {"": "Outputs completed in the tick of a failure or cancellation are lost"},
        "Whether completed work is kept depends on the order of a set.",
        "Take in every finished task of the round before acting on a failure among them.",
        data_risk="medium",
        script=scripts.part_3,
    ),
    Clause(
        "PART-4",
        "PART",
        "report every failure that occurred, not only the first, with stage name and cause chain",
        "medium",
        "silent_failure",
        check_part_4,
        {
            "": "Failures are not all reported",
            "failures-lost": "Only one of several failures is reported",
            "stage-not-named": "A failure is reported without its stage",
            "cause-lost": "A failure is reported without its cause",
            "completed-under-load": "Under load a stage that ended badly is reported as completed",
        },
        "Operators fix the reported failure and meet the next one in the next run.",
        "Collect all failures of the run and attach them to the error.",
        script_of_shape=scripts.part_4,
    ),
)
