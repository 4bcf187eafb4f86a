"""A rate limit: how often a stage may run within any stretch of `window_s` seconds.

For each tenant, pipeline and stage by itself. What comes too early is denied by `RateLimited`,
which says when to try again; nothing waits here. What was denied does not count.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

from harness.engine.errors import RateLimited
from harness.engine.graph import seconds
from harness.engine.layer import CallNext, Table, place, whole_number

if TYPE_CHECKING:
    from harness.engine.context import Context

__all__ = ["RateLimit"]


class RateLimit:
    """A layer; see the module.

    Raises:
        PipelineError: if a setting cannot be used.
    """

    def __init__(self, *, limit: int, window_s: float, entries_max: int = 10_000) -> None:
        self.name = "rate_limit"
        self.limit = whole_number(limit, "limit")
        self.window_s = seconds(window_s, "window_s")
        # When the last `limit` executions began: one more is let in when the oldest is old.
        self._begun: Table[deque[float]] = Table(lambda: deque(maxlen=limit), entries_max)

    async def __call__(self, context: Context, call_next: CallNext) -> Any:
        begun = self._begun.at(self._place(context))
        now_s = asyncio.get_running_loop().time()
        if len(begun) == self.limit and now_s < begun[0] + self.window_s:
            raise RateLimited(context.stage, self.name, begun[0] + self.window_s - now_s)
        begun.append(now_s)
        return await call_next()

    def _place(self, context: Context) -> Any:
        return place(context)
