"""What is made of a load: pure functions of what users saw and of what really happened.

Users' records say what was sent and answered, the server's ledger what ran. A request that
met a reset is cut, not lost: its user has been told so by the connection. Lost is what was
sent whole and came back without a word of why.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Check", "Evidence", "Fates", "Window", "fates", "judge", "percentiles"]

Record = Mapping[str, Any]

EXAMPLES_MAX = 5
# A cut is told a moment after the connection was; the fault's end is not the end of its effects.
AFTER_FAULT_S = 2.0
TIMEOUTS = ("Timeout", "TimeoutError", "timeout", "ConnectTimeout")
POINTS = (50, 90, 95, 99)


@dataclass(frozen=True, slots=True)
class Window:
    """A time during which a fault was in force; wall clock, in seconds."""

    begin_s: float
    end_s: float
    what: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a load is judged by.

    Attributes:
        records: what users sent and saw, as `locustfile` writes it.
        ledger: the runs that were over, as `front` writes them.
        stats: what the server said of itself after the load, when nothing was sent any more.
        failing: name of the program that is to fail, or "".
        windows: of the faults.
        marked: outputs of the program hold its run's marker, so that a missing one is lost.
        once: no stage of the program is to run more than once in a run.
    """

    records: Sequence[Record]
    ledger: Sequence[Record]
    stats: Mapping[str, Any]
    failing: str = ""
    windows: Sequence[Window] = ()
    marked: bool = True
    once: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """One judgement.

    Attributes:
        verdict: pass, fail or inconclusive.
        rule: what was judged, with its numbers.
        examples: of what broke it, at most a few.
    """

    name: str
    verdict: str
    rule: str
    actual: str
    severity: str = "high"
    clause: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)
    examples: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Fates:
    """What became of the requests, each in one of these."""

    answered: list[Record]
    cut: list[Record]
    refused: list[Record]
    errors: list[Record]
    timed_out: list[Record]
    stopped: list[Record]


def fates(evidence: Evidence) -> Fates:
    """Sort requests by what their users were told."""
    sorted_: dict[str, list[Record]] = defaultdict(list)
    for one in evidence.records:
        sorted_[_fate(one, evidence.windows)].append(one)
    return Fates(
        *(sorted_[n] for n in ("answered", "cut", "refused", "errors", "timed_out", "stopped"))
    )


def _fate(one: Record, windows: Sequence[Window]) -> str:
    if one["error"] == "stopped":
        return "stopped"
    if one["error"] in TIMEOUTS:
        return "timed_out"
    if one["error"]:
        return "cut" if in_window(one, windows, AFTER_FAULT_S) else "errors"
    if one["status"] == 503:
        return "refused"
    return "answered" if one["status"] == 200 else "errors"


def in_window(one: Record, windows: Iterable[Window], after_s: float = 0.0) -> bool:
    """Say whether a request was under way while a fault was in force."""
    begin_s, end_s = one["at"], one["at"] + one.get("took_s", 0.0)
    return any(w.begin_s <= end_s and begin_s <= w.end_s + after_s for w in windows)


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
    name: str, bad: Sequence[str], looked_at: int, rule: str, actual: str, **more: Any
) -> Check:
    verdict = "fail" if bad else "pass" if looked_at else "inconclusive"
    return Check(name, verdict, rule, actual, examples=tuple(bad[:EXAMPLES_MAX]), **more)


def _cross_tenant(evidence: Evidence, sent: Fates) -> Check:
    """No answer, and nothing that a stage was handed, holds what is another tenant's."""
    bad: list[str] = []
    owner = {one["marker"]: one["tenant"] for one in evidence.records}
    answers = 0
    for one in evidence.records:
        foreign = one.get("foreign") or []
        answers += "foreign" in one and one["status"] == 200
        for value in foreign:
            whose = owner.get(value, "another tenant")
            bad.append(f"the answer to {one['marker']} of {one['tenant']} holds {value} of {whose}")
    for run in evidence.ledger:
        wrong = [v for v in run.get("inputs", ()) if v != run["marker"]]
        bad += [f"{run['run']} of {run['marker']} was handed the input {v}" for v in wrong]
        named = [t for t in run.get("tenants", ()) if t != run["tenant"]]
        bad += [f"stages of {run['run']} were told that it is {t}'s" for t in named]
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
    bad: list[str] = []
    good = [
        one
        for one in sent.answered
        if one["program"] != evidence.failing and one["run_status"] == "ok" and evidence.marked
    ]
    bad += [
        f"the outputs of {o['run']} lack its marker {o['marker']}" for o in good if not o["own"]
    ]
    never = [one for one in sent.timed_out if one["marker"] not in ended]
    bad += [f"{one['marker']} was sent, never answered, and no run of it ended" for one in never]
    open_runs = int(evidence.stats.get("open_runs", 0))
    if open_runs:
        bad.append(f"{open_runs} runs are still under way after the load")
    cut_ended = sum(one["marker"] in ended for one in sent.cut)
    return _check(
        "lost",
        bad,
        len(good),
        "each marker that was sent is in the outputs of its answer, unless the request was cut, "
        "refused or failed; every run that was begun has ended",
        f"{len(bad)} lost of {len(evidence.records)} sent; {len(sent.cut)} cut, "
        f"{cut_ended} of which ran to their end",
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
    bad: list[str] = []
    answers = Counter(one["marker"] for one in sent.answered)
    bad += [f"{marker} was answered {n} times" for marker, n in answers.items() if n > 1]
    arrived = Counter(run["marker"] for run in evidence.ledger)
    for run in evidence.ledger:
        again = {s: n for s, n in run.get("executions", {}).items() if n > 1 and evidence.once}
        bad += [f"stage {s} ran {n} times in {run['run']}" for s, n in again.items()]
    handed: dict[str, set[str]] = defaultdict(set)
    for run in evidence.ledger:
        for value in run.get("inputs", ()):
            if value in arrived:
                handed[value].add(run["run"])
    bad += [
        f"{marker} was handed to {len(runs)} runs, for {arrived[marker]} requests"
        for marker, runs in handed.items()
        if len(runs) > arrived[marker]
    ]
    strays = int(evidence.stats.get("strays", 0))
    if strays:
        bad.append(f"{strays} stages were begun for runs that were over")
    resent = sum(n > 1 for n in arrived.values())
    return _check(
        "doubled",
        bad,
        len(evidence.ledger),
        "one request is one run and one answer, each stage is begun once in it, none after it",
        f"{len(bad)} doubled in {len(evidence.ledger)} runs; {resent} requests arrived twice",
        figures={"doubled": len(bad), "runs": len(evidence.ledger), "arrived_twice": resent},
    )


def _events(evidence: Evidence) -> Check:
    """Each event that a stage emitted is delivered, or dropped by the engine's own account."""
    totals = Counter[str]()
    bad: list[str] = []
    for run in evidence.ledger:
        if "emitted" not in run:
            continue
        offered, delivered, dropped = run["emitted"], run["delivered"], run["dropped"]
        totals.update({"emitted": offered, "delivered": delivered, "dropped": dropped})
        if offered != delivered + dropped:
            bad.append(f"{run['run']}: {offered} emitted, {delivered} delivered, {dropped} dropped")
    return _check(
        "events",
        bad,
        totals["emitted"],
        "of each run, events emitted = delivered + dropped by the engine's own account",
        f"{totals['emitted']} emitted, {totals['delivered']} delivered, {totals['dropped']} "
        f"dropped; {len(bad)} runs do not add up",
        clause="EVENT-1",
        figures={**totals, "runs_that_do_not_add_up": len(bad)},
    )


def _reported(evidence: Evidence) -> Check:
    """What the engine reports as completed has run, and has ended well."""
    bad: list[str] = []
    reported = 0
    for run in evidence.ledger:
        completed = run.get("completed", ())
        reported += len(completed)
        for stage in completed:
            how = run["ends"].get(stage)
            if how != "ok":
                really = "never ran" if how is None else f"ended with {how}"
                bad.append(f"{run['run']} ({run['status']}): {stage} is completed, and {really}")
    runs = len({text.split(" ", 1)[0] for text in bad})
    return _check(
        "reported",
        bad,
        reported,
        "each stage that the engine reports as completed has run to a good end",
        f"{len(bad)} of {reported} did not, in {runs} of {len(evidence.ledger)} runs",
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
    bad = [f"{n} times {kind}" for kind, n in kinds.most_common()] if share > budget else []
    return _check(
        "errors",
        bad,
        judged,
        f"at most {budget:.2%} of the requests that no fault has cut go wrong",
        f"{len(wrong)} of {judged} ({share:.2%})",
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


def percentiles(seconds: Iterable[float]) -> dict[str, Any]:
    """Return count, p50 to p99 (the nearest rank) and the greatest, in milliseconds."""
    ordered = sorted(seconds)
    found: dict[str, Any] = {"count": len(ordered)}
    if ordered:
        for p in POINTS:
            rank = max(1, -(-p * len(ordered) // 100))
            found[f"p{p}_ms"] = round(ordered[rank - 1] * 1000, 3)
        found["max_ms"] = round(ordered[-1] * 1000, 3)
    return found
