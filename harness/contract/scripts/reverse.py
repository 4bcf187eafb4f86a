"""The order of the cleanups that a run's stages registered: CLEAN-3."""

from __future__ import annotations

from harness.contract.scripts.source import every_step, one_run, several, source
from harness.kernel.plan import Plan
from harness.kernel.program import Program

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
    key = "name" if one_run(plan) else 'stage.split("/")[0], name'
    other = "" if one_run(plan) else "one[0] == me[0] and "
    of, first = ("", "late[0]") if one_run(plan) else (" of {me[0]}", "late[0][1]")
    return source(
        "registered, begun = {}, {}  # cleanup -> its place in what was seen",
        "for i, (_, stage, kind, name) in enumerate(seen):",
        f"    me = {key}",
        '    if kind == "register":',
        "        registered[me] = i",
        '    if kind == "release.begin" and me in registered and me not in begun:',
        f"        late = [one for one in begun if {other}registered[one] < registered[me]",
        "                and registered[me] < begun[one]]",
        "        if late:",
        f'            return f"{{name}}{of} was registered after {{{first}}} and ran after it"',
        "        begun[me] = i",
        "return None",
    )
