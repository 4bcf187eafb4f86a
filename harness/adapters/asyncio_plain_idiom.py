"""The idiom of plain asyncio that is put to the test: one that a person writes in an afternoon.

* A pipeline is a dict of stages; `graphlib` orders them and refuses cycles.
* A run is a `TaskGroup` with one named task a stage, which waits for the tasks of its
  needs by `asyncio.wait` (awaiting a task would hand the waiter's cancellation on to it).
* `asyncio.timeout` ends a stage; whoever wants to know whose timeout it was asks the
  scope. `Timeout.reschedule` is a heartbeat.
* To end a run without an error, a stage raises what its caller ignores: the recipe in
  asyncio's documentation, "Terminating a task group".
* Under "continue" the group is `gather(..., return_exceptions=True)`.
* The caller keeps the dict of tasks: what completed is in them, whatever came of the run.

Nothing of dagstorm is used here: scripts print the source of these definitions as it stands.
"""

from __future__ import annotations

import asyncio
import graphlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["EndRun", "Stage", "StageTimeout", "in_order", "run_stages"]


class EndRun(Exception):
    """Raised by a stage to end the run; whoever awaits the run ignores it."""


class StageTimeout(TimeoutError):
    """A stage reached its timeout: its text and `seconds` say which one."""

    def __init__(self, name: str, seconds: float | None) -> None:
        super().__init__(f"stage {name} timed out after {seconds} s")
        self.seconds = seconds


@dataclass(frozen=True)
class Stage:
    """A coroutine function of (inputs, alive), and what it needs; times in seconds."""

    work: Callable[[dict[str, Any], Callable[[], None]], Awaitable[Any]]
    needs: tuple[str, ...] = ()
    timeout_s: float | None = None
    idle_s: float | None = None


def in_order(stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Return the stages, needs first. A cycle is a CycleError, an unknown need a KeyError."""
    needs = {name: stage.needs for name, stage in stages.items()}
    return {name: stages[name] for name in graphlib.TopologicalSorter(needs).static_order()}


async def run_stages(
    stages: Mapping[str, Stage], tasks: dict[str, asyncio.Task[Any]], go_on: bool = False
) -> None:
    """Run stages, as `in_order` gave them; `tasks` is filled, for the caller to look into."""

    async def one(name: str, stage: Stage) -> Any:
        if stage.needs:
            await asyncio.wait([tasks[need] for need in stage.needs])
        inputs = {need: tasks[need].result() for need in stage.needs}
        try:
            async with (
                asyncio.timeout(stage.timeout_s) as limit,
                asyncio.timeout(stage.idle_s) as idle,
            ):
                now, idle_s = asyncio.get_running_loop().time, stage.idle_s

                def alive() -> None:
                    if idle_s is not None and not idle.expired():
                        idle.reschedule(now() + idle_s)

                return await stage.work(inputs, alive)
        except TimeoutError as exc:
            if limit.expired() or idle.expired():
                seconds = stage.timeout_s if limit.expired() else stage.idle_s
                raise StageTimeout(name, seconds) from exc
            raise
        except EndRun:
            if go_on:  # a task group ends the others by itself
                for other in tasks.values():
                    if other is not asyncio.current_task():
                        other.cancel()
            raise

    if go_on:
        for name, stage in stages.items():
            tasks[name] = asyncio.create_task(one(name, stage), name=name)
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        return
    async with asyncio.TaskGroup() as group:
        for name, stage in stages.items():
            tasks[name] = group.create_task(one(name, stage), name=name)
