"""A bench for the checks of stand-alone scripts: run one on notes, written by hand or taken
from a run of the laboratory."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any

from harness.contract.clauses import CLAUSES
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.kernel.script_main import completed_only

__all__ = ["Note", "check", "notes_of", "said"]

# (seconds, stage, kind, detail), as a script's `seen` has them.
Note = tuple[float, str, str, Any]

NOT_COMPLETED = ("cancelled: ", "failed: ", "skipped: ", "timed_out: ")


class EngineError(Exception):
    """What an engine raises, with the ids that it carries."""

    __module__ = "engine"


def check(source: str, *told: Any) -> str | None:
    """Run a check's source on (seen, error, outputs, left, took); return what it says."""
    names: dict[str, Any] = {"asyncio": asyncio, "uuid": uuid, "unretrieved": []}
    exec(compile(source, "<check>", "exec"), names)
    seen, error, outputs, left, took = told
    if completed_only(source):  # then a script gives it no others
        outputs = {k: v for k, v in outputs.items() if not str(v).startswith(NOT_COMPLETED)}
    return names["violation"](seen, error, outputs, left, took)  # type: ignore[no-any-return]


def said(
    clause: str,
    program: Program,
    plan: Plan,
    seen: Sequence[Note],
    *,
    error: BaseException | None = None,
    outputs: dict[str, Any] | None = None,
    left: Sequence[str] = (),
    took: float = 10.0,
) -> str | None:
    """Return what a clause's script says of notes; raises if it has no script for the plan."""
    source = CLAUSES[clause].script(program, plan)
    assert source is not None, f"{clause} has no script for this"
    return check(source, list(seen), error, outputs or {}, list(left), took)


def notes_of(plan: Plan, record: RunRecord) -> tuple[Any, ...]:
    """Return what a script of a laboratory's run would have handed to its check."""
    many = len(plan.runs) > 1
    seen: list[Note] = []
    for at_s, run, stage, kind, detail in record.journal:
        if kind == "returned":
            continue  # a script has it in its outputs
        # A child's run is named after its parent's; a script names its stages by the child.
        top, _, rest = run.partition("/")
        name = "/".join(part.split("#")[0] for part in (*rest.split("/"), stage) if part)
        label = f"{top}/{name}" if many else name
        if kind == "offer.end" and detail[2] == "refused":
            detail = (*detail[:2], "taken")  # what does not raise, a script takes for taken
        alone = kind.startswith("deliver.") or kind == "cancel.sent"
        outcome = record.outcomes.get(run)
        if kind == "run.end" and outcome is not None and outcome.sink is not None:
            said = outcome.sink
            parts = (said.offered, said.delivered, said.dropped, said.pending, said.queue_max)
            seen.append((at_s, "", "account", parts))
        if kind == "run.end" and outcome is not None:
            partial = {k: v for k, v in outcome.stages.items() if v.partial is not None}
            seen += [(at_s, name, "partial", v.complete) for name, v in partial.items()]
        if kind == "run.end" and outcome is not None and outcome.raised is not None:
            detail = outcome.raised.type  # a script's caller gets what the adapter has caught
        seen.append((at_s, "" if alone else label, kind, detail))
        if kind in ("release.end", "release.fail", "release.cut"):
            seen.append((at_s, label, "release.over", detail))
    errors = [_error(o) for r in plan.runs if (o := record.outcomes.get(r.id)) and o.raised]
    outputs = {
        f"{run}/{name}" if many else name: report.value
        if report.status == "completed"
        else f"{report.status}: {report.error}"
        for run, outcome in record.outcomes.items()
        for name, report in outcome.stages.items()
    }
    return seen, (errors or [None])[0], outputs, _left(seen), record.took_s


def _left(seen: Sequence[Note]) -> list[str]:
    """Return the stages that had begun and not ended when a run, if there is one, was over."""
    running: list[str] = []
    for _, stage, kind, _ in seen:
        if kind == "stage.start":
            running.append(stage)
        if kind == "stage.end":
            running.remove(stage)
        if kind == "run.end":
            break
    return running


def _error(outcome: Outcome) -> BaseException:
    assert outcome.raised is not None  # the caller has looked
    if outcome.raised.type == "CancelledError":
        return asyncio.CancelledError()
    error = EngineError(outcome.raised.message)
    error.__dict__.update(
        ids=dict(outcome.error_ids),
        failures=[f"{one.error} in '{one.stage}': {one.message}" for one in outcome.failures],
        cleanup_failures=outcome.cleanup_failures,
        still_running=outcome.still_running,
    )
    return error
