"""A bench for the checks of stand-alone scripts: run one on notes, written by hand or taken
from a run of the laboratory."""

from __future__ import annotations

import asyncio
import itertools
import traceback
import uuid
from collections.abc import Sequence
from typing import Any

from harness.contract.clauses import CLAUSES
from harness.contract.scripts.source import in_place
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.record import RunRecord
from harness.kernel.script_ends import HOWS

__all__ = ["MORE_SHAPES", "Note", "check", "notes_of", "said", "sources"]

# (seconds, stage, kind, detail), as a script's `seen` has them.
Note = tuple[float, str, str, Any]

# Shapes that have no title of their own, and a check.
MORE_SHAPES = {
    "CLEAN-6": ("other-run-interrupted",),
    "TIME-3": ("sibling-not-cancelled",),
    "RETRY-1": ("called-off-rerun",),
    "STREAM-4": ("producer-not-stopped", "producer-not-awaited", "producer-ran-on"),
}

NOT_COMPLETED = ("cancelled: ", "failed: ", "skipped: ", "timed_out: ")


class EngineError(Exception):
    """What an engine raises, with the ids that it carries."""

    __module__ = "engine"


def sources(clause: str, program: Program, plan: Plan) -> dict[str, str]:
    """Return shape of violation -> source of the check that a script has for it, where there is
    one; "" stands for all shapes that have no title of their own."""
    shapes = (*CLAUSES[clause].title, *MORE_SHAPES.get(clause, ()))
    found = {shape: CLAUSES[clause].check_of(program, plan, shape) for shape in shapes}
    return {shape: source for shape, source in found.items() if source is not None}


def check(source: str, *told: Any) -> str | None:
    """Run a check's source on (seen, error, outputs, left, took); return what it says."""
    seen, error, outputs, left, took = told
    accounts = [detail for _, _, kind, detail in seen if kind == "account"]
    *_, dropped, pending, _ = accounts[-1] if accounts else (0, 0, 0)
    names: dict[str, Any] = {
        "asyncio": asyncio,
        "itertools": itertools,
        "traceback": traceback,
        "uuid": uuid,
        "unretrieved": [],
        "strays": left,
        "results": outputs,
        "dropped": dropped,
        "pending": pending,
    }
    exec(compile(source, "<check>", "exec"), names)
    seen = [row for row in seen if _is_noted(row, source)]
    completed = {k: v for k, v in outputs.items() if not str(v).startswith(NOT_COMPLETED)}
    return names["violation"](seen, error, completed, left, took)  # type: ignore[no-any-return]


def _is_noted(row: Note, source: str) -> bool:
    """Say whether a script with this check notes a row: the kinds, and of the ends of stages
    those, that the check names; all if it names none."""
    _, _, kind, how = row
    ends = [end for end in HOWS if f'"{end}"' in source or f'"{end}:' in source]
    if kind == "stage.end" and ends and str(how).split(":")[0] not in ends:
        return False
    return f'"{kind}"' in source


def said(
    clause: str,
    program: Program,
    plan: Plan,
    seen: Sequence[Note],
    *,
    shape: str | None = None,
    error: BaseException | None = None,
    outputs: dict[str, Any] | None = None,
    left: Sequence[str] = (),
    took: float = 10.0,
) -> str | None:
    """Return what a clause's script says of notes, of one shape or the first that is there;
    raises if it has no script for the plan."""
    checks = sources(clause, program, plan)
    if shape is not None:
        source = CLAUSES[clause].check_of(program, plan, shape)
        checks = {} if source is None else {shape: source}
    assert checks, f"{clause} has no script for this"
    told = (list(seen), error, outputs or {}, list(left), took)
    texts = (check(source, *told) for source in checks.values())
    return next((text for text in texts if text is not None), None)


def notes_of(plan: Plan, record: RunRecord) -> tuple[Any, ...]:
    """Return what a script of a laboratory's run would have handed to its check."""
    many, now = len(plan.runs) > 1, in_place(plan)
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
        if kind == "offer.end" and detail[2] == "taken":
            seen.append((at_s, label, "taken", detail[:2]))
        if kind == "run.end" and now:
            break  # it is judged at once
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
    """Return the stages that had begun and not ended when the last run was over."""
    running: list[str] = []
    over = [i for i, (_, _, kind, _) in enumerate(seen) if kind == "run.end"]
    for _, stage, kind, _ in seen[: over[-1] if over else None]:
        if kind == "stage.start":
            running.append(stage)
        if kind == "stage.end":
            running.remove(stage)
    return running


def _error(outcome: Outcome) -> BaseException:
    assert outcome.raised is not None  # the caller has looked
    if outcome.raised.type == "CancelledError":
        return asyncio.CancelledError()
    kind = type(outcome.raised.type, (EngineError,), {"__module__": EngineError.__module__})
    error = kind(outcome.raised.message)
    error.__dict__.update(
        ids=dict(outcome.error_ids),
        failures=[f"{one.error} in '{one.stage}': {one.message}" for one in outcome.failures],
        cleanup_failures=outcome.cleanup_failures,
        still_running=outcome.still_running,
    )
    return error
