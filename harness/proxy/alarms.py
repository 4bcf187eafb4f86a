"""Timers that are due when they say, on any event loop.

asyncio's own timers wait in `epoll`, whose time-outs are whole milliseconds rounded up. So on
Linux one timerfd (nanoseconds, absolute) serves a heap of alarms and is watched like a socket;
elsewhere the loop's own timers serve (kqueue has no such rounding).

A core that sleeps is late even so: by half a millisecond on many virtual machines. The timer is
therefore set as much too early as it was late before, and what is left is waited for awake, the
loop going round and serving whoever is ready. Waiting awake is bounded: one millisecond an
alarm, and a fifth of the time (`AWAKE_SHARE`), however many alarms there are; beyond that they
are as punctual as the timer is.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import heapq
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from harness.proxy.watch import Watch

__all__ = ["AWAKE_BURST_S", "AWAKE_SHARE", "Alarm", "Alarms"]

# No toxic waits longer than this, whatever its attribute says; a timer's seconds are bounded.
FARTHEST_S = 10 * 365 * 86_400.0
_CLEAN_UP_FROM = 64
# What may be waited awake: this share of the time, and no more than this at once.
AWAKE_SHARE, AWAKE_BURST_S = 0.2, 0.005
_EARLY_MAX_S = 0.001
# What is nearer than a turn of the loop may take is waited for in place.
_TURN_S = 50e-6
# Of a timer that was less late than expected, so much is believed.
_EARLY_SINKS = 1 / 16


class Alarm:
    """One pending call; `cancel` may be called at any time, also when it has rung."""

    __slots__ = ("_alarms", "_callback", "_handle", "when")

    def __init__(self, alarms: Alarms, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self._alarms = alarms
        self._callback: Callable[[], object] | None = callback
        self._handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self._callback is None:
            return
        self._callback = None
        if self._handle is not None:
            self._handle.cancel()
        self._alarms.cancelled()

    @property
    def pending(self) -> bool:
        return self._callback is not None

    def ring(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Alarms:
    """All timers of one server. Times are those of `time.monotonic`, in seconds.

    Attributes:
        awake_s: how long it was waited awake so far.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, watch: Watch) -> None:
        self._loop = loop
        self._watch = watch
        self._heap: list[tuple[float, int, Alarm]] = []
        self._count = 0
        self._cancelled = 0
        self._armed = 0.0
        self._early_s = 0.0
        self._awake = False
        self._looked_at = time.monotonic()
        self._allowed_s = AWAKE_BURST_S
        self.awake_s = 0.0
        self._fd = _timer_create()
        if self._fd is not None:
            watch.read(self._fd, self._due)

    def at(self, when: float, callback: Callable[[], object]) -> Alarm:
        """Call back at `when` (never before); far times are cut to ten years."""
        when = min(when, time.monotonic() + FARTHEST_S)
        alarm = Alarm(self, when, callback)
        if self._fd is None:
            delay = max(0.0, when - time.monotonic())
            alarm._handle = self._loop.call_later(delay, alarm.ring)
            return alarm
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, alarm))
        if self._heap[0][2] is alarm and not self._awake:
            self._arm(when)
        return alarm

    def cancelled(self) -> None:
        """One alarm in the heap is void: sweep when most of them are."""
        if self._fd is None:
            return
        self._cancelled += 1
        if self._cancelled > _CLEAN_UP_FROM and self._cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].pending]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def close(self) -> None:
        """Give the descriptor back; what is pending never rings."""
        self._heap.clear()
        if self._fd is not None:
            self._watch.stop_reading(self._fd)
            os.close(self._fd)
            self._fd = None

    def _arm(self, when: float) -> None:
        when -= self._early_s
        if self._fd is not None and when != self._armed:
            self._armed = when
            _timer_set(self._fd, when)

    def _due(self) -> None:
        assert self._fd is not None
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return
        now = time.monotonic()
        late_s = min(now - self._armed, _EARLY_MAX_S)
        if late_s > self._early_s:
            self._early_s = late_s
        else:
            self._early_s += (late_s - self._early_s) * _EARLY_SINKS
        self._armed = 0.0
        self._account(now)
        self._ring(now)

    def _ring(self, now: float) -> None:
        """Call all that are due, and see to the next one."""
        # What a call adds for now is left to the next turn, so that no alarm starves the rest.
        ringing = []
        while self._heap and self._heap[0][0] <= now:
            ringing.append(heapq.heappop(self._heap)[2])
        for alarm in ringing:
            if not alarm.pending:
                self._cancelled = max(0, self._cancelled - 1)
                continue
            try:
                alarm.ring()
            except Exception as exc:
                context = {"message": "a toxic's timer failed", "exception": exc}
                self._loop.call_exception_handler(context)
        if not self._heap or self._fd is None:
            return
        when = self._heap[0][0]
        if when - self._early_s > now:
            self._arm(when)
        elif self._allowed_s > 0:
            self._awake = True
            self._loop.call_soon(self._look)
        else:
            self._armed = when
            _timer_set(self._fd, when)

    def _look(self) -> None:
        """Once in each turn of the loop while it is kept awake."""
        now = time.monotonic()
        self._account(now)
        due = self._heap[0][0] if self._heap else now
        if now < due <= now + _EARLY_MAX_S and self._allowed_s > 0:
            if due - now > _TURN_S:
                self._loop.call_soon(self._look)
                return
            while (now := time.monotonic()) < due:
                pass
            self._account(now)
        self._awake = False
        self._ring(now)

    def _account(self, now: float) -> None:
        since_s, self._looked_at = now - self._looked_at, now
        self._allowed_s = min(AWAKE_BURST_S, self._allowed_s + AWAKE_SHARE * since_s)
        if self._awake:
            self._allowed_s -= since_s
            self.awake_s += since_s


class _Itimerspec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


_ABSOLUTE = 1  # TFD_TIMER_ABSTIME


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _timer_create() -> int | None:
    """Open a timerfd, or return None where there is none.

    By ctypes, because Python has it as `os.timerfd_create` from 3.13 on only.
    """
    if not sys.platform.startswith("linux"):
        return None
    try:
        fd: int = _libc().timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, AttributeError):
        return None
    return fd if fd >= 0 else None


def _timer_set(fd: int, when: float) -> None:
    # Rounded up: a timer that rings a nanosecond early would be asked for twice.
    at_ns = max(1, int(when * 1e9) + 1)
    spec = _Itimerspec(0, 0, at_ns // 1_000_000_000, at_ns % 1_000_000_000)
    _libc().timerfd_settime(fd, _ABSOLUTE, ctypes.byref(spec), None)
