"""Writes the tools that stages call: each a function that works, gives items, and may fail."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.kernel.plan import Plan
from harness.kernel.script_literals import error_name, identifier, literal, seconds_of
from harness.kernel.script_stage import StageWriter
from harness.kernel.steps import Step

__all__ = ["tool_of"]


def tool_of(w: StageWriter, one: Step) -> tuple[str, list[str]]:
    """Write the tool as a function of its own; return its name, and what it has to be given:
    of stage, number (of the call) and items."""
    keeps = bool(one.args["chunks"]) and w.keeps_items
    told = bool(w.notes & {"call.begin", "call.end"})
    once = one.args["tool"] in w.once and not told
    lines = _tool_lines(
        one,
        w.plan,
        keeps=keeps,
        helpers=w.helpers,
        notes=w.notes,
        once=once,
    )
    if "interrupt" in w.notes:
        lines = [line.replace("asyncio.sleep(", "sleep(stage, ") for line in lines]
    text = "\n".join(lines)
    given = ["stage"] if "stage" in text else []
    given += ["number"] if told or re.search(r"\bnumber\b", text) else []
    given += ["items"] if keeps else []
    body = "\n".join(f"    {line}" for line in lines)
    # Other stages may call the same tool with other arguments: one function each.
    base = name = f"{identifier(one.args['tool'])}_for_{identifier(w.label)}"
    times = 1
    while w.tools.get(name, whole := _function_text(name, given, body)) != whole:
        times += 1
        name = f"{base}_{times}"
    w.tools[name] = whole
    return name, given


def _function_text(name: str, parameters: Sequence[str], body: str) -> str:
    return f"async def {name}({', '.join(parameters)}):\n{body}"


def _tool_lines(
    one: Step,
    plan: Plan,
    *,
    keeps: bool,
    helpers: set[str],
    notes: frozenset[str],
    once: bool,
) -> list[str]:
    """Write the body of a tool: a careful mock that works, gives items and may fail.

    Args:
        once: whether it is called once in a run, so that its number is known: 1.
    """
    args, tool = one.args, one.args["tool"]
    chunks = args["chunks"]
    wait = float(seconds_of(args["seconds"])) / (chunks + 1)
    faults = [f for f in plan.faults if f.tool == tool]
    fault, number = None, "number"
    if once:
        fault, number = next((f for f in faults if f.nth == 1), None), "1"
        faults = []
    fired = f'note(stage, "fault.fired", ({literal(tool)}, {number}))'
    work: list[str] = []
    if fault is not None and "fault.fired" in notes:
        work.append(fired)
    if faults:
        # As in the simulation: a fault is noted when the call begins and fires at its end.
        table = ", ".join(f"({f.nth}, {f.onwards}): {error_name(f.error)}" for f in faults)
        work.append(f"faults = {{{table}}}  # (call, and all after it) -> error")
        work.append("fault = next((e for (nth, onwards), e in faults.items()")
        work.append("              if number == nth or (onwards and number > nth)), None)")
        if "fault.fired" in notes:
            work += ["if fault is not None:", f"    {fired}"]
    if chunks:
        work += [f"for i in range({chunks}):", f"    await asyncio.sleep({wait!r})"]
        item = f'"{tool}#1.{{i}}"' if once else f'"{tool}#{{number}}.{{i}}"'
        if keeps or "item" in notes:
            work.append(f"    item = f{item}")
        if keeps:
            work.append("    items.append(item)")
        if "item" in notes:
            work.append('    note(stage, "item", item)')
    work.append(f"await asyncio.sleep({wait!r})")
    said = f'"{tool} call 1 failed"' if once else f'f"{tool} call {{number}} failed"'
    if faults:
        work += ["if fault is not None:", f"    raise fault({said})"]
    if fault is not None:
        work.append(f"raise {error_name(fault.error)}({said})")
    elif args["error"] is not None:
        work.append(f"raise {error_name(args['error'])}({said})")
    if not args["holds"]:
        return work
    resource = f'"{tool}#1"' if once else f'f"{tool}#{{number}}"'
    if notes & {"release.cut", "interrupt"}:
        helpers.add("release")
        cleanup = [f"await release(stage, {resource}, {seconds_of(args['cleanup_s'])})"]
    else:
        cleanup = [f"await asyncio.sleep({seconds_of(args['cleanup_s'])})"]
        if "release.begin" in notes:
            cleanup.insert(0, f'note(stage, "release.begin", {resource})')
        if "release.over" in notes:
            cleanup.append(f'note(stage, "release.over", {resource})')
            cleanup[-2:] = ["try:", f"    {cleanup[-2]}", "finally:", f"    {cleanup[-1]}"]
        elif "release.end" in notes:
            cleanup.append(f'note(stage, "release.end", {resource})')
    return [
        *([f'note(stage, "acquire", {resource})'] if "acquire" in notes else ()),
        "try:",
        *(f"    {line}" for line in work),
        "finally:",
        *(f"    {line}" for line in cleanup),
    ]
