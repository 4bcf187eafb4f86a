"""What ended a run early, and which outputs of completed stages a user can still reach then."""

from __future__ import annotations

from harness.contract.clause import Violation
from harness.contract.reading import CLOSE_S, Ran, Reading

__all__ = ["failed_together", "outputs_lost"]


def failed_together(r: Reading, who: Ran) -> bool:
    """Say whether another stage failed for good, or timed out, in the instant in which one asked to
    end the run: an engine may take either for what ended it. An attempt counts that none followed
    later."""
    for one in r.executions(who.run):
        if one is who or any(other.start_s > one.end_s for other in r.ran[one.run, one.stage]):
            continue
        ends = [one.end_s] if one.attempt_failed and one.ended else []
        if r.by_timeout(one) or r.by_default_timeout(one):
            ends.append(r.time_of(one.interrupts[0]))
        if any(abs(at_s - who.end_s) <= r.tolerance_s for at_s in ends):
            return True
    return False


def outputs_lost(r: Reading, run: str, who: Ran, *, shape: str) -> list[Violation]:
    """Find stages that completed before `who` ended the run and whose outputs are lost."""
    outcome = r.outcome(run)
    if outcome is None:
        return []
    done = [
        one
        for one in r.executions(run)
        if one.how == "ok"
        and not one.swallowed
        and one.end_s < r.end_began_s(who) - CLOSE_S
        and not r.failed_in_layer(run, one.stage)
    ]
    missing = [
        one
        for one in done
        if (rep := outcome.stages.get(one.stage)) is None or rep.status != "completed"
    ]
    if not missing:
        return []
    return [
        Violation(
            shape,
            f"the outputs of {len(done)} completed stages can be reached",
            f"those of {len(done) - len(missing)} can",
            missing[0].stage,
            outcome.raised.location if outcome.raised else "",
            {"reachable": len(done) - len(missing), "completed": len(done)},
            (missing[0].end, who.end),
        )
    ]
