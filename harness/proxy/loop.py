"""An event loop for a proxy server: the stock one, on a selector that serves the proxies itself.

While the loop waits, the selector calls a `Watch` for its sockets and waits again; a turn of
the loop is made only for what is the loop's own. That halves what a byte's way through costs.

What is left is the price of sleeping: to wake a core that sleeps, or another process' core,
takes tens of microseconds on a virtual machine, twice for each answer that passes. A loop of a
process of its own may therefore be `wakeful`: after it has served a socket it looks for more
for `AWAKE_S` before it sleeps. That is done as long as it pays, and is given up, for ever
longer, where it does not: with no traffic nothing is waited awake.
"""

from __future__ import annotations

import asyncio
import os
import select
import selectors
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any

from harness.proxy.watch import EVENTS_PER_TURN, IN, LINUX, OUT, Watch

__all__ = ["AWAKE_S", "Wakefulness", "new_loop"]

AWAKE_S = 60e-6
_SCORE_MAX = 8
_SKIPPED_MIN, _SKIPPED_MAX = 32, 1024

_Events = list[tuple[int, int]]


class Wakefulness:
    """Whether it pays to wait awake: it has of late, or it was long ago that it did not.

    Attributes:
        tries: how often it was waited awake.
    """

    def __init__(self) -> None:
        self.tries = 0
        self._score = _SCORE_MAX
        self._to_skip = 0
        self._skipped = _SKIPPED_MIN

    def pays(self) -> bool:
        """Say whether to wait awake this once."""
        if self._to_skip:
            self._to_skip -= 1
            return False
        self.tries += 1
        return True

    def note(self, *, paid: bool) -> None:
        """Learn whether something came."""
        if paid:
            if self._score < _SCORE_MAX:
                self._score += 1
            else:
                self._skipped = _SKIPPED_MIN
            return
        self._score -= 1
        if self._score <= 0:
            self._score = _SCORE_MAX // 2
            self._to_skip = self._skipped
            self._skipped = min(2 * self._skipped, _SKIPPED_MAX)


class _SharedSelector(selectors.DefaultSelector):
    """asyncio's selector, whose epoll also has the sockets of one `Watch`.

    Attributes:
        wanted: something was asked of the loop since it began to wait.
    """

    def __init__(self, *, wakeful: bool) -> None:
        super().__init__()
        self.watch: Watch | None = None
        self.wanted = False
        self._wakefulness = Wakefulness() if wakeful else None
        self._shared = self._duplicate()

    def _duplicate(self) -> Any:
        # A descriptor of its own: whoever closes this object leaves the selector's open.
        return select.epoll.fromfd(os.dup(self.fileno()))

    def share(self, watch: Watch) -> Any:
        """Call `watch` from now on, until `watch` is None again; returns the epoll to use."""
        self.watch = watch
        return self._duplicate()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.watch is None:
            return super().select(timeout)
        ready: list[tuple[selectors.SelectorKey, int]] = []
        for fd, event in self._wait(timeout, self.watch):
            try:
                key = self.get_key(fd)
            except KeyError:
                continue  # an earlier call has closed it
            mask = (selectors.EVENT_READ if event & ~OUT else 0) | (
                selectors.EVENT_WRITE if event & ~IN else 0
            )
            if mask & key.events:
                ready.append((key, mask & key.events))
        return ready

    def _wait(self, timeout: float | None, watch: Watch) -> _Events:
        """Wait, serve the proxies' sockets meanwhile, and return what is the loop's own."""
        poll, until = self._shared.poll, time.monotonic() + timeout if timeout else 0.0
        wakefulness = self._wakefulness
        self.wanted = False
        events = poll(timeout, EVENTS_PER_TURN)
        while True:
            left = watch.call(events)
            # As long as nobody has asked the loop for anything, it has nothing to do.
            if left or self.wanted or not events or timeout == 0:
                return left
            if timeout is not None:
                timeout = max(0.0, until - time.monotonic())
            if wakefulness is not None and (timeout is None or timeout > AWAKE_S):
                events = self._wait_awake(wakefulness) or poll(timeout, EVENTS_PER_TURN)
            else:
                events = poll(timeout, EVENTS_PER_TURN)

    def _wait_awake(self, wakefulness: Wakefulness) -> _Events:
        if not wakefulness.pays():
            return []
        poll, now = self._shared.poll, time.monotonic
        events: _Events = poll(0, EVENTS_PER_TURN)
        if events:
            return events  # they were there already: waiting awake had no part in it
        until = now() + AWAKE_S
        while True:
            events = poll(0, EVENTS_PER_TURN)
            if events or now() > until:
                wakefulness.note(paid=bool(events))
                return events

    def close(self) -> None:
        self._shared.close()
        super().close()


class _ProxyLoop(asyncio.SelectorEventLoop):
    def __init__(self, *, wakeful: bool) -> None:
        self.shared_selector = _SharedSelector(wakeful=wakeful)
        super().__init__(self.shared_selector)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        self.shared_selector.wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.shared_selector.wanted = True
        return super().call_at(when, callback, *args, context=context)


def new_loop(*, wakeful: bool = False) -> asyncio.AbstractEventLoop:
    """Return an event loop on which a proxy server is fastest (a `loop_factory`).

    Args:
        wakeful: look for more for a while before sleeping. Not beside other threads of Python:
            they would have to share the interpreter with a loop that only looks.
    """
    if LINUX:
        return _ProxyLoop(wakeful=wakeful)
    return asyncio.new_event_loop()
