"""A toy engine, for tests of the script renderer: stages run one after the other.

It has an adapter for the laboratory and a dialect for scripts, so that what a script
does can be held against what the interpreter does, on the same loop.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any

from harness.kernel.adapter import CAPABILITIES, Bodies, EngineInfo
from harness.kernel.outcome import ErrorReport, Outcome, StageReport
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StagePort
from harness.kernel.program import Program
from harness.kernel.script import Dialect

__all__ = ["TOY", "ToyAdapter", "ToyContext", "toy_start"]


class ToyContext:
    """What a rendered toy stage is given."""

    def __init__(self, run: str = "r0") -> None:
        self.run = run
        self.outputs: dict[str, Any] = {}
        self.sent: list[Any] = []
        self.cleanups: list[Any] = []

    async def child(self, stages: list[Any]) -> str:
        verdict = await _in_order(stages, ToyContext(f"{self.run}/child"))
        return "ok" if verdict is None else verdict


async def _in_order(stages: list[Any], ctx: ToyContext) -> str | None:
    """Run stages in order; return how the first that is not ok ended."""
    try:
        for name, make in stages:
            kind, value = await make().execute(ctx)
            ctx.outputs[name] = value
            if kind != "ok":
                return str(kind)
        return None
    finally:
        for cleanup in reversed(ctx.cleanups):
            await cleanup()


async def toy_start(stages: list[Any], run: str, _tenant: str) -> dict[str, Any]:
    ctx = ToyContext(run)
    await _in_order(stages, ctx)
    return ctx.outputs


def _build(program: Program, classes: Mapping[str, str]) -> list[str]:
    return ["return [", *(f'    ("{s.name}", {classes[s.name]}),' for s in program.stages), "]"]


TOY = Dialect(
    install="nothing",
    imports=("from asyncio import sleep as _unused",),
    stage_head=("class {cls}:", "    {recorded}", "    async def execute(self, ctx):"),
    body_indent=8,
    ok='return ("ok", {value})',
    fail='return ("fail", {message})',
    skip='return ("skip", {message})',
    cancel_run='return ("cancel_run", {message})',
    cancel_branch='return ("cancel_branch", {message})',
    read="ctx.outputs.get({stage})",
    emit="ctx.sent.append(({type}, {data}))",
    chunk="ctx.sent.append({value})",
    heartbeat="ctx.sent.append(None)",
    cleanup="ctx.cleanups.append({callback})",
    context='{{"offers": "nothing"}}',
    child="await ctx.child({graph})",
    run_of="ctx.run",
    ends="def ending(output):\n    return output[0]\n",
    build=_build,
    run="run_stages(graph, {run})",
    start="""\
async def run_stages(stages, run):
    outputs = {}

    class Ctx:
        def __init__(self):
            self.run = run
            self.outputs = outputs
            self.sent = []

    for name, stage in stages:
        kind, outputs[name] = await stage().execute(Ctx())
        if kind != "ok":
            break
    return outputs
""",
    value="one",
)


class ToyAdapter:
    """The toy engine for the laboratory, with every capability that a program can ask for."""

    def info(self) -> EngineInfo:
        return EngineInfo("toy", "1.0", frozenset(CAPABILITIES), "tests_toy_engine")

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> Any:
        return [(s.name, bodies.body(s.name)) for s in program.stages], bodies

    async def run(self, native: Any, run: RunSpec, plan: Plan) -> Outcome:
        stages, bodies = native
        outputs: dict[str, Any] = {}
        try:
            await self._run(stages, bodies, run.id, plan, outputs)
        except Exception as exc:
            return Outcome(run.id, "failed", raised=ErrorReport(type(exc).__name__))
        reports = {name: StageReport("completed", value) for name, value in outputs.items()}
        return Outcome(run.id, "ok", stages=reports)

    async def _run(
        self, stages: Any, bodies: Bodies, run: str, plan: Plan, outputs: dict[str, Any]
    ) -> str:
        cleanups: list[Any] = []

        async def child(program: Program) -> Outcome:
            native = self.build(program, plan, bodies.child(program))
            how = await self._run(*native, f"{run}/{program.name}", plan, {})
            return Outcome(f"{run}/{program.name}", how)

        def keep(_name: str, callback: Any) -> None:
            cleanups.append(callback)

        port = StagePort(
            run=run,
            read=lambda stage, _key: outputs.get(stage),
            emit=lambda _type, _data: None,
            chunk=lambda _value: None,
            heartbeat=lambda: None,
            cleanup=keep,
            subpipeline=child,
            context=lambda: {"offers": "nothing"},
        )
        try:
            for name, body in stages:
                verdict = await body(port)
                outputs[name] = verdict.value if verdict.kind == "ok" else verdict.message
                if verdict.kind != "ok":
                    return verdict.kind
            return "ok"
        finally:
            for cleanup in reversed(cleanups):
                await cleanup()

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str | None:
        return None


# The laboratory asks for the engine's package among the loaded modules.
PACKAGE = types.ModuleType("tests_toy_engine")
PACKAGE.__file__ = "/nowhere/tests_toy_engine/__init__.py"
