"""Situations: what a run should sometimes come to, so that a search is known to have been there.

A search that never let a timeout fire during a cleanup proves nothing about that. Each
situation is named, counted, reported, and tells the generator which features bring it about:
what has been seen least is aimed at. They are facts of the journal; whether the engine did
right in them is for the clauses to say.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from harness.contract.reading import Reading
from harness.kernel.record import RunRecord

__all__ = ["SITUATIONS", "situations"]

# Situation -> features of the generator that bring it about.
SITUATIONS: Mapping[str, tuple[str, ...]] = {
    "two stages completed in one tick": ("read",),
    "a stage completed in the tick of a failure": ("fail", "raise"),
    "two stages failed in one tick": ("fail", "raise"),
    "a stage failed while another ran": ("raise",),
    "a stage failed while another cleaned up": ("raise", "acquire"),
    "a stage timed out": ("stage_timeout", "each_timeout"),
    "two stages timed out in one tick": ("stage_timeout", "each_timeout"),
    "a stage ended in the tick of its timeout": ("each_timeout",),
    "a timeout fired during cleanup": ("each_timeout", "acquire", "using"),
    "a stage's own timeout expired": ("scope",),
    "a stage's own timeout and the engine's were due in one tick": ("scope", "each_timeout"),
    "a tool call timed out": ("call", "tool_timeout"),
    "a tool fault fired": ("call", "tool_faults"),
    "a thread outlived its stage": ("thread", "each_timeout", "cancel"),
    "a cancel landed before any stage began": ("cancel", "cancel_point"),
    "a cancel landed while a stage waited": ("cancel", "cancel_point"),
    "a cancel landed during cleanup": ("cancel", "acquire", "cleanup", "raise"),
    "a cancel landed in the tick of a stage's end": ("cancel", "acquire"),
    "a cancel landed after a failure": ("cancel", "cancel_point", "raise", "acquire"),
    "a cancel landed in the sink": ("cancel", "cancel_point", "sink", "flood"),
    "a cancel landed in a compensation": ("cancel", "cancel_point", "compensate", "raise"),
    "a cancel landed in a subpipeline": ("cancel", "cancel_point", "sub"),
    "a cancel landed between two attempts": ("cancel", "cancel_point", "retry", "flaky"),
    "a second cancel landed during cleanup": ("cancel", "cancel_again", "acquire", "using"),
    "a cleanup failed": ("cleanup", "acquire", "failing_cleanup"),
    "a cleanup was cut off": ("cancel", "cancel_again", "acquire", "scope"),
    "cleanups took longer than the grace": ("cleanup", "grace"),
    "a stage ended the run": ("cancel_run",),
    "a stage ended the run in the tick of a failure": ("cancel_run", "raise", "fail"),
    "a stage cancelled its branch": ("cancel_branch",),
    "a stage was skipped": ("skip",),
    "a stage raised CancelledError by itself": ("self_cancel",),
    "a stage swallowed a cancel": ("swallow", "cancel_run"),
    "a stage outlived its run": ("swallow", "grace", "cancel_run"),
    "a subpipeline failed": ("sub", "raise"),
    "a stage was retried": ("retry", "flaky"),
    "a retry gave up": ("retry", "raise"),
    "a run was redriven": ("redrive", "flaky"),
    "a compensation ran": ("compensate", "raise"),
    "a compensation failed": ("compensate", "raise"),
    "two runs overlapped": ("runs",),
    "two runs were in one stage at once": ("runs",),
    "a run failed beside another": ("runs", "raise"),
    "a run was cancelled beside another": ("runs", "cancel"),
    "the event queue refused or dropped": ("flood", "sink", "queue"),
    "an event waited for room": ("flood", "sink", "queue"),
    "the sink raised": ("flood", "sink"),
    "an event never came out of the sink": ("flood", "sink"),
    "a consumer stopped early": ("chunk", "consumer"),
    "a producer was ahead of its consumer": ("chunk", "consumer"),
    "a layer failed": ("layers",),
    "a guard denied": ("guard",),
    "a stage was kept from running by a layer of the engine": ("breaker", "rate", "runs", "raise"),
    "the caller's tenant was told to a stage": ("identify", "correlation"),
    "a trespass was tried": ("store", "runs", "tenants"),
    "the build was refused": ("ill_formed",),
    "a run never ended": ("never", "swallow"),
}

CLOSE_S = 1e-6
FAILED = ("fail", "raise:")


def situations(record: RunRecord, reading: Reading) -> frozenset[str]:
    """Return the situations that a run came to."""
    if record.build_error is not None:
        return frozenset({"the build was refused"})
    found: set[str] = set()
    if record.ended != "over":
        found.add("a run never ended")
    _of_stages(reading, found)
    _of_journal(reading, found)
    _of_runs(reading, found)
    return frozenset(found)


def _of_stages(r: Reading, found: set[str]) -> None:
    """What can be told from when stages began and ended."""
    add = found.add
    ended_at: dict[tuple[str, float], list[str]] = {}
    timed_at: set[tuple[str, float]] = set()
    redriven = {spec.id for spec in r.plan.runs if spec.redrives}
    for (run, _), ones in r.ran.items():
        if len(ones) > 1:
            add("a stage was retried")
        if ones[-1].attempt_failed and len(ones) > 1:
            add("a retry gave up")
        if run in redriven:
            add("a run was redriven")
        for one in ones:
            how = one.how
            if one.ended:
                kind = "failed" if one.attempt_failed else how
                ended_at.setdefault((run, round(one.end_s, 6)), []).append(kind)
            if one.self_cancelled:
                add("a stage raised CancelledError by itself")
            if one.swallowed:
                add("a stage swallowed a cancel")
            if how == "skip":
                add("a stage was skipped")
            elif how == "cancel_branch":
                add("a stage cancelled its branch")
            elif how == "cancel_run":
                add("a stage ended the run")
            if run in r.runs:
                _timeout(r, one, timed_at, found)
                facts = r.runs[run]
                if facts.over and (not one.ended or one.end > facts.end):
                    add("a stage outlived its run")
            elif one.attempt_failed:
                add("a subpipeline failed")
    for kinds in ended_at.values():
        if len(kinds) < 2:
            continue
        if kinds.count("ok") > 1:
            add("two stages completed in one tick")
        if "failed" in kinds:
            if "ok" in kinds:
                add("a stage completed in the tick of a failure")
            if kinds.count("failed") > 1:
                add("two stages failed in one tick")
            if "cancel_run" in kinds:
                add("a stage ended the run in the tick of a failure")


def _timeout(r: Reading, one: object, timed_at: set[tuple[str, float]], found: set[str]) -> None:
    from harness.contract.reading import Ran

    assert isinstance(one, Ran)
    limit = r.usable_timeout(one.stage)
    if limit is None:
        return
    due = one.start_s + limit
    if one.ended and abs(one.end_s - due) <= r.tolerance_s:
        found.add("a stage ended in the tick of its timeout")
    if one.interrupts and r.by_timeout(one):
        found.add("a stage timed out")
        at = (one.run, round(due, 6))
        if at in timed_at:
            found.add("two stages timed out in one tick")
        timed_at.add(at)


def _of_journal(r: Reading, found: set[str]) -> None:
    """What can be told from what happened between what, in one pass."""
    add = found.add
    cleaning: dict[tuple[str, str], int] = {}
    running: dict[str, int] = {}
    undoing: dict[str, int] = {}
    delivering = 0
    failed: set[str] = set()
    cancelled: set[str] = set()
    threads: dict[tuple[str, str], int] = {}
    offered = chunks = consumed = 0
    last_end: dict[str, float] = {}
    for at_s, run, stage, kind, detail in r.entries:
        if kind == "stage.start":
            running[run] = running.get(run, 0) + 1
        elif kind == "stage.end":
            running[run] = running.get(run, 0) - 1
            last_end[run] = at_s
            if detail.startswith(FAILED):
                failed.add(run)
                if running[run] > 0:
                    add("a stage failed while another ran")
                if any(n and key[0] == run for key, n in cleaning.items()):
                    add("a stage failed while another cleaned up")
            if threads.get((run, stage)):
                add("a thread outlived its stage")
        elif kind == "release.begin":
            cleaning[run, stage] = cleaning.get((run, stage), 0) + 1
        elif kind in ("release.end", "release.cut", "release.fail"):
            cleaning[run, stage] = cleaning.get((run, stage), 0) - 1
            if kind == "release.cut":
                add("a cleanup was cut off")
                limit = r.usable_timeout(stage) if run in r.runs else None
                if limit is not None and any(
                    abs(one.start_s + limit - at_s) <= r.tolerance_s
                    for one in r.ran.get((run, stage), ())
                ):
                    add("a timeout fired during cleanup")
            elif kind == "release.fail":
                add("a cleanup failed")
        elif kind == "cancel.sent":
            if not detail[1]:
                continue
            _landed(r, run, at_s, running, cleaning, found)
            if run in cancelled and any(n and k[0] == run for k, n in cleaning.items()):
                add("a second cancel landed during cleanup")
            cancelled.add(run)
            if run in failed:
                add("a cancel landed after a failure")
            if delivering:
                add("a cancel landed in the sink")
            if undoing.get(run):
                add("a cancel landed in a compensation")
            if abs(last_end.get(run, -1.0) - at_s) <= CLOSE_S:
                add("a cancel landed in the tick of a stage's end")
        elif kind == "scope.expired":
            add("a stage's own timeout expired")
            limit = r.usable_timeout(stage) if run in r.runs else None
            if limit is not None and abs(r.ran[run, stage][-1].start_s + limit - at_s) <= CLOSE_S:
                add("a stage's own timeout and the engine's were due in one tick")
        elif kind == "call.end":
            if detail[2] == "timeout":
                add("a tool call timed out")
        elif kind == "deliver.begin":
            delivering += 1
        elif kind in ("deliver.end", "deliver.cut", "deliver.fail"):
            delivering -= 1
            if kind == "deliver.fail":
                add("the sink raised")
        elif kind == "offer.begin":
            offered += 1
            last_offer_s = at_s
        elif kind == "offer.end":
            if detail[2] != "taken":
                add("the event queue refused or dropped")
            if at_s > last_offer_s:
                add("an event waited for room")
        elif kind == "account":
            if detail[2]:
                add("the event queue refused or dropped")
        elif kind == "undo.begin":
            undoing[run] = undoing.get(run, 0) + 1
            add("a compensation ran")
        elif kind.startswith("undo."):
            undoing[run] = undoing.get(run, 0) - 1
            if kind == "undo.fail":
                add("a compensation failed")
        elif kind == "chunk":
            chunks += 1
            if r.plan.consumer is not None and chunks - consumed > r.plan.consumer.buffer_max:
                add("a producer was ahead of its consumer")
        elif kind == "consume":
            consumed += 1
        elif kind == "consume.stop":
            if r.plan.consumer is not None and r.plan.consumer.stop_after is not None:
                add("a consumer stopped early")
        elif kind == "thread.begin":
            threads[run, stage] = threads.get((run, stage), 0) + 1
        elif kind == "thread.end":
            threads[run, stage] = threads.get((run, stage), 0) - 1
        elif kind in _SINGLE:
            add(_SINGLE[kind])
    if delivering > 0 and offered:
        add("an event never came out of the sink")


_SINGLE = {
    "fault.fired": "a tool fault fired",
    "layer.raise": "a layer failed",
    "layer.deny": "a guard denied",
    "identity": "the caller's tenant was told to a stage",
    "trespass": "a trespass was tried",
}


def _landed(  # noqa: PLR0917 (the state of the pass at one entry)
    r: Reading,
    run: str,
    at_s: float,
    running: Mapping[str, int],
    cleaning: Mapping[tuple[str, str], int],
    found: set[str],
) -> None:
    """Say where a cancel of the caller's landed."""
    add = found.add
    if not any(n for key, n in running.items() if key == run):
        tried = [
            ones[-1] for (of, _), ones in r.ran.items() if of == run and ones[0].start_s < at_s
        ]
        if not any(one.start_s < at_s for one in tried):
            add("a cancel landed before any stage began")
        elif any(len(ones) > 1 or ones[-1].again for (of, _), ones in r.ran.items() if of == run):
            add("a cancel landed between two attempts")
    else:
        add("a cancel landed while a stage waited")
    if any(n and (key[0] == run or key[0].startswith(run + "/")) for key, n in cleaning.items()):
        add("a cancel landed during cleanup")
    if any(n and key.startswith(run + "/") for key, n in running.items()):
        add("a cancel landed in a subpipeline")


def _of_runs(r: Reading, found: set[str]) -> None:
    """What can be told from the runs as wholes."""
    add = found.add
    grace = r.plan.cleanup_grace_s
    registered = [h for h in r.held if h.registered and h.begun]
    if registered and any(h.cut >= 0 or (h.ended < 0 and h.failed < 0) for h in registered):
        begun_s = min(r.time_of(h.begun[0]) for h in registered)
        if r.entries[-1].at_s - begun_s >= grace - CLOSE_S:
            add("cleanups took longer than the grace")
    if r.layers_decide and any(
        facts.over and not facts.cancels and not any(key[0] == run for key in r.ran)
        for run, facts in r.runs.items()
    ):
        add("a stage was kept from running by a layer of the engine")
    if len(r.runs) < 2:
        return
    spans = sorted((f.begin, f.end if f.over else 1 << 60, run) for run, f in r.runs.items())
    for (_, end, _one), (begin, _, _other) in itertools.pairwise(spans):
        if 0 <= begin < end:
            add("two runs overlapped")
            break
    else:
        return
    by_stage: dict[str, list[tuple[int, int]]] = {}
    for one in r.executions():
        by_stage.setdefault(one.stage, []).append((one.start, one.end if one.ended else 1 << 60))
    if any(
        later[0] < first[1]
        for ones in by_stage.values()
        for first, later in itertools.pairwise(ones)
    ):
        add("two runs were in one stage at once")
    for run, facts in r.runs.items():
        if facts.cancels:
            add("a run was cancelled beside another")
        elif r.first_cause(run)[1] == "fail":
            add("a run failed beside another")
