"""One run of the user's function in the simulated laboratory, and all that is wrong with it.

The order is the laboratory's: the run ends, a few rounds pass in which no time does, then
what is left is judged, and nothing is torn down before. Then the same function is run once
more on the same loop, among whatever was left: it must end as an undisturbed one does.
Over 400 lines because it is that one order, from the cancel to the last question.
"""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

from harness.kernel.errors import InputError
from harness.kernel.tape import Tape
from harness.kernel.witness import await_chain
from harness.lab.probe_case import Defect, Disturbance, Limits, Subject, died
from harness.lab.probe_judge import Baseline, absorbed, baseline_of, cut_off
from harness.lab.probe_loop import ProbeLoop, shields, thread_starts
from harness.lab.probe_trace import Tracer
from harness.lab.probe_world import end_if_blocked, refuse_the_world

__all__ = ["run_once"]

ORIGIN = re.compile(r'File "(.+?)", line (\d+), in (\S+)')

THREAD_GRACE_S = 0.5
TEXT_MAX = 200
LISTED_MAX = 20
WAIT_FOR_TASKS = ("taskgroups.py", "tasks.py")


@dataclass(slots=True)
class _Seen:
    """How a root task ended: "returned", "raised", "cancelled", "timeout" or "unfinished"."""

    how: str = "unfinished"
    type: str = ""
    says: str = ""
    place: str = ""


@dataclass(slots=True)
class _State:
    accepted: list[bool] = field(default_factory=list)
    mark: int = -1
    sent_s: float = -1.0
    chain: list[Any] = field(default_factory=list)
    function_task: Any = None
    own_cancel: bool = False
    landed: str = ""
    inner: str = ""
    complaints: list[tuple[str, str, str, str]] = field(default_factory=list)


def run_once(
    subject: Subject,
    what: Disturbance,
    limits: Limits,
    *,
    baseline: Baseline | None = None,
    expected: str = "",
    allowed: Iterable[str] = (),
    again: bool = True,
    lines: bool = False,
    say: Callable[[Mapping[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
    """Run the function once, disturbed so, and judge it; returns plain data.

    Args:
        baseline: the frames of the same run without the last cancel.
        expected: how the clean run ended, with which the run after is compared.
        allowed: places of locks that the clean run leaves taken as well.
        again: run the function once more after the verdict.
        lines: return this run's own frames, as a baseline for others.
        say: gets the answer if the process must end here (the loop is blocked).
    """
    return _Run(subject, what, limits).go(
        baseline, expected=expected, allowed=set(allowed), again=again, lines=lines, say=say
    )


class _Run:
    def __init__(self, subject: Subject, what: Disturbance, limits: Limits) -> None:
        self.subject = subject
        self.what = what
        self.limits = limits
        self.sources = subject.sources
        self.tape = Tape(what.seed)
        self.loop = ProbeLoop(
            self.tape, self.sources, horizon_s=limits.horizon_s, steps_max=limits.steps_max
        )
        self.tracer = Tracer(self.sources, self.loop)
        self.state = _State()
        self.defects: list[Defect] = []
        self.notes: list[str] = []
        self.rerunnable = True

    def go(
        self,
        baseline: Baseline | None,
        *,
        expected: str,
        allowed: set[str],
        again: bool,
        lines: bool,
        say: Callable[[Mapping[str, Any]], None],
    ) -> dict[str, Any]:
        loop, tracer = self.loop, self.tracer
        for clocks in self.subject.clocks:
            clocks.follow(loop.time, self.what.seed)
        self.subject.locks.place = self.sources.innermost
        self.subject.locks.note_before()
        threads_before = set(threading.enumerate())
        loop.cleaning = tracer.in_cleanup
        loop.on_cleanup_task = tracer.cleanup_tasks.add
        loop.set_exception_handler(self._complain)
        if self.what.point is None and self.what.timeout_s is None:
            self._watch_coroutines()
        refuse_the_world(loop)
        end_if_blocked(self.limits.wall_s, self._blocked(say))
        root: asyncio.Task[Any] | None = loop.create_task(self._caller())
        assert root is not None
        root.add_done_callback(lambda _task: loop.settle())
        self._arm(root)
        tracer.start()
        loop.run_forever()
        tracer.stop()
        frames, points, over_s = tracer.frames, loop.points, loop.now_s
        seen = self._seen(root)
        ended = loop.stalled
        chain = [hash(t) for t in self.state.chain if t is root or not _cancelled(t)]
        waiting = self._waiting() if ended else ()
        root = None
        self.state.chain.clear()
        self.state.function_task = None
        loop.inject = None
        self._refused()
        swallowed = self._swallowed(seen, chain, over_s)
        if baseline is not None and any(self.state.accepted) and not tracer.full:
            for cut in cut_off(frames, self.state.mark, baseline, self.sources):
                lost = ", ".join(str(n) for n in cut.lost[:LISTED_MAX])
                what = "line" if len(cut.lost) == 1 else "lines"
                self._add(
                    "cut-off",
                    cut.place,
                    f"a cancel cut this cleanup off: {what} {lost} of it never ran",
                )
        held: list[str] = []
        if ended:
            if not swallowed:
                self._stuck(ended, waiting)
        else:
            gc.collect()
            held = self._left_behind(threads_before, allowed)
        tracer.running = False
        if again and not ended:
            self._once_more(expected or _short(seen), held)
        self._refused()
        signal.setitimer(signal.ITIMER_REAL, 0)
        return {
            "outcome": {"how": seen.how, "type": seen.type, "says": seen.says, "place": seen.place},
            "ended": ended or "over",
            "accepted": any(self.state.accepted),
            "sent": len(self.state.accepted),
            "landed": self.state.landed,
            "points": points,
            "took_s": over_s,
            "deadlines": sorted(t for t in loop.deadlines if 0 < t <= over_s),
            "held": held,
            "rerunnable": self.rerunnable,
            "defects": [d.to_json() for d in self.defects],
            "notes": self.notes,
            "full": tracer.full,
            "baseline": baseline_of(frames) if lines else None,
        }

    # what is done to the run

    async def _caller(self) -> Any:
        """The user's caller: awaits the function, under a timeout if there is to be one."""
        what, state = self.what, self.state
        if what.timeout_s is None:
            return await self._function()
        if what.wait_for:
            value = await asyncio.wait_for(self._function(), what.timeout_s)
        else:
            async with asyncio.timeout(what.timeout_s) as scope:
                try:
                    value = await self._function()
                except asyncio.CancelledError:
                    raise
                except BaseException as exc:
                    if scope.expired() or self._sent():
                        state.inner = type(exc).__name__
                    raise
        return value

    async def _function(self) -> Any:
        # Before Python 3.12 wait_for awaits what it is given in a task of its own.
        self.state.function_task = asyncio.current_task()
        return await _coroutine(self.subject.call())

    def _sent(self) -> bool:
        return self.what.timeout_s is not None and self.loop.now_s >= self.what.timeout_s

    def _arm(self, root: asyncio.Task[Any]) -> None:
        loop, what = self.loop, self.what

        def fire() -> None:
            self._note_cancel(root)
            if not root.done():
                self.state.accepted.append(root.cancel())
            if what.second is not None and loop.inject_at != what.second:
                loop.inject_at = what.second

        if what.timeout_s is not None:
            loop.watching = False
            # Due together with the caller's own timer; only looks.
            loop.call_at(what.timeout_s, self._note_timeout, root)
            loop.watching = True
        elif what.point == 0:
            fire()
        elif what.point is not None:
            loop.inject_at, loop.inject = what.point, fire

    def _note_timeout(self, root: asyncio.Task[Any]) -> None:
        if not root.done():
            self._note_cancel(root)
            self.state.accepted.append(True)

    def _note_cancel(self, root: asyncio.Task[Any]) -> None:
        """Remember, just before a cancel, where it will land."""
        state = self.state
        if root.done():
            return
        state.mark, state.sent_s = self.tracer.number, self.loop.now_s
        state.chain = [root]
        if state.function_task not in (None, root) and not state.function_task.done():
            state.chain.append(state.function_task)
        state.own_cancel = False
        while isinstance(waiter := getattr(state.chain[-1], "_fut_waiter", None), asyncio.Task):
            if waiter in state.chain:
                break
            state.own_cancel = state.own_cancel or waiter.cancelling() > 0
            state.chain.append(waiter)
        children = getattr(waiter, "_children", None) or ()
        if any(isinstance(c, asyncio.Task) and c.cancelling() for c in children):
            state.own_cancel = True
        places = [self._where(t.get_coro()) for t in state.chain]
        state.landed = next((p for p in reversed(places) if p), "")

    # what is seen afterwards

    def _seen(self, root: asyncio.Task[Any]) -> _Seen:
        if not root.done():
            return _Seen()
        if root.cancelled():
            return _Seen("cancelled")
        exc = root.exception()
        if exc is None:
            return _Seen("returned")
        if isinstance(exc, InputError):
            raise exc
        place = self._raised_at(exc)
        if isinstance(exc, TimeoutError) and self._sent() and not self.state.inner:
            return _Seen("timeout", place=place)
        return _Seen("raised", type(exc).__name__, str(exc)[:TEXT_MAX], place)

    def _raised_at(self, exc: BaseException) -> str:
        found = ""
        for frame, line in traceback.walk_tb(exc.__traceback__):
            if self.sources.is_users(frame.f_code.co_filename):
                found = self.sources.place(frame.f_code, line)
        if not found and isinstance(exc, BaseExceptionGroup):
            found = next((p for e in exc.exceptions if (p := self._raised_at(e))), "")
        return found

    def _where(self, coro: Any) -> str:
        """Return the place of the innermost of the user's frames that a coroutine stands in."""
        found = ""
        for code, line in await_chain(coro):
            if self.sources.is_users(code.co_filename):
                found = self.sources.place(code, line)
        return found

    def _waiting(self) -> tuple[str, ...]:
        """Return where the tasks stand; first those that wait for no other task."""
        first: list[str] = []
        rest: list[str] = []
        for task in sorted(asyncio.all_tasks(self.loop), key=hash)[:LISTED_MAX]:
            coro = task.get_coro()
            where = self._where(coro)
            if where and where not in first and where not in rest:
                last = [code.co_filename for code, _ in await_chain(coro)][-1:]
                (rest if last and last[0].endswith(WAIT_FOR_TASKS) else first).append(where)
        return (*first, *rest)

    def _add(self, kind: str, place: str, says: str, waits: Sequence[str] = ()) -> None:
        self.defects.append(Defect(kind, place, says, tuple(waits)))

    def _refused(self) -> None:
        if self.loop.refused:
            what, place = self.loop.refused[0]
            raise InputError(
                f"{place or 'a library'} asked for {what}: a probe has virtual time and no real "
                f"world; stub the client that does it (pass a fake one, or patch it in a wrapper "
                f"function) and probe that"
            )

    def _swallowed(self, seen: _Seen, chain: Sequence[int], over_s: float) -> bool:
        state = self.state
        if not any(state.accepted) or seen.how in ("cancelled", "timeout"):
            return False
        if self.tracer.full:
            return False
        for task in reversed(chain):
            found = absorbed(self.tracer.frames, task, state.mark, self.sources)
            if found is not None:
                break
        else:
            return False
        if state.own_cancel and seen.how == "returned" and over_s <= state.sent_s:
            self.notes.append(
                f"a cancel that came while a task was awaited that the function had itself "
                f"cancelled was taken for that task's own, at {found.caught}; the function ended "
                f"at the same moment"
            )
            return False
        says = {
            "returned": "a cancel was swallowed: the function returned as if nothing had been",
            "unfinished": "a cancel was swallowed: the function went on and never ended",
        }.get(seen.how, f"a cancel was swallowed: {seen.type} came out instead")
        self._add("swallowed", found.caught, says, [f"it arrived at {found.arrived}"])
        return True

    def _stuck(self, ended: str, waiting: Sequence[str]) -> None:
        how = {
            "deadlock": "it waits for ever: nothing is ready and no timer is set",
            "horizon": f"it had not ended after {self.limits.horizon_s:g} virtual seconds",
            "steps": f"it had not ended after {self.limits.steps_max} callbacks",
            "thread": "a real thread did not end",
        }[ended]
        held = [
            f"{h.kind} taken at {h.place}, by a task that has ended"
            for h in self.subject.locks.held()
            if h.place
        ]
        waits = [f"waits at {w}" for w in waiting]
        place = waiting[0] if waiting else ""
        for lock in self.subject.locks.held():
            place = lock.place or place
        self._add("stuck", place, how, [*waits, *held])

    # what is left behind

    def _left_behind(self, threads_before: set[threading.Thread], allowed: set[str]) -> list[str]:
        loop = self.loop
        self._generators()
        left = self._tasks()
        for message, type_, where, _ in self.state.complaints:
            if "never retrieved" in message:
                self._add("unretrieved", where, f"{type_} was raised and nobody ever looked at it")
            elif "destroyed but it is pending" in message:
                self._add("task", where, "a task was destroyed while it waited")
            else:
                where = f", raised at {where}" if where else ""
                self.notes.append(f"asyncio's exception handler got: {message} ({type_}{where})")
        if not left:
            for handle in loop._scheduled:  # type: ignore[attr-defined]
                if not handle._cancelled and not loop.is_own_timer(handle):
                    place = loop.timers.get(id(handle), "")
                    if place:
                        self._add("timer", place, "a timer set here was left running")
        self._threads(threads_before)
        held = []
        for lock in self.subject.locks.held():
            held.append(lock.place)
            if lock.place not in allowed and self.what.family != "clean":
                self._add("lock", lock.place, f"a {lock.kind} taken here is held for ever")
        return held

    def _tasks(self) -> list[Any]:
        loop = self.loop
        left = sorted(asyncio.all_tasks(loop), key=hash)
        # A shield set up by a cleanup, or one that outlives only the caller's second cancel,
        # does what it is for: such a task gets the time to end by itself.
        twice = len(self.state.accepted) > 1
        given_time = [t for t in left if t in shields and (twice or shields[t])]
        if given_time:
            loop.resume()
            waiter = loop.create_task(_wait(given_time))
            waiter.add_done_callback(lambda _t: loop.settle())
            loop.run_forever()
            waiter.cancel()
            ends = [t for t in given_time if t.done()]
            for task in ends:
                self.notes.append(
                    f"what was shielded at {loop.births.get(task, '')} ran on after the function"
                    f" had ended, and ended by itself"
                )
            left = [t for t in left if t not in ends]
        for task in left:
            coro = task.get_coro()
            if type(coro).__name__ in ("async_generator_athrow", "async_generator_asend"):
                continue
            where = self._where(coro)
            birth = loop.births.get(task, "")
            name = getattr(coro, "__qualname__", "task")
            waits = [f"it waits at {where}"] if where else []
            if birth:
                self._add("task", birth, f"the task {name} made here was left running", waits)
            else:
                self._add(
                    "task", where, f"a library's task, {name}, was left running and waits here"
                )
        return left

    def _generators(self) -> None:
        loop = self.loop
        for dropped in loop.dropped:
            self._generator(dropped.code, dropped.line, dropped.iterated_at)
        for agen in list(loop._asyncgens):  # type: ignore[attr-defined]
            if agen.ag_frame is not None and not agen.ag_running:
                self._generator(
                    agen.ag_code, agen.ag_frame.f_lineno, loop.iterated.get(id(agen), "")
                )

    def _generator(self, code: CodeType, line: int, iterated_at: str) -> None:
        function = self.sources.function(code)
        owned = function is not None and any(line in span for span in function.owned)
        if function is not None and not owned:
            return  # it has nothing to clean up
        if not iterated_at and not self.sources.is_users(code.co_filename):
            return
        stood = self.sources.place(code, line)
        self._add(
            "asyncgen",
            iterated_at or stood,
            f"the async generator {code.co_qualname} iterated here was never closed",
            [f"it stood at {stood}"],
        )

    def _threads(self, before: set[threading.Thread]) -> None:
        for job in self.loop.jobs:
            if any(self.state.accepted):
                self.notes.append(
                    "a thread (asyncio.to_thread) ran on after the cancel: threads cannot be"
                    " cancelled"
                )
            else:
                self._add("thread", "", f"job {job} of a worker thread was left running")
            break
        for thread in set(threading.enumerate()) - before:
            thread.join(THREAD_GRACE_S)
            if thread.is_alive():
                self._add(
                    "thread",
                    thread_starts.get(thread, ""),
                    "a thread started here was left running",
                )

    def _once_more(self, expected: str, held: Sequence[str]) -> None:
        """Run the function again, undisturbed, among what was left."""
        loop = self.loop
        loop.resume()
        loop.horizon_s = loop.now_s + self.limits.horizon_s
        loop.steps_max = loop.points + self.limits.steps_max
        loop.watching = False
        root = loop.create_task(_coroutine(self.subject.call()))
        root.add_done_callback(lambda _task: loop.settle())
        loop.run_forever()
        seen = self._seen(root)
        if _short(seen) == expected:
            return
        clean = self.what.family == "clean"
        if seen.how != "unfinished":
            says = f"a fresh run of the function {seen.how} {seen.type}: {seen.says}".rstrip(": ")
            if clean:
                self.notes.append(f"{says}; even after an undisturbed one, so it is not judged")
                self.rerunnable = False
            elif not any(d.kind == "lock" for d in self.defects):
                self._add("again", seen.place, f"{says}, after this one", self._cancel_waits())
            return
        where = self._where(root.get_coro()) or next(iter(self._waiting()), "")
        waits = [f"the next run waits at {where}"]
        if held:
            self.defects = [d for d in self.defects if d.kind != "lock"]
            says = "what is taken here is held for ever; the next run never ends"
            self._add("lock", held[0], says, waits)
        else:
            says = f"a fresh run of the function after this one never ends ({loop.stalled})"
            self._add("again", where, says, self._cancel_waits())

    def _cancel_waits(self) -> list[str]:
        return [f"the cancel had landed at {self.state.landed}"] if self.state.landed else []

    # what the outside tells

    def _complain(self, _loop: Any, context: dict[str, Any]) -> None:
        exc = context.get("exception")
        message = str(context.get("message", "")).split("\n", 1)[0][:TEXT_MAX]
        task = context.get("task") or context.get("future")
        where = "" if exc is None else self._raised_at(exc)
        birth = ""
        if isinstance(task, asyncio.Task):
            birth = self.loop.births.get(task, "")
            where = where or self._where(task.get_coro()) or birth
        self.state.complaints.append(
            (message, type(exc).__name__ if exc else "", where or birth, birth)
        )

    def _watch_coroutines(self) -> None:
        """Note the coroutines that are made and never awaited, where nothing was cut short."""
        sys.set_coroutine_origin_tracking_depth(1)
        warnings.simplefilter("always", RuntimeWarning)

        def shown(message: Warning | str, *_rest: Any, **_kw: Any) -> None:
            text = str(message)
            found = ORIGIN.search(text)
            if "was never awaited" not in text or found is None or not self.tracer.running:
                return
            if self.sources.is_users(found[1]):
                place = f"{self.sources.shown(found[1])}:{found[2]} {found[3]}"
                name = text.split("'")[1]
                self._add("unawaited", place, f"the coroutine {name} made here was never awaited")

        warnings.showwarning = shown

    def _blocked(self, say: Callable[[Mapping[str, Any]], None]) -> Callable[[int, Any], None]:
        def blocked(_signal: int, frame: FrameType | None) -> None:
            sys.settrace(None)
            place = self.sources.innermost(frame)
            wall_s = self.limits.wall_s
            blocking = []
            if place:
                says = f"it blocked the event loop for {wall_s:g} s or more"
                blocking = [Defect("blocked", place, says).to_json()]
            else:
                self.notes.append(f"a run was given up after {wall_s:g} s of real time")
            say(
                {
                    **died([*(d.to_json() for d in self.defects), *blocking]),
                    "ended": "blocked",
                    "accepted": any(self.state.accepted),
                    "sent": len(self.state.accepted),
                    "landed": self.state.landed,
                    "points": self.loop.points,
                    "took_s": self.loop.now_s,
                    "notes": self.notes,
                }
            )

        return blocked


async def _wait(tasks: list[asyncio.Task[Any]]) -> None:
    await asyncio.wait(tasks)


def _coroutine(made: Any) -> Any:
    if asyncio.iscoroutine(made) or hasattr(made, "__await__"):
        return made if asyncio.iscoroutine(made) else _await(made)
    raise InputError(f"the function returned {type(made).__name__}, not something to await")


async def _await(made: Awaitable[Any]) -> Any:
    return await made


def _short(seen: _Seen) -> str:
    return f"raised {seen.type}" if seen.how == "raised" else seen.how


def _cancelled(task: asyncio.Task[Any]) -> bool:
    return task.done() and task.cancelled()
