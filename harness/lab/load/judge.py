"""What is made of a load: pure functions of what users saw and of what really happened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.lab.load.evidence import Evidence, Fates, fates

__all__ = ["Broken", "Check", "judge"]

EXAMPLES_MAX = 5
LEAK = "leak-under-load"


@dataclass(frozen=True, slots=True)
class Broken:
    """One way in which a check failed.

    Attributes:
        shape: as a violation's; see `harness.contract.clause`.
        times: requests, or runs, that show it.
        example: the first of them, in a sentence.
        program: which it ran, or "".
        clause: if it is another than the check's.
    """

    shape: str
    times: int
    example: str = ""
    program: str = ""
    clause: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One judgement.

    Attributes:
        verdict: pass, fail or inconclusive.
        rule: what was judged, with its numbers.
        clause: of the contract, or of `harness.contract.load`; "" where a finding is none's.
        looked_at: requests or runs that put it to the test; 1 where a whole process was.
        broken: in which ways it failed; none if it did not.
        examples: of what broke it, at most a few.
    """

    name: str
    verdict: str
    rule: str
    actual: str
    severity: str = "high"
    clause: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    looked_at: int = 1
    broken: Sequence[Broken] = ()
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _Bad:
    """What broke a check once: how, in which request or run, and in words."""

    shape: str
    where: str
    text: str
    program: str = ""
    clause: str = ""


def judge(evidence: Evidence, *, error_budget: float) -> list[Check]:
    """Return a check for each thing that a load must keep."""
    sent = fates(evidence)
    return [
        _cross_tenant(evidence, sent),
        _lost(evidence, sent),
        _doubled(evidence, sent),
        _events(evidence),
        _reported(evidence),
        _errors(evidence, sent, error_budget),
    ]


def _check(
    name: str, bad: Sequence[_Bad], looked_at: int, rule: str, actual: str, **more: Any
) -> Check:
    verdict = "fail" if bad else "pass" if looked_at else "inconclusive"
    broken = []
    for shape in dict.fromkeys(one.shape for one in bad):
        mine = [one for one in bad if one.shape == shape]
        first, times = mine[0], len({one.where for one in mine})
        broken.append(Broken(shape, times, first.text, first.program, first.clause))
    return Check(
        name,
        verdict,
        rule,
        actual,
        looked_at=max([looked_at, *(one.times for one in broken)]),
        broken=tuple(broken),
        examples=tuple(one.text for one in bad[:EXAMPLES_MAX]),
        **more,
    )


def _cross_tenant(evidence: Evidence, sent: Fates) -> Check:
    """No answer, and nothing that a stage was handed, holds what is another tenant's."""
    bad: list[_Bad] = []
    owner = {one["marker"]: one["tenant"] for one in evidence.records}
    answers = 0
    for one in evidence.records:
        foreign = one.get("foreign") or []
        answers += "foreign" in one and one["status"] == 200
        for value in foreign:
            whose = owner.get(value, "another tenant")
            text = f"the answer to {one['marker']} of {one['tenant']} holds {value} of {whose}"
            bad.append(_Bad(LEAK, one["marker"], text, one["program"]))
    for run in evidence.ledger:
        handed = [v for v in run.get("inputs", ()) if v != run["marker"]]
        said = [f"{run['run']} of {run['marker']} was handed the input {v}" for v in handed]
        named = [t for t in run.get("tenants", ()) if t != run["tenant"]]
        said += [f"stages of {run['run']} were told that it is {t}'s" for t in named]
        bad += [_Bad(LEAK, run["marker"], text, run["program"]) for text in said]
    return _check(
        "cross_tenant",
        bad,
        answers,
        "no marker or tenant of another's is in any answer, nor in what any stage was handed",
        f"{len(bad)} in {answers} answers and {len(evidence.ledger)} runs",
        severity="critical",
        clause="TENANT-1",
        figures={"foreign": len(bad), "answers": answers, "runs": len(evidence.ledger)},
    )


def _lost(evidence: Evidence, sent: Fates) -> Check:
    """What was sent whole is answered, and the answer holds what was sent."""
    ended = {run["marker"] for run in evidence.ledger}
    bad: list[_Bad] = []
    good = [
        one
        for one in sent.answered
        if one["program"] != evidence.failing and one["run_status"] == "ok" and evidence.marked
    ]
    for one in good:
        if not one["own"]:
            text = f"the outputs of {one['run']} lack its marker {one['marker']}"
            bad.append(_Bad("output-lost", one["run"], text, one["program"]))
    for one in sent.timed_out:
        if one["marker"] not in ended:
            text = f"{one['marker']} was sent, never answered, and no run of it ended"
            bad.append(_Bad("never-answered", one["marker"], text, one["program"]))
    open_runs = int(evidence.stats.get("open_runs", 0))
    if open_runs:
        text = f"{open_runs} runs are still under way after the load"
        bad.append(_Bad("run-never-ended", "", text))
    cut_ended = sum(one["marker"] in ended for one in sent.cut)
    return _check(
        "lost",
        bad,
        len(good),
        "each marker that was sent is in the outputs of its answer, unless the request was cut, "
        "refused or failed; every run that was begun has ended",
        f"{len(bad)} lost of {len(evidence.records)} sent; {len(sent.cut)} cut, "
        f"{cut_ended} of which ran to their end",
        clause="LOAD-2",
        figures={
            "lost": len(bad),
            "sent": len(evidence.records),
            "cut": len(sent.cut),
            "cut_but_ran": cut_ended,
            "open_runs": open_runs,
        },
    )


def _doubled(evidence: Evidence, sent: Fates) -> Check:
    """One request is one run and one answer, and a stage runs once in it."""
    answers = Counter(one["marker"] for one in sent.answered)
    bad = [
        _Bad("answered-twice", marker, f"{marker} was answered {n} times")
        for marker, n in answers.items()
        if n > 1
    ]
    arrived = Counter(run["marker"] for run in evidence.ledger)
    for run in evidence.ledger:
        again = {s: n for s, n in run.get("executions", {}).items() if n > 1 and evidence.once}
        said = [f"stage {s} ran {n} times in {run['run']}" for s, n in again.items()]
        bad += [_Bad("stage-ran-twice", run["run"], text, run["program"]) for text in said]
    handed: dict[str, set[str]] = defaultdict(set)
    for run in evidence.ledger:
        for value in run.get("inputs", ()):
            if value in arrived:
                handed[value].add(run["run"])
    for marker, runs in handed.items():
        if len(runs) > arrived[marker]:
            text = f"{marker} was handed to {len(runs)} runs, for {arrived[marker]} requests"
            bad.append(_Bad("handed-to-another-run", marker, text))
    strays = int(evidence.stats.get("strays", 0))
    if strays:
        text = f"{strays} stages were begun for runs that were over"
        bad.append(_Bad("stage-after-its-run", "", text))
    resent = sum(n > 1 for n in arrived.values())
    return _check(
        "doubled",
        bad,
        len(evidence.ledger),
        "one request is one run and one answer, each stage is begun once in it, none after it",
        f"{len(bad)} doubled in {len(evidence.ledger)} runs; {resent} requests arrived twice",
        clause="LOAD-3",
        figures={"doubled": len(bad), "runs": len(evidence.ledger), "arrived_twice": resent},
    )


def _events(evidence: Evidence) -> Check:
    """Each event that a stage emitted is delivered, or dropped by the engine's own account."""
    totals = Counter[str]()
    bad: list[_Bad] = []
    runs = 0
    for run in evidence.ledger:
        if "emitted" not in run:
            continue
        runs += run["emitted"] > 0
        offered, delivered, dropped = run["emitted"], run["delivered"], run["dropped"]
        totals.update({"emitted": offered, "delivered": delivered, "dropped": dropped})
        if offered != delivered + dropped:
            text = f"{run['run']}: {offered} emitted, {delivered} delivered, {dropped} dropped"
            bad.append(_Bad("unaccounted-under-load", run["run"], text, run["program"]))
    return _check(
        "events",
        bad,
        runs,
        "of each run, events emitted = delivered + dropped by the engine's own account",
        f"{totals['emitted']} emitted, {totals['delivered']} delivered, {totals['dropped']} "
        f"dropped; {len(bad)} runs do not add up",
        clause="EVENT-1",
        figures={**totals, "runs_that_do_not_add_up": len(bad)},
    )


def _reported(evidence: Evidence) -> Check:
    """What the engine reports as completed has run, and has ended well."""
    bad: list[_Bad] = []
    reported = told = 0
    for run in evidence.ledger:
        completed = run.get("completed", ())
        reported += len(completed)
        told += bool(completed)
        for stage in completed:
            how = run["ends"].get(stage)
            if how == "ok":
                continue
            text = f"{run['run']} ({run['status']}): {stage} is completed, and "
            if how is None:
                shape, text = "completed-without-running-under-load", f"{text}never ran"
                bad.append(_Bad(shape, run["run"], text, run["program"]))
            else:
                shape, text = "completed-under-load", f"{text}ended with {how}"
                bad.append(_Bad(shape, run["run"], text, run["program"], "PART-4"))
    runs = len({one.where for one in bad})
    skipped = any(not one.clause for one in bad)
    return _check(
        "reported",
        bad,
        told,
        "each stage that the engine reports as completed has run to a good end",
        f"{len(bad)} of {reported} did not, in {runs} of {len(evidence.ledger)} runs",
        clause="GRAPH-5",
        severity="critical" if skipped else "high",
        figures={"false": len(bad), "reported": reported, "runs": runs},
    )


def _errors(evidence: Evidence, sent: Fates, budget: float) -> Check:
    """Requests that went wrong, and not by a fault of ours, keep within the budget."""
    # A run that was to fail and is reported as well is no error to its user: see `_reported`.
    odd = [
        one
        for one in sent.answered
        if one["run_status"] != "ok" and one["program"] != evidence.failing
    ]
    wrong = [*sent.errors, *sent.refused, *sent.timed_out, *odd]
    judged = len(evidence.records) - len(sent.cut) - len(sent.stopped)
    share = len(wrong) / judged if judged else 0.0
    kinds = Counter(
        f"run {one['run_status']}" if one in odd else one["error"] or f"status {one['status']}"
        for one in wrong
    )
    said = tuple(f"{n} times {kind}" for kind, n in kinds.most_common()) if share > budget else ()
    return Check(
        "errors",
        "fail" if said else "pass" if judged else "inconclusive",
        f"at most {budget:.2%} of the requests that no fault has cut go wrong",
        f"{len(wrong)} of {judged} ({share:.2%})",
        clause="LOAD-4",
        looked_at=judged,
        broken=(Broken("", len(wrong), said[0]),) if said else (),
        examples=said[:EXAMPLES_MAX],
        figures={
            "wrong": len(wrong),
            "judged": judged,
            "share": round(share, 6),
            "cut": len(sent.cut),
            "refused": len(sent.refused),
            "timed_out": len(sent.timed_out),
            "stopped_by_the_end": len(sent.stopped),
            "kinds": dict(kinds),
        },
    )
