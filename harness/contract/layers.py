"""GRAPH-5: layers around stages, in their order, none of which switches another one off.

Two kinds of evidence. Layers of the user's note when they are passed, fail or deny. Those of the
engine's own (circuit breaker, rate limit, idempotency) note nothing: that they refused a stage
is seen from its not having run although it was its turn, and that they answered for it from its
being reported as completed all the same. Where a policy is the engine's to choose (a limiter that
waits, a fixed window, a refused duplicate, a kept failure) every choice is let pass.
"""

from __future__ import annotations

from harness.contract import scripts
from harness.contract.clause import Clause, Judgement, Violation, untested, violated
from harness.contract.kept import check_kept
from harness.contract.passage import ENGINES_OWN, Way, find_ways, layers_of
from harness.contract.reading import Reading
from harness.contract.refused import check_refused
from harness.kernel.outcome import Outcome

__all__ = ["LAYERS"]

COMPLETED = "completed"
SHOWN_MAX = 10


def check_graph_5(r: Reading) -> Judgement:
    if not r.plan.layers or not r.sound or r.shape.faults:
        return untested()
    ways = find_ways(r)
    bad: list[Violation] = []
    for (_run, stage), found in ways.items():
        retried = r.stage(stage).retry is not None
        for way in found:
            bad += _order(r, way, retried=retried)
            bad += _let_through(way)
        bad += _reported(r, found[-1])
    own_bad, answers, refusals = check_refused(r)
    kept_bad, repeats = check_kept(r)
    bad += own_bad + kept_bad
    passages = sum(len(found) for found in ways.values())
    if not passages and not answers and not refusals and not repeats:
        return untested()
    stopped = sum(way.refused[0] >= 0 for found in ways.values() for way in found)
    return violated(
        bad[:SHOWN_MAX],
        passages=passages,
        refused_by_layers=stopped,
        refused_by_the_engine=refusals,
        executions_under_the_engines_layers=answers + repeats,
    )


def _order(r: Reading, way: Way, *, retried: bool) -> list[Violation]:
    names = [one.name for one in layers_of(r, way.stage)]
    inwards = [names.index(n) for n in way.entered if n in names]
    outwards = [names.index(n) for n in way.exited if n in names]
    bad = []
    if inwards != sorted(inwards):
        bad.append(_misplaced(way, "entered", "in declared order", names, way.entered))
    if outwards != sorted(outwards, reverse=True):
        bad.append(_misplaced(way, "left", "in reverse order", names, way.exited))
    if way.again and not retried:
        bad.append(
            Violation(
                "entered-twice",
                f"each layer around stage {way.stage} is entered once for an execution",
                f"layer {way.entered[0]} was entered a second time before the stage had run",
                way.stage,
            )
        )
    return bad


def _misplaced(way: Way, how: str, order: str, names: list[str], seen: list[str]) -> Violation:
    shape = "out-of-order" if how == "entered" else "not-nested"
    return Violation(
        shape,
        f"the layers {', '.join(names)} around stage {way.stage} are {how} {order}",
        f"they were {how} in the order {', '.join(seen)}",
        way.stage,
        "",
        {},
        (way.started,),
    )


def _let_through(way: Way) -> list[Violation]:
    """A stage runs within all of its layers, and not if one of them refused."""
    if way.started < 0:
        return []
    at, layer, how = way.refused
    if at >= 0:
        shape = "ran-despite-denial" if how == "deny" else "ran-despite-failing-layer"
        did = "denied it" if how == "deny" else "failed"
        return [
            Violation(
                shape,
                f"stage {way.stage} does not run when a layer around it fails or denies",
                f"it ran after layer {layer} had {did}",
                way.stage,
                "",
                {},
                (at, way.started),
            )
        ]
    if way.outside:
        return [
            Violation(
                "layer-skipped",
                f"stage {way.stage} runs within every layer that is put around it",
                f"it ran without layer {way.outside[0]}",
                way.stage,
                "",
                {"layers_skipped": len(way.outside)},
                (way.started,),
            )
        ]
    return []


def _reported(r: Reading, way: Way) -> list[Violation]:
    """What a layer refused, or failed over, is no success, and nothing goes on from it."""
    before = way.started < 0 and way.refused[0] >= 0
    at, layer = way.refused[:2] if before else way.failed_after
    outcome = r.outcome(way.run)
    if at < 0 or not r.runs[way.run].over:
        return []
    if r.of("consume.stop", way.run, way.stage):
        return []  # a stage that its consumer has stopped is no failure, whatever comes after
    if r.stage(way.stage).retry is not None and layers_of(r, way.stage, "idempotency"):
        return []  # at its next try it may have been answered for, which is no passage
    how = way.refused[2] if before else "raise"
    did = "denied it" if how == "deny" else f"failed {'before' if before else 'after'} it"

    def say(shape: str, expected: str, actual: str) -> list[Violation]:
        location = r.any_location(way.run)
        return [Violation(shape, expected, actual, way.stage, location, {}, (at,))]

    report = None if outcome is None else outcome.stages.get(way.stage)
    ran = dependents_that_ran(r, way.run, way.stage, at)
    if report is not None and report.status == COMPLETED:
        # That what needs it runs is then only what follows from this.
        shape = "denied-completed" if how == "deny" else "failed-layer-completed"
        return say(
            shape if before else "failure-after-completed",
            f"stage {way.stage} is not reported as completed: layer {layer} {did}",
            "it is reported as completed",
        )
    if ran:
        return say(
            "dependents-ran",
            f"what needs stage {way.stage} does not run: layer {layer} {did}",
            f"stage {ran[0]} ran",
        )
    if outcome is None:
        return []
    if outcome.status == "ok" and how == "raise":
        return say(
            "failed-layer-untold",
            f"a run is not a success in which layer {layer} {did} (stage {way.stage})",
            "the run is reported as a success",
        )
    if outcome.status == "ok" and report is None:
        return say(
            "denial-untold",
            f"the outcome says that stage {way.stage} did not run: layer {layer} {did}",
            "the run is reported as a success, and nothing is said of the stage",
        )
    if how == "raise" and _only_trouble(r, way.run) and not _named(outcome, way.stage):
        return say(
            "stage-unnamed",
            f"the failure names stage {way.stage}: layer {layer} {did}",
            f"it says: {outcome.raised.message[:160] if outcome.raised else 'nothing'}",
        )
    return []


def dependents_that_ran(r: Reading, run: str, stage: str, since: int) -> list[str]:
    below = r.program.descendants(stage)
    return [one.stage for one in r.executions(run) if one.stage in below and one.start > since]


def _only_trouble(r: Reading, run: str) -> bool:
    """Say whether one layer's failure is all that went wrong in a run."""
    if r.runs[run].cancels or r.timed_out(run) or not r.told(run):
        return False
    if any(map(r.by_default_timeout, r.executions(run))):
        return False
    failed = sum(1 for e in r.all_of("layer.raise", run)) + len(r.all_of("layer.deny", run))
    own = any(one.kind in ENGINES_OWN for one in r.plan.layers)
    return failed == 1 and not own and not r.first_cause(run)[1]


def _named(outcome: Outcome, stage: str) -> bool:
    raised = outcome.raised
    if any(f.stage == stage or stage in f.message for f in outcome.failures):
        return True
    return raised is not None and (raised.stage == stage or stage in raised.message)


LAYERS: tuple[Clause, ...] = (
    Clause(
        "GRAPH-5",
        "GRAPH",
        "run interceptors or middleware in declared order, and never let one that fails switch a "
        "guard off",
        "critical",
        "security",
        check_graph_5,
        {
            "": "Layers around stages do not hold",
            "ran-despite-failing-layer": "A stage runs although a layer around it failed",
            "ran-despite-denial": "A stage runs although a guard denied it",
            "layer-skipped": "A stage runs without one of its layers",
            "out-of-order": "Layers are entered in another order than declared",
            "not-nested": "Layers are left in another order than they were entered in",
            "denied-completed": "A stage that a guard denied is reported as completed",
            "failed-layer-completed": "A stage whose layer failed is reported as completed",
            "failure-after-completed": "A layer's failure after its stage is swallowed",
            "failed-layer-untold": "A run in which a layer failed is reported as a success",
            "dependents-ran": "Stages run that need one whose layer failed or refused it",
            "completed-without-running": "A stage that did not run is reported as completed",
            "completed-without-running-under-load": "Under load a stage that did not run is "
            "reported as completed",
            "kept-wrong": "A stage that is not run again is given another output than it had",
            "kept-for-another-stage": "An output kept for one stage is given to another",
            "refused-without-cause": "A stage is refused for nothing that it did",
            "ran-again-under-its-key": "A stage that completed under a key runs again under it",
            "circuit-stayed-closed": "A circuit breaker lets a stage run that keeps failing",
            "rate-exceeded": "A rate limit lets more executions through than it says",
        },
        "Whoever makes a guard fail gets past it, and a refusal looks like work that was done.",
        "Let a layer that fails fail its stage, and let no layer's failure skip the others.",
        effort="medium",
        data_risk="high",
        security_risk="high",
        workaround="Put what must never be skipped into the stage itself.",
        script_of_shape=scripts.graph_5,
    ),
)
