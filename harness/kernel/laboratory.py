"""The simulated laboratory: runs one program under one plan, once a call, and says all it saw.

The order of things after the runs are over is the point of this module: first a few
rounds in which no time passes, then what was left behind is judged, and only then is
anything torn down. Judging after a teardown would find the leaks cleaned up by it.

Longer than most: the rules of that order hold only together.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import hashlib
import json
import logging
import os
import sys
from collections.abc import Coroutine, Mapping, Sequence
from types import CodeType
from typing import Any

from harness.kernel.adapter import Adapter, BuildRefused, EngineInfo
from harness.kernel.caller import Caller
from harness.kernel.errors import HarnessFault
from harness.kernel.interpreter import ProgramBodies, ToolMock, World, own_task
from harness.kernel.journal import Journal
from harness.kernel.loop import SimLoop
from harness.kernel.order import Order, OrderLoop
from harness.kernel.outcome import ErrorReport, Outcome
from harness.kernel.plan import Cancel, Plan, RunSpec
from harness.kernel.program import Program
from harness.kernel.record import Leak, RunRecord, Waiting
from harness.kernel.substitutes import Substitutes
from harness.kernel.tape import Tape
from harness.kernel.witness import engine_location, traceback_location, where_text

__all__ = ["Laboratory", "digest", "tear_down"]

TEARDOWN_STEPS = 20_000
COLLECT_EVERY = 64
DETAIL_MAX = 200


class Laboratory:
    """One engine in the simulated laboratory; made once a worker process.

    Args:
        adapter: the engine's adapter.
        tool: the simulated mock behind `call` steps.
    """

    name = "sim"

    def __init__(self, adapter: Adapter, tool: ToolMock) -> None:
        self.adapter = adapter
        self.tool = tool
        self.info: EngineInfo = adapter.info()
        self.root = _package_folder(self.info.package)
        self.clocks = Substitutes(self.info.package)
        self._reset = getattr(adapter, "reset", None)
        self._runs = 0
        self._bodies: tuple[Program, ProgramBodies] | None = None

    def settle_process(self) -> None:
        """Prepare this process for thousands of runs: quiet logs, a cheap garbage collector.

        What exists now is moved out of the collector's sight, and it is run by hand after
        each run, so that exceptions nobody fetched surface in the run that left them.
        """
        logging.disable(logging.CRITICAL)
        gc.collect()
        gc.freeze()
        gc.disable()

    def run(
        self,
        program: Program,
        plan: Plan,
        *,
        seed: int = 0,
        recorded: Mapping[str, Sequence[int]] | None = None,
        cancel_point: int | None = None,
        clean_points: int = 0,
        order: Order | None = None,
    ) -> RunRecord:
        """Run `program` under `plan` once, in virtual time.

        Args:
            seed: of the tape; 0 is the undisturbed run.
            recorded: choices to replay instead of drawing from the seed.
            cancel_point: where the plan's cancels with `at_point` land, overriding it.
            clean_points: points of a clean run, among which `at_point=-1` is drawn.
            order: break asyncio's order of callbacks so; what the run shows is then no defect.

        Raises:
            HarnessFault: if the adapter itself failed; never for what the engine did.
        """
        self._runs += 1
        if self._runs % COLLECT_EVERY == 0:
            gc.collect()
        tape = Tape(seed, recorded)
        if order is None:
            loop = self.make_loop(tape, plan)
        else:
            loop = OrderLoop(tape, order, horizon_s=plan.horizon_s, steps_max=plan.steps_max)
        trial = _Trial(self, loop, tape, program, plan)
        try:
            return trial.run(cancel_point, clean_points)
        finally:
            trial.close()

    def make_loop(self, tape: Tape, plan: Plan) -> Any:
        """Return the event loop of one run."""
        return SimLoop(tape, horizon_s=plan.horizon_s, steps_max=plan.steps_max)

    def bodies(self, program: Program) -> ProgramBodies:
        """Return the compiled stage bodies of a program, kept while the same one is asked for."""
        if self._bodies is None or self._bodies[0] is not program:
            self._bodies = (program, ProgramBodies(program))
        return self._bodies[1]

    def begin(self, loop: Any, seed: int, plan: Plan) -> None:
        """Point the engine's clocks at `loop` and clear its process-wide state."""
        self.clocks.follow(loop.time, seed, plan.clock_steps)
        if self._reset is not None:
            self._reset()


def _package_folder(package: str) -> str:
    module = sys.modules.get(package)
    if module is None or module.__file__ is None:
        raise HarnessFault(f"adapter: info() named package {package!r} but did not import it")
    return os.path.dirname(module.__file__) + os.sep


class _Trial:
    """The state of one run."""

    def __init__(
        self, lab: Laboratory, loop: Any, tape: Tape, program: Program, plan: Plan
    ) -> None:
        self.lab = lab
        self.loop = loop
        self.tape = tape
        self.program = program
        self.plan = plan
        self.journal = Journal()
        self.outcomes: dict[str, Outcome] = {}
        self.roots: dict[str, asyncio.Task[Outcome]] = {}
        self.complaints: list[tuple[str, str]] = []
        self.left_at: dict[str, str] = {}
        self.callers: list[Caller] = []
        self.remaining = len(plan.runs)
        self.harness_timers: list[asyncio.TimerHandle] = []
        self.points_over = 0
        self.over_s = 0.0
        self.chosen: dict[int, float] = {}
        self.nothing_left = False
        self.world: World | None = None

    def run(self, cancel_point: int | None, clean_points: int) -> RunRecord:
        lab, loop, plan = self.lab, self.loop, self.plan
        lab.begin(loop, self.tape.seed, plan)
        bodies = lab.bodies(self.program)
        world = World(self.journal, self.tape, plan, loop.time, lab.tool, self._points)
        bodies.enter(world)
        self.world = world
        self.chosen = world.chosen
        loop.set_exception_handler(self._complain)
        try:
            native = lab.adapter.build(self.program, plan, bodies)
        except BuildRefused as exc:
            return self._record("over", build_error=str(exc)[:2000])
        for spec in plan.runs:
            root = loop.create_task(self._called(native, spec))
            root.add_done_callback(self._root_done)
            self.roots[spec.id] = root
        for i, cancel in enumerate(plan.cancels):
            self._arm(i, cancel, cancel_point, clean_points)
        loop.run_forever()
        ended = loop.stalled or "over"
        waiting = self._waiting() if ended != "over" else ()
        self._collect()
        if not self.points_over:
            self.points_over = loop.points
            self.over_s = loop.now_s
        leaks = self._leaks(world) if ended == "over" else ()
        return self._record(ended, leaks=leaks, waiting=waiting)

    def _points(self) -> int:
        points: int = self.loop.points
        return points

    def _called(self, native: Any, spec: RunSpec) -> Coroutine[Any, Any, Outcome]:
        """Return one run as its caller awaits it, under a deadline if the plan has one for it."""
        for number, cancel in enumerate(self.plan.cancels):
            if cancel.by != "cancel" and cancel.run == spec.id:
                caller = Caller(cancel, number, self.journal.add)
                self.callers.append(caller)
                return caller.call(functools.partial(self._root, native, spec))
        return self._root(native, spec)

    async def _root(self, native: Any, spec: RunSpec) -> Outcome:
        """One run, its begin and end noted."""
        add, now = self.journal.add, self.loop.time
        if spec.start_s:
            await asyncio.sleep(spec.start_s)
        if spec.redrives:
            await asyncio.wait([self.roots[spec.redrives]])
        add(now(), spec.id, "", "run.begin")
        try:
            outcome = await self.lab.adapter.run(native, spec, self.plan)
        except BaseException as exc:
            self.left_at[spec.id] = traceback_location(exc, self.lab.root)
            add(now(), spec.id, "", "run.end", type(exc).__name__)
            raise
        add(now(), spec.id, "", "run.end", "returned")
        return outcome

    def _root_done(self, _root: asyncio.Task[Outcome]) -> None:
        self.remaining -= 1
        if not self.remaining:
            self.points_over = self.loop.points
            self.over_s = self.loop.now_s
            self.loop.settle()

    def _cancel(self, number: int, cancel: Cancel) -> None:
        if cancel.target == "run":
            told = (number, self.roots[cancel.run].cancel())
            self.journal.add(self.loop.now_s, cancel.run, "", "cancel.sent", told)
            return
        assert self.world is not None  # the run has begun
        task = self.world.under_way.get((cancel.run, cancel.stage))
        # One that runs in its caller's task cannot be cancelled without the caller.
        callers = {*self.roots.values(), *(t for caller in self.callers for t in caller.inner)}
        told = (number, task is not None and task not in callers and task.cancel())
        self.journal.add(self.loop.now_s, cancel.run, cancel.stage, "cancel.stage", told)

    def _arm(self, number: int, cancel: Cancel, point: int | None, clean_points: int) -> None:
        if cancel.by != "cancel":
            return  # the caller's own deadline sees to it
        loop = self.loop
        left = cancel.times

        def fire() -> None:
            nonlocal left
            self._cancel(number, cancel)
            left -= 1
            if left > 0:
                self.harness_timers.append(loop.call_later(cancel.gap_s, fire))

        if cancel.at_s is not None:
            self.harness_timers.append(loop.call_at(cancel.at_s, fire))
            return
        at = cancel.at_point if point is None else point
        assert at is not None  # the plan's check allows exactly one of at_s and at_point
        if at < 0:
            at = 1 + self.tape.choose("points", max(1, clean_points))
        loop.inject_at = at
        loop.inject = fire

    def _complain(self, _loop: Any, context: dict[str, Any]) -> None:
        """Note what asyncio tells the loop's exception handler: nobody fetched an exception."""
        exc = context.get("exception")
        message = str(context.get("message", "")).split("\n", 1)[0]
        self.complaints.append((message[:DETAIL_MAX], type(exc).__name__ if exc else ""))

    def _collect(self) -> None:
        """Gather the outcomes of the runs that ended."""
        for run, root in self.roots.items():
            if not root.done():
                continue
            if root.cancelled():
                location = self.left_at.get(run, "")
                error = ErrorReport("CancelledError", location=location)
                self.outcomes[run] = Outcome(run, "cancelled", raised=error)
            elif isinstance(exc := root.exception(), MemoryError):
                raise exc  # the process can do no more, whoever's fault it is
            elif exc is not None:
                raise HarnessFault(
                    f"adapter: run() let {type(exc).__name__} out: {str(exc)[:DETAIL_MAX]}"
                ) from exc
            else:
                self.outcomes[run] = root.result()

    def _leaks(self, world: World) -> tuple[Leak, ...]:
        """Say what is left now that every run is over and nothing is ready any more."""
        loop, root = self.loop, self.lab.root
        leaks: list[Leak] = []
        own_code = own_task.__code__
        left = sorted(
            asyncio.all_tasks(loop), key=lambda t: (getattr(t, "ordinal", 0), t.get_name())
        )
        for task in left:
            coro = task.get_coro()
            if _code_of(coro) is own_code:
                continue
            location = engine_location(coro, root)
            what = getattr(coro, "__qualname__", "task")
            leaks.append(Leak("task", what, world.stage_tasks.get(task, _stage_in(coro)), location))
        world.stage_tasks.clear()
        world.under_way.clear()
        own_timers = [*self.harness_timers, *(t for c in self.callers for t in c.timers)]
        if not left and loop._scheduled:
            live = [
                h
                for h in loop._scheduled
                if not h._cancelled and h not in own_timers and not loop.is_own_timer(h)
            ]
            leaks += [Leak("timer", _callback_name(h)) for h in live]
        self.nothing_left = not left
        left.clear()
        # An exception nobody fetched may hang in a cycle. Where every run went well there is
        # none to look for, and looking costs more than the run. Only what this run made is
        # looked through: it is all in the youngest generation, the collector being off.
        if self.tape.seed == 0 or any(o.status != "ok" for o in self.outcomes.values()):
            gc.collect(0)
        opened = [
            getattr(agen, "__qualname__", "async generator")
            for agen in list(loop._asyncgens)
            if agen.ag_frame is not None and not agen.ag_running
        ]
        # The loop keeps them by address, which is another one each time.
        leaks += [Leak("asyncgen", name) for name in sorted(opened)]
        for message, exception in self.complaints:
            if "never retrieved" in message:
                leaks.append(Leak("unretrieved", exception))
            elif "destroyed but it is pending" in message:
                leaks.append(Leak("task", "destroyed while pending"))
        return tuple(leaks)

    def _waiting(self) -> tuple[Waiting, ...]:
        tasks = sorted(asyncio.all_tasks(self.loop), key=hash)
        return tuple(
            Waiting(getattr(t.get_coro(), "__qualname__", "task"), where_text(t.get_coro()))
            for t in tasks[:50]
        )

    def _record(
        self,
        ended: str,
        *,
        build_error: str | None = None,
        leaks: tuple[Leak, ...] = (),
        waiting: tuple[Waiting, ...] = (),
    ) -> RunRecord:
        self.journal.closed = True
        return RunRecord(
            lab=self.lab.name,
            seed=self.tape.seed,
            ended=ended,
            journal=self.journal,
            outcomes=self.outcomes,
            build_error=build_error,
            leaks=leaks,
            waiting=waiting,
            late_s=self.loop.late_s,
            points=self.points_over,
            tape=self.tape.recorded,
            took_s=self.over_s,
            chosen=self.chosen,
            stage_points=self._stage_points(),
        )

    def _stage_points(self) -> dict[tuple[str, str], tuple[int, int]]:
        world, last = self.world, self.points_over
        if world is None:
            return {}
        return {
            key: (first, world.ended_at.get(key, last)) for key, first in world.begun_at.items()
        }

    def close(self) -> None:
        """Tear down what is left of the run."""
        tear_down(self.loop, nothing_left=self.nothing_left)
        self.roots.clear()
        if self.world is not None:
            self.world.close()


def tear_down(loop: Any, *, nothing_left: bool = False) -> None:
    """Cancel a loop's tasks, let them end if they will, and close it."""
    left = set() if nothing_left else asyncio.all_tasks(loop)
    if left:
        loop.resume()
        loop.inject = None
        loop.horizon_s = float("inf")
        loop.steps_max = loop.points + TEARDOWN_STEPS
        ended = loop.create_task(_wait_all(left))
        ended.add_done_callback(lambda _t: loop.stop())
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            # It swallows cancels for ever: close its coroutine by hand, so that nothing
            # is reported in the next run that belongs to this one.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            # Closing runs the engine's own code, which may raise anything.
            with contextlib.suppress(Exception):
                task.get_coro().close()
    if loop._asyncgens:
        loop.resume()
        loop.steps_max = loop.points + TEARDOWN_STEPS
        closing = loop.create_task(loop.shutdown_asyncgens())
        closing.add_done_callback(lambda _t: loop.stop())
        loop.run_forever()
    loop.set_exception_handler(lambda _loop, _context: None)
    loop.close()


async def _wait_all(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _code_of(coro: Any) -> CodeType | None:
    return getattr(coro, "cr_code", None)


def _stage_in(coro: Any) -> str:
    """Find the stage whose body a coroutine chain runs, from the body's own frame."""
    for _ in range(DETAIL_MAX):
        frame = getattr(coro, "cr_frame", None)
        if frame is None:
            return ""
        if frame.f_code.co_name == "stage_body" and "stage" in frame.f_locals:
            return str(frame.f_locals["stage"])
        coro = getattr(coro, "cr_await", None)
    return ""


def _callback_name(handle: Any) -> str:
    callback = handle._callback
    return getattr(callback, "__qualname__", type(callback).__name__)


def digest(record: RunRecord) -> str:
    """Return 16 hex digits that two runs share only if they went alike in every respect."""
    data = [
        record.ended,
        record.build_error,
        record.journal.to_json(),
        {run: outcome.to_json() for run, outcome in record.outcomes.items()},
        [[leak.kind, leak.what, leak.stage, leak.location] for leak in record.leaks],
    ]
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
