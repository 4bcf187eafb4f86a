"""For whom the engine says that code works: CORR."""

from __future__ import annotations

from harness.contract.scripts.source import ops, several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

__all__ = ["corr_1", "corr_3"]


def corr_1(program: Program, plan: Plan, shape: str) -> str | None:
    """The caller's correlation id is told to code of the run, and is on the error of the run."""
    ids = {run.id: run.correlation for run in plan.runs if run.correlation}
    if not ids or any("/" in run.id for run in plan.runs):
        return None
    if shape == "lost-in-error":
        return _on_the_error(program, plan)
    if shape.endswith(("-in-log", "-in-event")) or shape.startswith("log-record"):
        return None  # what code is told is not what is on a record or an event
    lost = 'detail[1].get("correlation", "") not in ids.values()'  # another's is another defect
    run = 'stage.split("/")[0] in ids and ' if len(plan.runs) > len(ids) else ""
    return source(
        f"ids = {literal(ids)}  # run -> the correlation id of its caller",
        "for _, stage, kind, detail in seen:",
        f'    if kind == "identity" and {run}{lost}:',
        '        return f"{stage}, {detail[0]}: the correlation id is not told, but {detail[1]}"',
        "return None",
    )


def _on_the_error(program: Program, plan: Plan) -> str | None:
    """Return the check that an error of the engine's, over a stage that failed, has the id."""
    correlation = plan.runs[0].correlation
    fails = {"fail", "raise", "flaky", "call"} & ops(program)
    if len(plan.runs) > 1 or not correlation or not fails:
        return None
    return source(
        'text, one = "", error',
        "while one is not None and len(text) < 100_000:",
        '    text += f"{one!r} {[getattr(one, name, None) for name in dir(one)]}"',
        "    one = one.__cause__ or one.__context__",
        "of = type(error).__module__",
        'own = error and of not in ("builtins", "__main__", "asyncio.exceptions")',
        f"due = {literal(correlation)}  # itself, or the UUID that was made of it",
        "if own and due not in text and str(uuid.uuid5(uuid.NAMESPACE_DNS, due)) not in text:",
        '    return f"the correlation id {due} is not on the error of the run: {error!r}"',
        "return None",
    )


def corr_3(_program: Program, plan: Plan, shape: str) -> str | None:
    """Code of a run is told no id of another run."""
    if not several(plan):
        return None
    what = {"correlation-id-of-another-run": "correlation", "run-id-of-another-run": "run"}
    if shape not in what:
        return None
    ids = {run.id: run.correlation if "corr" in shape else run.id for run in plan.runs}
    ids = {run: one for run, one in ids.items() if one}
    if len(set(ids.values())) < len(ids):
        return None
    told = f'said.get("{what[shape]}", "")' + ("" if "corr" in shape else '.split("/")[0]')
    return source(
        f"ids = {literal(ids)}  # run -> its id",
        'told = [(stage, *detail) for _, stage, kind, detail in seen if kind == "identity"]',
        "for stage, place, said in told:",
        '    others = [one for run, one in ids.items() if not stage.startswith(f"{run}/")]',
        f"    if {told} in others:",
        '        return f"the {place} of {stage} is told of another: {said}"',
        "return None",
    )
