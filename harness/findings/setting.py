"""What a mission simulated: stages, mocks and faults, read off the programs that were run.

A scenario that was not run on this engine (for lack of a capability, say) simulated nothing: it
is named, and adds to none of the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.findings.campaign import Row
from harness.findings.steps import (
    arguments,
    count_lines,
    limit_of,
    longest,
    purpose_of,
    steps_of,
    walk,
)

__all__ = ["setting"]

# Steps behind which a mock stands, and what that mock does.
_MOCKS = {
    "call": ("tool", "tool", "a mock tool that takes its time, holds a resource or fails on order"),
    "generate": ("name", "async generator", "a mock source of items at a fixed pace"),
    "acquire": ("name", "resource", "a mock resource that records when it is taken and released"),
    "using": ("name", "resource", "a mock resource behind a context manager"),
    "cleanup": ("name", "cleanup", "a mock cleanup handed to the engine's registry"),
    "emit": ("type", "event", "an event sink that keeps what reaches it"),
    "thread": ("", "worker thread", "a job that blocks a worker thread"),
    "subpipeline": ("", "subpipeline", "a child pipeline run by a stage"),
}


def setting(units: Sequence[Row]) -> dict[str, Any]:
    """Return the tables of stages, mocks and faults of the units of one engine that were run.

    `not_run` names the scenarios that were not, in order.
    """
    stages: list[dict[str, Any]] = []
    mocks: dict[tuple[str, str], dict[str, Any]] = {}
    faults: list[dict[str, Any]] = []
    seen: set[str] = set()
    run = {u["scenario"] for u in units if u["runs"]}
    for unit in units:
        if unit["scenario"] in seen or unit["scenario"] not in run or not unit["program"]:
            continue
        seen.add(unit["scenario"])
        plan = unit["plan"] or {}
        stages += _stages(unit["scenario"], unit["program"], plan)
        _collect_mocks(mocks, unit["program"])
        faults += [{"scenario": unit["scenario"], "fault": fault} for fault in _faults(unit, plan)]
    return {
        "stages": stages,
        "mocks": list(mocks.values()),
        "faults": faults,
        "not_run": [s for s in dict.fromkeys(u["scenario"] for u in units) if s not in run],
    }


def _stages(scenario: str, program: Row, plan: Row) -> list[dict[str, Any]]:
    """Return a row per kind of stage: fifty equal workers are one row that says so."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for stage in program.get("stages", ()):
        steps = steps_of(stage)
        row = {
            "scenario": scenario,
            "stage": stage["name"],
            "count": 1,
            "purpose": purpose_of(steps),
            "needs": list(stage.get("needs", ())),
            "timeout_s": limit_of(stage, plan),
            "lines": count_lines(steps),
        }
        # A row's `needs` are those of its first stage; equal workers have equally many.
        alike = (row["purpose"], len(row["needs"]), str(row["timeout_s"]), row["lines"])
        if alike in rows:
            rows[alike]["count"] += 1
        else:
            rows[alike] = row
    return list(rows.values())


def _collect_mocks(mocks: dict[tuple[str, str], dict[str, Any]], program: Row) -> None:
    for stage in program.get("stages", ()):
        for step in walk(steps_of(stage)):
            if step["op"] not in _MOCKS:
                continue
            key, kind, purpose = _MOCKS[step["op"]]
            args = arguments(step)
            name = str(args.get(key, "")) if key else ""
            row = mocks.setdefault(
                (kind, name), {"mock": kind, "name": name, "purpose": purpose, "lines": 0}
            )
            row["lines"] += 1
            child = args.get("program")
            if isinstance(child, Mapping):
                _collect_mocks(mocks, child)


def _faults(unit: Row, plan: Row) -> list[str]:
    found = []
    limit = plan.get("stage_timeout_s")
    if limit is not None:
        found.append(f"every stage without a timeout of its own is given {limit} s")
    for stage in unit["program"].get("stages", ()):
        if stage.get("timeout_s") is not None and len(found) < 10:
            found.append(f"stage {stage['name']} is given {stage['timeout_s']} s")
    for cancel in plan.get("cancels", ()):
        found.append(_cancel(cancel))
    found += [_fault(fault) for fault in plan.get("faults", ())]
    found += [_toxic(toxic) for toxic in plan.get("toxics", ())]
    found += [_clock_step(one) for one in plan.get("clock_steps", ())]
    for stage in unit["program"].get("stages", ()):
        for step in walk(steps_of(stage)):
            if step["op"] == "allocate":
                megabytes = arguments(step)["megabytes"]
                found.append(
                    f"stage {stage['name']} takes {megabytes} MB of memory, or none is left"
                )
    runs = plan.get("runs", ())
    if len(runs) > 1:
        tenants = {r.get("tenant", "t0") for r in runs}
        found.append(f"{len(runs)} runs at once, of {len(tenants)} tenants")
    slow = [s for s in unit["program"].get("stages", ()) if _is_slow(s, plan)]
    if slow:
        found.append(f"stages that may take as long as their timeout, or longer: {len(slow)}")
    return found


DEADLINES = {
    "timeout": "the caller's asyncio.timeout expires",
    "wait_for": "the caller's asyncio.wait_for gives up",
    "group": "another task of the caller's task group fails",
}


def _fault(fault: Row) -> str:
    raises = f"raises {fault.get('error', 'RuntimeError')}"
    if fault.get("one_in") is not None:
        return (
            f"one call in {fault['one_in']} of tool {fault['tool']} {raises}, as the seed draws it"
        )
    later = " and every later one" if fault.get("onwards") else ""
    return f"call {fault.get('nth', 1)} of tool {fault['tool']}{later} {raises}"


def _toxic(toxic: Row) -> str:
    """Say what is on the network, in the words and units of Toxiproxy."""
    attributes = ", ".join(f"{k} {v}" for k, v in sorted(toxic.get("attributes", {}).items()))
    way = toxic.get("stream", "downstream")
    return f"network: toxic {toxic['type']}{f' ({attributes})' if attributes else ''}, {way}"


def _clock_step(one: Row) -> str:
    off = f"{abs(one['by_s']):g} s {'ahead' if one['by_s'] > 0 else 'back'}"
    if not one["at_s"]:
        return f"the wall clock is {off.replace('back', 'behind')} from the start"
    return f"the wall clock is set {off} after {one['at_s']:g} s"


def _cancel(cancel: Row) -> str:
    times = cancel.get("times", 1)
    often = "" if times == 1 else f", {times} times, {cancel.get('gap_s', 0)} s apart"
    if cancel.get("by", "cancel") != "cancel":
        return f"{DEADLINES[cancel['by']]} after {cancel['at_s']} s"
    if cancel.get("target") == "stage":
        stage = f"the task of stage {cancel['stage']} is cancelled from outside the engine"
        if cancel.get("at_s") is not None:
            return f"{stage} after {cancel['at_s']} s{often}"
        return f"{stage} after {cancel.get('at_point')} callbacks of the loop{often}"
    if cancel.get("at_s") is not None:
        return f"the caller cancels after {cancel['at_s']} s{often}"
    if cancel.get("at_point") in (None, -1):
        return f"the caller cancels at a point that the seed chooses{often}"
    return f"the caller cancels after {cancel['at_point']} callbacks of the loop{often}"


def _is_slow(stage: Row, plan: Row) -> bool:
    limit = limit_of(stage, plan)
    if not isinstance(limit, (int, float)):
        return False
    return any(
        s["op"] == "never" or longest(arguments(s).get("seconds")) >= limit
        for s in walk(steps_of(stage))
        if s["op"] in ("sleep", "thread", "never")
    )
