"""The faults of a load: put on the way to the engine for a part of the time, then taken off."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.lab.load.evidence import Window
from harness.proxy.client import NotFound, Toxiproxy

__all__ = ["FaultPlan", "Faults"]


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What the network does to requests, and when.

    Attributes:
        resets: the share of connections that are reset, half of them before the request has
            reached the server, half when its answer begins to come back.
        jitter_s: answers come later by this, give or take as much.
        begin, end: of the window, as shares of the load's time.
    """

    resets: float = 0.0
    jitter_s: float = 0.0
    begin: float = 0.15
    end: float = 0.85

    @property
    def any(self) -> bool:
        return bool(self.resets or self.jitter_s)

    @property
    def words(self) -> str:
        """Say what the faults are."""
        parts = []
        if self.resets:
            parts.append(f"{self.resets:.1%} of connections reset")
        if self.jitter_s:
            parts.append(f"answers {self.jitter_s * 1000:g} ± {self.jitter_s * 1000:g} ms late")
        return ", ".join(parts) or "none"


class Faults:
    """Puts a plan's faults on a proxy when their time has come, seen from the first request.

    Attributes:
        windows: during which they were in force.
    """

    def __init__(
        self,
        client: Toxiproxy,
        proxy: str,
        plan: FaultPlan,
        time_s: float,
        begun: Callable[[], bool],
    ) -> None:
        self._client = client
        self._proxy = proxy
        self._plan = plan
        self._time_s = time_s
        self._begun = begun
        self._first_s: float | None = None
        self._on_s: float | None = None
        self._names: list[str] = []
        self.windows: list[Window] = []

    def tick(self) -> None:
        """Do what is due; to be called several times a second."""
        if not self._plan.any or self.windows:
            return
        now_s = time.time()
        if self._first_s is None:
            if not self._begun():
                return
            self._first_s = now_s
        share = (now_s - self._first_s) / self._time_s
        if self._on_s is None and share >= self._plan.begin:
            self._put_on()
        if self._on_s is not None and share >= self._plan.end:
            self.take_off()

    def _put_on(self) -> None:
        plan = self._plan
        self._on_s = time.time()  # before them: whatever they do, they do within the window
        if plan.jitter_s:
            ms = round(plan.jitter_s * 1000)
            self._add("latency", "downstream", 1.0, {"latency": ms, "jitter": ms})
        if plan.resets:
            # Both together reset the share that was asked for.
            each = 1 - (1 - plan.resets) ** 0.5
            self._add("reset_peer", "upstream", each, {"timeout": 0})
            self._add("reset_peer", "downstream", each, {"timeout": 0})

    def _add(self, kind: str, stream: str, toxicity: float, attributes: dict[str, Any]) -> None:
        toxic = self._client.add_toxic(
            self._proxy,
            kind,
            name=f"{kind}_{stream}",
            stream=stream,
            toxicity=toxicity,
            attributes=attributes,
        )
        self._names.append(toxic.name)

    def take_off(self) -> None:
        """Take the faults off, if they are on."""
        if self._on_s is None or self.windows:
            return
        for name in self._names:
            with contextlib.suppress(NotFound):
                self._client.remove_toxic(self._proxy, name)
        self.windows.append(Window(self._on_s, time.time(), self._plan.words))
