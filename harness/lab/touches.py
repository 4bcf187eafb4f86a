"""Which clauses can apply to a scenario at all: the others are not asked of its runs."""

from __future__ import annotations

from harness.contract.clause import Clause
from harness.contract.shape import ProgramShape
from harness.kernel.plan import Plan, required_capabilities
from harness.kernel.program import Program

__all__ = ["touches"]


def touches(clause: Clause, program: Program, plan: Plan, shape: ProgramShape) -> bool:
    """Say whether a clause can apply to a scenario at all, by what program and plan hold."""
    ops = shape.ops
    timed = plan.stage_timeout_s is not None or any(
        s.timeout_s is not None or s.idle_timeout_s is not None for s in program.stages
    )
    match clause.id:
        case "TIME-4":
            return "timeout" in ops or "raise" in ops
        case "TIME-6":
            return "timeout" in ops or timed
        case "TIME-8":
            return "call" in ops
        case "CANCEL-3" | "CANCEL-5":
            return any(cancel.target == "run" for cancel in plan.cancels)
        case "CANCEL-4":
            return "swallow" in ops
        case "CANCEL-6" | "TIME-10":
            return "subpipeline" in ops
        case "CANCEL-8":
            called_off = any(cancel.target == "stage" for cancel in plan.cancels)
            return called_off or "raise" in ops or "call" in ops
        case "CLEAN-6":
            return len(plan.runs) > 1
        case "GRAPH-4":
            return len(program.stages) > 100
        case "PART-5":
            return any(run.redrives for run in plan.runs)
        case "PART-6":
            return "compensate" in ops
        case "RETRY-1":
            return any(s.retry is not None for s in program.stages)
        case "GRAPH-5":
            return bool(plan.layers)
        case "CTX-1":
            return "context" in ops
        case "CTX-2":
            return "mutate" in ops
        case "STREAM-3" | "STREAM-4":
            return plan.consumer is not None
        case "TENANT-1":
            return len({run.tenant for run in plan.runs}) > 1
        case "TENANT-2":
            return bool(plan.layers) and len({run.tenant for run in plan.runs}) > 1
        case "TENANT-3":
            return "tenant_store" in required_capabilities(program, plan)
        case "TENANT-4":
            return len(plan.runs) > 1
        case "CORR-1":
            return any(run.correlation for run in plan.runs)
        case "CORR-2":
            return any(run.traceparent for run in plan.runs)
        case "CORR-3":
            return len(plan.runs) > 1 and any(
                run.correlation or run.traceparent for run in plan.runs
            )
    if clause.family == "TIME":
        return timed
    if clause.family == "EVENT":
        return "flood" in ops and plan.sink is not None
    if clause.family == "STREAM":
        return "chunk" in ops
    return True
