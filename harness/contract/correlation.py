"""CORR: the ids of a run, wherever its code goes and on all that comes of it.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from harness.contract import scripts
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.produced import by_run, ids_seen, owner
from harness.contract.reading import Reading
from harness.kernel.journal import Entry
from harness.kernel.outcome import Outcome, SpanReport
from harness.kernel.plan import RunSpec

__all__ = ["CORR"]

PLACES = frozenset(
    {"stage", "task", "thread", "subpipeline", "cleanup", "event", "log", "metric", "error"}
)
_TRACE = re.compile(r"[0-9a-f]{32}")
_SPAN = re.compile(r"[0-9a-f]{16}")
_HEADER = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def _specs(r: Reading) -> dict[str, RunSpec]:
    return {spec.id: spec for spec in r.plan.runs}


def _place(place: str) -> str:
    return place if place in PLACES else "stage"


def check_corr_1(r: Reading) -> Judgement:
    specs = _specs(r)
    if not r.sound or not any(spec.correlation for spec in specs.values()):
        return untested()
    others = {spec.correlation for spec in specs.values()}
    seen: Counter[str] = Counter()
    bad: dict[tuple[str, str], Violation] = {}
    for run, place, stage, ids, at in _carriers(r, specs):
        due = specs[run].correlation
        if not due:
            continue
        place = _place(place)
        seen[place] += 1
        said = ids.get("correlation", "")
        # Another run's id is CORR-3's: it was not lost, it was mixed up.
        if said == due or said in others - {"", due}:
            continue
        how = "changed" if said else "lost"
        bad.setdefault(
            (run, place),
            Violation(
                f"{how}-in-{place}",
                f"the correlation id {due!r} of run {run} is on its {place}",
                f"it is {said!r}" if said else "there is none",
                stage,
                r.any_location(run) if place == "error" else "",
                {},
                (at,) if at >= 0 else (),
            ),
        )
    bad_logs = _lost_records(r, specs)
    if not seen:
        return untested()
    figures = {f"in_{place}": count for place, count in sorted(seen.items())}
    return violated([*bad.values(), *bad_logs], **figures)


def _carriers(
    r: Reading, specs: Mapping[str, RunSpec]
) -> Iterator[tuple[str, str, str, Mapping[str, str], int]]:
    """Yield whatever must carry a run's ids; an exception of the engine's own without any, too."""
    for one in ids_seen(r, specs):
        if one[1] != "metric":  # a measurement with an id for each run would be no measurement
            yield one
    for run in specs:
        outcome = r.outcome(run)
        if outcome is None or outcome.raised is None or outcome.error_ids:
            continue
        # asyncio's own exceptions, and what the engine only lets through, carry nothing.
        if outcome.raised.type != "CancelledError" and r.first_cause(run)[1]:
            yield run, "error", "", {}, -1


def _lost_records(r: Reading, specs: Mapping[str, RunSpec]) -> list[Violation]:
    """Find log records that stages wrote and that no handler got as records of their run."""
    if "log_records" not in r.info.capabilities:
        return []
    bad = []
    for run, entries in by_run(r, "log").items():
        outcome, facts = r.outcome(run), r.runs[run]
        if outcome is None or not specs[run].correlation or facts.cancels or not facts.over:
            continue
        if not r.told(run):
            continue
        # A stage that was given up may write on when nobody keeps its run's records any more.
        written = Counter(entry.detail for at, entry in entries if at < facts.end)
        lost = written - Counter(record.message for record in outcome.logs)
        if lost:
            bad.append(
                Violation(
                    "log-record-lost",
                    f"the {written.total()} log records of run {run} can be told to be its own",
                    f"{written.total() - lost.total()} can",
                    "",
                    "",
                    {"written": written.total(), "told": written.total() - lost.total()},
                )
            )
    return bad


# CORR-2: spans.


class _Caller(NamedTuple):
    """The span that a run's caller names, by a header that keeps the rules of version 00."""

    trace: str
    span: str
    sampled: bool


def _caller(spec: RunSpec) -> _Caller | None:
    """Return whom a run is to be traced under; None if its caller names nobody by the rules, or
    in a version of which an engine may make what it knows to."""
    header = _HEADER.fullmatch(spec.traceparent)
    if header is None or not int(header[1], 16) or not int(header[2], 16):
        return None
    return _Caller(header[1], header[2], bool(int(header[3], 16) & 1))


def check_corr_2(r: Reading) -> Judgement:
    specs = _specs(r)
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    spans = places = 0
    identities, children = by_run(r, "identity"), by_run(r, "sub.end")
    for run, spec in specs.items():
        outcome = r.outcome(run)
        facts = r.runs[run]
        caller = _caller(spec)
        if caller is not None and not caller.sampled:
            continue  # its caller does not want it recorded
        if outcome is not None and facts.over and (outcome.spans or _owes_spans(r, outcome)):
            spans += len(outcome.spans)
            bad += _tree(r, run, spec, outcome, children.get(run, []))
        # What a stage that was given up does later is in no span that was told of.
        noted = [e for e in identities.get(run, []) if not facts.over or e[0] < facts.end]
        told, wrong = _in_code(run, spec, outcome, noted)
        places += told
        bad += wrong
    if not spans and not places and not bad:
        return untested()
    return violated(bad, spans=spans, places=places)


def _owes_spans(r: Reading, outcome: Outcome) -> bool:
    """Say whether a run should have told of spans: some run of the plan is traced, and this one's
    caller got an outcome of the engine's own."""
    traced = any(spec.traceparent for spec in r.plan.runs)
    return traced and not (outcome.raised is not None and outcome.raised.type == "CancelledError")


def _bad(shape: str, expected: str, actual: str, stage: str = "", **figures: Any) -> Violation:
    return Violation(shape, expected, actual, stage, "", figures)


def _tree(
    r: Reading, run: str, spec: RunSpec, outcome: Outcome, children: list[tuple[int, Entry]]
) -> list[Violation]:
    """Judge the spans of one run: what they are called, and whose children they are."""
    spans = outcome.spans
    if not spans and r.before(run) and not r.executions(run):
        return []  # a redrive that was refused, since there is nothing to go on with
    ids = Counter(one.span for one in spans)
    twice = [span for span, count in ids.items() if count > 1]
    if twice:
        return [_bad("span-id-twice", f"each span of run {run} has an id of its own", twice[0])]
    for one in spans:
        fine = _TRACE.fullmatch(one.trace) and _SPAN.fullmatch(one.span)
        if not fine or not int(one.trace, 16) or not int(one.span, 16):
            return [
                _bad(
                    "malformed-id",
                    "trace and span ids are 32 and 16 lower-case hexadecimal digits, not all zero",
                    f"span {one.name!r} has {one.trace!r} and {one.span!r}",
                )
            ]
    tops = [one for one in spans if one.kind == "run" and one.parent not in ids]
    if len(tops) != 1:
        return [
            _bad(
                "run-span-missing" if not tops else "run-span-orphaned",
                f"run {run} has one span that all others are under",
                f"{len(tops)} spans of runs stand at the top of {len(spans)}",
                tops=len(tops),
            )
        ]
    top = tops[0]
    return [
        *_under_caller(run, spec, top),
        *_one_trace(run, top, spans),
        *_stages(r, run, top, spans, children),
    ]


def _under_caller(run: str, spec: RunSpec, top: SpanReport) -> list[Violation]:
    caller = _caller(spec)
    if caller is None:
        if not top.parent or spec.traceparent:
            return []
        return [_bad("strange-parent", f"run {run} begins a trace of its own", f"{top.parent!r}")]
    if (top.trace, top.parent) == (caller.trace, caller.span):
        return []
    return [
        _bad(
            "caller-not-parent",
            f"the span of run {run} is in its caller's trace {caller.trace}, under {caller.span}",
            f"it is in {top.trace}, under {top.parent or 'nothing'}",
        )
    ]


def _one_trace(run: str, top: SpanReport, spans: tuple[SpanReport, ...]) -> list[Violation]:
    strays = [one for one in spans if one.trace != top.trace]
    if not strays:
        return []
    return [
        _bad(
            "trace-split",
            f"all spans of run {run} are in one trace",
            f"{len(strays)} of {len(spans)} are in another",
            strays[0].name if strays[0].kind == "stage" else "",
            strays=len(strays),
        )
    ]


def _stages(
    r: Reading,
    run: str,
    top: SpanReport,
    spans: tuple[SpanReport, ...],
    children: list[tuple[int, Entry]],
) -> list[Violation]:
    """Each stage that ended has a span under its run's; each child run one under its stage's."""
    by_id = {one.span: one for one in spans}
    left = r.leaked_stage
    bad: list[Violation] = []
    under: dict[str, list[SpanReport]] = {}
    for one in spans:
        if one is not top and one.parent not in by_id:
            if r.stubborn_child(run) or any(o.swallowed for o in r.executions(run)):
                continue  # that one was given up, and its span has not ended
            kind = "stage" if one.kind == "stage" else "subpipeline"
            return [
                _bad(
                    f"{kind}-span-orphaned",
                    f"the span of {one.name!r} is under one of run {run}",
                    f"its parent {one.parent or 'nothing'!r} is no span of this run",
                    one.name if one.kind == "stage" else "",
                )
            ]
        under.setdefault(one.parent, []).append(one)
    ran = {one.stage for one in r.executions(run) if one.ended and left(one.stage) is None}
    named = {one.name for one in under.get(top.span, ()) if one.kind == "stage"}
    anywhere = {one.name for one in spans if one.kind == "stage"}
    for stage in sorted(ran - named):
        shape = "stage-span-misplaced" if stage in anywhere else "stage-span-missing"
        bad.append(
            _bad(shape, f"stage {stage} has a span under the run's", "it has none there", stage)
        )
    bad += _children(r, run, spans, under, children)
    return bad[:3]


def _children(
    r: Reading,
    run: str,
    spans: tuple[SpanReport, ...],
    under: Mapping[str, list[SpanReport]],
    children: list[tuple[int, Entry]],
) -> list[Violation]:
    """Judge the spans of child runs that ended, and of the stages under them."""
    bad: list[Violation] = []
    stage_spans: dict[str, list[SpanReport]] = {}
    for one in spans:
        if one.kind == "stage":
            stage_spans.setdefault(one.name, []).append(one)
    for i, entry in children:
        if entry.run != run or i > r.runs[run].end:
            continue
        child = entry.detail[0]
        places = [
            one
            for parent in stage_spans.get(entry.stage, ())
            for one in under.get(parent.span, ())
            if one.kind == "run" and one.name == child
        ]
        if not places:
            if entry.detail[1].startswith("raise:") and not _began(r, i, entry):
                continue  # an engine may refuse a pipeline, and no run begins then
            bad.append(
                _bad(
                    "subpipeline-span-missing",
                    f"child run {child} has a span under that of stage {entry.stage}",
                    "it has none there",
                    entry.stage,
                )
            )
            continue
        ran = {
            stage
            for (id_, stage), ones in r.ran.items()
            if id_ != run
            and id_.startswith(f"{run}/")
            and id_.rsplit("/", 1)[1].split("#", 1)[0] == child
            for one in ones
            if one.ended
        }
        named = {one.name for p in places for one in under.get(p.span, ()) if one.kind == "stage"}
        bad += [
            _bad(
                "stage-span-misplaced",
                f"stage {stage} of child run {child} has a span under the child's",
                "it has none there",
                stage,
            )
            for stage in sorted(ran - named)
        ]
    return bad


def _began(r: Reading, end: int, entry: Entry) -> bool:
    """Say whether a stage of a child run began, whose `sub.end` is at that position."""
    prefix = f"{entry.run}/{entry.detail[0]}"
    for one in reversed(r.entries[:end]):
        if one.kind == "sub.begin" and one[1:3] == entry[1:3] and one.detail == entry.detail[0]:
            return False
        if one.kind == "stage.start" and (one.run == prefix or one.run.startswith(f"{prefix}#")):
            return True
    return False


def _in_code(
    run: str, spec: RunSpec, outcome: Outcome | None, identities: list[tuple[int, Entry]]
) -> tuple[int, list[Violation]]:
    """Hold the ids that code of stages was told against the spans that were exported."""
    told = [ids["trace"] for _, entry in identities if (ids := entry.detail[1]).get("trace")]
    if not told:
        return 0, []  # nobody traces the run, or its code is told nothing of that anywhere
    exported = {} if outcome is None else {one.span: one for one in outcome.spans}
    caller = _caller(spec)
    due = told[0] if caller is None else caller.trace
    for i, entry in identities:
        place, ids = _place(entry.detail[0]), entry.detail[1]
        trace, span = ids.get("trace", ""), ids.get("span", "")
        shape = expected = actual = ""
        own = exported.get(span)
        if trace != due:
            shape = f"trace-{'changed' if trace else 'lost'}-in-{place}"
            expected = f"code of run {run} is told the run's trace {due}"
            actual = f"in its {place} it is told {trace or 'none'}"
        elif exported and span and place != "cleanup" and not _is_of(own, entry.stage):
            shape = f"span-wrong-in-{place}"
            expected = f"code of stage {entry.stage} is told that stage's span"
            actual = f"it is told {'that of nobody' if own is None else own.name}"
        if shape:
            return len(told), [Violation(shape, expected, actual, entry.stage, "", {}, (i,))]
    return len(told), []


def _is_of(span: SpanReport | None, stage: str) -> bool:
    return span is not None and span.kind == "stage" and span.name == stage


# CORR-3: no ids of others.


def check_corr_3(r: Reading) -> Judgement:
    specs = _specs(r)
    if not r.sound or len(specs) < 2:
        return untested()
    owners = _owners(r, specs)
    bad: dict[tuple[str, str], Violation] = {}
    looked: set[str] = set()
    for run, place, stage, ids, at in ids_seen(r, specs):
        for kind in ("run", "correlation", "trace", "span"):
            said = ids.get(kind)
            if not said:
                continue
            looked.add(run)
            of = _of(kind, said, specs, owners)
            if of and run not in of:
                bad.setdefault(
                    (run, kind),
                    Violation(
                        f"{kind}-id-of-another-run",
                        f"what comes of run {run} carries the ids of run {run}",
                        f"its {place} carries the {kind} id of run {min(of)}",
                        stage,
                        r.any_location(run) if place == "error" else "",
                        {},
                        (at,) if at >= 0 else (),
                    ),
                )
    for run in specs:
        outcome = r.outcome(run)
        if outcome is None:
            continue
        for one in outcome.spans:
            looked.add(run)
            of = owners["trace"].get(one.trace, set())
            if of and run not in of:
                bad.setdefault(
                    (run, "trace"),
                    _bad(
                        "trace-id-of-another-run",
                        f"the spans of run {run} are in its own trace",
                        f"span {one.name!r} is in that of run {min(of)}",
                    ),
                )
    bad_records = _records(r, specs)
    if len(looked) < 2 and not bad and not bad_records:
        return untested()
    return violated([*bad.values(), *bad_records], runs_with_ids=len(looked))


Owners = dict[str, dict[str, set[str]]]


def _owners(r: Reading, specs: Mapping[str, RunSpec]) -> Owners:
    """Return whose each id is: by the plan, or by the span of the run itself."""
    out: Owners = {"correlation": {}, "trace": {}, "span": {}}
    for run, spec in specs.items():
        if spec.correlation:
            out["correlation"].setdefault(spec.correlation, set()).add(run)
        caller = _caller(spec)
        if caller is not None:
            out["trace"].setdefault(caller.trace, set()).add(run)
        outcome = r.outcome(run)
        for one in () if outcome is None else outcome.spans:
            out["span"].setdefault(one.span, set()).add(run)
            if caller is None and one.kind == "run" and not one.parent:
                out["trace"].setdefault(one.trace, set()).add(run)
    return out


def _of(kind: str, said: str, specs: Mapping[str, RunSpec], owners: Owners) -> set[str]:
    if kind != "run":
        return owners[kind].get(said, set())
    run = owner(said, specs)
    return set() if run is None else {run}


def _records(r: Reading, specs: Mapping[str, RunSpec]) -> list[Violation]:
    """Find log records that were told to be one run's and that only another one wrote."""
    written: dict[str, set[str]] = {}
    for run, entries in by_run(r, "log").items():
        for _, entry in entries:
            written.setdefault(entry.detail, set()).add(run)
    bad = []
    for run in specs:
        outcome = r.outcome(run)
        for record in () if outcome is None else outcome.logs:
            by = written.get(record.message, {run})
            if run not in by:
                bad.append(
                    _bad(
                        "log-record-of-another-run",
                        f"the log records of run {run} are those that its stages wrote",
                        f"{record.message!r} was written by run {min(by)}",
                    )
                )
                break
    return bad


CORR: tuple[Clause, ...] = (
    Clause(
        "CORR-1",
        "CORR",
        "carry the correlation id unchanged to every stage, event, log record, spawned task, "
        "worker thread, subpipeline, cleanup and error",
        "medium",
        "reliability",
        check_corr_1,
        {
            "": "The correlation id is lost on the way",
            "lost-in-stage": "A stage is not told the correlation id",
            "lost-in-task": "The correlation id is lost in tasks that a stage starts",
            "lost-in-thread": "The correlation id is lost in worker threads",
            "lost-in-subpipeline": "The correlation id is not handed down to subpipelines",
            "lost-in-cleanup": "The correlation id is lost in cleanups",
            "lost-in-event": "Events do not carry the correlation id",
            "lost-in-log": "Log records do not carry the correlation id",
            "lost-in-error": "The error of a run does not carry its correlation id",
            "log-record-lost": "Log records cannot be told to be of their run",
        },
        "What belongs together in an incident has to be put together by hand.",
        "Keep the ids in a context variable that is set where a stage's task begins, and run "
        "cleanups in a copy of the context in which they were registered.",
        effort="medium",
        needs=frozenset({"identity"}),
        script_of_shape=scripts.corr_1,
    ),
    Clause(
        "CORR-2",
        "CORR",
        "carry W3C trace context so that spans of stages are children of the run's span, also "
        "across subpipelines",
        "medium",
        "reliability",
        check_corr_2,
        {
            "": "Spans of a run do not form one tree",
            "caller-not-parent": "A run is not traced under its caller's span",
            "trace-split": "Spans of one run are in several traces",
            "stage-span-orphaned": "The span of a stage has no parent in its run",
            "stage-span-misplaced": "The span of a stage is not under its run's",
            "stage-span-missing": "A stage that ran has no span",
            "subpipeline-span-missing": "The span of a child run is not under its stage's",
        },
        "A trace shows pieces where the caller needs to see one request.",
        "Make the run's span the parent of each stage's, and the stage's that of a child run.",
        effort="medium",
        needs=frozenset({"trace_context"}),
    ),
    Clause(
        "CORR-3",
        "CORR",
        "never mix the ids of concurrent runs",
        "high",
        "correctness",
        check_corr_3,
        {
            "": "Ids of concurrent runs are mixed up",
            "correlation-id-of-another-run": "A run carries the correlation id of another run",
            "run-id-of-another-run": "A run carries the id of another run",
            "trace-id-of-another-run": "A run's spans are in the trace of another run",
            "span-id-of-another-run": "Code of a run is told a span of another run",
        },
        "An incident is put down to the wrong request, and to the wrong customer.",
        "Keep no id in a place that concurrent runs share.",
        effort="medium",
        needs=frozenset({"identity", "concurrent_runs"}),
        security_risk="medium",
        script_of_shape=scripts.corr_3,
    ),
)
