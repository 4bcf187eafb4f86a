"""For whom the engine says that code works: CORR."""

from __future__ import annotations

from harness.contract.scripts.source import several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

__all__ = ["corr_1", "corr_3"]


def corr_1(program: Program, plan: Plan) -> str | None:
    """The caller's correlation id is told to code of the run, and is on the error of the run."""
    ids = {run.id: run.correlation for run in plan.runs if run.correlation}
    if not ids or any("/" in run.id for run in plan.runs):
        return None
    many = len(plan.runs) > 1
    run = 'stage.split("/")[0]' if many else repr(plan.runs[0].id)
    return source(
        f"ids = {ids!r}  # run -> the correlation id of its caller",
        "for _, stage, kind, detail in seen:",
        f"    due = ids.get({run})",
        '    if kind == "identity" and due is not None:',
        '        said = detail[1].get("correlation", "")',
        "        if said not in ids.values():",
        '            return f"{stage}, {detail[0]}: the correlation id is {said!r}, not {due}"',
        "# `error` is that of the first run that has one.",
        f'got = {{{run}: how for _, stage, kind, how in seen if kind == "run.end"}}',
        f'first = [run for run in {[r.id for r in plan.runs]!r} if got.get(run) != "returned"]',
        'failed = [stage for _, stage, kind, how in seen if kind == "stage.end"',
        '          and (how == "fail" or how.startswith("raise:"))]',
        "own = error is not None and type(error).__module__ not in ('builtins', '__main__')",
        "due = ids.get(first[0]) if first else None",
        "if own and due and not isinstance(error, asyncio.CancelledError):",
        f"    if any({run} == first[0] for stage in failed):",
        "        texts, one = [], error",
        "        while one is not None and len(texts) < 20:",
        "            fields = {n: getattr(one, n, None) for n in dir(one) if n[:2] != '__'}",
        '            texts.append(f"{one!r} {fields}")',
        "            one = one.__cause__ or one.__context__",
        "        # The id itself, or the UUID that was made of it for an engine that wants one.",
        "        forms = due, str(uuid.uuid5(uuid.NAMESPACE_DNS, due))",
        "        if not any(one in str(texts) for one in forms):",
        '            return f"the correlation id {due} is not on the error of the run: {error!r}"',
        "return None",
    )


def corr_3(_program: Program, plan: Plan) -> str | None:
    """Code of a run is told no id of another run."""
    if not several(plan):
        return None
    ids = {run.id: run.correlation for run in plan.runs}
    return source(
        f"ids = {ids!r}  # run -> the correlation id of its caller",
        "for _, stage, kind, detail in seen:",
        '    if kind != "identity":',
        "        continue",
        '    place, said, run = *detail, stage.split("/")[0]',
        "    for other, correlation in ids.items():",
        '        if correlation and said.get("correlation") == correlation != ids[run]:',
        '            return f"the {place} of {stage} is told the correlation id of run {other}"',
        '        if other != run and said.get("run", "").split("/")[0] == other:',
        '            return f"the {place} of {stage} is told that it is of run {other}"',
        "return None",
    )
