"""The stand-alone script of a case: its text, or why there is none."""

from __future__ import annotations

from harness.contract.clause import Clause
from harness.kernel.adapter import Adapter
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script import Unrenderable

__all__ = ["SHORT_LINES", "script_of"]

# What a maintainer reads in an issue.
SHORT_LINES = 60


def script_of(
    adapter: Adapter, clause: Clause, program: Program, plan: Plan, shape: str
) -> tuple[str | None, str]:
    """Return (script, "") or (None, why there is none).

    Args:
        shape: of the violation that the script is to show.
    """
    if any(cancel.target == "stage" for cancel in plan.cancels):
        return None, "a script cannot reach the task in which an engine runs a stage"
    ways = sorted({cancel.by for cancel in plan.cancels} - {"cancel"})
    if ways:
        return None, f"a script has no words for a caller's deadline by {ways[0]}"
    check = clause.check_of(program, plan, shape)
    if check is None:
        return None, clause.why_no_check(program, plan, shape)
    render = getattr(adapter, "render", None)
    if render is None:
        return None, "the engine's adapter writes no scripts"
    try:
        text = render(program, plan, clause.id, check)
    except Unrenderable as exc:
        return None, f"scripts for this engine have no words for it: {exc}"
    except Exception as exc:
        # An adapter is anybody's code, and its fault no reason to lose a finding.
        return None, f"the adapter could not write it: {type(exc).__name__}: {exc}"[:300]
    return (text, "") if text else (None, "the adapter has no words for something in it")
