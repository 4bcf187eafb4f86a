"""What is served where the user names no program: a diamond that works, and one that fails.

Both put the marker of their run wherever the engine has a channel: outputs, events,
partial results, log records, the error. Steps that the engine has no capability for are
left out; without run inputs there is no marker at all, and such an engine is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.program import Program
from harness.kernel.steps import OPS

__all__ = ["FAILING", "MAIN", "default_programs", "program_file", "serving_plan"]

MAIN = "main"
FAILING = "failing"
STAGE_TIMEOUT_S = 20.0
TRACEPARENT = "00-" + "1" * 32 + "-" + "1" * 16 + "-01"


def default_programs(capabilities: Collection[str]) -> dict[str, tuple[Program, Plan]]:
    """Return name -> program and plan, of what the engine can do.

    Raises:
        InputError: if no marker can be given to its runs.
    """
    for needed in ("run_inputs", "concurrent_runs"):
        if needed not in capabilities:
            raise InputError(f"the engine offers no {needed}: load on it could not be judged")

    def stage(name: str, *steps: Mapping[str, Any], needs: tuple[str, ...] = ()) -> dict[str, Any]:
        every = [{"op": "input"}, {"op": "identify"}, *steps]
        able = [s for s in every if (OPS[s["op"]].needs or "concurrent_runs") in capabilities]
        return {"name": name, "needs": list(needs), "steps": able}

    def emit(name: str) -> dict[str, Any]:
        return {"op": "emit", "type": f"order.{name}", "data": {"marker": "$marker"}}

    def ok(name: str) -> dict[str, Any]:
        return {"op": "ok", "value": {"stage": name, "marker": "$marker"}}

    fetch = stage("fetch", emit("fetched"), {"op": "sleep", "seconds": 0.005}, ok("fetch"))
    stock = {"op": "call", "tool": "stock", "seconds": 0.01}
    main = [
        fetch,
        stage("stock", stock, emit("reserved"), ok("stock"), needs=("fetch",)),
        stage(
            "price",
            {"op": "log", "message": "priced $marker"},
            {"op": "sleep", "seconds": 0.008},
            ok("price"),
            needs=("fetch",),
        ),
        stage(
            "join",
            {"op": "read", "stage": "stock", "key": "value"},
            {"op": "read", "stage": "price", "key": "value"},
            {"op": "chunk", "value": "joined $marker"},
            emit("joined"),
            ok("join"),
            needs=("stock", "price"),
        ),
        stage(
            "notify", {"op": "sleep", "seconds": 0.003}, emit("done"), ok("notify"), needs=("join",)
        ),
    ]
    refusal = {"op": "raise", "error": "ValueError", "message": "no stock for $marker"}
    failing = [fetch, stage("refuse", {"op": "sleep", "seconds": 0.03}, refusal, needs=("fetch",))]
    plan = serving_plan(
        Plan(stage_timeout_s=STAGE_TIMEOUT_S if "stage_timeout" in capabilities else None),
        capabilities,
    )
    return {
        MAIN: (Program.from_json({"name": MAIN, "stages": main}), plan),
        FAILING: (Program.from_json({"name": FAILING, "stages": failing}), plan),
    }


def serving_plan(plan: Plan, capabilities: Collection[str]) -> Plan:
    """Return the plan with runs that stand for all that will come.

    Adapters look at a plan's runs for what they must prepare: that there are several, of
    several tenants, with inputs and a caller's trace.
    """
    trace = TRACEPARENT if "trace_context" in capabilities else ""
    runs = tuple(
        RunSpec(name, tenant=f"tenant of {name}", inputs={"marker": name}, traceparent=trace)
        for name in ("one", "another")
    )
    data = plan.to_json()
    return Plan.from_json({**data, "runs": [_spec(run) for run in runs]})


def _spec(run: RunSpec) -> dict[str, Any]:
    return {
        "id": run.id,
        "tenant": run.tenant,
        "inputs": dict(run.inputs),
        "traceparent": run.traceparent,
    }


def program_file(file: Path) -> tuple[Program, Plan]:
    """Read {"program": …, "plan": …}; the plan's runs are not read: callers say which there are.

    Raises:
        InputError: naming the file and what is wrong in it.
    """
    try:
        data = json.loads(file.read_text("utf-8"))
    except OSError as exc:
        raise InputError(f"--program {file}: cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise InputError(f"--program {file}: not valid JSON: {exc}") from exc
    if not isinstance(data, dict) or "program" not in data:
        raise InputError(f"--program {file}: expected an object with 'program' (and 'plan')")
    try:
        return Program.from_json(data["program"]), Plan.from_json(data.get("plan", {}))
    except InputError as exc:
        raise InputError(f"--program {file}: {exc}") from exc
