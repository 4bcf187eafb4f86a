"""What a stage of a program may ask of Stageflow, in the form of a port.

One object a stage execution, made from the context that the engine hands to the stage.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.adapters.stageflow_outcome import value_of, words_kind
from harness.adapters.stageflow_probe import Probe, describe_context
from harness.kernel.adapter import Bodies
from harness.kernel.errors import NotOffered
from harness.kernel.outcome import FailureReport, Outcome, StageReport
from harness.kernel.plan import Plan
from harness.kernel.port import StagePort
from harness.kernel.program import Program

if TYPE_CHECKING:
    from harness.adapters.stageflow import Adapter

__all__ = ["LegacyServices", "Live", "Native", "UnifiedServices"]


@dataclass(slots=True)
class Native:
    """A built pipeline, and what is needed to run it."""

    graph: Any
    bodies: Bodies
    plan: Plan


@dataclass(slots=True)
class Live:
    """One run under way; stages find it by the run id in the context they are given."""

    run: str
    native: Native
    executor: Any = None
    pending: dict[uuid.UUID, Callable[[], Awaitable[Any]]] = field(default_factory=dict)
    actions: int = 0
    children: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Action:
    """An action as Stageflow's tool executor wants it."""

    id: uuid.UUID
    type: str
    payload: dict[str, Any]


class _Services:
    """What a stage may ask of the engine, in the form of a port."""

    __slots__ = ("adapter", "ctx", "live", "stage")

    def __init__(self, adapter: Adapter, live: Live, ctx: Any, stage: str) -> None:
        self.adapter = adapter
        self.live = live
        self.ctx = ctx
        self.stage = stage

    def emit(self, type: str, data: Any) -> None:
        self.ctx.try_emit_event(type=type, data=data if isinstance(data, dict) else {"data": data})

    def context(self) -> dict[str, Any]:
        return describe_context(self.ctx)

    async def call(
        self, tool: str, function: Callable[[], Awaitable[Any]], timeout_s: float | None
    ) -> Any:
        """Call a tool through the engine's `AdvancedToolExecutor`."""
        if timeout_s is not None:
            raise NotOffered("stageflow: a tool call takes no timeout")
        live, engine = self.live, self.adapter.engine()
        if live.executor is None:
            live.executor = engine.AdvancedToolExecutor()
        if not live.executor.can_execute(tool):
            live.executor.register(
                engine.ToolDefinition(
                    name=tool, action_type=tool, handler=_tool_handler(engine, live.pending)
                )
            )
        live.actions += 1
        action = _Action(self.adapter.uuid_of(f"action {live.run} {live.actions}"), tool, {})
        live.pending[action.id] = function
        output = await live.executor.execute(action, self.ctx)
        return (output.data or {}).get("value")

    def parent_context(self) -> Any:
        raise NotImplementedError

    def check_child(self, results: Mapping[str, Any]) -> None:
        """Raise if the child's results say that it failed."""

    async def subpipeline(self, program: Program) -> Outcome:
        """Run a child pipeline through the engine's `SubpipelineSpawner`."""
        adapter, live = self.adapter, self.live
        engine = adapter.engine()
        bodies = live.native.bodies.child(program)
        child = Native(
            adapter.assemble(adapter.declare(program, bodies), live.native.plan),
            bodies,
            live.native.plan,
        )
        count = live.children[program.name] = live.children.get(program.name, 0) + 1
        run = f"{live.run}/{program.name}" + (f"#{count}" if count > 1 else "")

        async def runner(ctx: Any) -> dict[str, Any]:
            adapter.remember(ctx.pipeline_run_id, Live(run, child))
            results = await child.graph.run(engine.child_entry(ctx))
            self.check_child(results)
            return {name: one.data for name, one in results.items()}

        result = await engine.get_spawner().spawn(
            pipeline_name=program.name,
            ctx=self.parent_context(),
            correlation_id=adapter.uuid_of(f"spawn {run}"),
            parent_stage_id=self.stage,
            runner=runner,
        )
        if result.success:
            stages = {n: StageReport("completed", value_of(d)) for n, d in result.data.items()}
            return Outcome(run, "ok", stages=stages)
        failure = FailureReport(None, words_kind(result.error), str(result.error))
        return Outcome(run, "failed", failures=(failure,))


class UnifiedServices(_Services):
    __slots__ = ()

    def port(self) -> StagePort:
        return StagePort(
            run=self.live.run,
            read=self.ctx.inputs.get_from,
            emit=self.emit,
            cleanup=self.cleanup,
            call=self.call,
            subpipeline=self.subpipeline,
            context=self.context,
        )

    def cleanup(self, name: str, callback: Callable[[], Awaitable[None]]) -> None:
        self.live.native.graph.register_cleanup(callback, name=name)

    def parent_context(self) -> Any:
        return self.adapter.engine().parent_context(self.ctx)


class LegacyServices(_Services):
    __slots__ = ()

    def port(self) -> StagePort:
        return StagePort(
            run=self.live.run,
            read=self.read,
            emit=self.emit,
            call=self.call,
            subpipeline=self.subpipeline,
            context=self.context,
        )

    def read(self, stage: str, key: str) -> Any:
        return self.ctx.data.get(stage, {}).get(key)

    def parent_context(self) -> Any:
        return self.ctx

    def check_child(self, results: Mapping[str, Any]) -> None:
        for name, result in results.items():
            if result.status == "failed":
                raise RuntimeError(f"stage {name} of the child failed: {result.error}")


def _tool_handler(
    engine: Probe, pending: dict[uuid.UUID, Callable[[], Awaitable[Any]]]
) -> Callable[[Any], Awaitable[Any]]:
    async def handler(tool_input: Any) -> Any:
        value = await pending.pop(tool_input.action_id)()
        return engine.ToolOutput(success=True, data={"value": value})

    return handler
