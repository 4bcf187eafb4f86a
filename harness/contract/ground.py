"""GRAPH and CTX: the ground that the other clauses stand on.

Longer than most: checks of one family share what they ask of a run, and each clause's texts stand
beside the check that they are about.
"""

from __future__ import annotations

from harness.contract import scripts
from harness.contract.clause import Clause, Judgement, Violation, holds, untested, violated
from harness.contract.passage import ENGINES_OWN, layers_of
from harness.contract.reading import Ran, Reading

__all__ = ["CTX", "GRAPH"]


def check_graph_1(r: Reading) -> Judgement:
    faults = r.shape.faults
    refusal = r.record.build_error
    if not faults:
        if refusal is None or any(
            (limit := r.timeout_of(n)) is not None and not limit > 0 for n in r.program.names
        ):
            return untested()
        return violated(
            [Violation("well-formed-refused", "a well-formed pipeline is built", refusal[:200])]
        )
    kind, *stages = faults[0].split()
    if refusal is None:
        outcomes = list(r.record.outcomes.values())
        raised = outcomes[0].raised if outcomes else None
        fate = f"the run then ended with: {raised.message[:120]}" if raised else "and it was run"
        if r.record.ended != "over":
            fate = "and the run never ended"
        return violated(
            [
                Violation(
                    f"{kind}-accepted",
                    f"a pipeline with this fault is refused at build: {faults[0]}",
                    f"it was built; {len(r.ran)} stages started; {fate}",
                    stages[0] if stages else "",
                    raised.location if raised else "",
                    {"stages_started": len(r.ran)},
                )
            ],
            faulty_graphs=1,
        )
    if stages and not any(s in refusal for s in stages):
        return violated(
            [
                Violation(
                    "refusal-names-no-stage",
                    f"the refusal names the stages ({', '.join(stages)})",
                    f"it says: {refusal[:200]}",
                    stages[0],
                )
            ],
            faulty_graphs=1,
        )
    return holds(faulty_graphs=1)


DONE = ("ok", "skip")


def check_graph_2(r: Reading) -> Judgement:
    if not r.sound or r.shape.faults:
        return untested()
    bad: list[Violation] = []
    edges = together = 0
    for run in r.runs:
        ones = r.executions(run)
        by_name: dict[str, Ran] = {}
        for one in ones:
            by_name.setdefault(one.stage, one)
        taken_over = _taken_over(r, run)
        for stage in r.program.stages:
            this = by_name.get(stage.name)
            if this is None:
                continue
            for need in stage.needs:
                edges += 1
                before = _before(r, by_name.get(need), this)
                if before is None and (need in r.shape.skippable or need in taken_over):
                    continue
                if before is None and _kept_out(r, run, need, this):
                    continue
                if before is None or before.end < 0 or before.end > this.start:
                    bad.append(_order(this, need, "started-early", "had not ended"))
                elif before.how not in DONE and not r.layers_disturb(run):
                    bad.append(
                        _order(this, need, "started-after-failed", f"had ended {before.how}")
                    )
        together += _concurrent(r, ones, taken_over, bad)
    if not edges and not together:
        return untested()
    return violated(bad, dependencies=edges, independent_pairs=together)


def _before(r: Reading, first: Ran | None, this: Ran) -> Ran | None:
    """Return the execution of a need that counts when a stage starts: of several attempts the
    last that had been started by then, or one that had completed."""
    if first is None:
        return None
    started = [one for one in r.ran[first.run, first.stage] if one.start < this.start] or [first]
    done = [one for one in started if one.how in DONE and one.end < this.start]
    return (done or started)[-1]


def _taken_over(r: Reading, run: str) -> frozenset[str]:
    """Return the stages that had completed in the runs that this one goes on with, or that an
    idempotency layer has answered for."""
    before = (one.stage for old in r.before(run) for one in r.executions(old) if one.how in DONE)
    return frozenset(before) | r.answered(run)


def _kept_out(r: Reading, run: str, need: str, this: Ran) -> bool:
    """Say whether a layer kept a stage from running before another one started: it was its turn,
    and that what needs it runs all the same is GRAPH-5's. One of the engine's own notes nothing."""
    if layers_of(r, need, *ENGINES_OWN):
        return True
    refused = (*r.of("layer.deny", run, need), *r.of("layer.raise", run, need))
    return any(one in refused for one in r.entries[: this.start]) if refused else False


def _order(one: Ran, need: str, shape: str, state: str) -> Violation:
    return Violation(
        shape,
        f"stage {one.stage} starts after {need} has completed",
        f"it started when {need} {state}",
        one.stage,
        "",
        {},
        (one.start,),
    )


def _concurrent(
    r: Reading, ones: list[Ran], taken_over: frozenset[str], bad: list[Violation]
) -> int:
    """Count stages that were ready together; those that waited for each other are violations."""
    if r.layers_decide:
        return 0  # a layer may have a stage wait
    ended = {one.stage: one for one in ones}
    if len(ended) < len(ones):  # only a stage's first attempt starts when its needs have ended
        ones = list({one.stage: one for one in reversed(ones)}.values())[::-1]
    pairs = 0
    ready: dict[str, float] = {}
    for one in ones:
        needs = [n for n in r.stage(one.stage).needs if n in ended or n not in taken_over]
        if all(n in ended and ended[n].ended for n in needs):
            start = r.runs[one.run].begin_s
            ready[one.stage] = max([ended[n].end_s for n in needs] + [start])
    groups: dict[float, list[Ran]] = {}
    for one in ones:
        if one.stage in ready:
            groups.setdefault(round(ready[one.stage], 6), []).append(one)
    for when, group in groups.items():
        # In a group sorted by start, a later stage that started only when the first had
        # ended waited for it; all pairs need not be looked at.
        first = group[0]
        took = first.end_s - first.start_s if first.ended else 0.0
        if took <= 2 * r.tolerance_s:
            continue
        pairs += len(group) - 1
        for other in group[1:]:
            if other.start > first.end >= 0 and other.start_s > when + r.tolerance_s:
                bad.append(
                    Violation(
                        "serialised",
                        f"the independent stages {first.stage} and {other.stage} run at the "
                        "same time",
                        f"{other.stage} started only when {first.stage} had ended",
                        other.stage,
                        "",
                        {},
                        (first.end, other.start),
                    )
                )
                return pairs
    return pairs


def check_graph_3(r: Reading) -> Judgement:
    """The outcome of an undisturbed run is what the program alone determines."""
    if not r.sound or r.shape.faults or r.plan.faults or r.plan.toxics or r.layers_decide:
        return untested()
    bad: list[Violation] = []
    tested = 0
    for run, facts in r.runs.items():
        outcome = r.outcome(run)
        ones = r.executions(run)
        tried = {o.stage for o in ones}
        ones = [o for o in ones if not o.again]
        if {o.stage for o in ones} != tried:
            continue
        if outcome is None or facts.cancels or any(o.how not in DONE for o in ones):
            continue
        if r.before(run):
            continue  # what a redrive takes over is judged by PART-5
        if len(r.runs) > 1 and outcome.status != "ok":
            continue  # what another run did to this one is judged by TENANT-4
        if any(o.interrupts for o in ones) or r.shape.ops & {"cancel_branch", "skip", "mutate"}:
            continue
        tested += 1
        expected = {s.name: _value(r, run, s.name) for s in r.program.stages}
        for stage, value in expected.items():
            report = outcome.stages.get(stage)
            if report is None or report.status != "completed":
                wanted = "an output" if value is _UNKNOWN else repr(value)
                bad.append(_differs(r, run, stage, "missing-output", want=wanted, got="none"))
            elif value is not _UNKNOWN and report.value != value:
                bad.append(
                    _differs(
                        r, run, stage, "wrong-output", want=f"{value!r}", got=f"{report.value!r}"
                    )
                )
        for e in r.all_of("read", run):
            need, key, value = e.detail
            want = expected.get(need, _UNKNOWN)
            if key == "value" and want is not _UNKNOWN and value != want:
                bad.append(
                    _differs(r, run, e.stage, "wrong-input", want=f"{want!r}", got=f"{value!r}")
                )
    return violated(bad[:5], undisturbed_runs=tested) if tested else untested()


_UNKNOWN = object()


def _value(r: Reading, run: str, stage: str) -> object:
    """Return what a stage returned, in its own words."""
    said = r.of("returned", run, stage)
    return said[-1].detail if said else _UNKNOWN


def _differs(r: Reading, run: str, stage: str, shape: str, *, want: str, got: str) -> Violation:
    return Violation(
        shape,
        f"stage {stage} has or reads {want[:80]}, whatever the order of declaration and schedule",
        f"it has or reads {got[:80]}",
        stage,
        r.any_location(run),
    )


LARGE = 200


def check_graph_4(r: Reading) -> Judgement:
    stages = len(r.program.stages)
    ends = {"fail", "raise", "cancel_run", "cancel_branch", "skip"}
    if not r.sound or r.shape.faults or stages < LARGE or r.plan.cancels:
        return untested()
    if r.plan.faults or r.plan.toxics:
        return untested()
    if r.shape.ops & ends or any(r.by_timeout(o) or o.failed_by_itself for o in r.executions()):
        return untested()
    if r.record.ended == "steps":
        return violated([_cost(r, stages)], stages_run=stages)
    bad: list[Violation] = []
    for run in r.runs:
        outcome = r.outcome(run)
        done = sum(1 for o in r.executions(run) if o.how == "ok")
        if outcome is None or outcome.status != "ok" or done < stages:
            said = outcome.raised.message[:120] if outcome and outcome.raised else r.record.ended
            bad.append(
                Violation(
                    "large-graph-fails",
                    f"a pipeline of {stages} stages runs to its end",
                    f"{done} stages completed; {said}",
                    "",
                    r.any_location(run),
                    {"completed": done, "stages": stages},
                )
            )
    if not bad and r.record.points / stages > CALLBACKS_PER_STAGE_MAX:
        bad.append(_cost(r, stages))
    return violated(bad, stages_run=stages)


def _cost(r: Reading, stages: int) -> Violation:
    unended = "" if r.record.ended == "over" else ", and the run had not ended"
    return Violation(
        "cost-not-linear",
        f"at most {CALLBACKS_PER_STAGE_MAX} loop callbacks for each of {stages} stages",
        f"{r.record.points / stages:.0f} for each{unended}",
        "",
        "",
        {"callbacks": r.record.points, "stages": stages},
    )


# A stage costs an engine some ten callbacks; an engine that wakes every stage whenever one
# ends takes as many for each stage as there are stages.
CALLBACKS_PER_STAGE_MAX = 100


# What a context offers; that a test context carries no ids unless given some is no difference.
CONTEXT_PARTS = ("timer", "data", "inputs", "snapshot", "cancellation", "has_correlation_id")


def check_ctx_1(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    seen = r.all_of("context")
    others = r.info.facts.get("context_attributes", {})
    if not seen or not others:
        return untested()
    bad: list[Violation] = []
    for e in seen:
        here = {name for name, value in e.detail.items() if value is True}
        known = {name for name in CONTEXT_PARTS if name in e.detail}
        for entry, attributes in others.items():
            there = {name for name, value in attributes.items() if value is True}
            lacks, more = sorted((there - here) & known), sorted((here - there) & known)
            if not lacks and not more:
                continue
            bad.append(
                Violation(
                    "contexts-differ",
                    "a stage finds the same in its context on every entry point",
                    f"against {entry}, a stage of this pipeline lacks "
                    f"{', '.join(lacks) or 'nothing'} and has {', '.join(more) or 'nothing'} "
                    "besides",
                    e.stage,
                    "",
                    {"lacks": len(lacks), "has_besides": len(more)},
                )
            )
        break
    return violated(bad[:1], entry_points_compared=len(others))


def check_ctx_2(r: Reading) -> Judgement:
    if not r.sound:
        return untested()
    bad: list[Violation] = []
    tried = 0
    for i, e in enumerate(r.entries):
        if e.kind != "mutated":
            continue
        tried += 1
        need, key, possible = e.detail
        if not possible:
            continue
        for later in r.entries[i + 1 :]:
            if (
                later.kind == "read"
                and later.run == e.run
                and later.stage != e.stage
                and tuple(later.detail[:2]) == (need, key)
                and "changed" in later.detail[2]
            ):
                bad.append(
                    Violation(
                        "sibling-sees-change",
                        f"stage {later.stage} reads the output of {need} as {need} returned it",
                        f"it reads what stage {e.stage} changed in it",
                        later.stage,
                        "",
                        {},
                        (i,),
                    )
                )
                break
        outcome = r.outcome(e.run)
        report = outcome.stages.get(need) if outcome is not None else None
        value = report.value if report is not None else None
        if not bad and isinstance(value, (dict, list)) and "changed" in value:
            bad.append(
                Violation(
                    "output-changed",
                    f"the output of stage {need} is what it returned",
                    f"it carries a change that stage {e.stage} made",
                    need,
                    "",
                    {},
                    (i,),
                )
            )
    return violated(bad, changes_tried=tried) if tried else untested()


GRAPH: tuple[Clause, ...] = (
    Clause(
        "GRAPH-1",
        "GRAPH",
        "refuse cycles, unknown dependencies, duplicates and empty pipelines at build, naming the "
        "stages",
        "high",
        "correctness",
        check_graph_1,
        {
            "": "An ill-formed pipeline is built",
            "cycle-accepted": "A pipeline with a cycle is built",
            "unknown-accepted": "A pipeline with an unknown dependency is built",
            "duplicate-accepted": "Two stages of one name are built, and one of them is lost",
            "refusal-names-no-stage": "The refusal of a pipeline names no stage",
            "well-formed-refused": "A well-formed pipeline is refused",
        },
        "A mistake of wiring shows only at run time, after some stages have done their work.",
        "Validate the graph where it is built.",
        script=scripts.graph_1,
    ),
    Clause(
        "GRAPH-2",
        "GRAPH",
        "start a stage only after all its dependencies completed, and run independent stages "
        "concurrently",
        "critical",
        "correctness",
        check_graph_2,
        {
            "": "Stages start out of order",
            "started-after-failed": "A stage starts although a stage that it depends on has failed",
            "serialised": "Independent stages are run one after another",
        },
        "Stages work on inputs that do not exist.",
        "Start a stage only when each of its dependencies has completed.",
        data_risk="high",
        script=scripts.graph_2,
    ),
    Clause(
        "GRAPH-3",
        "GRAPH",
        "give the same outcome whatever the order of declaration and the schedule",
        "high",
        "correctness",
        check_graph_3,
        {"": "The outcome depends on the order of declaration or the schedule"},
        "Results cannot be reproduced.",
        "Derive outputs and inputs from dependencies alone.",
        data_risk="high",
    ),
    Clause(
        "GRAPH-4",
        "GRAPH",
        "run 1,000 stages in a chain and 500 side by side, at a cost that grows linearly with the "
        "stages",
        "medium",
        "performance",
        check_graph_4,
        {"": "Large pipelines fail or cost too much"},
        "Pipelines cannot grow.",
        "Keep the number of wake-ups for each finished stage constant.",
        effort="medium",
    ),
)

CTX: tuple[Clause, ...] = (
    Clause(
        "CTX-1",
        "CTX",
        "give a stage the same context (timer, data, ids, inputs) whichever entry point runs it",
        "medium",
        "dx",
        check_ctx_1,
        {"": "A stage's context depends on the entry point that runs it"},
        "A stage that works under test fails in the pipeline, or the other way round.",
        "Give every entry point the same context type.",
        effort="medium",
        needs=frozenset({"context"}),
    ),
    Clause(
        "CTX-2",
        "CTX",
        "hand out context that a stage cannot change under its siblings",
        "high",
        "correctness",
        check_ctx_2,
        {"": "A stage can change what its siblings read"},
        "Results depend on which stage runs first.",
        "Hand out copies or read-only views of outputs.",
        needs=frozenset({"inputs"}),
        data_risk="high",
        script_of_shape=scripts.ctx_2,
    ),
)
