"""The interpreter: turns a stage's steps into the coroutine that an engine's stage awaits.

Steps are compiled once a program into closures, so that a run pays for awaiting only.
Stage bodies are written as a careful user would write them: resources in `finally`,
generators closed, tasks awaited. What goes wrong around them is then the engine's doing.

Longer than most: a closure for each operation of the step language, none of them long.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from harness.kernel.around import LayerBody, SinkMock, consume
from harness.kernel.errors import HarnessFault
from harness.kernel.journal import Journal
from harness.kernel.loop import ThreadJob
from harness.kernel.plan import Layer, Plan
from harness.kernel.port import StageBody, StagePort, Verdict
from harness.kernel.program import Program, Stage
from harness.kernel.services import COMPILERS as SERVICES
from harness.kernel.services import filled, note_identity
from harness.kernel.steps import Step
from harness.kernel.tape import Tape

__all__ = ["Execution", "ProgramBodies", "StageFault", "ToolMock", "World"]

Op = Callable[["Execution"], Awaitable[Verdict | None]]

ERROR_TYPES: Mapping[str, type[BaseException]] = {
    "ValueError": ValueError,
    "RuntimeError": RuntimeError,
    "KeyError": KeyError,
    "OSError": OSError,
    "TimeoutError": TimeoutError,
    "CancelledError": asyncio.CancelledError,
}


class StageFault(Exception):
    """What a cleanup raises when the program tells it to fail."""


class ToolMock(Protocol):
    """The mock behind `call` steps; simulated and live twins have this shape."""

    async def __call__(self, ex: Execution, args: Mapping[str, Any], number: int) -> Any: ...

    def store(self) -> Any:
        """Return a new, empty store for tenants' rows, as `Bodies.store` says."""

    async def collect(self, run: str, number: int, type: str, data: Any, seconds: float) -> None:
        """Take the `number`-th event of a sink, which takes so long; run "" is a shared sink's."""

    async def allocate(self, megabytes: int) -> Any:
        """Take memory until there is no more, and raise MemoryError; see the step."""


class World:
    """What all stage bodies of one laboratory run share."""

    __slots__ = (
        "add",
        "begun_at",
        "calls",
        "chosen",
        "ended_at",
        "executions",
        "journal",
        "now",
        "origins",
        "plan",
        "points",
        "stage_tasks",
        "store",
        "tape",
        "tool",
        "under_way",
        "yields",
    )

    def __init__(  # noqa: PLR0917 (what a laboratory run consists of)
        self,
        journal: Journal,
        tape: Tape,
        plan: Plan,
        now: Callable[[], float],
        tool: ToolMock,
        points: Callable[[], int] = int,
    ) -> None:
        self.journal = journal
        self.add = journal.add
        self.tape = tape
        self.yields = tape.active("yields")
        self.plan = plan
        self.now = now
        self.tool = tool
        self.calls: dict[tuple[str, str], int] = {}
        self.chosen: dict[int, float] = {}
        self.stage_tasks: dict[Any, str] = {}
        # The bodies that are under way, each in a task that has run no other stage's; and the
        # points of the loop at which they began and ended.
        self.points = points
        self.under_way: dict[tuple[str, str], Any] = {}
        self.begun_at: dict[tuple[str, str], int] = {}
        self.ended_at: dict[tuple[str, str], int] = {}
        self.executions: dict[tuple[str, str], int] = {}
        self.store: Any = None
        self.origins = {run.id: run.redrives for run in plan.runs if run.redrives}

    def begins(self, run: str, stage: str) -> None:
        """Know the present task as the one that runs the body of a stage."""
        task = asyncio.current_task()
        if self.stage_tasks.get(task, stage) == stage:
            self.under_way[run, stage] = task
            self.begun_at.setdefault((run, stage), self.points() + 1)
        self.stage_tasks[task] = stage

    def ends(self, run: str, stage: str) -> None:
        """Forget the task in which the body of a stage was under way."""
        if self.under_way.pop((run, stage), None) is not None:
            self.ended_at[run, stage] = self.points()

    def execution_number(self, run: str, stage: str) -> int:
        """Count the executions of a stage, over retries and redrives together."""
        while run in self.origins:
            run = self.origins[run]
        number = self.executions[run, stage] = self.executions.get((run, stage), 0) + 1
        return number

    def tenant_store(self) -> Any:
        """Return the run's store for tenants, made when it is first asked for.

        Raises:
            HarnessFault: if the mock of tools brings none.
        """
        if self.store is None:
            make = getattr(self.tool, "store", None)
            if make is None:
                raise HarnessFault("this laboratory's mocks bring no store for tenants")
            self.store = make()
        return self.store

    def close(self) -> None:
        if self.store is not None:
            self.store.close()

    def call_number(self, run: str, tool: str) -> int:
        number = self.calls[run, tool] = self.calls.get((run, tool), 0) + 1
        return number

    def fault_for(self, tool: str, number: int) -> str | None:
        """Return the error name that the plan's faults give to this call, or None."""
        for fault in self.plan.faults:
            if fault.tool != tool:
                continue
            if fault.one_in is not None:
                # The last alternative: the undisturbed run takes the first and so has none.
                if self.tape.choose("faults", fault.one_in) == fault.one_in - 1:
                    return fault.error
            elif number == fault.nth or (fault.onwards and number > fault.nth):
                return fault.error
        return None


class Execution:
    """One execution of one stage: where its steps read and note things."""

    __slots__ = (
        "counted",
        "held",
        "items",
        "marker",
        "own",
        "port",
        "run",
        "stage",
        "tasks",
        "world",
    )

    def __init__(self, world: World, stage: str, port: StagePort) -> None:
        self.world = world
        self.stage = stage
        self.port = port
        self.run = port.run
        self.items: list[Any] = []
        self.counted: list[int] = []
        self.held: dict[str, list[object]] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.own = False
        self.marker: str | None = None

    def branch(self) -> Execution:
        """Return an execution for a task of the stage's own: what cancels it is the stage."""
        other = Execution(self.world, self.stage, self.port)
        other.items, other.held, other.own = self.items, self.held, True
        other.counted, other.marker = self.counted, self.marker
        return other

    def note(self, kind: str, detail: Any = None) -> None:
        if self.own and kind == "interrupt":
            return
        world = self.world
        world.add(world.now(), self.run, self.stage, kind, detail)

    def seconds(self, duration: float | tuple[float, ...]) -> float:
        """Return a duration, chosen by the tape where the step lists several."""
        if isinstance(duration, tuple):
            chosen = duration[self.world.tape.choose("durations", len(duration))]
            self.world.chosen[id(duration)] = chosen
            return chosen
        return duration


class ProgramBodies:
    """The stage bodies of one program; `world` is set anew for each run."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._worlds: list[World] = []
        self._blocks = {stage.name: compile_block(stage.steps) for stage in program.stages}
        self._children: dict[int, ProgramBodies] = {}

    @property
    def world(self) -> World:
        return self._worlds[-1]

    def enter(self, world: World) -> None:
        """Let the bodies note into `world` from now on."""
        self._worlds[:] = [world]

    def child(self, program: Program) -> ProgramBodies:
        """Return the bodies of a subpipeline's program; they share this one's world."""
        found = self._children.get(id(program))
        if found is None:
            found = self._children[id(program)] = ProgramBodies(program)
            found._worlds = self._worlds
        return found

    def sink(self) -> SinkMock:
        """Return the event sink of the plan; one for all runs, as the adapter's caller sees it."""
        return SinkMock(lambda: self._worlds[0])

    def layer(self, layer: Layer) -> LayerBody:
        """Return the body of a layer of the plan."""
        return LayerBody(lambda: self._worlds[0], layer)

    def store(self) -> Any:
        """Return the tenants' store of this laboratory run; one for all that ask."""
        return self._worlds[0].tenant_store()

    def over(self, run: str) -> None:
        """Note that the engine's own call for a run has come out; see `Bodies.over`."""
        world = self._worlds[0]
        world.add(world.now(), run, "", "engine.end")

    async def consume(self, run: str, source: AsyncIterator[Any]) -> None:
        """Consume a stream as the plan's `consumer` says; see `Bodies.consume`."""
        await consume(self._worlds[0], run, source)

    def body(self, stage: str) -> StageBody:
        """Return the async callable that an adapter puts inside its engine's stage."""
        block = self._blocks[stage]
        worlds = self._worlds

        async def stage_body(port: StagePort) -> Verdict:
            world = worlds[0]
            ex = Execution(world, stage, port)
            run, add, now = port.run, world.add, world.now
            world.begins(run, stage)
            add(now(), run, stage, "stage.start")
            try:
                verdict = await block(ex)
            except asyncio.CancelledError:
                add(now(), run, stage, "stage.end", "cancelled")
                raise
            except BaseException as exc:
                add(now(), run, stage, "stage.end", f"raise:{type(exc).__name__}")
                raise
            finally:
                world.ends(run, stage)
            if verdict is None:
                verdict = Verdict("ok")
            if verdict.kind == "ok":
                value = verdict.value
                if isinstance(value, (dict, list)):
                    # What the stage, or the engine, changes in it afterwards was not returned.
                    value = copy.deepcopy(value)
                add(now(), run, stage, "returned", value)
            add(now(), run, stage, "stage.end", verdict.kind)
            return verdict

        return stage_body


def compile_block(steps: Sequence[Step]) -> Op:
    """Compile a list of steps into one coroutine function.

    A resource is held from its `acquire` to the end of the block: what follows it is
    compiled as the inner block of a `try`/`finally`.
    """
    ops: list[Op] = []
    for i, one in enumerate(steps):
        if one.op == "acquire":
            ops.append(_acquire(one, compile_block(steps[i + 1 :])))
            break
        if one.op == "spawn":
            ops.append(_spawn(one, compile_block(steps[i + 1 :])))
            break
        ops.append(_COMPILERS[one.op](one))
    if len(ops) == 1:
        single = ops[0]

        async def one_op(ex: Execution) -> Verdict | None:
            if ex.world.yields:
                await _extra_yields(ex)
            return await single(ex)

        return one_op

    async def block(ex: Execution) -> Verdict | None:
        yields = ex.world.yields
        for op in ops:
            if yields:
                await _extra_yields(ex)
            verdict = await op(ex)
            if verdict is not None:
                return verdict
        return None

    return block


async def _extra_yields(ex: Execution) -> None:
    try:
        for _ in range((0, 0, 1, 2)[ex.world.tape.choose("yields", 4)]):
            await asyncio.sleep(0)
    except asyncio.CancelledError:
        ex.note("interrupt")
        raise


def _sleep(one: Step) -> Op:
    duration = one.args["seconds"]

    async def op(ex: Execution) -> None:
        try:
            await asyncio.sleep(ex.seconds(duration))
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise

    return op


def _yield(one: Step) -> Op:
    times, sleep = one.args["times"], asyncio.sleep

    async def op(ex: Execution) -> None:
        try:
            for _ in range(times):
                await sleep(0)
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise

    return op


async def _clean(
    ex: Execution, name: str, cleanup_s: float | None, fails: bool, *, registered: bool = False
) -> None:
    """Release a resource, noting apart: begun, ended, cut short by a cancel, failed."""
    note = ex.note
    note("release.begin", name)
    if cleanup_s is not None:
        try:
            await asyncio.sleep(cleanup_s)
        except asyncio.CancelledError:
            if not registered:  # else it is the engine that was interrupted, not the stage
                note("interrupt")
            note("release.cut", name)
            raise
    if fails:
        note("release.fail", name)
        raise StageFault(f"cleanup of {name} failed")
    note("release.end", name)


def _acquire(one: Step, rest: Op) -> Op:
    name, fails = one.args["name"], one.args["fails"]
    duration = one.args["cleanup_s"]
    asynchronous = one.args["cleanup"] == "async"

    async def op(ex: Execution) -> Verdict | None:
        ex.note("acquire", name)
        mine = object()  # it may be acquired again once it was released
        ex.held.setdefault(name, []).append(mine)
        try:
            return await rest(ex)
        finally:
            if mine in ex.held[name]:
                ex.held[name].remove(mine)
                await _clean(ex, name, ex.seconds(duration) if asynchronous else None, fails)

    return op


def _release(one: Step) -> Op:
    name = one.args["name"]

    async def op(ex: Execution) -> None:
        if ex.held.get(name):
            ex.held[name].pop()
        await _clean(ex, name, None, False)

    return op


def _using(one: Step) -> Op:
    name, fails, duration = one.args["name"], one.args["fails"], one.args["cleanup_s"]
    body = compile_block(one.args["steps"])

    @contextlib.asynccontextmanager
    async def resource(ex: Execution) -> AsyncIterator[None]:
        ex.note("acquire", name)
        try:
            yield
        finally:
            await _clean(ex, name, ex.seconds(duration), fails)

    async def op(ex: Execution) -> Verdict | None:
        async with resource(ex):
            return await body(ex)

    return op


def _cleanup(one: Step) -> Op:
    name, fails, duration = one.args["name"], one.args["fails"], one.args["cleanup_s"]
    identify = one.args["identify"]

    async def op(ex: Execution) -> None:
        seconds = ex.seconds(duration)

        async def release() -> None:
            if identify:
                note_identity(ex, "cleanup")
            await _clean(ex, name, seconds, fails, registered=True)

        ex.note("register", name)
        ex.port.cleanup(name, release)

    return op


def _generate(one: Step) -> Op:
    name, items, every = one.args["name"], one.args["items"], one.args["every_s"]

    async def source(ex: Execution) -> AsyncIterator[int]:
        ex.note("acquire", name)
        try:
            for i in range(items):
                try:
                    await asyncio.sleep(ex.seconds(every))
                except asyncio.CancelledError:
                    ex.note("interrupt")
                    raise
                yield i
        finally:
            await _clean(ex, name, None, False)

    async def op(ex: Execution) -> None:
        async with contextlib.aclosing(source(ex)) as stream:  # type: ignore[type-var]
            async for item in stream:
                ex.items.append(item)
                ex.note("item", item)

    return op


def _chunk(one: Step) -> Op:
    value = one.args["value"]

    async def op(ex: Execution) -> Verdict | None:
        handed = filled(value, ex.marker)
        ex.note("chunk", handed)
        taken = ex.port.chunk(handed)
        if hasattr(taken, "__await__"):
            try:
                taken = await taken
            except asyncio.CancelledError:
                ex.note("interrupt")
                raise
        # An engine may tell a producer in so many words that nobody takes what it hands on; whoever
        # writes a stage stops there.
        return Verdict("ok") if taken is False else None

    return op


def _read(one: Step) -> Op:
    stage, key = one.args["stage"], one.args["key"]

    async def op(ex: Execution) -> None:
        value = ex.port.read(stage, key)
        ex.note("read", (stage, key, value))

    return op


def _mutate(one: Step) -> Op:
    stage, key = one.args["stage"], one.args["key"]

    async def op(ex: Execution) -> None:
        value = ex.port.read(stage, key)
        possible = True
        try:
            if isinstance(value, list):
                value.append("changed")
            else:
                value["changed"] = True
        except (TypeError, AttributeError):
            possible = False
        ex.note("mutated", (stage, key, possible))

    return op


def _call(one: Step) -> Op:
    tool, duration = one.args["tool"], one.args["timeout_s"]
    args = one.args

    async def op(ex: Execution) -> None:
        number = ex.world.call_number(ex.run, tool)
        ex.note("call.begin", (tool, number))
        limit = None if duration is None else ex.seconds(duration)

        async def invoke() -> Any:
            return await ex.world.tool(ex, args, number)

        try:
            if ex.port.call is not None:
                await ex.port.call(tool, invoke, limit)
            else:
                await invoke()
        except asyncio.CancelledError:
            ex.note("call.end", (tool, number, "cancelled"))
            raise
        except BaseException as exc:
            how = "timeout" if _is_timeout(exc) else f"raise:{type(exc).__name__}"
            ex.note("call.end", (tool, number, how))
            raise
        ex.note("call.end", (tool, number, "ok"))

    return op


def _is_timeout(exc: BaseException | None) -> bool:
    while exc is not None:
        if isinstance(exc, TimeoutError):
            return True
        exc = exc.__cause__
    return False


async def own_task(ex: Execution, op: Op) -> Verdict | None:
    """A task of the stage's own; leak detection knows it by this function."""
    return await op(ex)


def _parallel(one: Step) -> Op:
    branches = [compile_block(b) for b in one.args["branches"]]

    async def op(ex: Execution) -> Verdict | None:
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(own_task(ex.branch(), b)) for b in branches]
        await _join(ex, tasks, until=asyncio.FIRST_EXCEPTION)
        # A branch that failed ended the others: its exception is the one to be told.
        failed = [t for t in tasks if not t.cancelled() and t.exception() is not None]
        for task in failed[:1] or tasks:
            verdict = task.result()
            if verdict is not None:
                return verdict
        return None

    return op


async def _join(ex: Execution, tasks: list[asyncio.Task[Any]], *, until: str) -> None:
    """Await tasks of the stage's own; a cancel, or a failure among them, ends them all first.

    Further cancels meanwhile are kept until the tasks have ended, as a task group does.
    """
    cancelled: asyncio.CancelledError | None = None
    pending = set(tasks)
    while pending:
        try:
            _, pending = await asyncio.wait(pending, return_when=until)
        except asyncio.CancelledError as exc:
            ex.note("interrupt")
            cancelled = exc
        until = asyncio.ALL_COMPLETED
        for task in tasks:
            if not task.done():
                task.cancel()
    for task in tasks:
        if not task.cancelled():
            task.exception()  # fetched, also where the stage goes on with another one
    if cancelled is not None:
        raise cancelled


def _spawn(one: Step, rest: Op) -> Op:
    name, join = one.args["name"], one.args["join"]
    body = compile_block(one.args["steps"])

    async def op(ex: Execution) -> Verdict | None:
        ex.note("spawn", name)
        task = asyncio.get_running_loop().create_task(own_task(ex.branch(), body))
        if not join:
            # Kept, as the asyncio documentation asks for: a loop holds tasks weakly only.
            ex.tasks.append(task)
            return await rest(ex)
        try:
            verdict = await rest(ex)
        except BaseException:
            task.cancel()
            await _join(ex, [task], until=asyncio.ALL_COMPLETED)
            raise
        await _join(ex, [task], until=asyncio.ALL_COMPLETED)
        ex.note("spawn.end", name)
        task.result()
        return verdict

    return op


def _thread(one: Step) -> Op:
    duration, identify = one.args["seconds"], one.args["identify"]

    async def op(ex: Execution) -> None:
        seconds = ex.seconds(duration)

        def work() -> None:
            if identify:
                note_identity(ex, "thread")
            ex.note("thread.end", seconds)

        ex.note("thread.begin", seconds)
        try:
            await (ex.port.thread or asyncio.to_thread)(ThreadJob(seconds, work))
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise

    return op


def _heartbeat(_one: Step) -> Op:
    async def op(ex: Execution) -> None:
        ex.note("heartbeat")
        ex.port.heartbeat()

    return op


def _timeout(one: Step) -> Op:
    label, duration = one.args["label"], one.args["seconds"]
    body, otherwise = compile_block(one.args["steps"]), compile_block(one.args["otherwise"])

    async def op(ex: Execution) -> Verdict | None:
        seconds = ex.seconds(duration)
        ex.note("scope.enter", (label, seconds))
        try:
            async with asyncio.timeout(seconds) as scope:
                verdict = await body(ex)
        except TimeoutError:
            if not scope.expired():
                ex.note("scope.leak", (label, "TimeoutError"))
                raise
            ex.note("scope.expired", (label, seconds))
            return await otherwise(ex)
        except BaseException as exc:
            ex.note("scope.exit", (label, type(exc).__name__))
            raise
        ex.note("scope.exit", (label, ""))
        return verdict

    return op


def _subpipeline(one: Step) -> Op:
    program, keep = one.args["program"], one.args["keep"]

    async def op(ex: Execution) -> None:
        ex.note("sub.begin", program.name)
        try:
            outcome = await ex.port.subpipeline(program)
        except asyncio.CancelledError:
            ex.note("interrupt")
            ex.note("sub.end", (program.name, "cancelled"))
            raise
        except BaseException as exc:
            ex.note("sub.end", (program.name, f"raise:{type(exc).__name__}"))
            if keep:
                return
            raise
        ex.note("sub.end", (program.name, outcome.status))
        if outcome.status != "ok" and not keep:
            raise RuntimeError(f"subpipeline {program.name} ended {outcome.status}")

    return op


def _context(_one: Step) -> Op:
    async def op(ex: Execution) -> None:
        ex.note("context", ex.port.context())

    return op


def _ok(one: Step) -> Op:
    value = one.args["value"]
    # What a run may change is made anew for each; a plain value is the same for all.
    fixed = None if isinstance(value, (dict, list)) else Verdict("ok", value)

    async def op(ex: Execution) -> Verdict:
        if fixed is not None and value != "$items" and ex.marker is None:
            return fixed
        if value == "$items":
            return Verdict("ok", list(ex.items))
        return Verdict("ok", value if ex.marker is None else filled(value, ex.marker))

    return op


def _ending(kind: str, key: str) -> Callable[[Step], Op]:
    def compiler(one: Step) -> Op:
        verdict = Verdict(kind, None, one.args[key])

        async def op(ex: Execution) -> Verdict:
            if ex.marker is None:
                return verdict
            return Verdict(kind, None, filled(verdict.message, ex.marker))

        return op

    return compiler


def _raise(one: Step) -> Op:
    error, message = ERROR_TYPES[one.args["error"]], one.args["message"]

    async def op(ex: Execution) -> None:
        if error is asyncio.CancelledError:
            ex.note("self_cancel")
        raise error(filled(message, ex.marker))

    return op


def _swallow(one: Step) -> Op:
    times, body = one.args["times"], compile_block(one.args["steps"])

    async def op(ex: Execution) -> Verdict | None:
        swallowed = 0
        while True:
            try:
                return await body(ex)
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > times:
                    raise
                ex.note("swallowed", swallowed)

    return op


def _allocate(one: Step) -> Op:
    megabytes = one.args["megabytes"]

    async def op(ex: Execution) -> None:
        try:
            taken = await ex.world.tool.allocate(megabytes)
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise
        except MemoryError:
            ex.note("fault.fired", ("memory", 1))
            raise
        del taken

    return op


def _never(_one: Step) -> Op:
    async def op(ex: Execution) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            ex.note("interrupt")
            raise

    return op


_COMPILERS: dict[str, Callable[[Step], Op]] = {
    "sleep": _sleep,
    "yield": _yield,
    "release": _release,
    "using": _using,
    "cleanup": _cleanup,
    "generate": _generate,
    "chunk": _chunk,
    "read": _read,
    "mutate": _mutate,
    "call": _call,
    "parallel": _parallel,
    "thread": _thread,
    "heartbeat": _heartbeat,
    "timeout": _timeout,
    "subpipeline": _subpipeline,
    "context": _context,
    "ok": _ok,
    "fail": _ending("fail", "message"),
    "raise": _raise,
    "cancel_run": _ending("cancel_run", "reason"),
    "cancel_branch": _ending("cancel_branch", "reason"),
    "skip": _ending("skip", "reason"),
    "swallow": _swallow,
    "allocate": _allocate,
    "never": _never,
    **SERVICES,
}


def stage_of(stage: Stage) -> Op:
    """Compile one stage's steps (for tests and benchmarks)."""
    return compile_block(stage.steps)
