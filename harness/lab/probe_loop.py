"""The simulated loop as a probe uses it: it also remembers where things came from.

Nothing here changes what runs, or in which order: each hook notes the line of the
user's code that made a task, a timer, an async generator or took a lock, and goes on as
before. The hooks on `asyncio.shield`, `Lock` and `Semaphore` must be in place before the
user's modules are imported, since those may take the names with them.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from harness.kernel.errors import SimulationRefused
from harness.kernel.loop import SimLoop
from harness.kernel.tape import Tape
from harness.lab.probe_sources import Sources

__all__ = ["DroppedGenerator", "Held", "Locks", "ProbeLoop", "shields", "thread_starts"]

DEADLINES_MAX = 1_000
THREAD_PATIENCE_S = 1.0

# What `asyncio.shield` protects, and whether that was asked for by code that cleans up.
shields: weakref.WeakKeyDictionary[asyncio.Future[Any], bool] = weakref.WeakKeyDictionary()
thread_starts: weakref.WeakKeyDictionary[threading.Thread, str] = weakref.WeakKeyDictionary()


class DroppedGenerator:
    """An async generator that was let go while it stood at a `yield`."""

    __slots__ = ("code", "iterated_at", "line")

    def __init__(self, code: Any, line: int, iterated_at: str) -> None:
        self.code = code
        self.line = line
        self.iterated_at = iterated_at


class ProbeLoop(SimLoop):
    """A `SimLoop` that knows where its tasks, timers and async generators were made.

    Attributes:
        deadlines: virtual times of timers set so far.
        refused: what the user's code asked of the real world, and where.
    """

    def __init__(self, tape: Tape, sources: Sources, *, horizon_s: float, steps_max: int) -> None:
        super().__init__(tape, horizon_s=horizon_s, steps_max=steps_max)
        self.sources = sources
        self.births: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self.cleaning: Callable[[Any], bool] = lambda _frame: False
        self.on_cleanup_task: Callable[[int], None] = lambda _task: None
        self.timers: dict[int, str] = {}
        self.deadlines: set[float] = set()
        self.dropped: list[DroppedGenerator] = []
        # By address: a weak key is gone before the finalizer of what it names is called.
        self.iterated: dict[int, str] = {}
        self.refused: list[tuple[str, str]] = []
        self.watching = True

    def create_task(self, coro: Any, **kw: Any) -> asyncio.Task[Any]:
        task = super().create_task(coro, **kw)
        frame = sys._getframe(1)
        self.births[task] = self.sources.innermost(frame)
        if self.cleaning(frame):
            self.on_cleanup_task(hash(task))
        return task

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = super().call_at(when, callback, *args, context=context)
        if self.watching:
            self.timers[id(handle)] = self.sources.innermost(sys._getframe(1))
            if len(self.deadlines) < DEADLINES_MAX:
                self.deadlines.add(when)
        return handle

    def _await_thread(self) -> bool:
        if self._woken is None:
            self._woken = threading.Event()
        if self._ready or self._woken.wait(THREAD_PATIENCE_S):  # type: ignore[attr-defined]
            self._woken.clear()
            return bool(self._ready)  # type: ignore[attr-defined]
        # Some threads live as long as their process: wait for each no more than once.
        self._threads = threading.active_count()
        return False

    def refuse(self, what: str) -> SimulationRefused:
        """Note what the real world was asked for; returns the error to raise."""
        place = self.sources.innermost(sys._getframe(1))
        self.refused.append((what, place))
        return SimulationRefused(f"{what}: there is no real world in a probe; stub it")

    def _asyncgen_firstiter_hook(self, agen: Any) -> None:
        self.iterated[id(agen)] = self.sources.innermost(sys._getframe(1))
        super()._asyncgen_firstiter_hook(agen)  # type: ignore[misc]

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        if agen.ag_frame is not None and self.watching:
            dropped = DroppedGenerator(
                agen.ag_code, agen.ag_frame.f_lineno, self.iterated.get(id(agen), "")
            )
            self.dropped.append(dropped)
        super()._asyncgen_finalizer_hook(agen)  # type: ignore[misc]


def _refusing(name: str, what: str) -> Callable[..., Any]:
    def refused(self: ProbeLoop, *_args: Any, **_kw: Any) -> Any:
        raise self.refuse(f"{what} (loop.{name})")

    return refused


for _name, _what in SimLoop._refused.items():
    setattr(ProbeLoop, _name, _refusing(_name, f"real {_what}"))


class Held:
    """A lock (or permits of a semaphore) that nobody alive will give back."""

    __slots__ = ("kind", "place")

    def __init__(self, kind: str, place: str) -> None:
        self.kind = kind
        self.place = place


class Locks:
    """Knows every asyncio lock and semaphore of this process, and who took it where.

    Attributes:
        place: returns the innermost place of the user's among the callers of a frame.
    """

    def __init__(self) -> None:
        self.place: Callable[[Any], str] = lambda _frame: ""
        self._full: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._taken: weakref.WeakKeyDictionary[Any, list[tuple[str, Any]]]
        self._taken = weakref.WeakKeyDictionary()
        self._before: dict[int, int] = {}

    def hook(self) -> None:
        """Watch `asyncio.shield`, `Lock`, `Semaphore` and threads from now on."""
        self._hook_class(asyncio.Lock)
        self._hook_class(asyncio.Semaphore)
        locks, real = self, asyncio.shield

        def shield(arg: Any) -> Any:
            inner = asyncio.ensure_future(arg)
            loop: Any = inner.get_loop()
            if isinstance(loop, ProbeLoop):
                shields[inner] = shields.get(inner, False) or loop.cleaning(sys._getframe(1))
            return real(inner)

        asyncio.shield = asyncio.tasks.shield = shield
        start = threading.Thread.start

        def started(self: threading.Thread) -> None:
            thread_starts[self] = locks.place(sys._getframe(1))
            start(self)

        threading.Thread.start = started  # type: ignore[method-assign]

    def _hook_class(self, cls: Any) -> None:
        locks, init, acquire, release = self, cls.__init__, cls.acquire, cls.release

        def __init__(self: Any, *args: Any, **kw: Any) -> None:
            init(self, *args, **kw)
            locks._full[self] = _free(self)

        async def acquired(self: Any) -> Any:
            result = await acquire(self)
            place = locks.place(sys._getframe(1))
            locks._taken.setdefault(self, []).append((place, _current()))
            return result

        def released(self: Any) -> None:
            taken = locks._taken.get(self)
            if taken:
                taken.pop(0)
            release(self)

        cls.__init__, cls.acquire, cls.release = __init__, acquired, released

    def note_before(self) -> None:
        """Remember what is taken now; only what is taken later is judged."""
        self._before = {id(lock): _free(lock) for lock in self._full}

    def held(self) -> list[Held]:
        """Return what was taken since, by tasks that have ended."""
        found = []
        for lock, full in list(self._full.items()):
            if _free(lock) >= self._before.get(id(lock), full):
                continue
            kind = "lock" if isinstance(lock, asyncio.Lock) else "semaphore"
            for place, task in self._taken.get(lock, []):
                holder = task() if task is not None else None
                if holder is None or holder.done():
                    found.append(Held(kind, place))
        return found


def _free(lock: Any) -> int:
    """Return how many may still take it."""
    return int(not lock.locked()) if isinstance(lock, asyncio.Lock) else int(lock._value)


def _current() -> Any:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else weakref.ref(task)
