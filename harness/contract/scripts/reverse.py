"""The order of the cleanups that a run's stages registered: CLEAN-3."""

from __future__ import annotations

from itertools import combinations

from harness.contract.scripts.source import every_step, one_run, several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script_literals import literal

__all__ = ["clean_3"]


def clean_3(program: Program, plan: Plan) -> str | None:
    """What was registered later, and was there to be run, is run before."""
    names = [one.args["name"] for one in every_step(program) if one.op == "cleanup"]
    retried = any(stage.retry for stage in program.stages)
    if len(names) < 2 or len(set(names)) < len(names) or retried:
        return None
    if any(one.op in ("swallow", "subpipeline") for one in every_step(program)):
        return None
    if not one_run(plan) and not several(plan):
        return None
    one = one_run(plan)
    rows = "[(kind, name) for _, _, kind, name in seen]"
    if not one:
        rows = '[(kind, name) for _, stage, kind, name in seen if stage.split("/")[0] == run]'
    known = [tuple(s.args["name"] for s in x.steps if s.op == "cleanup") for x in program.stages]
    if sorted(names) in [sorted(told) for told in known]:  # one stage, in an order that is known
        order = next(told for told in known if told)
        pairs: tuple[str, ...] = (f"for a, b in {literal(list(combinations(order, 2)))}:",)
    else:
        pairs = (
            'names = [name for kind, name in rows if kind == "register"]',
            "for a, b in itertools.combinations(names, 2):",
        )
    of = "" if one else " of {run}"
    lines = (
        f"rows = {rows}",
        *pairs,
        "    order = list(dict.fromkeys(row for row in rows if row[1] in (a, b)))",
        '    if order[1:] == [("register", b), ("release.begin", a), ("release.begin", b)]:',
        f'        return f"{{b}}{of} was registered after {{a}}, and ran after it"',
    )
    if one:
        return source(*lines, "return None")
    runs = literal([run.id for run in plan.runs])
    return source(f"for run in {runs}:", *(f"    {line}" for line in lines), "return None")
