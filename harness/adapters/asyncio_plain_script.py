"""Plain asyncio's half of a stand-alone script: the idiom's own source, and how it is called."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Mapping

from harness.adapters.asyncio_plain_idiom import EndRun, Stage, StageTimeout, in_order, run_stages
from harness.kernel.plan import Plan
from harness.kernel.program import Program
from harness.kernel.script import Dialect, literal, render

__all__ = ["render_script"]

_READ_INPUT = """\
def read_input(inputs, stage, key):
    (value,) = inputs[stage]
    return value if key == "value" else value[key]"""

_CALL_TOOL = """\
async def call_tool(work, seconds):
    async with asyncio.timeout(seconds):
        return await work()"""

_RUN_CHILD = """\
async def run_child(stages):
    tasks = {}
    try:
        await run_stages(stages, tasks, GO_ON)
    except ExceptionGroup:
        return "failed"
    well = all(not t.cancelled() and t.exception() is None for t in tasks.values())
    return "ok" if well else "failed\""""

_START = """\
async def call(stages, run):
    {KNOWN}tasks = {}
    try:
        await run_stages(stages, tasks, GO_ON)
        gone = [name for name, task in tasks.items() if task.cancelled()]
        if gone:  # nobody else did: a task group that was cancelled, or failed, raises
            raise RuntimeError(f"tasks were cancelled by themselves: {gone}")
    except Exception as error:
        error.tasks = tasks
        raise
    return tasks
"""

_ENDS = """\
def ending(output):
    # A stage returns a tuple of one, so that None can be an output; all else it raises.
    return "ok"
"""


def render_script(program: Program, plan: Plan, clause: str, check: str) -> str:
    """Return the script; raises `Unrenderable` if there are no words for something in it."""
    return render(program, plan, _dialect(plan), clause, check)


def _dialect(plan: Plan) -> Dialect:
    idiom = "\n\n\n".join(
        inspect.getsource(one).strip() for one in (EndRun, StageTimeout, Stage, in_order)
    )
    idiom += "\n\n\n" + inspect.getsource(run_stages).strip()
    go_on = plan.on_failure == "continue"
    many = len(plan.runs) > 1
    imports = [
        "from __future__ import annotations",  # the idiom's, as it is printed
        "import graphlib",
        "from dataclasses import dataclass",
    ]
    return Dialect(
        install=f"Python {platform.python_version()}",
        imports=tuple(["import contextvars", *imports] if many else imports),
        stage_head=("{recorded}", "async def {cls}(inputs, alive):"),
        body_indent=4,
        ok="return ({value},)",
        fail="raise RuntimeError({message})",
        cancel_run="raise EndRun({message})",
        read="read_input(inputs, {stage}, {key})",
        heartbeat="alive()",
        call="await call_tool({work}, {timeout})",
        child="await run_child({graph})",
        run_of="run_name.get()",
        ends=_ENDS,
        build=lambda program, functions: _build(plan, program, functions),
        run="call(graph, {run})",
        start=_START.replace("{KNOWN}", "run_name.set(run)\n    " if many else ""),
        value="one.result()[0]",
        done="one.done() and not one.cancelled() and one.exception() is None",
        kept='getattr(error, "tasks", {})',
        helpers={
            "run_name": 'run_name = contextvars.ContextVar("run_name")',
            "GO_ON": f"GO_ON = {go_on}  # whether the others go on when a stage fails",
            "run_stages": idiom,
            "read_input": _READ_INPUT,
            "call_tool": _CALL_TOOL,
            "run_child": _RUN_CHILD,
        },
    )


def _build(plan: Plan, program: Program, functions: Mapping[str, str]) -> list[str]:
    lines = []
    for stage in program.stages:
        needs = f", needs={literal(stage.needs)}" if stage.needs else ""
        limit, idle = stage.timeout_s, stage.idle_timeout_s
        if limit is None:
            limit = plan.stage_timeout_s
        times = "".join(
            f", {name}={_seconds(value)}"
            for name, value in (("timeout_s", limit), ("idle_s", idle))
            if value is not None
        )
        lines.append(
            f"        {literal(stage.name)}: Stage({functions[stage.name]}{needs}{times}),"
        )
    return ["return in_order(", "    {", *lines, "    }", ")"]


def _seconds(value: float) -> str:
    return repr(value) if value - value == 0 else f'float("{value}")'
