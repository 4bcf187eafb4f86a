"""An engine that serves: many runs at once of one pipeline object, on one loop, in real time.

The laboratories make a loop and a pipeline for each run and judge what is left after it. A
server has neither: its loop goes on, and runs begin whenever somebody asks for one. So
each run has a world of its own here, found by the run that the engine's own context
names; what the stages note in it is the truth that answers are later held against.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.kernel.adapter import Adapter, BuildRefused, EngineInfo
from harness.kernel.errors import InputError
from harness.kernel.interpreter import ProgramBodies, ToolMock, World
from harness.kernel.journal import Journal
from harness.kernel.outcome import Outcome
from harness.kernel.plan import Plan, RunSpec, required_capabilities
from harness.kernel.port import StageBody, StagePort, Verdict
from harness.kernel.program import Program
from harness.kernel.tape import Tape

__all__ = ["ServedRun", "ServingLaboratory", "batch"]

Listener = Callable[[str, str, Any], None]

# Kinds of journal entries that somebody who listens to a run is told.
TOLD = frozenset({"stage.start", "stage.end", "chunk", "emit"})

_world: contextvars.ContextVar[World] = contextvars.ContextVar("dagstorm_world")


@dataclass(frozen=True, slots=True)
class ServedRun:
    """What one run came to: what the engine says of it, and what really happened.

    Attributes:
        outcome: in the engine's words.
        took_s: how long the engine's run call took, in seconds.
        stages: stage -> seconds from its body's begin to its end, by the body's own clock.
        executions: stage -> how often its body was begun.
        ends: stage -> how its body ended, as the journal has it; the last time counts.
        inputs: markers that the engine handed to stages as the run's input.
        tenants: tenants that the engine named to the run's own stages.
        emitted: events that stages emitted through the engine.
        delivered: those of them that are in the outcome.
        dropped: events that the engine's own account of the run gives as dropped.
    """

    outcome: Outcome
    took_s: float
    stages: Mapping[str, float]
    executions: Mapping[str, int]
    ends: Mapping[str, str]
    inputs: tuple[str, ...]
    tenants: tuple[str, ...]
    emitted: int
    delivered: int
    dropped: int


class _Listened(Journal):
    """A journal that also tells somebody, as things happen."""

    __slots__ = ("listener",)

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self.listener = listener

    def add(self, at_s: float, run: str, stage: str, kind: str, detail: Any = None) -> None:
        super().add(at_s, run, stage, kind, detail)
        if kind in TOLD and not self.closed:
            self.listener(stage, kind, detail)


class _Present(list[World]):
    """The worlds of `ProgramBodies`, of which the first is always the one of the context."""

    def __getitem__(self, _at: Any) -> Any:
        return _world.get()


class ServedBodies(ProgramBodies):
    """Stage bodies that note into the world of the run that their port names."""

    def __init__(self, program: Program, world_of: Callable[[str], World]) -> None:
        super().__init__(program)
        self._worlds = _Present()
        self._world_of = world_of
        self._below: dict[int, ServedBodies] = {}

    def child(self, program: Program) -> ProgramBodies:
        found = self._below.get(id(program))
        if found is None:
            found = self._below[id(program)] = ServedBodies(program, self._world_of)
        return found

    def over(self, run: str) -> None:
        # Told by who runs the pipeline, in whose context there is no world.
        world = self._world_of(run)
        world.add(world.now(), run, "", "engine.end")

    def body(self, stage: str) -> StageBody:
        inner = super().body(stage)
        world_of = self._world_of

        async def served_body(port: StagePort) -> Verdict:
            _world.set(world_of(port.run))
            return await inner(port)

        return served_body


@dataclass(slots=True)
class _Pipeline:
    native: Any
    plan: Plan
    event_types: frozenset[str] = field(default_factory=frozenset)


class ServingLaboratory:
    """One engine that serves runs of a few programs; made once a process, on a running loop.

    Attributes:
        open_runs: runs under way.
        strays: stage bodies that were begun for a run that was not under way (any more).
        totals: runs, emitted, delivered, dropped, since the beginning.
    """

    def __init__(self, adapter: Adapter, tool: ToolMock) -> None:
        self.adapter = adapter
        self.tool = tool
        self.info: EngineInfo = adapter.info()
        self.open_runs = 0
        self.strays = 0
        self.totals: Counter[str] = Counter()
        self._worlds: dict[str, World] = {}
        self._pipelines: dict[str, _Pipeline] = {}
        self._forget = getattr(adapter, "forget", None)
        reset = getattr(adapter, "reset", None)
        if reset is not None:
            reset()
        # What an engine writes on its own account is not read here, and costs more than it runs.
        logging.disable(logging.CRITICAL)

    def build(self, name: str, program: Program, plan: Plan) -> None:
        """Build a program's pipeline, once for all its runs.

        Raises:
            InputError: if the engine lacks what it needs or refuses it, or if the plan asks for
                what a server cannot do: its callers say which runs there are.
        """
        for asked in ("cancels", "consumer", "sink", "layers", "faults"):
            if getattr(plan, asked):
                raise InputError(f"plan.{asked}: cannot be served; leave it out")
        missing = sorted(required_capabilities(program, plan) - self.info.capabilities)
        if missing:
            raise InputError(
                f"program {name!r}: {self.info.name} offers no {', '.join(missing)}; "
                "leave out what needs it"
            )
        bodies = ServedBodies(program, self._world_of)
        try:
            native = self.adapter.build(program, plan, bodies)
        except BuildRefused as exc:
            raise InputError(f"program {name!r}: the engine refuses it: {exc}") from exc
        self._pipelines[name] = _Pipeline(native, plan, _event_types(program))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the programs that are served."""
        return tuple(self._pipelines)

    async def run(self, name: str, spec: RunSpec, listener: Listener | None = None) -> ServedRun:
        """Run a program once, beside whatever else runs; a cancel goes through to the engine.

        Raises:
            KeyError: if there is no such program.
        """
        pipeline = self._pipelines[name]
        journal = Journal() if listener is None else _Listened(listener)
        now = asyncio.get_running_loop().time
        world = World(journal, Tape(0), pipeline.plan, now, self.tool)
        self._worlds[spec.id] = world
        self.open_runs += 1
        began_s = time.perf_counter()
        try:
            outcome = await self.adapter.run(pipeline.native, spec, pipeline.plan)
            took_s = time.perf_counter() - began_s
            return self._served(outcome, took_s, journal, pipeline)
        finally:
            self.open_runs -= 1
            journal.closed = True
            world.close()
            del self._worlds[spec.id]
            if self._forget is not None:
                self._forget(pipeline.native, spec)

    def _world_of(self, run: str) -> World:
        world = self._worlds.get(run.split("/", 1)[0])
        if world is None:
            self.strays += 1
            plan = next(iter(self._pipelines.values())).plan
            journal = Journal()
            journal.closed = True
            world = World(journal, Tape(0), plan, asyncio.get_running_loop().time, self.tool)
        return world

    def _served(
        self, outcome: Outcome, took_s: float, journal: Journal, pipeline: _Pipeline
    ) -> ServedRun:
        emitted = len(journal.of("emit"))
        delivered = sum(type_ in pipeline.event_types for type_, _ in outcome.events)
        dropped = outcome.sink.dropped if outcome.sink is not None else 0
        told = {"runs": 1, "emitted": emitted, "delivered": delivered, "dropped": dropped}
        self.totals.update(told)
        began: dict[str, float] = {}
        stages: dict[str, float] = {}
        executions: Counter[str] = Counter()
        ends: dict[str, str] = {}
        for entry in journal:
            if "/" in entry.run:
                continue  # of a subpipeline, whose stages may be called the same
            if entry.kind == "stage.start":
                began[entry.stage] = entry.at_s
                executions[entry.stage] += 1
            elif entry.kind == "stage.end" and entry.stage in began:
                stages[entry.stage] = entry.at_s - began[entry.stage]
                ends[entry.stage] = str(entry.detail)
        inputs = {str(e.detail[1]): None for e in journal.of("input") if e.detail[0] == "marker"}
        named = {str(e.detail[1].get("tenant", "")): None for e in journal.of("identity")}
        return ServedRun(
            outcome=outcome,
            took_s=took_s,
            stages=stages,
            executions=executions,
            ends=ends,
            inputs=tuple(inputs),
            tenants=tuple(name for name in named if name),
            emitted=emitted,
            delivered=delivered,
            dropped=dropped,
        )


def _event_types(program: Program) -> frozenset[str]:
    """Return the types of all events that the program's own stages emit."""
    return frozenset(str(one.args["type"]) for _, one in program.walk() if one.op == "emit")


async def batch(run: Callable[[int], Awaitable[Any]], runs: int, at_once: int) -> None:
    """Await `run(n)` for n below `runs`, at most `at_once` at a time."""
    numbers = iter(range(runs))

    async def work() -> None:
        for n in numbers:
            await run(n)

    await asyncio.gather(*(work() for _ in range(min(runs, at_once))))
