"""The simulated event loop: asyncio's own, but time jumps instead of passing.

Everything that asyncio documents is kept: `call_soon` runs callbacks in the order in
which they were scheduled, a round runs what was ready when it began, timers fire in the
order of their deadlines. Only what asyncio leaves open is varied, by the tape: the
order of timers with one deadline, timers that fire a little late, how long worker
threads take, the order in which a set of tasks is iterated. Shuffling the ready queue
itself would raise alarms on programs that cannot fail.

Built on `asyncio.BaseEventLoop` with a `_run_once` of its own, which is what a
third-party loop has to replace; it costs what the stock loop costs.

Longer than most: what a loop has to replace of the one that it inherits from.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import heapq
import sys
import threading
import weakref
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from types import CodeType, FrameType
from typing import Any, ClassVar

from harness.kernel.errors import SimulationRefused
from harness.kernel.tape import Tape

__all__ = ["LATE_S", "SimLoop", "SimTask", "ThreadJob"]

LATE_S = 0.001
JOB_LATENCIES_S = (0.0, 0.001, 0.01)
SETTLE_ROUNDS = 64
THREAD_PATIENCE_S = 5.0

# Not a timer may be this near without counting as due: sums of decimal fractions
# differ in the last bits, and a stock loop fires timers a clock tick early as well.
RESOLUTION_S = 1e-9


class ThreadJob:
    """A job for a worker thread that says how long it takes (seconds).

    Attributes:
        ended: None while time is virtual; on the real clock, what ends all jobs early, so
            that none outlives the run that it belongs to for long.
    """

    __slots__ = ("function", "seconds")
    ended: ClassVar[threading.Event | None] = None

    def __init__(self, seconds: float, function: Callable[[], Any]) -> None:
        self.seconds = seconds
        self.function = function

    def __call__(self) -> Any:
        if self.ended is not None:
            self.ended.wait(self.seconds)
        return self.function()


# How deep a pipeline's driver may sit below its task's first function.
STACK_MAX = 40

_new_task: Any = asyncio.Task.__new__
_new_handle: Any = object.__new__


class SimTask(asyncio.Task[Any]):
    """A task whose hash is an ordinal, so that sets of tasks iterate alike in every process.

    By default a task hashes by its address: one seed would give another order in
    another process. The ordinals are scattered by a salt from the tape.
    """

    _ordinal: int

    def __new__(cls, coro: Coroutine[Any, Any, Any], *, loop: SimLoop, **_kw: Any) -> SimTask:
        # Set before __init__, which puts the task into asyncio's own weak set.
        self: SimTask = _new_task(cls)
        loop.tasks_made += 1
        code = getattr(coro, "cr_code", None)
        if code not in loop.begun_as_tasks and _WAIT_FOR not in (above := _codes_above()):
            loop.begun_as_tasks.add(code)
            loop.begun_by.update(above)
        self._ordinal = (loop.tasks_made * loop.hash_factor + loop.hash_salt) & 0x7FFFFFFF
        return self

    def __hash__(self) -> int:
        return self._ordinal

    __eq__ = object.__eq__

    @property
    def ordinal(self) -> int:
        return self._ordinal


def _codes_above() -> list[CodeType]:
    """Return the code of what runs, innermost first, as far up as a task's first step."""
    frame: FrameType | None = sys._getframe(2)
    codes: list[CodeType] = []
    # What the loop itself was called by belongs to no task.
    while frame is not None and (code := frame.f_code) is not _RUN_ONCE and len(codes) < STACK_MAX:
        codes.append(code)
        frame = frame.f_back
    return codes


# Some versions of Python run in a task of its own what is waited for with a timeout.
_WAIT_FOR = asyncio.wait_for.__code__


class SimLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time, driven by a tape.

    `run_forever` returns when `settle()` has been called and nothing is ready any more, or
    when nothing can go on; `stalled` then says why: "" (settled), "deadlock" (nothing ready,
    no timer), "horizon" (the next timer lies beyond `horizon_s`), "steps" (more than
    `steps_max` callbacks) or "thread" (a real thread was alive for too long).

    Attributes:
        points: callbacks run so far, plus one for each jump of time: every place at
            which a cancel can be put by `inject_at`.
        begun_as_tasks: code of every coroutine that was made a task.
        begun_by: code of every function that was running when one was made a task first.
    """

    # Inherited ones that the type checker's stubs do not know.
    _timer_cancelled_count: int
    _refused: ClassVar[dict[str, str]] = {
        "create_connection": "sockets",
        "create_server": "sockets",
        "create_unix_connection": "sockets",
        "create_unix_server": "sockets",
        "create_datagram_endpoint": "sockets",
        "connect_accepted_socket": "sockets",
        "sock_connect": "sockets",
        "sock_recv": "sockets",
        "sock_recv_into": "sockets",
        "sock_sendall": "sockets",
        "sock_accept": "sockets",
        "getaddrinfo": "name look-ups",
        "getnameinfo": "name look-ups",
        "subprocess_exec": "subprocesses",
        "subprocess_shell": "subprocesses",
        "connect_read_pipe": "pipes",
        "connect_write_pipe": "pipes",
        "add_reader": "file descriptors",
        "add_writer": "file descriptors",
        "add_signal_handler": "signals",
    }

    def __init__(self, tape: Tape, *, horizon_s: float, steps_max: int) -> None:
        if _FRESH is None:
            super().__init__()
            # Debug mode costs several times the run, whatever PYTHONASYNCIODEBUG says.
            self.set_debug(False)
        else:
            # The same, without asking the environment and the system's clock for each run.
            names = vars(self)
            names.update(_FRESH)
            names["_ready"] = deque()
            names["_scheduled"] = []
            names["_asyncgens"] = weakref.WeakSet()
        self.tape = tape
        self.now_s = 0.0
        self.horizon_s = horizon_s
        self.steps_max = steps_max
        self.stalled = ""
        self.points = 0
        self.inject_at = -1
        self.inject: Callable[[], None] | None = None
        self.tasks_made = 0
        self.begun_as_tasks: set[CodeType | None] = set()
        self.begun_by: set[CodeType] = set()
        self.hash_factor = 1
        self.hash_salt = 0
        if tape.active("tasks"):
            self.hash_salt = tape.choose("tasks", 1 << 16)
            self.hash_factor = 0x9E3779B1 if self.hash_salt else 1
        self.jobs: dict[int, ThreadJob | None] = {}
        self._jobs_made = 0
        self._ties = tape.active("ties")
        self._late = tape.active("late")
        self._settling = 0
        self._threads = threading.active_count()
        self._woken: threading.Event | None = None
        self._task_factory = _make_task

    @property
    def late_s(self) -> float:
        """How late a timer may fire in this run, in seconds."""
        return LATE_S if self._late else 0.0

    def time(self) -> float:
        return self.now_s

    def settle(self) -> None:
        """Let no more time pass; `run_forever` returns when nothing is ready any more."""
        self._settling = 1

    def resume(self) -> None:
        """Let time pass again after `settle`."""
        self._settling = 0
        self.stalled = ""

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.Handle:
        # The inherited one spends half its time on checks that only debug mode needs, and
        # so does a handle's own __init__: these are its attributes.
        handle = _new_handle(events.Handle)
        handle._context = copy_context() if context is None else context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = None
        handle._source_traceback = None
        self._ready.append(handle)  # type: ignore[attr-defined]
        return handle  # type: ignore[no-any-return]

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: Any = None, context: Any = None, **kw: Any
    ) -> asyncio.Task[Any]:
        # The inherited one asks the factory, and takes twice as long to come to the same.
        if self._task_factory is not _make_task:
            if name is not None:
                kw["name"] = name
            if context is not None:
                kw["context"] = context
            return super().create_task(coro, **kw)
        self._check_closed()  # type: ignore[attr-defined]
        return SimTask(coro, loop=self, name=name, context=context, **kw)

    def _run_once(self) -> None:
        ready = self._ready  # type: ignore[attr-defined]
        scheduled = self._scheduled  # type: ignore[attr-defined]
        if self._settling:
            self._settling += 1
            if not ready or self._settling > SETTLE_ROUNDS:
                self._stopping = True
                return
        elif not ready and not self._jump():
            return
        now = self.now_s + RESOLUTION_S
        # `not >`, as on the stock loop: a timer at NaN is due at once.
        if scheduled and not scheduled[0]._when > now and not self._settling:
            self._fire(scheduled, now)
        points, inject_at = self.points, self.inject_at
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            # What Handle._run does, without its frame.
            try:
                handle._context.run(handle._callback, *handle._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._report(handle, exc)
            self.points = points = points + 1
            if points == inject_at and self.inject is not None:
                self.inject()
        if points > self.steps_max:
            self._stall("steps")

    def _report(self, handle: asyncio.Handle, exc: BaseException) -> None:
        name = getattr(handle._callback, "__qualname__", "callback")  # type: ignore[attr-defined]
        context = {"message": f"Exception in callback {name}", "exception": exc, "handle": handle}
        self.call_exception_handler(context)

    def _stall(self, why: str) -> None:
        self.stalled = why
        self._stopping = True

    def _jump(self) -> bool:
        """Move time to the next timer; say whether there is anything to run now."""
        self.points += 1
        if self.points == self.inject_at and self.inject is not None:
            self.inject()
            if self._ready:  # type: ignore[attr-defined]
                return True
        if threading.active_count() > self._threads and self._await_thread():
            return True
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and scheduled[0]._cancelled:
            heapq.heappop(scheduled)._scheduled = False
            self._timer_cancelled_count -= 1
        if not scheduled:
            self._stall("deadlock")
            return False
        when = scheduled[0]._when
        if when > self.horizon_s:
            self._stall("horizon")
            return False
        if when > self.now_s:
            self.now_s = when
            if self._late:
                self.now_s += LATE_S * (0, 0, 0.5, 1)[self.tape.choose("late", 4)]
        return True

    def _fire(self, scheduled: list[Any], now: float) -> None:
        due: list[Any] = []
        while scheduled and not scheduled[0]._when > now:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if handle._cancelled:
                self._timer_cancelled_count -= 1
            else:
                due.append(handle)
        if self._ties and len(due) > 1:
            due = self._permute(due)
        self._ready.extend(due)  # type: ignore[attr-defined]
        if len(scheduled) > 100 and self._timer_cancelled_count * 2 > len(scheduled):
            kept = [h for h in scheduled if not h._cancelled]
            for handle in scheduled:
                if handle._cancelled:
                    handle._scheduled = False
            scheduled[:] = kept
            heapq.heapify(scheduled)
            self._timer_cancelled_count = 0

    def _permute(self, due: list[Any]) -> list[Any]:
        """Permute the timers of each deadline among themselves."""
        out: list[Any] = []
        start = 0
        for end in range(1, len(due) + 1):
            if end == len(due) or due[end]._when > due[start]._when + RESOLUTION_S:
                group = due[start:end]
                while group:
                    out.append(group.pop(self.tape.choose("ties", len(group))))
                start = end
        return out

    def _await_thread(self) -> bool:
        """Wait, in real time, for a live thread: time must not jump over it."""
        if self._woken is None:
            self._woken = threading.Event()
        if self._ready or self._woken.wait(THREAD_PATIENCE_S):  # type: ignore[attr-defined]
            self._woken.clear()
            return bool(self._ready)  # type: ignore[attr-defined]
        return False

    def _write_to_self(self) -> None:
        # Called from another thread by call_soon_threadsafe, after the callback is in place.
        if self._woken is not None:
            self._woken.set()

    def _process_events(self, _event_list: Any) -> None:
        return None

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a job inline, at the virtual time at which a thread would have finished it.

        A job that does not say how long it takes (`ThreadJob`) takes one of a few
        latencies, chosen by the tape. As with a real thread, cancelling the future does
        not stop the job: it stays in `jobs` until its time.
        """
        seconds = _job_seconds(func)
        if seconds is None:
            seconds = JOB_LATENCIES_S[self.tape.choose("jobs", len(JOB_LATENCIES_S))]
        future: asyncio.Future[Any] = self.create_future()
        self._jobs_made += 1
        number = self._jobs_made
        self.jobs[number] = _thread_job(func)

        def finish() -> None:
            del self.jobs[number]
            try:
                # A thread of a pool has no variables but those that its job brings along.
                result = contextvars.Context().run(func, *args)
            except Exception as exc:
                if not future.done():
                    future.set_exception(exc)
            else:
                if not future.done():
                    future.set_result(result)

        self.call_later(seconds, finish)
        return future

    def is_own_timer(self, handle: Any) -> bool:
        """Say whether a timer belongs to the simulation itself (a thread's completion)."""
        return getattr(handle._callback, "__qualname__", "").startswith("SimLoop.")


def _fresh() -> dict[str, Any] | None:
    """Return what `BaseEventLoop.__init__` sets, if all that may change in it is known here."""
    loop = asyncio.BaseEventLoop()
    loop.set_debug(False)
    names = dict(vars(loop))
    loop.close()
    mutable = {k for k, v in names.items() if not isinstance(v, (int, float, type(None)))}
    return names if mutable == {"_ready", "_scheduled", "_asyncgens"} else None


_FRESH = _fresh()
_RUN_ONCE = SimLoop._run_once.__code__


def _refuse(name: str, what: str) -> Callable[..., Any]:
    def refused(self: SimLoop, *_args: Any, **_kwargs: Any) -> Any:
        raise SimulationRefused(
            f"loop.{name}: real {what} have no virtual time; stub the client that opens it, "
            f"or run with --lab live"
        )

    return refused


for _name, _what in SimLoop._refused.items():
    setattr(SimLoop, _name, _refuse(_name, _what))


def _thread_job(func: Any) -> ThreadJob | None:
    """Find the ThreadJob inside what `asyncio.to_thread` wraps around it, if there is one."""
    if isinstance(func, ThreadJob):
        return func
    if isinstance(func, functools.partial):
        for arg in func.args:
            if isinstance(arg, ThreadJob):
                return arg
    return None


def _job_seconds(func: Any) -> float | None:
    job = _thread_job(func)
    return None if job is None else job.seconds


def _make_task(loop: Any, coro: Any, **kwargs: Any) -> SimTask:
    # Python 3.14 passes `name` and `eager_start` on to the factory; earlier ones set the
    # name afterwards. Eager tasks skip the first turn, which is the caller's own choice.
    return SimTask(coro, loop=loop, **kwargs)
