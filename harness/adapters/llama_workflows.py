"""llama-index-workflows: event-driven steps, one adapter for every released version.

A program is mapped to the engine's own idiom: one event class a stage, which carries the
stage's output to the steps that accept it; fan-in by `ctx.collect_events`; a last step
that waits for the leaves and stops the run. Each step also writes its event to the
stream, as the documentation shows for results that someone outside is to see. A caller
reads the stream and then awaits the handler; when it is cancelled itself, it cancels
the run by `handler.cancel_run()` and awaits the handler again, the documented way.

What a version offers is looked for in the installed package; version numbers are not
compared. The workflow's own timeout is for a whole run and is switched off: programs
have timeouts for stages, which this engine has not.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import re
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.adapters.llama_workflows_probe import FINISH, Probe, describe_context, probe
from harness.adapters.llama_workflows_script import render_script
from harness.kernel.adapter import Bodies, BuildRefused, EngineInfo
from harness.kernel.errors import NotOffered
from harness.kernel.outcome import ErrorReport, FailureReport, Outcome, StageReport
from harness.kernel.plan import Plan, RunSpec
from harness.kernel.port import StageBody, StagePort
from harness.kernel.program import Program, Stage
from harness.kernel.program import Retry as RetrySpec
from harness.kernel.witness import traceback_location

__all__ = ["Adapter", "StageFailed"]

MESSAGE_MAX = 2_000
CHAIN_MAX = 20

# How versions that wrap a step's exception name the step in the wrapper's text.
_STEP_TEXT = re.compile(r"^Error in step '([^']*)'")


class StageFailed(Exception):
    """Raised by a step that is told to fail."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """A retry policy by the engine's documented protocol: `attempts` is how many were made."""

    spec: RetrySpec

    def next(self, elapsed_time: float, attempts: int, error: Exception) -> float | None:
        if attempts >= self.spec.attempts:
            return None
        return self.spec.backoff_s * self.spec.factor ** max(0, attempts - 1)


class _Native(NamedTuple):
    """A workflow, and what is needed to read its runs and build its subpipelines alike."""

    workflow: Any
    stage_of: Mapping[str, str]
    bodies: Bodies
    plan: Plan


@dataclass(slots=True)
class _Seen:
    """What the caller of one run has read from its stream so far; `stopped`: all of it."""

    done: dict[str, Any] = field(default_factory=dict)
    chunks: dict[str, list[Any]] = field(default_factory=dict)
    events: list[tuple[str, Any]] = field(default_factory=list)
    failed_step: str | None = None
    stopped: bool = False


class Adapter:
    """Makes llama-index-workflows runnable."""

    def __init__(self, subject: str = "llama-index-workflows") -> None:
        self.subject = subject
        self._probe: Probe | None = None
        self._root = ""
        self._classes: dict[int, tuple[Program, Bodies, type, dict[str, str]]] = {}

    def info(self) -> EngineInfo:
        found = self.engine()
        return EngineInfo(
            name=self.subject,
            version=found.version,
            capabilities=found.capabilities,
            package="workflows",
            semantics=found.semantics,
            missing=found.missing,
            facts=found.facts(),
        )

    def engine(self) -> Probe:
        if self._probe is None:
            self._probe = probe()
            self._root = os.path.dirname(sys.modules["workflows"].__file__ or "") + os.sep
        return self._probe

    # Building

    def build(self, program: Program, plan: Plan, bodies: Bodies) -> _Native:
        if plan.sink is not None:
            raise NotOffered("a run's events are read from its stream; there is no sink to give it")
        known = self._classes.get(id(bodies))
        if known is None or known[0] is not program or known[1] is not bodies:
            if len(self._classes) > 8:  # a class for each program there ever was is too much
                self._classes.clear()
            try:
                declared = self._declare(program, bodies, plan)
            except Exception as exc:
                raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc
            known = self._classes[id(bodies)] = (program, bodies, *declared)
        try:
            workflow = known[2](timeout=None)
            if hasattr(workflow, "validate"):
                workflow.validate()
        except Exception as exc:
            raise BuildRefused(f"{type(exc).__name__}: {exc}") from exc
        return _Native(workflow, known[3], bodies, plan)

    def _declare(self, program: Program, bodies: Bodies, plan: Plan) -> tuple[type, dict[str, str]]:
        """Make the workflow class: an event class and a free step function for each stage."""
        engine = self.engine()
        done = {s.name: engine.event(f"{s.name}_done") for s in program.stages}
        for stage in program.stages:
            for need in stage.needs:  # one that no step makes: the engine's to find out
                done.setdefault(need, engine.event(f"{need}_done"))
        steps = {s.name: engine.step_name(s.name) for s in program.stages}
        workflow: type = type("ProgramWorkflow", (engine.Workflow,), {})
        enders = {s.name for s, one in program.walk() if one.op == "cancel_run"}
        for stage in program.stages:
            function = self._step(stage, done, bodies.body(stage.name), bodies, plan)
            stops = (engine.StopEvent,) if stage.name in enders else ()
            fans_in = (type(None),) if len(stage.needs) > 1 else ()
            engine.add_step(
                workflow,
                function,
                steps[stage.name],
                [done[n] for n in stage.needs] or [engine.StartEvent],
                [done[stage.name], *stops, *fans_in],
                Backoff(stage.retry) if stage.retry is not None else None,
            )
        needed = {need for s in program.stages for need in s.needs}
        leaves = [done[s.name] for s in program.stages if s.name not in needed]
        if leaves:
            finish = self._finish(leaves)
            engine.add_step(workflow, finish, FINISH, leaves, [engine.StopEvent, type(None)], None)
        return workflow, {step: name for name, step in steps.items()}

    def _step(
        self,
        stage: Stage,
        done: Mapping[str, Any],
        body: StageBody,
        bodies: Bodies,
        plan: Plan,
    ) -> Callable[..., Awaitable[Any]]:
        engine = self.engine()
        expected = [done[need] for need in stage.needs]
        mine = done[stage.name]

        async def step(ctx: Any, ev: Any) -> Any:
            events = [ev]
            if len(expected) > 1:
                events = ctx.collect_events(ev, expected)
                if events is None:
                    return None
            inputs = dict(zip(stage.needs, (one.value for one in events if expected), strict=True))
            port = self._port(ctx, stage.name, ev.run, ev.given, inputs, bodies, plan)
            verdict = await body(port)
            match verdict.kind:
                case "ok":
                    # What the caller reads in the stream is not the object that other steps get.
                    shown, output = (
                        mine(
                            stage=stage.name,
                            value=copy.deepcopy(verdict.value),
                            run=ev.run,
                            given=ev.given,
                        )
                        for _ in range(2)
                    )
                    ctx.write_event_to_stream(shown)
                    return output
                case "fail":
                    raise StageFailed(verdict.message)
                case "cancel_run":
                    ended = {"ended_by": stage.name, "reason": verdict.message}
                    return engine.StopEvent(result=ended)
            raise NotOffered(f"llama-index-workflows: no verdict {verdict.kind!r}")

        return step

    def _finish(self, leaves: list[Any]) -> Callable[..., Awaitable[Any]]:
        engine = self.engine()

        async def finish(ctx: Any, ev: Any) -> Any:
            events = ctx.collect_events(ev, leaves)
            if events is None:
                return None
            return engine.StopEvent(result={one.stage: one.value for one in events})

        return finish

    def _port(  # noqa: PLR0917 (all that a step knows)
        self,
        ctx: Any,
        stage: str,
        run: str,
        given: Mapping[str, Any],
        inputs: Mapping[str, Any],
        bodies: Bodies,
        plan: Plan,
    ) -> StagePort:
        engine = self.engine()
        write = ctx.write_event_to_stream

        def read(need: str, key: str) -> Any:
            value = inputs[need]
            return value if key == "value" or value is None else value[key]

        async def subpipeline(program: Program) -> Outcome:
            child = self.build(program, plan, bodies.child(program))
            return await self._run(child, f"{run}/{program.name}", given)

        return StagePort(
            run=run,
            read=read,
            emit=lambda name, data: write(engine.Emitted(name=name, data=data)),
            chunk=lambda value: write(engine.Chunk(stage=stage, value=value)),
            input=given.get,
            subpipeline=subpipeline,
            context=lambda: describe_context(ctx),
        )

    # Running

    async def run(self, native: _Native, run: RunSpec, plan: Plan) -> Outcome:
        """Run the workflow once; `CancelledError` goes through to the caller."""
        return await self._run(native, run.id, run.inputs, top=True)

    async def _run(
        self, native: _Native, run: str, given: Mapping[str, Any], top: bool = False
    ) -> Outcome:
        seen = _Seen()
        try:
            handler = native.workflow.run(run=run, given=dict(given))
            result = await self._follow(handler, seen, native if top else None, run)
        except Exception as exc:
            return self._failed(native, run, exc, seen)
        stages = self._stages(seen)
        if isinstance(result, dict) and "ended_by" in result:
            by, reason = result["ended_by"], result["reason"]
            return Outcome(
                run,
                "cancelled",
                stages=stages,
                reason=reason,
                cancelled_by=by,
                events=tuple(seen.events),
            )
        return Outcome(run, "ok", stages=stages, events=tuple(seen.events))

    async def _follow(self, handler: Any, seen: _Seen, native: _Native | None, run: str) -> Any:
        """Read the stream to its end, then await the result; cancel the run if cancelled."""
        consumer = native.plan.consumer if native is not None else None
        try:
            if native is not None and consumer is not None:
                async with contextlib.aclosing(self._chunks(handler, seen, consumer.stage)) as own:
                    await native.bodies.consume(run, own)
                try:
                    result = await handler
                except Exception:
                    await self._rest(handler, seen)
                    raise
                await self._rest(handler, seen)
                return result
            async with contextlib.aclosing(handler.stream_events()) as stream:
                async for event in stream:
                    self._note(seen, event)
            return await handler
        except asyncio.CancelledError:
            # This closing is the user's: that it comes to its end is not the engine's matter,
            # however often the caller cancels meanwhile.
            closing = asyncio.ensure_future(_end(handler))
            while not closing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([closing])
            raise

    async def _rest(self, handler: Any, seen: _Seen) -> None:
        """Read what a consumer that has stopped left in the stream of a run that has ended."""
        if seen.stopped:
            return
        async with contextlib.aclosing(handler.stream_events()) as stream:
            async for event in stream:
                self._note(seen, event)

    async def _chunks(self, handler: Any, seen: _Seen, stage: str) -> AsyncGenerator[Any, None]:
        async with contextlib.aclosing(handler.stream_events()) as stream:
            async for event in stream:
                self._note(seen, event)
                if isinstance(event, self.engine().Chunk) and event.stage == stage:
                    yield event.value

    def _note(self, seen: _Seen, event: Any) -> None:
        engine = self.engine()
        seen.stopped = seen.stopped or isinstance(event, engine.StopEvent)
        if isinstance(event, engine.Emitted):
            seen.events.append((event.name, event.data))
        elif isinstance(event, engine.Chunk):
            seen.chunks.setdefault(event.stage, []).append(event.value)
        elif isinstance(event, engine.Done):
            seen.done[event.stage] = event.value
        elif engine.WorkflowFailedEvent is not None and isinstance(
            event, engine.WorkflowFailedEvent
        ):
            seen.failed_step = event.step_name

    def _stages(self, seen: _Seen) -> dict[str, StageReport]:
        """Report the stages whose own event came; chunks without it are marked as partial."""
        stages = {
            name: StageReport("completed", value, partial=_chunks_of(seen, name))
            for name, value in seen.done.items()
        }
        for name, chunks in seen.chunks.items():
            if name not in stages:
                stages[name] = StageReport("failed", partial=tuple(chunks), complete=False)
        return stages

    def _failed(self, native: _Native, run: str, exc: Exception, seen: _Seen) -> Outcome:
        step = seen.failed_step
        named = _STEP_TEXT.match(str(exc))
        if step is None and named is not None:
            step = named.group(1)
        original = exc.__cause__ if named is not None and exc.__cause__ is not None else exc
        failure = FailureReport(
            stage=native.stage_of.get(step) if step is not None else None,
            message=str(exc)[:MESSAGE_MAX],
            error=type(original).__name__,
        )
        raised = ErrorReport(
            type=type(exc).__name__,
            message=str(exc)[:MESSAGE_MAX],
            chain=tuple(_chain(exc)),
            location=traceback_location(exc, self._root),
        )
        return Outcome(
            run, "failed", raised, self._stages(seen), (failure,), events=tuple(seen.events)
        )

    def render(self, program: Program, plan: Plan, clause: str, check: str) -> str:
        """Return a stand-alone script in the engine's API; see `llama_workflows_script`."""
        return render_script(self.engine(), program, plan, clause, check)


async def _end(handler: Any) -> None:
    """Cancel a run and await its end, the documented way."""
    await handler.cancel_run()
    with contextlib.suppress(Exception):
        await handler


def _chunks_of(seen: _Seen, stage: str) -> tuple[Any, ...] | None:
    return tuple(seen.chunks[stage]) if stage in seen.chunks else None


def _chain(exc: BaseException) -> Iterator[str]:
    """Yield the classes of the causes and contexts that a traceback would show."""
    for _ in range(CHAIN_MAX):
        below = exc.__cause__ or (None if exc.__suppress_context__ else exc.__context__)
        if below is None:
            return
        yield type(below).__name__
        exc = below
