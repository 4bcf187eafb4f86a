"""What a stage of a program may ask of Stageflow, in the form of a port.

One object a stage execution, made from the context that the engine hands to the stage.
"""

from __future__ import annotations

import copy
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.adapters.stageflow_ids import write_log
from harness.adapters.stageflow_outcome import value_of, words_kind
from harness.adapters.stageflow_probe import Probe, describe_context
from harness.adapters.stageflow_sinks import QueuedSink
from harness.adapters.stageflow_streams import Streams
from harness.kernel.adapter import Bodies
from harness.kernel.errors import NotOffered
from harness.kernel.outcome import FailureReport, Outcome, StageReport
from harness.kernel.plan import Plan
from harness.kernel.port import StagePort
from harness.kernel.program import Program
from harness.kernel.steps import Step

if TYPE_CHECKING:
    from harness.adapters.stageflow import Adapter

__all__ = [
    "LegacyServices",
    "Live",
    "Native",
    "Traits",
    "UnifiedServices",
    "own_value",
    "traits_of",
]


@dataclass(frozen=True, slots=True)
class Traits:
    """What of a program, or of a subpipeline in it, has to be prepared for.

    Attributes:
        events: types of the events that its own steps emit.
        streams: a stage hands on partial results.
        logs: something is told by log records only.
    """

    events: frozenset[str]
    streams: bool
    logs: bool


@dataclass(slots=True)
class Native:
    """A built pipeline, and what is needed to run it.

    Attributes:
        queue: the plan's sink behind the engine's queue, or None for a list a run.
    """

    graph: Any
    bodies: Bodies
    plan: Plan
    traits: Traits
    queue: QueuedSink | None = None


@dataclass(slots=True)
class Live:
    """One run under way; stages find it by the run id in the context they are given.

    Attributes:
        streams: of partial results, where the program has any.
        prefix: of the run's channels among those of its parents.
    """

    run: str
    native: Native
    streams: Streams | None = None
    prefix: str = ""
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

    def services(self) -> dict[str, Any]:
        """Return what both graphs' ports have in common."""
        queue = self.live.native.queue
        return {
            "run": self.live.run,
            "emit": self.emit,
            "account": None if queue is None else queue.account,
            "input": self.input,
            "identity": self.identity,
            "log": self.log,
            "chunk": self.chunk,
            "call": self.call,
            "subpipeline": self.subpipeline,
            "context": self.context,
        }

    def emit(self, type: str, data: Any) -> Any:
        data = data if isinstance(data, dict) else {"data": data}
        queue = self.live.native.queue
        if queue is None or not queue.blocks:
            return self.ctx.try_emit_event(type=type, data=data)
        # The context has no call that waits; who wants that asks the sink, and adds the ids.
        ids = {k: str(getattr(self.ctx, k)) for k in ("pipeline_run_id", "request_id")}
        return self.ctx.event_sink.emit(type=type, data={**ids, **data})

    def input(self, key: str) -> Any:
        return self.adapter.engine().input_of(self.ctx, key)

    def identity(self) -> dict[str, str]:
        return self.adapter.ids.told(self.adapter.engine(), self.ctx)

    def log(self, message: str) -> None:
        write_log(self.adapter.engine(), self.ctx, message)

    async def chunk(self, value: Any) -> bool:
        assert self.live.streams is not None
        bus = self.adapter.engine().bus_of(self.ctx)
        return await self.live.streams.publish(bus, self.live.prefix, self.stage, value)

    async def ended(self) -> None:
        """Say at the stage's end that no more partial results will come."""
        if self.live.streams is not None:
            await self.live.streams.end_of(self.live.prefix, self.stage)

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
        action = _Action(self.adapter.ids.uuid_of("action", f"{live.run} {live.actions}"), tool, {})
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
        child = adapter.native(program, live.native.plan, bodies, live.native)
        count = live.children[program.name] = live.children.get(program.name, 0) + 1
        run = f"{live.run}/{program.name}" + (f"#{count}" if count > 1 else "")

        async def runner(ctx: Any) -> dict[str, Any]:
            live_child = Live(run, child, live.streams, prefix=f"{run}/")
            adapter.remember(ctx.pipeline_run_id, live_child)
            results = await child.graph.run(engine.child_entry(ctx, self.ctx))
            self.check_child(results)
            return {name: one.data for name, one in results.items()}

        result = await engine.get_spawner().spawn(
            pipeline_name=program.name,
            ctx=self.parent_context(),
            correlation_id=adapter.ids.uuid_of("spawn", run),
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
        return StagePort(read=self.ctx.inputs.get_from, cleanup=self.cleanup, **self.services())

    def cleanup(self, name: str, callback: Callable[[], Awaitable[None]]) -> None:
        self.live.native.graph.register_cleanup(callback, name=name)

    def parent_context(self) -> Any:
        return self.adapter.engine().parent_context(self.ctx)


class LegacyServices(_Services):
    __slots__ = ()

    def port(self) -> StagePort:
        return StagePort(read=self.read, **self.services())

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


def _steps(program: Program) -> Iterator[Step]:
    for _, one in program.walk():
        yield one
        if one.op == "subpipeline":
            yield from _steps(one.args["program"])


def traits_of(program: Program) -> Traits:
    """Look through a program and its subpipelines, once for many runs."""
    ops = set()
    events = set()
    for one in _steps(program):
        ops.add(one.op)
        if one.op == "emit":
            events.add(one.args["type"])
        elif one.op == "flood":
            events.add("flood")
    return Traits(frozenset(events), "chunk" in ops, bool(ops & {"cleanup", "log"}))


def own_value(value: Any) -> Any:
    """Copy a value of the program, so that no run can change the program for the next."""
    return copy.deepcopy(value) if isinstance(value, (dict, list)) else value
